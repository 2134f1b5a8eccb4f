//! Records appended to one stream, or to many in turn, by many writers, each of which waits for an acknowledgement before its next.

use std::thread;
use std::time::Instant;

use super::Pace;
use super::ask::make_stream;
use super::request::open_inbox;
use super::shared::{Finish, IDLE_TURN, Phase, Shared, incompressible, join, warm_and_watch};
use crate::error::LoadError;
use crate::latency::{Latencies, Percentiles};
use crate::reactor::Reactor;
use crate::report::Report;
use crate::target::Target;
use crate::wire::{Format, streams};

/// Most connections that writers are spread over.
const CONNECTIONS_MAX: usize = 64;

/// Writers and their records.
#[derive(Debug, Clone, Copy)]
pub struct Append {
    /// Writers, which are appends under way at any time; up to 64 share nothing, more share 64 connections.
    pub writers: usize,
    /// Streams that records go to in turn.
    pub streams: usize,
    /// Payload of a record in bytes.
    pub size: usize,
    /// Whether the broker is to acknowledge what is on disk; else what the operating system has.
    pub synced: bool,
    /// What it is compared with.
    pub beside: Beside,
}

/// What keeps the records on the other side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Beside {
    /// `JetStream` with its defaults: it acknowledges what the operating system has, and syncs every two minutes.
    #[default]
    JetStream,
    /// `JetStream` that syncs before it acknowledges; servers before 2.10 cannot.
    JetStreamSynced,
    /// A `SQLite` file for each stream that is never synced.
    Sqlite,
    /// A `SQLite` file for each stream, with its own default of syncing.
    SqliteSynced,
}

impl Beside {
    /// Whether it is no server.
    pub const fn is_sqlite(self) -> bool {
        matches!(self, Self::Sqlite | Self::SqliteSynced)
    }
}

impl Default for Append {
    fn default() -> Self {
        Self {
            writers: 64,
            streams: 1,
            size: 256,
            synced: true,
            beside: Beside::default(),
        }
    }
}

pub(super) fn run(target: &Target, scenario: Append, pace: Pace) -> Result<Report, LoadError> {
    let mut writers = Writers::new(target, scenario)?;
    writers.make_streams(scenario.streams)?;
    let shared = Shared::new(1);
    thread::scope(|scope| {
        let over = Finish(&shared);
        let writers = scope.spawn(|| writers.run(&shared));
        let seen = warm_and_watch(&shared, pace, &target.pid.into_iter().collect::<Vec<_>>());
        drop(over);
        let latency = join(writers)?;
        let seen = seen?;
        let mut report = Report::new("appends", seen.count, seen.usage).with_written(scenario.size);
        report.latency = latency;
        Ok(report)
    })
}

struct Writers {
    reactor: Reactor,
    inboxes: Vec<String>,
    slots: Slots,
}

/// The appends under way, each in a slot that the subject of its answer names.
struct Slots {
    format: Format,
    /// Where a record goes and what is sent, for each stream.
    requests: Vec<(String, Vec<u8>)>,
    /// The stream of the next record.
    stream: usize,
    began: Vec<Instant>,
    free: Vec<usize>,
    number: usize,
    done: u64,
    latencies: Latencies,
    /// Why the server refused.
    refused: Option<String>,
}

impl Writers {
    fn new(target: &Target, scenario: Append) -> Result<Self, LoadError> {
        let mut reactor = Reactor::connect(target, scenario.writers.clamp(1, CONNECTIONS_MAX))?;
        let inboxes = (0..reactor.len())
            .map(|index| open_inbox(&mut reactor, index))
            .collect::<Result<_, _>>()?;
        let slots = Slots::new(reactor.conn(0).format(), scenario);
        Ok(Self {
            reactor,
            inboxes,
            slots,
        })
    }

    /// Makes the streams one after the other.
    fn make_streams(&mut self, count: usize) -> Result<(), LoadError> {
        for stream in 0..count.max(1) {
            let inbox = self.inboxes.first().map_or("", String::as_str);
            make_stream(&mut self.reactor, inbox, stream)?;
        }
        // The answers of earlier attempts.
        self.reactor.fence(0)
    }

    fn run(mut self, shared: &Shared) -> Result<Option<Percentiles>, LoadError> {
        let mut phase = Phase::Warm;
        let mut frames = vec![Vec::new(); self.inboxes.len()];
        while phase != Phase::Over {
            self.slots.fill(&self.inboxes, &mut frames);
            for (index, frames) in frames.iter_mut().enumerate() {
                if !frames.is_empty() {
                    self.reactor.conn(index).post(frames)?;
                    frames.clear();
                }
            }
            let slots = &mut self.slots;
            let turned = self
                .reactor
                .turn(IDLE_TURN, &mut |_, frame| slots.take(frame));
            turned.map_err(|(_, error)| error)?;
            if let Some(text) = self.slots.refused.take() {
                return Err(LoadError::Peer(text));
            }
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

impl Slots {
    fn new(format: Format, scenario: Append) -> Self {
        let payload = incompressible(scenario.size);
        Self {
            format,
            requests: (0..scenario.streams.max(1))
                .map(|stream| streams::append(format, stream, &payload, scenario.synced))
                .collect(),
            stream: 0,
            began: vec![Instant::now(); scenario.writers],
            free: (0..scenario.writers).collect(),
            number: 0,
            done: 0,
            latencies: Latencies::new(),
            refused: None,
        }
    }

    /// Adds an append for each free slot to what is sent on the connection of that slot.
    fn fill(&mut self, inboxes: &[String], frames: &mut [Vec<u8>]) {
        self.number += 1;
        let writers = self.began.len();
        while let Some(slot) = self.free.pop() {
            let connection = slot % inboxes.len().max(1);
            let (Some(inbox), Some(frames), Some(began)) = (
                inboxes.get(connection),
                frames.get_mut(connection),
                self.began.get_mut(slot),
            ) else {
                continue;
            };
            // Numbers do not repeat, so that an answer that comes late is nobody else's.
            let reply = format!("{inbox}.{}", self.number * writers + slot);
            *began = Instant::now();
            self.stream = (self.stream + 1) % self.requests.len().max(1);
            if let Some((subject, request)) = self.requests.get(self.stream) {
                self.format.publish(frames, subject, Some(&reply), request);
            }
        }
    }

    /// Takes an answer.
    fn take(&mut self, frame: &[u8]) {
        if let Some(text) = streams::refusal(self.format, frame) {
            self.refused = Some(text);
            return;
        }
        let number = self.format.subject(frame).and_then(|subject| {
            let (_, number) = subject.rsplit_once('.')?;
            number.parse::<usize>().ok()
        });
        let writers = self.began.len().max(1);
        // Lower numbers answer the attempts to make the stream.
        let number = number.filter(|&number| number >= writers);
        let Some(slot) = number.map(|number| number % writers) else {
            return;
        };
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
    fn an_answer_frees_the_slot_that_its_subject_names() {
        let scenario = Append {
            writers: 3,
            streams: 1,
            size: 4,
            ..Append::default()
        };
        let mut slots = Slots::new(Format::Nats, scenario);
        let mut frames = vec![Vec::new(); 2];
        let inboxes = ["_INBOX.a".to_owned(), "_INBOX.b".to_owned()];
        slots.fill(&inboxes, &mut frames);
        let expected = [
            &b"PUB bench.append.0 _INBOX.b.4 4\r\n"[..],
            &incompressible(4),
            b"\r\n",
        ];
        assert_eq!(frames[1], expected.concat());
        slots.take(b"MSG _INBOX.b.4 1 27\r\n{\"stream\":\"bench\", \"seq\":1}\r\n");
        assert_eq!((slots.done, slots.free.as_slice()), (1, [1].as_slice()));
        slots.take(b"MSG _INBOX.b.4 1 30\r\n{\"error\":{\"description\":\"full\"}}\r\n");
        assert!(slots.refused.unwrap().contains("full"));
    }
}
