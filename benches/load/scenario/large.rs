//! One message that is larger than any frame. A NATS server, which refuses such messages, gets the
//! same bytes as messages of its own largest size.

use std::thread;
use std::time::{Duration, Instant};

use dialtone_protocol::frame::Fragment;

use super::shared::{Finish, IDLE_TURN, Shared, join};
use crate::conn::Conn;
use crate::error::LoadError;
use crate::link::Lane;
use crate::meter::Meter;
use crate::reactor::Reactor;
use crate::report::Report;
use crate::target::Target;
use crate::wire::Format;

/// Where it goes.
const SUBJECT: &str = "bench.large";
/// The longest payload that a NATS server takes by default, with some room.
const NATS_PART_LEN: usize = 1_000_000;
/// The bulk flow of a NATS server is cut into what others use as fragments.
const NATS_BULK_PART_LEN: usize = 128 << 10;
/// A transfer that takes longer has failed.
const TRANSFER_MAX: Duration = Duration::from_mins(1);
/// Bytes between sent and received.
const WINDOW: u64 = 16 << 20;

/// One large message.
#[derive(Debug, Clone, Copy)]
pub struct Large {
    /// Its payload in bytes.
    pub size: usize,
}

impl Default for Large {
    fn default() -> Self {
        Self { size: 100_000_000 }
    }
}

/// Makes the parts of large messages, one after the other.
pub(super) struct Parts {
    format: Format,
    subject: &'static str,
    payload: Vec<u8>,
    total: usize,
    next: Fragment,
    at: usize,
}

impl Parts {
    /// Parts of messages of `total` bytes, for a connection.
    pub(super) fn new(conn: &Conn, subject: &'static str, total: usize) -> Self {
        let len = match conn.format() {
            Format::Nats | Format::SocketIo => NATS_BULK_PART_LEN,
            Format::Dialtone => conn.limits().fragment_len_max as usize,
        };
        Self::with_len(conn.format(), subject, total, len)
    }

    fn with_len(format: Format, subject: &'static str, total: usize, len: usize) -> Self {
        let next = Fragment {
            id: 1,
            index: 0,
            total_len: total as u64,
        };
        Self {
            format,
            subject,
            payload: vec![b'x'; len.clamp(1, total.max(1))],
            total,
            next,
            at: 0,
        }
    }

    /// Appends the next part; `true` when it is the last of its message.
    pub(super) fn put(&mut self, frames: &mut Vec<u8>) -> bool {
        let len = self.payload.len().min(self.total - self.at);
        let payload = self.payload.get(..len).unwrap_or_default();
        self.format
            .publish_part(frames, self.subject, payload, self.next);
        self.at += len;
        self.next.index += 1;
        let last = self.at >= self.total;
        if last {
            self.at = 0;
            self.next.id += 1;
            self.next.index = 0;
        }
        last
    }
}

pub(super) fn run(target: &Target, scenario: Large) -> Result<Report, LoadError> {
    let mut reader = Reactor::connect(target, 1)?;
    reader.subscribe(0, std::iter::once(SUBJECT.to_owned()), None)?;
    let writer = Reactor::connect(target, 1)?;
    let shared = Shared::new(1);
    let meter = Meter::start(target.pid.as_slice())?;
    let usage = thread::scope(|scope| {
        let over = Finish(&shared);
        let writer = scope.spawn(|| write(writer, scenario.size, &shared));
        let received = read(reader, scenario.size, &shared);
        let usage = meter.read();
        drop(over);
        join(writer)?;
        received?;
        usage
    })?;
    Ok(Report::new(
        "megabytes",
        (scenario.size / 1_000_000).max(1) as u64,
        usage,
    ))
}

/// Counts bytes until the message is there.
fn read(mut reader: Reactor, size: usize, shared: &Shared) -> Result<(), LoadError> {
    let began = Instant::now();
    let mut received = 0;
    while received < size as u64 {
        if began.elapsed() > TRANSFER_MAX {
            return Err(LoadError::Timeout {
                what: "a large message",
                secs: TRANSFER_MAX.as_secs(),
            });
        }
        let turned = reader.turn(IDLE_TURN, &mut |_, frame| received += part_len(frame));
        turned.map_err(|(_, error)| error)?;
        shared.set(0, received);
    }
    reader.close();
    Ok(())
}

/// The payload of a part, from the frame around it.
fn part_len(frame: &[u8]) -> u64 {
    use dialtone_protocol::Frame;
    use dialtone_protocol::codec::LEN_FIELD;
    let len = if frame.starts_with(b"MSG ") {
        memchr::memchr(b'\n', frame).map_or(0, |at| frame.len() - at - 3)
    } else {
        match Frame::decode(frame.get(LEN_FIELD..).unwrap_or_default()) {
            Ok(Frame::Deliver(deliver)) => deliver.message.payload.len(),
            _ => 0,
        }
    };
    len as u64
}

fn write(mut writer: Reactor, size: usize, shared: &Shared) -> Result<(), LoadError> {
    let conn = writer.conn(0);
    let mut parts = match conn.format() {
        format @ (Format::Nats | Format::SocketIo) => {
            Parts::with_len(format, SUBJECT, size, NATS_PART_LEN)
        }
        Format::Dialtone => Parts::new(conn, SUBJECT, size),
    };
    let (mut sent, mut last) = (0, false);
    let mut chunk = Vec::new();
    while !shared.is_over() {
        if chunk.is_empty() && !last && sent < shared.get(0) + WINDOW {
            let mut frames = Vec::new();
            last = parts.put(&mut frames);
            sent += frames.len() as u64;
            chunk = writer.conn(0).chunk(frames);
        }
        let done = !chunk.is_empty() && writer.conn(0).send(Lane::Bulk, &chunk)?;
        if done {
            chunk.clear();
        }
        let wait = if done {
            Duration::ZERO
        } else {
            Duration::from_micros(100)
        };
        writer
            .turn(wait, &mut |_, _| {})
            .map_err(|(_, error)| error)?;
    }
    writer.close();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_message_and_then_begin_anew() {
        let mut parts = Parts::with_len(Format::Nats, "a", 10, 4);
        let mut frames = Vec::new();
        assert!(!parts.put(&mut frames) && !parts.put(&mut frames) && parts.put(&mut frames));
        assert_eq!(
            frames,
            b"PUB a 4\r\nxxxx\r\nPUB a 4\r\nxxxx\r\nPUB a 2\r\nxx\r\n"
        );
        assert_eq!((parts.next.id, parts.next.index, parts.at), (2, 0, 0));
    }

    #[test]
    fn the_length_of_a_part_is_that_of_its_payload() {
        assert_eq!(part_len(b"MSG a 1 4\r\nxxxx\r\n"), 4);
        let message = dialtone_protocol::frame::Message {
            subject: "a",
            reply: None,
            encoding: 0,
            headers: None,
            payload: b"xyz",
        };
        let deliver = dialtone_protocol::frame::Deliver {
            subscription: dialtone_protocol::SubscriptionId(1),
            unreliable: false,
            fragment: Some(Fragment {
                id: 1,
                index: 0,
                total_len: 3,
            }),
            message,
        };
        assert_eq!(
            part_len(&dialtone_protocol::Frame::Deliver(deliver).to_vec()),
            3
        );
    }
}
