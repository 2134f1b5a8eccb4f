//! Small requests beside a bulk transfer on the same connection.

use std::thread;
use std::time::Duration;

use super::Pace;
use super::large::Parts;
use super::request::{Request, Slots, open_inbox, respond, responder};
use super::shared::{Finish, IDLE_TURN, Phase, Shared, join, warm_and_watch, watch};
use crate::error::LoadError;
use crate::latency::Percentiles;
use crate::link::Lane;
use crate::reactor::Reactor;
use crate::report::Report;
use crate::target::Target;

/// Where the bulk goes.
const SUBJECT: &str = "bulk.flow";
/// The bulk flow is a sequence of messages of this many bytes.
const MESSAGE_LEN: usize = 100_000_000;
/// Answers are shorter than this, parts of bulk messages longer, in bytes.
const SMALL_MAX: usize = 8 << 10;
/// Most bytes between sent and received, so that the bulk is not cut as a slow consumer's.
const WINDOW: u64 = 4 << 20;

/// Which way the bulk goes on the connection that makes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// To the server.
    #[default]
    Up,
    /// From the server.
    Down,
}

/// Requests beside bulk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bulk {
    /// The requests.
    pub requests: Request,
    /// Which way the bulk goes.
    pub direction: Direction,
}

pub(super) fn run(target: &Target, scenario: &Bulk, pace: Pace) -> Result<Report, LoadError> {
    let responder = responder(target)?;
    let mut requester = Reactor::connect(target, 1)?;
    let inbox = open_inbox(&mut requester, 0)?;
    let mut other = Reactor::connect(target, 1)?;
    let sink = if scenario.direction == Direction::Up {
        &mut other
    } else {
        &mut requester
    };
    sink.subscribe(0, std::iter::once(SUBJECT.to_owned()), None)?;
    let (requests, bulk) = (Shared::new(1), Shared::new(1));
    thread::scope(|scope| {
        let (over, bulk_over) = (Finish(&requests), Finish(&bulk));
        let responder = scope.spawn(|| respond(responder, scenario.requests.size, &requests));
        let source = (scenario.direction == Direction::Up).then(|| Source::new(&mut requester));
        let requester = scope.spawn(|| {
            request(
                requester,
                source,
                scenario.requests,
                &inbox,
                &requests,
                &bulk,
            )
        });
        let other = scope.spawn(|| beside(other, scenario.direction, &requests, &bulk));
        let seen = observe(target, pace, &requests, &bulk);
        drop((over, bulk_over));
        let [unloaded, latency] = join(requester)?;
        join(other)?;
        join(responder)?;
        let mut report = seen?;
        (report.unloaded, report.latency) = (unloaded, latency);
        Ok(report)
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of a run are far below 2^53"
)]
fn observe(
    target: &Target,
    pace: Pace,
    requests: &Shared,
    bulk: &Shared,
) -> Result<Report, LoadError> {
    warm_and_watch(requests, pace, target.pid.as_slice())?;
    let before = bulk.total();
    let seen = watch(
        requests,
        Phase::Disturbed,
        pace.measured,
        target.pid.as_slice(),
    )?;
    let mut report = Report::new("requests", seen.count, seen.usage);
    report.bulk_bytes_per_sec = Some((bulk.total() - before) as f64 / seen.usage.secs);
    Ok(report)
}

/// The bulk flow of the first connection of a reactor.
struct Source {
    parts: Parts,
    chunk: Vec<u8>,
    sent: u64,
}

impl Source {
    fn new(reactor: &mut Reactor) -> Self {
        Self {
            parts: Parts::new(reactor.conn(0), SUBJECT, MESSAGE_LEN),
            chunk: Vec::new(),
            sent: 0,
        }
    }

    /// Sends what may be sent; `false` when that was nothing.
    fn pump(&mut self, reactor: &mut Reactor, bulk: &Shared) -> Result<bool, LoadError> {
        if self.chunk.is_empty() {
            if self.sent > bulk.total() + WINDOW {
                return Ok(false);
            }
            let mut frames = Vec::new();
            self.parts.put(&mut frames);
            self.sent += frames.len() as u64;
            self.chunk = reactor.conn(0).chunk(frames);
        }
        let done = reactor.conn(0).send(Lane::Bulk, &self.chunk)?;
        if done {
            self.chunk.clear();
        }
        Ok(done)
    }
}

/// The connection that makes requests, and sends or receives the bulk besides.
fn request(
    mut reactor: Reactor,
    mut source: Option<Source>,
    scenario: Request,
    inbox: &str,
    requests: &Shared,
    bulk: &Shared,
) -> Result<[Option<Percentiles>; 2], LoadError> {
    let format = reactor.conn(0).format();
    let mut slots = Slots::new(scenario);
    let (mut phase, mut unloaded, mut frames, mut received) = (Phase::Warm, None, Vec::new(), 0);
    while phase != Phase::Over {
        slots.fill(format, inbox, &mut frames);
        if !frames.is_empty() {
            reactor.conn(0).post(&frames)?;
            frames.clear();
        }
        let mut wait = IDLE_TURN;
        if let Some(source) = &mut source
            && phase == Phase::Disturbed
        {
            wait = if source.pump(&mut reactor, bulk)? {
                Duration::ZERO
            } else {
                Duration::from_micros(100)
            };
        }
        let turned = reactor.turn(wait, &mut |_, frame| {
            if frame.len() < SMALL_MAX {
                slots.take(format, frame);
            } else {
                received += frame.len() as u64;
            }
        });
        turned.map_err(|(_, error)| error)?;
        requests.set(0, slots.done);
        if source.is_none() {
            bulk.set(0, received);
        }
        let current = requests.phase();
        if current != phase && current != Phase::Over {
            unloaded = slots.latencies.percentiles();
            slots.latencies.clear();
        }
        phase = current;
    }
    reactor.close();
    Ok([unloaded, slots.latencies.percentiles()])
}

/// The other end of the bulk flow.
fn beside(
    mut reactor: Reactor,
    direction: Direction,
    requests: &Shared,
    bulk: &Shared,
) -> Result<(), LoadError> {
    let mut source = (direction == Direction::Down).then(|| Source::new(&mut reactor));
    let mut received = 0;
    while !requests.is_over() {
        let mut wait = IDLE_TURN;
        if let Some(source) = &mut source
            && requests.phase() == Phase::Disturbed
        {
            wait = if source.pump(&mut reactor, bulk)? {
                Duration::ZERO
            } else {
                Duration::from_micros(100)
            };
        }
        let turned = reactor.turn(wait, &mut |_, frame| received += frame.len() as u64);
        turned.map_err(|(_, error)| error)?;
        if source.is_none() {
            bulk.set(0, received);
        }
    }
    reactor.close();
    Ok(())
}
