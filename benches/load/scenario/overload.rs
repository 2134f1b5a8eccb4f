//! A steady flow beside a subject whose subscriber is slower than its publisher.

use std::thread;
use std::time::{Duration, Instant};

use super::Pace;
use super::paced::{Flow, Paced};
use super::shared::{Finish, IDLE_TURN, Phase, Shared, join, warm_and_watch, watch};
use crate::error::LoadError;
use crate::link::Lane;
use crate::nodes::Nodes;
use crate::reactor::Reactor;
use crate::report::Report;
use crate::target::Target;

/// Where the overload goes.
const SUBJECT: &str = "overload.flow";
/// How often the slow subscriber reads.
const SIP_TURN: Duration = Duration::from_millis(250);
/// How often a publisher with a rate sends a batch.
const BATCH_TURN: Duration = Duration::from_millis(5);
/// How many bytes a publisher without a rate sends at once, about.
const CHUNK_LEN: usize = 64 << 10;

/// Overload beside a steady flow.
#[derive(Debug, Clone, Copy)]
pub struct Overload {
    /// The flow that should not notice.
    pub flow: Paced,
    /// Messages a second to the slow subscriber; 0 is as many as the server takes.
    pub rate: u32,
    /// Their payload in bytes.
    pub size: usize,
}

impl Default for Overload {
    fn default() -> Self {
        Self {
            flow: Paced::default(),
            rate: 200_000,
            size: 128,
        }
    }
}

pub(super) fn run(target: &Target, scenario: &Overload, pace: Pace) -> Result<Report, LoadError> {
    let flow = Flow::new(&Nodes::from(target.clone()), scenario.flow)?;
    let slow = slow_subscriber(target)?;
    let publisher = Reactor::connect(target, 1)?;
    let (shared, cuts) = (Shared::new(1), Shared::new(1));
    thread::scope(|scope| {
        let over = Finish(&shared);
        let (sender, receiver) = flow.split();
        let sender = scope.spawn(|| sender.run(&shared));
        let receiver = scope.spawn(|| receiver.run(&shared));
        let slow = scope.spawn(|| sip(target, slow, &shared, &cuts));
        let publisher = scope.spawn(|| flood(publisher, scenario, &shared));
        let seen = warm_and_watch(&shared, pace, target.pid.as_slice()).and_then(|_| {
            watch(
                &shared,
                Phase::Disturbed,
                pace.measured,
                target.pid.as_slice(),
            )
        });
        drop(over);
        join(sender)?;
        join(publisher)?;
        join(slow)?;
        let [unloaded, latency] = join(receiver)?;
        let seen = seen?;
        let mut report = Report::new("deliveries", seen.count, seen.usage);
        (report.unloaded, report.latency, report.cut) = (unloaded, latency, cuts.total());
        Ok(report)
    })
}

fn slow_subscriber(target: &Target) -> Result<Reactor, LoadError> {
    let mut reactor = Reactor::connect(target, 1)?;
    reactor.subscribe(0, std::iter::once(SUBJECT.to_owned()), None)?;
    Ok(reactor)
}

/// Reads one buffer now and then; comes back when the server has cut it.
fn sip(
    target: &Target,
    mut reactor: Reactor,
    shared: &Shared,
    cuts: &Shared,
) -> Result<(), LoadError> {
    while !shared.is_over() {
        if reactor.turn(Duration::ZERO, &mut |_, _| {}).is_err() {
            cuts.add(0, 1);
            reactor.reopen(0, target)?;
            // A subscriber that is cut while it subscribes tries again at the next turn.
            if reactor
                .subscribe(0, std::iter::once(SUBJECT.to_owned()), None)
                .is_err()
            {
                reactor.reopen(0, target)?;
            }
        }
        let next = Instant::now() + SIP_TURN;
        while !shared.is_over() && Instant::now() < next {
            thread::sleep(IDLE_TURN);
        }
    }
    reactor.close();
    Ok(())
}

fn flood(mut reactor: Reactor, scenario: &Overload, shared: &Shared) -> Result<(), LoadError> {
    let conn = reactor.conn(0);
    let payload = vec![b'x'; scenario.size];
    let len = scenario.size + SUBJECT.len() + 16;
    let batches_per_sec = 1_000 / u32::try_from(BATCH_TURN.as_millis()).unwrap_or(1);
    let batch = match scenario.rate {
        0 => (CHUNK_LEN / len).max(1),
        rate => (rate / batches_per_sec).max(1) as usize,
    };
    let mut frames = Vec::new();
    for _ in 0..batch {
        conn.format().publish(&mut frames, SUBJECT, None, &payload);
    }
    let chunk = conn.chunk(frames);
    let mut due = Instant::now();
    while !shared.is_over() {
        if shared.phase() != Phase::Disturbed {
            reactor
                .turn(IDLE_TURN, &mut |_, _| {})
                .map_err(|(_, error)| error)?;
            due = Instant::now();
            continue;
        }
        let wait = if due > Instant::now() {
            due - Instant::now()
        } else if reactor.conn(0).send(Lane::Interactive, &chunk)? {
            if scenario.rate > 0 {
                due += BATCH_TURN;
            }
            Duration::ZERO
        } else {
            IDLE_TURN
        };
        reactor
            .turn(wait.min(IDLE_TURN), &mut |_, _| {})
            .map_err(|(_, error)| error)?;
    }
    reactor.close();
    Ok(())
}
