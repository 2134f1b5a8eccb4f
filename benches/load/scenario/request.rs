//! Requests from one connection, answered by another: each has a reply subject of its own.

use std::thread;
use std::time::Instant;

use super::Pace;
use super::settle::until_it_flows;
use super::shared::{Finish, IDLE_TURN, Phase, Shared, join, warm_and_watch};
use crate::error::LoadError;
use crate::latency::{Latencies, Percentiles};
use crate::nodes::Nodes;
use crate::reactor::Reactor;
use crate::report::Report;
use crate::target::Target;
use crate::wire::Format;

/// Where requests go.
const SUBJECT: &str = "bench.echo";
/// Payloads hold the number of the request.
const SIZE_MIN: usize = 8;

/// Requests and their answers.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// Requests that are under way at any time.
    pub in_flight: usize,
    /// Payload of requests and answers in bytes, at least 8.
    pub size: usize,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            in_flight: 1,
            size: 128,
        }
    }
}

pub(super) fn run(nodes: &Nodes, scenario: &Request, pace: Pace) -> Result<Report, LoadError> {
    let mut responder = responder(nodes.at(1))?;
    let mut requester = Requester::new(nodes.first(), *scenario)?;
    if nodes.count() > 1 {
        until_it_flows(&mut requester.reactor, &mut responder, SUBJECT)?;
        let answer = format!("{}.0", requester.inbox);
        until_it_flows(&mut responder, &mut requester.reactor, &answer)?;
    }
    let shared = Shared::new(1);
    thread::scope(|scope| {
        let over = Finish(&shared);
        let responder = scope.spawn(|| respond(responder, scenario.size, &shared));
        let requester = scope.spawn(|| requester.run(&shared));
        let seen = warm_and_watch(&shared, pace, &nodes.pids());
        drop(over);
        let latency = join(requester)?;
        join(responder)?;
        let seen = seen?;
        let mut report = Report::new("requests", seen.count, seen.usage);
        report.latency = latency;
        Ok(report)
    })
}

/// A connection that is subscribed to requests.
pub(super) fn responder(target: &Target) -> Result<Reactor, LoadError> {
    let mut reactor = Reactor::connect(target, 1)?;
    reactor.subscribe(0, std::iter::once(SUBJECT.to_owned()), None)?;
    Ok(reactor)
}

/// Answers requests with their payload, all that arrived together in one write.
pub(super) fn respond(mut reactor: Reactor, size: usize, shared: &Shared) -> Result<(), LoadError> {
    let format = reactor.conn(0).format();
    let size = size.max(SIZE_MIN);
    let mut answers = Vec::new();
    while !shared.is_over() {
        let turned = reactor.turn(IDLE_TURN, &mut |_, frame| {
            if let Some(reply) = format.reply(frame) {
                format.publish(&mut answers, reply, None, format.payload(frame, size));
            }
        });
        turned.map_err(|(_, error)| error)?;
        if !answers.is_empty() {
            reactor.conn(0).post(&answers)?;
            answers.clear();
        }
    }
    reactor.close();
    Ok(())
}

/// Keeps a number of requests under way on the first connection of a reactor.
pub(super) struct Requester {
    reactor: Reactor,
    format: Format,
    slots: Slots,
    inbox: String,
}

/// The requests under way, each in a slot that its payload names.
pub(super) struct Slots {
    began: Vec<Instant>,
    free: Vec<usize>,
    payload: Vec<u8>,
    size: usize,
    number: u64,
    pub(super) done: u64,
    pub(super) latencies: Latencies,
}

impl Requester {
    pub(super) fn new(target: &Target, scenario: Request) -> Result<Self, LoadError> {
        let mut reactor = Reactor::connect(target, 1)?;
        let inbox = open_inbox(&mut reactor, 0)?;
        let format = reactor.conn(0).format();
        Ok(Self {
            reactor,
            format,
            slots: Slots::new(scenario),
            inbox,
        })
    }

    fn run(mut self, shared: &Shared) -> Result<Option<Percentiles>, LoadError> {
        let mut phase = Phase::Warm;
        let mut frames = Vec::new();
        while phase != Phase::Over {
            self.slots.fill(self.format, &self.inbox, &mut frames);
            if !frames.is_empty() {
                self.reactor.conn(0).post(&frames)?;
                frames.clear();
            }
            let (slots, format) = (&mut self.slots, self.format);
            let turned = self
                .reactor
                .turn(IDLE_TURN, &mut |_, frame| slots.take(format, frame));
            turned.map_err(|(_, error)| error)?;
            shared.set(0, self.slots.done);
            let current = shared.phase();
            if current == Phase::Measured && phase == Phase::Warm {
                self.slots.latencies.clear();
            }
            phase = current;
        }
        self.reactor.close();
        Ok(self.slots.latencies.percentiles())
    }
}

/// Makes sure that answers arrive at a connection; returns under which subject. A Dialtone connection has an inbox from
/// the beginning, others subscribe for that.
pub(super) fn open_inbox(reactor: &mut Reactor, index: usize) -> Result<String, LoadError> {
    let inbox = reactor.conn(index).inbox().to_owned();
    let format = reactor.conn(index).format();
    if format != Format::Dialtone {
        let mut frames = Vec::new();
        format.subscribe(&mut frames, u32::MAX, &format!("{inbox}.*"), None);
        reactor.conn(index).post(&frames)?;
        reactor.fence(index)?;
    }
    Ok(inbox)
}

impl Slots {
    pub(super) fn new(scenario: Request) -> Self {
        Self {
            began: vec![Instant::now(); scenario.in_flight],
            free: (0..scenario.in_flight).collect(),
            payload: vec![b'x'; scenario.size.max(SIZE_MIN)],
            size: scenario.size.max(SIZE_MIN),
            number: 0,
            done: 0,
            latencies: Latencies::new(),
        }
    }

    /// Appends a request for each free slot.
    pub(super) fn fill(&mut self, format: Format, inbox: &str, frames: &mut Vec<u8>) {
        while let Some(slot) = self.free.pop() {
            self.number += 1;
            let reply = format!("{inbox}.{}", self.number);
            if let Some(head) = self.payload.first_chunk_mut() {
                *head = (slot as u64).to_le_bytes();
            }
            format.publish(frames, SUBJECT, Some(&reply), &self.payload);
            if let Some(began) = self.began.get_mut(slot) {
                *began = Instant::now();
            }
        }
    }

    /// Takes an answer.
    pub(super) fn take(&mut self, format: Format, frame: &[u8]) {
        let Some(head) = format.payload(frame, self.size).first_chunk() else {
            return;
        };
        let slot = usize::try_from(u64::from_le_bytes(*head)).unwrap_or(usize::MAX);
        if let Some(began) = self.began.get(slot) {
            self.latencies.record(began.elapsed());
            self.free.push(slot);
            self.done += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_frees_the_slot_that_its_payload_names() {
        let mut slots = Slots::new(Request {
            in_flight: 2,
            size: 16,
        });
        let mut frames = Vec::new();
        slots.fill(Format::Nats, "_INBOX.a", &mut frames);
        let text = String::from_utf8_lossy(&frames);
        assert!(
            text.contains("PUB bench.echo _INBOX.a.1 16\r\n") && text.contains("_INBOX.a.2"),
            "{text}"
        );
        let mut answer = b"MSG _INBOX.a.1 1 16\r\n".to_vec();
        answer.extend_from_slice(&1_u64.to_le_bytes());
        answer.extend_from_slice(b"xxxxxxxx\r\n");
        slots.take(Format::Nats, &answer);
        assert_eq!(
            (slots.done, slots.free.as_slice(), slots.latencies.len()),
            (1, [1].as_slice(), 1)
        );
    }
}
