//! How long it takes until another node knows of subscriptions.
//!
//! A connection to the second node subscribes to new subjects; one to the first node publishes to
//! the last of them again and again, and each of these messages says when it was sent. The first
//! that arrives was sent when the subscription was known. The first round is not measured: in it,
//! a message to every subject must arrive.

use std::time::{Duration, Instant};

use super::Pace;
use crate::error::LoadError;
use crate::latency::Latencies;
use crate::meter::Meter;
use crate::nodes::Nodes;
use crate::reactor::Reactor;
use crate::report::Report;
use crate::wire::Format;

/// Between two probes: what is told apart.
const PROBE_TURN: Duration = Duration::from_micros(50);
/// How much is sent before the peer is asked whether it has seen all of it, in bytes.
const BATCH_LEN: usize = 32 << 10;
/// How long the other node may take.
const KNOWN_MAX: Duration = Duration::from_mins(1);
/// The length of payloads.
const SIZE: usize = 8;
/// Which connection publishes, and which subscribes.
const PUBLISHER: usize = 0;
const SUBSCRIBER: usize = 1;

/// Subscriptions on one node that another one must learn.
#[derive(Debug, Clone, Copy)]
pub struct Propagation {
    /// How many are begun at once.
    pub count: usize,
}

impl Default for Propagation {
    fn default() -> Self {
        Self { count: 1 }
    }
}

pub(super) fn run(nodes: &Nodes, scenario: Propagation, pace: Pace) -> Result<Report, LoadError> {
    let count = scenario.count.max(1);
    let targets = [nodes.first(), nodes.at(1)];
    let mut prober = Prober {
        reactor: Reactor::connect_to(targets.into_iter())?,
        format: nodes.first().scheme().format(),
        count,
        round: 0,
    };
    let opening = Meter::start(&nodes.pids())?;
    prober.subscribe()?;
    prober.until_known(Instant::now())?;
    prober.check_all()?;
    let growth = opening.read()?.server.map(|server| server.rss_growth_kib);
    prober.unsubscribe()?;
    let (mut latencies, mut done) = (Latencies::new(), 0);
    let meter = Meter::start(&nodes.pids())?;
    let began = Instant::now();
    while done == 0 || began.elapsed() < pace.measured {
        let round = Instant::now();
        prober.subscribe()?;
        latencies.record(prober.until_known(round)?);
        prober.unsubscribe()?;
        done += count as u64;
    }
    let usage = meter.read()?;
    prober.reactor.close();
    let mut report = Report::new("subscriptions", done, usage);
    report.latency = latencies.percentiles();
    report.bytes_each = growth.map(|kib| share(kib, count));
    Ok(report)
}

#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^53 bytes")]
fn share(kib: i64, count: usize) -> f64 {
    kib as f64 * 1024.0 / count as f64
}

struct Prober {
    reactor: Reactor,
    format: Format,
    count: usize,
    /// Each round has subjects of its own.
    round: u64,
}

impl Prober {
    fn subject(&self, index: usize) -> String {
        format!("bench.new.{}.{index:010}", self.round)
    }

    fn last(&self) -> String {
        self.subject(self.count - 1)
    }

    /// Subscribes to the subjects of a new round. The last batch is under way when this returns.
    fn subscribe(&mut self) -> Result<(), LoadError> {
        self.round += 1;
        let mut frames = Vec::new();
        for index in 0..self.count {
            let id = number(index);
            self.format
                .subscribe(&mut frames, id, &self.subject(index), None);
            self.send_batch(SUBSCRIBER, &mut frames)?;
        }
        self.reactor.conn(SUBSCRIBER).post(&frames)
    }

    fn unsubscribe(&mut self) -> Result<(), LoadError> {
        let mut frames = Vec::new();
        for index in 0..self.count {
            self.format
                .unsubscribe(&mut frames, number(index), &self.subject(index));
            self.send_batch(SUBSCRIBER, &mut frames)?;
        }
        self.reactor.conn(SUBSCRIBER).post(&frames)?;
        self.reactor.fence(SUBSCRIBER)
    }

    /// Sends a batch once it is long enough, and waits until it was seen.
    fn send_batch(&mut self, conn: usize, frames: &mut Vec<u8>) -> Result<(), LoadError> {
        if frames.len() < BATCH_LEN {
            return Ok(());
        }
        self.reactor.conn(conn).post(frames)?;
        frames.clear();
        self.reactor.fence(conn)
    }

    /// Publishes to the last subject until a message arrives; from `began` until that was sent.
    fn until_known(&mut self, began: Instant) -> Result<Duration, LoadError> {
        let (subject, format) = (self.last(), self.format);
        let end = Instant::now() + KNOWN_MAX;
        let (mut known, mut frame) = (None, Vec::new());
        loop {
            let sent = nanos(began.elapsed());
            frame.clear();
            format.publish(&mut frame, &subject, None, &sent.to_le_bytes());
            self.reactor.conn(PUBLISHER).post(&frame)?;
            let turned = self.reactor.turn(PROBE_TURN, &mut |_, frame| {
                if known.is_none() {
                    known = format.payload(frame, SIZE).first_chunk().copied();
                }
            });
            turned.map_err(|(_, error)| error)?;
            if let Some(sent) = known {
                return Ok(Duration::from_nanos(u64::from_le_bytes(sent)));
            }
            if Instant::now() > end {
                return Err(LoadError::Timeout {
                    what: "another node to know of a subscription",
                    secs: KNOWN_MAX.as_secs(),
                });
            }
        }
    }

    /// Sends a message to each subject and waits until all have arrived.
    fn check_all(&mut self) -> Result<(), LoadError> {
        // Probes are under way still. What comes for the last subject is not counted.
        let (last, format, count) = (self.last(), self.format, self.count);
        let mut arrived = 0;
        let mut frames = Vec::new();
        for index in 0..count - 1 {
            format.publish(&mut frames, &self.subject(index), None, &[0; SIZE]);
            if frames.len() >= BATCH_LEN || index + 2 == count {
                self.reactor.conn(PUBLISHER).post(&frames)?;
                frames.clear();
                self.receive(&last, &mut arrived, index + 1)?;
            }
        }
        Ok(())
    }

    fn receive(
        &mut self,
        last: &str,
        arrived: &mut usize,
        expected: usize,
    ) -> Result<(), LoadError> {
        let end = Instant::now() + KNOWN_MAX;
        while *arrived < expected {
            let turned = self
                .reactor
                .turn(super::shared::IDLE_TURN, &mut |_, frame| {
                    let is_probe = memchr::memmem::find(frame, last.as_bytes()).is_some();
                    *arrived += usize::from(!is_probe);
                });
            turned.map_err(|(_, error)| error)?;
            if Instant::now() > end {
                return Err(LoadError::Peer(format!(
                    "of {expected} subscriptions, another node knows {arrived}"
                )));
            }
        }
        Ok(())
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index + 1).unwrap_or(u32::MAX)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
