//! Many connections that do nothing: what each keeps in memory, and what all cost in CPU.

use std::time::{Duration, Instant};

use crate::error::LoadError;
use crate::meter::Meter;
use crate::reactor::Reactor;
use crate::report::Report;
use crate::target::Target;

/// How long the server has to settle after the last connection, at least and at most: the last
/// acknowledgements of thousands of handshakes are no part of doing nothing.
const SETTLE: Duration = Duration::from_secs(1);
const SETTLE_MAX: Duration = Duration::from_secs(15);
/// It has settled when it uses less of a core than this.
const QUIET_CORES: f64 = 0.005;
/// Connections that are opened before the ones that have due timers are looked after.
const BATCH: usize = 200;

/// Idle connections.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    /// How many.
    pub connections: usize,
    /// How long nothing happens while the CPU is watched.
    pub watched: Duration,
}

impl Default for Idle {
    fn default() -> Self {
        Self {
            connections: 10_000,
            watched: Duration::from_secs(10),
        }
    }
}

/// The count is of connections; the CPU is that of doing nothing for the watched time.
pub(super) fn run(target: &Target, scenario: &Idle) -> Result<Report, LoadError> {
    let opening = Meter::start(target.pid.as_slice())?;
    let mut reactor = Reactor::new()?;
    while reactor.len() < scenario.connections {
        for _ in 0..BATCH.min(scenario.connections - reactor.len()) {
            reactor.open(target)?;
        }
        rest(&mut reactor, Duration::ZERO)?;
    }
    settle(&mut reactor, target)?;
    let opened = opening.read()?;
    let idle = Meter::start(target.pid.as_slice())?;
    rest(&mut reactor, scenario.watched)?;
    let mut usage = idle.read()?;
    reactor.close();
    if let (Some(server), Some(opened)) = (&mut usage.server, opened.server) {
        server.rss_growth_kib += opened.rss_growth_kib;
    }
    let growth = usage.server.map(|server| server.rss_growth_kib);
    let mut report =
        Report::new("connections", scenario.connections as u64, usage).with_memory(growth);
    // Nothing was done to the connections while they were watched, so nothing is shared among them.
    (report.per_cpu_sec, report.cpu_us_each) = (None, None);
    Ok(report)
}

/// Waits until the server is quiet, or not any longer.
fn settle(reactor: &mut Reactor, target: &Target) -> Result<(), LoadError> {
    let began = Instant::now();
    loop {
        let watched = Meter::start(target.pid.as_slice())?;
        rest(reactor, SETTLE)?;
        let usage = watched.read()?;
        let cores = usage.server.map(|server| server.cpu_secs / usage.secs);
        if cores.is_none_or(|cores| cores < QUIET_CORES) || began.elapsed() >= SETTLE_MAX {
            return Ok(());
        }
    }
}

/// Does for the connections what must be done, for at least one turn.
fn rest(reactor: &mut Reactor, length: Duration) -> Result<(), LoadError> {
    let end = Instant::now() + length;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        reactor
            .turn(left.min(Duration::from_millis(100)), &mut |_, _| {})
            .map_err(|(_, error)| error)?;
        if left.is_zero() {
            return Ok(());
        }
    }
}
