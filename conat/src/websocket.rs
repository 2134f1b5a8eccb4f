//! The WebSocket of a Socket.IO client (RFC 6455): its messages, cut out of received bytes in place, and frames for it.
//!
//! A message that lies in one read is borrowed from it. What spans several reads is gathered, and a connection between
//! two messages keeps nothing. Extensions are not spoken.

use std::borrow::Cow;

use dialtone_transport::websocket::{Header, Opcode, Violation, mask_in_place};
use thiserror::Error;

/// A frame that is not longer waits in the bytes of its connection until it is there, instead of being gathered.
const WAITS_LEN_MAX: usize = 4 << 10;

/// What a client says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    Text(Cow<'a, str>),
    Binary(Cow<'a, [u8]>),
    /// To be answered with the same bytes.
    Ping(&'a [u8]),
    /// The client ends the WebSocket.
    Close,
}

/// How a client broke the rules of its WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum WebSocketError {
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error("a WebSocket message of more than {max} bytes")]
    TooLarge { max: usize },
    #[error("a text message that is not UTF-8")]
    NotText,
}

impl WebSocketError {
    /// What the client is told (RFC 6455 §7.4.1).
    pub(crate) fn close_code(&self) -> u16 {
        match self {
            Self::Violation(violation) => violation.close_code(),
            Self::TooLarge { .. } => 1009,
            Self::NotText => 1007,
        }
    }
}

/// The state between two reads.
#[derive(Debug)]
pub(crate) struct Deframer {
    /// Longest message in bytes.
    max: usize,
    /// A frame of which a part has been gathered.
    current: Option<Current>,
    /// A message that has begun to be gathered.
    message: Option<Gathered>,
}

#[derive(Debug)]
struct Current {
    left: u64,
    /// The masking key as it applies to the next byte.
    key: [u8; 4],
    fin: bool,
}

/// How far a frame has come.
enum Gathering {
    /// More of it is due.
    Incomplete,
    /// It is there, and others of its message are due.
    Frame,
    /// With it, its message is whole.
    Message,
}

#[derive(Debug)]
struct Gathered {
    is_text: bool,
    bytes: Vec<u8>,
}

impl Deframer {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            current: None,
            message: None,
        }
    }

    /// The next thing in `buffer` from `at` on, which is moved behind it. Without one, what remains from `at` on is to
    /// be given again with more behind it.
    pub(crate) fn next<'b>(
        &mut self,
        buffer: &'b mut [u8],
        at: &mut usize,
    ) -> Result<Option<Piece<'b>>, WebSocketError> {
        loop {
            if self.current.is_some() {
                match self.gather(buffer, at) {
                    Gathering::Incomplete => return Ok(None),
                    Gathering::Frame => continue,
                    Gathering::Message => {}
                }
            } else {
                let Some((header, payload)) = self.begin(buffer, *at)? else {
                    return Ok(None);
                };
                let len = usize::try_from(header.len).unwrap_or(usize::MAX);
                let available = buffer.len() - payload;
                if available < len {
                    if header.opcode.is_control() || len <= WAITS_LEN_MAX {
                        return Ok(None);
                    }
                    self.start_gathering(&header);
                    *at = payload;
                    continue;
                }
                let key = header.mask.unwrap_or_default();
                let (frame, end) = (payload..payload + len, payload + len);
                mask_in_place(&mut buffer[frame.clone()], key);
                *at = end;
                match header.opcode {
                    Opcode::Ping => return Ok(Some(Piece::Ping(&buffer[frame]))),
                    Opcode::Close => return Ok(Some(Piece::Close)),
                    Opcode::Pong => continue,
                    Opcode::Text if header.fin => {
                        return Ok(Some(Piece::Text(Cow::Borrowed(text(&buffer[frame])?))));
                    }
                    Opcode::Binary if header.fin => {
                        return Ok(Some(Piece::Binary(Cow::Borrowed(&buffer[frame]))));
                    }
                    Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                        self.start_gathering(&header);
                        self.current = None;
                        if let Some(message) = &mut self.message {
                            message.bytes.extend_from_slice(&buffer[frame]);
                        }
                        if !header.fin {
                            continue;
                        }
                    }
                }
            }
            return self.finish();
        }
    }

    /// Reads a header and checks it; where the payload begins.
    fn begin(&self, buffer: &[u8], at: usize) -> Result<Option<(Header, usize)>, WebSocketError> {
        let Some((header, size)) = Header::decode(&buffer[at..])? else {
            return Ok(None);
        };
        if header.mask.is_none() {
            return Err(Violation::NotMasked.into());
        }
        if !header.opcode.is_control() {
            match (&self.message, header.opcode) {
                (Some(_), Opcode::Text | Opcode::Binary) => {
                    return Err(Violation::Interleaved.into());
                }
                (None, Opcode::Continuation) => return Err(Violation::Continuation.into()),
                (Some(_) | None, _) => {}
            }
            let gathered = self
                .message
                .as_ref()
                .map_or(0, |message| message.bytes.len());
            let max = self.max;
            if header.len > (max - gathered.min(max)) as u64 {
                return Err(WebSocketError::TooLarge { max });
            }
        }
        Ok(Some((header, at + size)))
    }

    fn start_gathering(&mut self, header: &Header) {
        self.current = Some(Current {
            left: header.len,
            key: header.mask.unwrap_or_default(),
            fin: header.fin,
        });
        self.message.get_or_insert_with(|| Gathered {
            is_text: header.opcode == Opcode::Text,
            bytes: Vec::new(),
        });
    }

    /// Takes what there is of the current frame.
    fn gather(&mut self, buffer: &mut [u8], at: &mut usize) -> Gathering {
        let (Some(current), Some(message)) = (&mut self.current, &mut self.message) else {
            return Gathering::Incomplete;
        };
        let available = buffer.len() - *at;
        let take = usize::try_from(current.left).map_or(available, |left| left.min(available));
        let part = &mut buffer[*at..*at + take];
        current.key = mask_in_place(part, current.key);
        message.bytes.extend_from_slice(part);
        *at += take;
        current.left -= take as u64;
        if current.left > 0 {
            return Gathering::Incomplete;
        }
        let fin = current.fin;
        self.current = None;
        if fin {
            Gathering::Message
        } else {
            Gathering::Frame
        }
    }

    fn finish<'b>(&mut self) -> Result<Option<Piece<'b>>, WebSocketError> {
        let Some(Gathered { is_text, mut bytes }) = self.message.take() else {
            return Ok(None);
        };
        // It may be kept for a while, and grew by doubling.
        bytes.shrink_to_fit();
        if !is_text {
            return Ok(Some(Piece::Binary(Cow::Owned(bytes))));
        }
        let text = String::from_utf8(bytes).map_err(|_not_text| WebSocketError::NotText)?;
        Ok(Some(Piece::Text(Cow::Owned(text))))
    }
}

fn text(bytes: &[u8]) -> Result<&str, WebSocketError> {
    std::str::from_utf8(bytes).map_err(|_not_text| WebSocketError::NotText)
}

/// Appends a whole text message.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_head(out, Opcode::Text, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Appends the head of a message; its payload follows.
pub(crate) fn put_head(out: &mut Vec<u8>, opcode: Opcode, len: usize) {
    let (head, size) = header(opcode, len).encode();
    out.extend_from_slice(&head[..size]);
}

/// The head of a message in one frame, as a server sends it.
pub(crate) fn header(opcode: Opcode, len: usize) -> Header {
    Header {
        fin: true,
        opcode,
        mask: None,
        len: len as u64,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a client sends it.
    fn frame(opcode: Opcode, fin: bool, payload: &[u8], key: [u8; 4]) -> Vec<u8> {
        let header = Header {
            fin,
            opcode,
            mask: Some(key),
            len: payload.len() as u64,
        };
        let (head, size) = header.encode();
        let mut out = head[..size].to_vec();
        let start = out.len();
        out.extend_from_slice(payload);
        mask_in_place(&mut out[start..], key);
        out
    }

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Said {
        Text(String),
        Binary(Vec<u8>),
        Ping(Vec<u8>),
        Close,
    }

    /// What is heard when the bytes come in pieces of these lengths, in turn.
    fn hear(max: usize, stream: &[u8], lens: &[usize]) -> Result<Vec<Said>, WebSocketError> {
        let mut deframer = Deframer::new(max);
        let (mut said, mut rest, mut sent) = (Vec::new(), Vec::new(), 0);
        for len in lens.iter().cycle() {
            if sent == stream.len() {
                break;
            }
            let end = (sent + len).min(stream.len());
            rest.extend_from_slice(&stream[sent..end]);
            sent = end;
            let mut at = 0;
            while let Some(piece) = deframer.next(&mut rest, &mut at)? {
                said.push(match piece {
                    Piece::Text(text) => Said::Text(text.into_owned()),
                    Piece::Binary(bytes) => Said::Binary(bytes.into_owned()),
                    Piece::Ping(payload) => Said::Ping(payload.to_vec()),
                    Piece::Close => Said::Close,
                });
            }
            rest.drain(..at);
        }
        Ok(said)
    }

    fn message() -> impl Strategy<Value = (Said, usize)> {
        let said = prop_oneof![
            "[a-zä]{0,80}".prop_map(Said::Text),
            proptest::collection::vec(any::<u8>(), 0..9_000).prop_map(Said::Binary),
            proptest::collection::vec(any::<u8>(), 0..125).prop_map(Said::Ping),
        ];
        (said, 1_usize..5_000)
    }

    proptest! {
        /// However a stream is cut into reads, and messages into frames, the same is heard.
        #[test]
        fn messages_are_heard_as_they_were_said(
            messages in proptest::collection::vec(message(), 0..12),
            lens in proptest::collection::vec(1_usize..6_000, 1..5),
            key in any::<[u8; 4]>(),
        ) {
            let (mut stream, mut expected) = (Vec::new(), Vec::new());
            for (said, part_len) in &messages {
                let (opcode, bytes) = match said {
                    Said::Text(text) => (Opcode::Text, text.as_bytes()),
                    Said::Binary(bytes) => (Opcode::Binary, &**bytes),
                    Said::Ping(bytes) => (Opcode::Ping, &**bytes),
                    Said::Close => (Opcode::Close, &b""[..]),
                };
                expected.push(said.clone());
                if opcode.is_control() || bytes.is_empty() {
                    stream.extend(frame(opcode, true, bytes, key));
                    continue;
                }
                let count = bytes.len().div_ceil(*part_len);
                for (index, part) in bytes.chunks(*part_len).enumerate() {
                    let opcode = if index == 0 { opcode } else { Opcode::Continuation };
                    stream.extend(frame(opcode, index + 1 == count, part, key));
                    if index + 1 < count && index % 2 == 1 {
                        // Pings may come in the middle of a message.
                        stream.extend(frame(Opcode::Ping, true, b"", key));
                        expected.insert(expected.len() - 1, Said::Ping(Vec::new()));
                    }
                }
            }
            prop_assert_eq!(hear(10_000, &stream, &lens).unwrap(), expected);
        }

        /// Nothing that a client sends makes it fail otherwise than by an error.
        #[test]
        fn anything_is_heard_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), len in 1_usize..50) {
            drop(hear(100, &bytes, &[len]));
        }
    }

    #[test]
    fn a_long_frame_is_followed_by_others_of_its_message_in_the_same_read() {
        let (first, key) = (vec![1; WAITS_LEN_MAX + 1], [1, 2, 3, 4]);
        let stream = [
            frame(Opcode::Binary, false, &first, key),
            frame(Opcode::Continuation, true, b"2", key),
        ]
        .concat();
        let whole = Said::Binary([&first[..], b"2"].concat());
        for len in [1, 100, WAITS_LEN_MAX] {
            assert_eq!(
                hear(10_000, &stream, &[len]),
                Ok(vec![whole.clone()]),
                "{len}"
            );
        }
    }

    #[test]
    fn what_breaks_the_rules_is_refused() {
        let key = [1, 2, 3, 4];
        let too_large = WebSocketError::TooLarge { max: 8 };
        let not_masked = vec![0x81, 1, b'x'];
        let two_parts = [
            frame(Opcode::Binary, false, b"12345", key),
            frame(Opcode::Continuation, true, b"6789", key),
        ]
        .concat();
        let interleaved = [
            frame(Opcode::Binary, false, b"1", key),
            frame(Opcode::Text, true, b"2", key),
        ]
        .concat();
        for (stream, error) in [
            (
                frame(Opcode::Binary, true, b"123456789", key),
                too_large.clone(),
            ),
            (two_parts, too_large),
            (not_masked, Violation::NotMasked.into()),
            (interleaved, Violation::Interleaved.into()),
            (
                frame(Opcode::Continuation, true, b"1", key),
                Violation::Continuation.into(),
            ),
            (
                frame(Opcode::Text, true, b"\xff", key),
                WebSocketError::NotText,
            ),
        ] {
            for len in [1, stream.len()] {
                assert_eq!(hear(8, &stream, &[len]), Err(error.clone()), "{stream:x?}");
            }
        }
        let close = frame(Opcode::Close, true, b"", key);
        assert_eq!(hear(8, &close, &[1]), Ok(vec![Said::Close]));
    }
}
