//! As much of RFC 6455 as a load generator needs.
//!
//! The masking key that is sent is zero, which is legal and makes a masked payload the same as a
//! plain one: buffers can be built once and sent many times.

use crate::error::LoadError;

/// In the first byte: the message ends with this frame.
const FIN: u8 = 0x80;
/// In the first byte: what the frame is.
pub(super) const OPCODE: u8 = 0x0f;
/// In the second byte: a key of four bytes follows the length.
pub(super) const MASKED: u8 = 0x80;
/// In place of a length: it follows as 16 bits.
pub(super) const LEN_16: u8 = 0x7e;
/// In place of a length: it follows as 64 bits.
pub(super) const LEN_64: u8 = 0x7f;
/// A text message.
pub(super) const TEXT: u8 = 1;
/// A binary message.
pub(super) const BINARY: u8 = 2;
/// Longest header that a server sends, which never masks.
const HEADER_LEN_MAX: usize = 10;

/// The upgrade request of a Dialtone client.
pub fn upgrade_request(host: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ZGlhbHRvbmUtbG9hZGdlbg==\r\n\
         Sec-WebSocket-Protocol: {}\r\n\r\n",
        dialtone_protocol::WEBSOCKET_SUBPROTOCOL
    )
}

/// The length of the answer to the upgrade request, once it is there as a whole.
///
/// # Errors
/// When the server did not agree.
pub fn upgrade_response_len(bytes: &[u8]) -> Result<Option<usize>, LoadError> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    if bytes.starts_with(b"HTTP/1.1 101 ") {
        return Ok(Some(end + 4));
    }
    let text = String::from_utf8_lossy(bytes);
    Err(LoadError::Peer(
        text.lines().next().unwrap_or_default().to_owned(),
    ))
}

/// Appends one binary message with these frames.
pub fn wrap(out: &mut Vec<u8>, frames: &[u8]) {
    put_header(out, BINARY, frames.len());
    out.extend_from_slice(frames);
}

/// Appends a pong with the payload of the ping.
pub fn pong(out: &mut Vec<u8>, payload: &[u8]) {
    put_header(out, 10, payload.len());
    out.extend_from_slice(payload);
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "each arm holds lengths that fit"
)]
pub(super) fn put_header(out: &mut Vec<u8>, opcode: u8, len: usize) {
    out.push(FIN | opcode);
    match len {
        ..0x7e => out.push(MASKED | len as u8),
        0x7e..=0xffff => {
            out.push(MASKED | LEN_16);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(MASKED | LEN_64);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
}

/// A part of what a server sent, without the WebSocket framing.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'b> {
    /// Payload of binary messages, as a stream.
    Data(&'b [u8]),
    /// A whole ping.
    Ping(&'b [u8]),
    /// The server closes, for this reason.
    Close(String),
}

/// Takes the framing out of what a server sends.
#[derive(Debug, Default)]
pub struct Deframer {
    header: Vec<u8>,
    opcode: u8,
    left: u64,
    /// The payload of a control frame so far.
    control: Vec<u8>,
}

impl Deframer {
    /// Calls `on` with each piece in `bytes`.
    ///
    /// # Errors
    /// When the server masks or sends frames that nobody asked for, or when `on` fails.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        on: &mut impl FnMut(Piece<'_>) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        while !bytes.is_empty() {
            if self.left == 0 {
                bytes = self.header(bytes)?;
                if self.left > 0 || !self.header.is_empty() {
                    continue;
                }
            }
            let len = usize::try_from(self.left)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            let (payload, rest) = bytes.split_at(len);
            self.left -= len as u64;
            bytes = rest;
            self.payload(payload, on)?;
        }
        Ok(())
    }

    /// Takes bytes of a header; `self.header` is empty again when it is complete.
    fn header<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], LoadError> {
        let wanted = match self.header.get(1) {
            Some(&LEN_16) => 4,
            Some(&LEN_64) => HEADER_LEN_MAX,
            Some(_) | None => 2,
        };
        let (taken, rest) = bytes.split_at((wanted - self.header.len()).min(bytes.len()));
        self.header.extend_from_slice(taken);
        let (len, opcode) = match *self.header {
            [first, len] if len < LEN_16 => (u64::from(len), first & OPCODE),
            [first, LEN_16, high, low] => {
                (u64::from(u16::from_be_bytes([high, low])), first & OPCODE)
            }
            [first, LEN_64, ref len @ ..] if let Some(len) = len.first_chunk() => {
                (u64::from_be_bytes(*len), first & OPCODE)
            }
            [_, len, ..] if len & MASKED != 0 => {
                return Err(LoadError::Peer("a masked WebSocket frame".to_owned()));
            }
            _ => return Ok(rest),
        };
        self.header.clear();
        self.opcode = opcode;
        self.left = len;
        self.control.clear();
        if self.opcode >= 8 && len > 125 {
            return Err(LoadError::Peer("a long WebSocket control frame".to_owned()));
        }
        Ok(rest)
    }

    fn payload(
        &mut self,
        payload: &[u8],
        on: &mut impl FnMut(Piece<'_>) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        if matches!(self.opcode, 0 | 2) {
            return on(Piece::Data(payload));
        }
        self.control.extend_from_slice(payload);
        if self.left > 0 {
            return Ok(());
        }
        match self.opcode {
            8 => on(Piece::Close(close_text(&self.control))),
            9 => on(Piece::Ping(&self.control)),
            10 => Ok(()),
            other => Err(LoadError::Peer(format!(
                "a WebSocket frame of kind {other}"
            ))),
        }
    }
}

fn close_text(payload: &[u8]) -> String {
    match payload {
        [a, b, reason @ ..] => format!(
            "{} {}",
            u16::from_be_bytes([*a, *b]),
            String::from_utf8_lossy(reason)
        ),
        _ => "without a reason".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_come_out_wherever_reads_end() {
        let mut stream = vec![0x82, 3, b'a', b'b', b'c', 0x89, 1, b'p', 0x82, 126, 1, 0];
        stream.extend_from_slice(&[b'x'; 256]);
        stream.extend_from_slice(&[0x82, 0, 0x82, 127, 0, 0, 0, 0, 0, 0, 0, 1, b'y', 0x89, 0]);
        for step in [1, 2, 5, stream.len()] {
            let (mut deframer, mut data, mut pings) = (Deframer::default(), Vec::new(), 0);
            for part in stream.chunks(step) {
                let taken = deframer.feed(part, &mut |piece| {
                    match piece {
                        Piece::Data(bytes) => data.extend_from_slice(bytes),
                        Piece::Ping(_) => pings += 1,
                        Piece::Close(_) => {}
                    }
                    Ok(())
                });
                taken.unwrap();
            }
            assert_eq!(data.len(), 3 + 256 + 1, "in steps of {step}");
            assert!(data.starts_with(b"abcx") && data.ends_with(b"xy"));
            assert!(pings >= 1, "in steps of {step}");
        }
    }

    #[test]
    fn headers_have_the_length_in_the_shortest_form() {
        for (len, header) in [(5, 6), (125, 6), (126, 8), (65_535, 8), (65_536, 14)] {
            let mut out = Vec::new();
            wrap(&mut out, &vec![7; len]);
            assert_eq!(out.len(), header + len);
        }
    }

    #[test]
    fn refusals_are_told() {
        assert!(matches!(
            upgrade_response_len(b"HTTP/1.1 101 Switching"),
            Ok(None)
        ));
        assert!(matches!(
            upgrade_response_len(b"HTTP/1.1 101 X\r\n\r\nabc"),
            Ok(Some(18))
        ));
        assert!(upgrade_response_len(b"HTTP/1.1 403 Forbidden\r\n\r\n").is_err());
        assert!(
            Deframer::default()
                .feed(&[0x82, 0x81], &mut |_| Ok(()))
                .is_err()
        );
        let mut deframer = Deframer::default();
        let mut reason = None;
        let fed = deframer.feed(&[0x88, 5, 3, 0xe8, b'b', b'y', b'e'], &mut |piece| {
            reason = Some(matches!(piece, Piece::Close(text) if text == "1000 bye"));
            Ok(())
        });
        assert!(fed.is_ok() && reason == Some(true));
    }
}
