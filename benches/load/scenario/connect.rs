//! Connecting, being accepted, and closing, again and again.

use std::thread;
use std::time::Instant;

use super::Pace;
use super::shared::{Finish, Shared, join};
use crate::conn::{Conn, SCRATCH_LEN};
use crate::error::LoadError;
use crate::meter::Meter;
use crate::report::Report;
use crate::target::Target;

/// Most connections of a run: each keeps one of some 28,000 local ports busy for a minute.
const CONNECTIONS_MAX: u64 = 20_000;
/// Connections that are made before counting begins.
const WARM: usize = 50;

/// Connection rate.
#[derive(Debug, Clone, Copy)]
pub struct Connect {
    /// Threads that connect.
    pub threads: usize,
}

impl Default for Connect {
    fn default() -> Self {
        Self { threads: 4 }
    }
}

pub(super) fn run(target: &Target, scenario: Connect, pace: Pace) -> Result<Report, LoadError> {
    let mut scratch = vec![0; SCRATCH_LEN];
    for _ in 0..WARM {
        Conn::open(target, &mut scratch)?.close();
    }
    let shared = Shared::new(scenario.threads);
    let meter = Meter::start(target.pid.as_slice())?;
    let end = Instant::now() + pace.measured;
    let usage = thread::scope(|scope| {
        let over = Finish(&shared);
        let workers: Vec<_> = (0..scenario.threads)
            .map(|index| {
                scope.spawn({
                    let shared = &shared;
                    move || connect(target, index, end, shared)
                })
            })
            .collect();
        let results: Vec<_> = workers.into_iter().map(join).collect();
        let usage = meter.read();
        drop(over);
        results.into_iter().collect::<Result<(), _>>()?;
        usage
    })?;
    Ok(Report::new("connections", shared.total(), usage))
}

fn connect(target: &Target, index: usize, end: Instant, shared: &Shared) -> Result<(), LoadError> {
    let mut scratch = vec![0; SCRATCH_LEN];
    let mut count = 0;
    while Instant::now() < end && shared.total() < CONNECTIONS_MAX {
        Conn::open(target, &mut scratch)?.close();
        count += 1;
        shared.set(index, count);
    }
    Ok(())
}
