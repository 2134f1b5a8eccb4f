//! Cuts a stream of received bytes into frames without copying the ones that arrived whole.

use dialtone_protocol::codec::LEN_FIELD;

use super::{Format, socketio};
use crate::error::LoadError;

/// Longest frame that is accepted, in bytes; beyond it the stream is not what it should be.
pub(super) const FRAME_LEN_MAX: usize = 128 << 20;
/// Longest line of the NATS protocol that is accepted, in bytes; the first one, `INFO`, is long.
const LINE_LEN_MAX: usize = 64 << 10;
/// The kind of a Dialtone frame that delivers a message.
const KIND_DELIVER: u8 = 8;

/// What a frame is, as far as counting needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message for a subscription.
    Delivery,
    /// Anything else.
    Control,
}

/// The state between two reads of one byte stream.
#[derive(Debug)]
pub struct Splitter {
    format: Format,
    /// The beginning of a frame whose rest has not arrived.
    carry: Vec<u8>,
    /// The last `MSG` line: flows repeat it, and comparing is cheaper than parsing.
    line: Vec<u8>,
    /// The length of the frame that began with `line`.
    line_frame_len: usize,
}

impl Splitter {
    /// At the beginning of a stream.
    pub const fn new(format: Format) -> Self {
        Self {
            format,
            carry: Vec::new(),
            line: Vec::new(),
            line_frame_len: 0,
        }
    }

    /// Calls `on` with each frame that `bytes` completes, whole and in order.
    ///
    /// # Errors
    /// When the bytes are not frames.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        on: &mut impl FnMut(Kind, &[u8]),
    ) -> Result<(), LoadError> {
        while !self.carry.is_empty() && !bytes.is_empty() {
            bytes = self.complete(bytes, on)?;
        }
        while !bytes.is_empty() {
            match self.frame_len(bytes)? {
                Some(len) if len <= bytes.len() => {
                    let (frame, rest) = bytes.split_at(len);
                    on(self.kind(frame), frame);
                    bytes = rest;
                }
                _ => {
                    self.carry.extend_from_slice(bytes);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Tops the carried beginning up, by no more than its frame needs; returns what is left.
    fn complete<'b>(
        &mut self,
        bytes: &'b [u8],
        on: &mut impl FnMut(Kind, &[u8]),
    ) -> Result<&'b [u8], LoadError> {
        let mut carry = std::mem::take(&mut self.carry);
        let missing = match self.frame_len(&carry)? {
            Some(len) => len - carry.len(),
            None => self.head_missing(&carry, bytes),
        };
        let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
        carry.extend_from_slice(taken);
        if self.frame_len(&carry)? == Some(carry.len()) {
            on(self.kind(&carry), &carry);
            carry.clear();
        }
        self.carry = carry;
        Ok(rest)
    }

    /// How many bytes the carried head needs before its length can be told.
    fn head_missing(&self, carry: &[u8], bytes: &[u8]) -> usize {
        match self.format {
            Format::Dialtone => LEN_FIELD - carry.len(),
            Format::Nats => memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1),
            Format::SocketIo => socketio::head_missing(carry),
        }
    }

    #[inline]
    fn kind(&self, frame: &[u8]) -> Kind {
        let delivery = match self.format {
            Format::Dialtone => frame.get(LEN_FIELD) == Some(&KIND_DELIVER),
            Format::Nats => frame.starts_with(b"MSG ") || frame.starts_with(b"HMSG "),
            Format::SocketIo => socketio::is_delivery(frame),
        };
        if delivery {
            Kind::Delivery
        } else {
            Kind::Control
        }
    }

    /// The length of the frame that begins `bytes`, once it can be told.
    #[inline]
    fn frame_len(&mut self, bytes: &[u8]) -> Result<Option<usize>, LoadError> {
        let len = match self.format {
            Format::Dialtone => bytes
                .first_chunk()
                .map(|field| LEN_FIELD + u32::from_le_bytes(*field) as usize),
            Format::Nats if !self.line.is_empty() && bytes.starts_with(&self.line) => {
                Some(self.line_frame_len)
            }
            Format::Nats => self.nats_frame_len(bytes)?,
            Format::SocketIo => socketio::frame_len(bytes)?,
        };
        match len {
            Some(len) if len > FRAME_LEN_MAX => {
                Err(LoadError::Peer(format!("a frame of {len} bytes")))
            }
            len => Ok(len),
        }
    }

    fn nats_frame_len(&mut self, bytes: &[u8]) -> Result<Option<usize>, LoadError> {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            return match bytes.len() {
                ..=LINE_LEN_MAX => Ok(None),
                len => Err(LoadError::Peer(format!("a line of more than {len} bytes"))),
            };
        };
        let (line, _) = bytes.split_at(end + 1);
        if !line.starts_with(b"MSG ") && !line.starts_with(b"HMSG ") {
            return Ok(Some(line.len()));
        }
        let size = trailing_number(line)
            .ok_or_else(|| LoadError::Peer(String::from_utf8_lossy(line).into_owned()))?;
        self.line.clear();
        self.line.extend_from_slice(line);
        self.line_frame_len = line.len() + size + 2;
        Ok(Some(self.line_frame_len))
    }
}

/// The number at the end of a line that ends with CR LF.
fn trailing_number(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"\r\n")?;
    let at = memchr::memrchr(b' ', line)?;
    std::str::from_utf8(line.get(at + 1..)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use dialtone_protocol::frame::{Deliver, Message, Ping};
    use dialtone_protocol::{Frame, SubscriptionId};

    use super::*;

    #[track_caller]
    fn check(format: Format, stream: &[u8], expected: &[(Kind, Vec<u8>)]) {
        for step in [1, 2, 3, 7, stream.len()] {
            let mut splitter = Splitter::new(format);
            let mut found = Vec::new();
            for part in stream.chunks(step) {
                splitter
                    .feed(part, &mut |kind, frame| found.push((kind, frame.to_vec())))
                    .unwrap();
            }
            assert_eq!(found, expected, "in steps of {step}");
            assert!(splitter.carry.is_empty());
        }
    }

    #[test]
    fn nats_streams_are_cut_wherever_reads_end() {
        let frames: [(Kind, &[u8]); 6] = [
            (Kind::Control, b"INFO {\"a\":1}\r\n"),
            (Kind::Delivery, b"MSG a.b 1 5\r\nhe\r\no\r\n"),
            (Kind::Delivery, b"MSG a.b 1 5\r\nMSG x\r\n"),
            (Kind::Delivery, b"MSG a.b 1 r 0\r\n\r\n"),
            (Kind::Control, b"PING\r\n"),
            (Kind::Delivery, b"MSG a.b 1 5\r\n12345\r\n"),
        ];
        let stream: Vec<u8> = frames
            .iter()
            .flat_map(|(_, frame)| frame.to_vec())
            .collect();
        check(
            Format::Nats,
            &stream,
            &frames.map(|(kind, frame)| (kind, frame.to_vec())),
        );
    }

    #[test]
    fn dialtone_streams_are_cut_wherever_reads_end() {
        let message = Message {
            subject: "a",
            reply: None,
            encoding: 0,
            headers: None,
            payload: b"hello",
        };
        let deliver = Deliver {
            subscription: SubscriptionId(1),
            unreliable: false,
            fragment: None,
            message,
        };
        let (ping, deliver) = (
            Frame::Ping(Ping { token: 300 }).to_vec(),
            Frame::Deliver(deliver).to_vec(),
        );
        let stream = [ping.clone(), deliver.clone(), deliver.clone(), ping.clone()].concat();
        let expected = [
            (Kind::Control, ping.clone()),
            (Kind::Delivery, deliver.clone()),
            (Kind::Delivery, deliver),
            (Kind::Control, ping),
        ];
        check(Format::Dialtone, &stream, &expected);
    }

    #[test]
    fn nonsense_is_an_error() {
        let mut ignore = |_: Kind, _: &[u8]| {};
        assert!(
            Splitter::new(Format::Dialtone)
                .feed(&[0xff; 8], &mut ignore)
                .is_err()
        );
        assert!(
            Splitter::new(Format::Nats)
                .feed(b"MSG a b c\r\n", &mut ignore)
                .is_err()
        );
        assert!(
            Splitter::new(Format::Nats)
                .feed(&vec![b'x'; LINE_LEN_MAX + 1], &mut ignore)
                .is_err()
        );
    }
}
