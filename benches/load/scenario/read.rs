//! A whole stream, read from its first record to its last, by readers that each want all of it.
//!
//! From persist a reader asks for one page after the other; `JetStream` pushes to a consumer that acknowledges nothing.

use std::time::{Duration, Instant};

use super::ask::Asker;
use super::request::open_inbox;
use super::shared::{IDLE_TURN, incompressible};
use crate::error::LoadError;
use crate::meter::Meter;
use crate::reactor::Reactor;
use crate::report::Report;
use crate::target::Target;
use crate::wire::streams::Arrived;
use crate::wire::{Format, streams};

/// A reader that takes longer has failed.
const READ_MAX: Duration = Duration::from_mins(5);

/// The subscription that records of `JetStream` come to.
const RECORDS: u32 = u32::MAX - 1;

/// A stream and who reads it.
#[derive(Debug, Clone, Copy)]
pub struct ReadAll {
    /// Records in the stream.
    pub records: usize,
    /// Payload of each in bytes.
    pub size: usize,
    /// Connections that each read all of it.
    pub readers: usize,
}

impl Default for ReadAll {
    fn default() -> Self {
        Self {
            records: 400_000,
            size: 256,
            readers: 1,
        }
    }
}

/// What a reader has.
#[derive(Debug, Clone, Default)]
struct Reader {
    records: usize,
    arrived: Arrived,
}

pub(super) fn run(target: &Target, scenario: ReadAll) -> Result<Report, LoadError> {
    if target.scheme.format() == Format::SocketIo {
        return Err(LoadError::Unsupported(
            "a stream is read over ws, wss, quic or nats, not over Socket.IO".to_owned(),
        ));
    }
    fill(target, scenario)?;
    let mut reactor = Reactor::connect(target, scenario.readers.max(1))?;
    let inboxes: Vec<String> = (0..reactor.len())
        .map(|index| open(&mut reactor, index))
        .collect::<Result<_, _>>()?;
    let format = reactor.conn(0).format();
    let mut readers = vec![Reader::default(); inboxes.len()];
    let mut requests: Vec<(usize, u64)> = (0..readers.len()).map(|index| (index, 1)).collect();
    let (meter, began, mut refused) = (Meter::start(target.pid.as_slice())?, Instant::now(), None);
    while readers
        .iter()
        .any(|reader| reader.records < scenario.records)
    {
        for (index, from) in requests.drain(..) {
            post(&mut reactor, format, index, &inboxes, from)?;
        }
        let turned = reactor.turn(IDLE_TURN, &mut |index, frame| {
            let Some(reader) = readers.get_mut(index) else {
                return;
            };
            match reader.take(format, frame) {
                Ok(Some(next)) => requests.push((index, next)),
                Ok(None) => {}
                Err(text) => refused = Some(text),
            }
        });
        turned.map_err(|(_, error)| error)?;
        if let Some(text) = refused.take() {
            return Err(LoadError::Peer(text));
        }
        if began.elapsed() > READ_MAX {
            return Err(LoadError::Timeout {
                what: "the end of a stream",
                secs: READ_MAX.as_secs(),
            });
        }
    }
    let usage = meter.read()?;
    reactor.close();
    Ok(report(scenario, readers.len(), usage))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of a run are far below 2^53"
)]
fn report(scenario: ReadAll, readers: usize, usage: crate::meter::Usage) -> Report {
    let count = (scenario.records * readers) as u64;
    let mut report = Report::new("records read", count, usage);
    report.read_bytes_per_sec = Some(report.per_sec * scenario.size as f64);
    report
}

/// Opens an inbox for answers and records.
fn open(reactor: &mut Reactor, index: usize) -> Result<String, LoadError> {
    let inbox = open_inbox(reactor, index)?;
    let format = reactor.conn(index).format();
    if format == Format::Nats {
        let mut frames = Vec::new();
        format.subscribe(&mut frames, RECORDS, &streams::records(&inbox), None);
        reactor.conn(index).post(&frames)?;
        reactor.fence(index)?;
    }
    Ok(inbox)
}

/// Makes the stream with its records.
fn fill(target: &Target, scenario: ReadAll) -> Result<(), LoadError> {
    let mut asker = Asker::new(target)?;
    asker.make_streams(1)?;
    let format = asker.format();
    let (subject, request) = streams::append(format, 0, &incompressible(scenario.size), false);
    asker.ask(scenario.records, |_, reply, frames| {
        format.publish(frames, &subject, Some(reply), &request);
    })?;
    asker.close();
    Ok(())
}

/// Asks for what there is from a number on.
fn post(
    reactor: &mut Reactor,
    format: Format,
    index: usize,
    inboxes: &[String],
    from: u64,
) -> Result<(), LoadError> {
    let Some(inbox) = inboxes.get(index) else {
        return Ok(());
    };
    let mut frames = Vec::new();
    streams::read(format, &mut frames, inbox, 0, from);
    reactor.conn(index).post(&frames)
}

impl Reader {
    /// Takes a delivery. Says from where on to ask for more.
    fn take(&mut self, format: Format, frame: &[u8]) -> Result<Option<u64>, String> {
        match format {
            Format::Nats => {
                // The answer about the consumer has a JSON text; records have their own subject.
                if format.subject(frame).is_some_and(streams::is_kept) {
                    self.records += 1;
                } else if let Some(text) = streams::refusal(format, frame) {
                    return Err(text);
                }
                Ok(None)
            }
            Format::Dialtone | Format::SocketIo => {
                if let Some(text) = streams::refusal(format, frame) {
                    return Err(text);
                }
                let Some(page) = self.arrived.take(frame) else {
                    return Ok(None);
                };
                self.records = match page.next {
                    Some(next) => usize::try_from(next - 1).unwrap_or(usize::MAX),
                    None => usize::MAX,
                };
                Ok(page.next)
            }
        }
    }
}
