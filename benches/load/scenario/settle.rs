//! Waiting until one node knows what is subscribed to on another. Only arriving messages show that.

use std::time::{Duration, Instant};

use crate::error::LoadError;
use crate::link::ANSWER_MAX;
use crate::reactor::Reactor;

/// Between two probes.
const PROBE_TURN: Duration = Duration::from_millis(2);
/// Nothing is under way any more when nothing has arrived for so long.
const QUIET: Duration = Duration::from_millis(100);
/// Probes are as long as the shortest payloads of scenarios.
const PROBE: [u8; 8] = [0xff; 8];

/// Publishes to `subject` from the first connection of `from` until each connection of `to` has
/// received it, and until all of it has arrived.
pub(super) fn until_it_flows(
    from: &mut Reactor,
    to: &mut Reactor,
    subject: &str,
) -> Result<(), LoadError> {
    let mut probe = Vec::new();
    from.conn(0)
        .format()
        .publish(&mut probe, subject, None, &PROBE);
    let mut reached = vec![false; to.len()];
    let end = Instant::now() + ANSWER_MAX;
    while reached.contains(&false) {
        if Instant::now() > end {
            return Err(LoadError::Timeout {
                what: "a message from one node to another",
                secs: ANSWER_MAX.as_secs(),
            });
        }
        from.conn(0).post(&probe)?;
        turn(from, Duration::ZERO, &mut |_| {})?;
        turn(to, PROBE_TURN, &mut |index| {
            if let Some(reached) = reached.get_mut(index) {
                *reached = true;
            }
        })?;
    }
    let mut heard = Instant::now();
    while heard.elapsed() < QUIET {
        turn(to, PROBE_TURN, &mut |_| heard = Instant::now())?;
    }
    Ok(())
}

fn turn(
    reactor: &mut Reactor,
    wait: Duration,
    on: &mut impl FnMut(usize),
) -> Result<(), LoadError> {
    let turned = reactor.turn(wait, &mut |index, _| on(index));
    turned.map_err(|(_, error)| error)
}
