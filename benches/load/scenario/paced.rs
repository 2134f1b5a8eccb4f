//! One-way latency at a steady rate: the payload says when it was sent.

use std::thread;
use std::time::{Duration, Instant};

use super::Pace;
use super::settle::until_it_flows;
use super::shared::{Finish, IDLE_TURN, Phase, Shared, join, subject, warm_and_watch};
use crate::error::LoadError;
use crate::latency::{Latencies, Percentiles};
use crate::nodes::Nodes;
use crate::reactor::Reactor;
use crate::report::Report;

/// Payloads hold the time at which they were sent.
const SIZE_MIN: usize = 8;
/// A sender that is later than this was held up by the server, which then counts as latency; less
/// is the sender's own clock.
const LATE_MAX: Duration = Duration::from_millis(1);

/// A steady flow.
#[derive(Debug, Clone, Copy)]
pub struct Paced {
    /// Messages a second.
    pub rate: u32,
    /// Payload in bytes, at least 8.
    pub size: usize,
    /// Connections that subscribe.
    pub subscribers: usize,
}

impl Default for Paced {
    fn default() -> Self {
        Self {
            rate: 1_000,
            size: 128,
            subscribers: 1,
        }
    }
}

pub(super) fn run(nodes: &Nodes, scenario: &Paced, pace: Pace) -> Result<Report, LoadError> {
    let flow = Flow::new(nodes, *scenario)?;
    let shared = Shared::new(1);
    thread::scope(|scope| {
        let over = Finish(&shared);
        let (sender, receiver) = flow.split();
        let sender = scope.spawn(|| sender.run(&shared));
        let receiver = scope.spawn(|| receiver.run(&shared));
        let seen = warm_and_watch(&shared, pace, &nodes.pids());
        drop(over);
        join(sender)?;
        let [latency, _] = join(receiver)?;
        let seen = seen?;
        let mut report = Report::new("deliveries", seen.count, seen.usage);
        report.latency = latency;
        Ok(report)
    })
}

/// Both ends of a steady flow, connected.
pub(super) struct Flow {
    scenario: Paced,
    subscribers: Reactor,
    publisher: Reactor,
}

impl Flow {
    pub(super) fn new(nodes: &Nodes, scenario: Paced) -> Result<Self, LoadError> {
        let scenario = Paced {
            size: scenario.size.max(SIZE_MIN),
            rate: scenario.rate.max(1),
            ..scenario
        };
        let places = (1..=scenario.subscribers).map(|index| nodes.at(index));
        let mut subscribers = Reactor::connect_to(places)?;
        for index in 0..subscribers.len() {
            subscribers.subscribe(index, std::iter::once(subject(0)), None)?;
        }
        let mut publisher = Reactor::connect(nodes.first(), 1)?;
        if nodes.count() > 1 {
            until_it_flows(&mut publisher, &mut subscribers, &subject(0))?;
        }
        Ok(Self {
            scenario,
            subscribers,
            publisher,
        })
    }

    pub(super) fn split(self) -> (Sender, Receiver) {
        let epoch = Instant::now();
        let Self {
            scenario,
            subscribers,
            publisher,
        } = self;
        (
            Sender {
                scenario,
                publisher,
                epoch,
            },
            Receiver {
                size: scenario.size,
                subscribers,
                epoch,
            },
        )
    }
}

/// The end that publishes.
pub(super) struct Sender {
    scenario: Paced,
    publisher: Reactor,
    epoch: Instant,
}

impl Sender {
    pub(super) fn run(mut self, shared: &Shared) -> Result<(), LoadError> {
        let format = self.publisher.conn(0).format();
        let interval = Duration::from_secs(1) / self.scenario.rate;
        let (subject, mut payload) = (subject(0), vec![b'x'; self.scenario.size]);
        let (mut due, mut frame) = (Instant::now(), Vec::new());
        while !shared.is_over() {
            let now = Instant::now();
            if now < due {
                self.publisher
                    .turn((due - now).min(IDLE_TURN), &mut |_, _| {})
                    .map_err(|(_, error)| error)?;
                continue;
            }
            let sent = if now - due > LATE_MAX { due } else { now };
            if let Some(head) = payload.first_chunk_mut() {
                *head = nanos(sent - self.epoch).to_le_bytes();
            }
            frame.clear();
            format.publish(&mut frame, &subject, None, &payload);
            self.publisher.conn(0).post(&frame)?;
            due += interval;
        }
        self.publisher.close();
        Ok(())
    }
}

/// The end that subscribes.
pub(super) struct Receiver {
    size: usize,
    subscribers: Reactor,
    epoch: Instant,
}

impl Receiver {
    /// Returns the latencies of the measured and of the disturbed phase.
    pub(super) fn run(mut self, shared: &Shared) -> Result<[Option<Percentiles>; 2], LoadError> {
        let format = self.subscribers.conn(0).format();
        let mut latencies = [Latencies::new(), Latencies::new()];
        let mut count = 0;
        while !shared.is_over() {
            let phase = shared.phase();
            let turned = self.subscribers.turn(IDLE_TURN, &mut |_, frame| {
                count += 1;
                let Some(head) = format.payload(frame, self.size).first_chunk() else {
                    return;
                };
                let sent = Duration::from_nanos(u64::from_le_bytes(*head));
                let latency = self.epoch.elapsed().saturating_sub(sent);
                let [measured, disturbed] = &mut latencies;
                match phase {
                    Phase::Measured => measured.record(latency),
                    Phase::Disturbed => disturbed.record(latency),
                    Phase::Warm | Phase::Over => {}
                }
            });
            turned.map_err(|(_, error)| error)?;
            shared.set(0, count);
        }
        self.subscribers.close();
        Ok(latencies.map(|latencies| latencies.percentiles()))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
