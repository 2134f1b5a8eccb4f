//! Takes the WebSocket framing out of received bytes, in place and as they arrive.
//!
//! Payload is handed on before its frame or message is complete; what is kept between reads is at most part of a
//! header, or part of a control frame.

use super::Role;
use super::frame::{CONTROL_LEN_MAX, HEADER_LEN_MAX, Header, Opcode, Violation, mask_in_place};

/// The state between two reads.
#[derive(Debug)]
pub(crate) struct Deframer {
    role: Role,
    /// The beginning of a header whose rest has not arrived.
    partial: [u8; HEADER_LEN_MAX],
    partial_len: usize,
    /// What the current frame is; `None` between frames.
    current: Option<Opcode>,
    /// Payload of the current frame that has not arrived.
    left: u64,
    /// The masking key as it applies to the next byte.
    key: Option<[u8; 4]>,
    /// Whether the current data frame ends its message.
    fin: bool,
    /// Whether a message has begun that is not finished.
    in_message: bool,
    /// Payload of a control frame so far.
    control: Vec<u8>,
}

/// What else was in the bytes besides payload.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The last ping's payload; answering the last one answers all (RFC 6455 §5.5.3).
    pub(crate) ping: Option<Vec<u8>>,
    /// The peer closes; whatever follows is ignored.
    pub(crate) close: Option<Close>,
}

/// The content of a close frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Close {
    /// `None` if the frame was empty.
    pub(crate) code: Option<u16>,
    pub(crate) reason: String,
}

impl Deframer {
    pub(crate) const fn new(role: Role) -> Self {
        Self {
            role,
            partial: [0; HEADER_LEN_MAX],
            partial_len: 0,
            current: None,
            left: 0,
            key: None,
            fin: false,
            in_message: false,
            control: Vec::new(),
        }
    }

    /// Replaces the raw bytes `buf[start..]` by the payload in them.
    ///
    /// # Errors
    /// If the peer breaks the protocol. The payload before that point is in `buf`.
    pub(crate) fn deframe(&mut self, buf: &mut Vec<u8>, start: usize) -> Result<Found, Violation> {
        let mut found = Found::default();
        let (mut read, mut write) = (start, start);
        let mut result = Ok(());
        while read < buf.len() && found.close.is_none() {
            result = self.step(buf, &mut read, &mut write, &mut found);
            if result.is_err() {
                break;
            }
        }
        buf.truncate(write);
        result.map(|()| found)
    }

    /// Takes a header and what there is of its payload.
    fn step(
        &mut self,
        buf: &mut [u8],
        read: &mut usize,
        write: &mut usize,
        found: &mut Found,
    ) -> Result<(), Violation> {
        if self.current.is_none() {
            let Some((header, size)) = self.header(&buf[*read..])? else {
                *read = buf.len();
                return Ok(());
            };
            *read += size;
            self.begin(header)?;
        }
        let available = buf.len() - *read;
        let take = usize::try_from(self.left).map_or(available, |left| left.min(available));
        let range = *read..*read + take;
        if let Some(key) = self.key {
            self.key = Some(mask_in_place(&mut buf[range.clone()], key));
        }
        if self.current.is_some_and(Opcode::is_control) {
            self.control.extend_from_slice(&buf[range]);
        } else {
            buf.copy_within(range, *write);
            *write += take;
        }
        *read += take;
        self.left -= take as u64;
        if self.left == 0 {
            self.end(found)?;
        }
        Ok(())
    }

    /// Decodes a header from kept and new bytes; keeps the new ones if they do not suffice.
    fn header(&mut self, new: &[u8]) -> Result<Option<(Header, usize)>, Violation> {
        let kept = self.partial_len;
        if kept == 0 {
            let decoded = Header::decode(new)?;
            if decoded.is_none() {
                self.keep(new);
            }
            return Ok(decoded);
        }
        self.keep(new);
        let Some((header, size)) = Header::decode(&self.partial[..self.partial_len])? else {
            return Ok(None);
        };
        self.partial_len = 0;
        Ok(Some((header, size - kept)))
    }

    fn keep(&mut self, new: &[u8]) {
        let kept = self.partial_len;
        let take = new.len().min(HEADER_LEN_MAX - kept);
        self.partial[kept..kept + take].copy_from_slice(&new[..take]);
        self.partial_len = kept + take;
    }

    /// Checks a header against the role and the state of the message.
    fn begin(&mut self, header: Header) -> Result<(), Violation> {
        match (self.role, header.mask) {
            (Role::Server, None) => return Err(Violation::NotMasked),
            (Role::Client, Some(_)) => return Err(Violation::Masked),
            (Role::Server, Some(_)) | (Role::Client, None) => {}
        }
        match header.opcode {
            Opcode::Text => return Err(Violation::Text),
            Opcode::Binary if self.in_message => return Err(Violation::Interleaved),
            Opcode::Continuation if !self.in_message => return Err(Violation::Continuation),
            Opcode::Binary | Opcode::Continuation => {
                self.fin = header.fin;
                self.in_message = true;
            }
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                debug_assert!(
                    header.len <= CONTROL_LEN_MAX as u64,
                    "checked by the decoder"
                );
            }
        }
        self.current = Some(header.opcode);
        self.left = header.len;
        self.key = header.mask;
        Ok(())
    }

    /// Ends the current frame.
    fn end(&mut self, found: &mut Found) -> Result<(), Violation> {
        match self.current.take() {
            Some(Opcode::Ping) => found.ping = Some(std::mem::take(&mut self.control)),
            Some(Opcode::Pong) => self.control = Vec::new(),
            Some(Opcode::Close) => {
                found.close = Some(Close::decode(&std::mem::take(&mut self.control))?);
            }
            Some(Opcode::Binary | Opcode::Continuation | Opcode::Text) => {
                self.in_message = !self.fin;
            }
            None => {}
        }
        Ok(())
    }
}

impl Close {
    fn decode(payload: &[u8]) -> Result<Self, Violation> {
        let Some((code, reason)) = payload.split_first_chunk::<2>() else {
            let empty = Self {
                code: None,
                reason: String::new(),
            };
            return if payload.is_empty() {
                Ok(empty)
            } else {
                Err(Violation::CloseCode)
            };
        };
        let code = u16::from_be_bytes(*code);
        // RFC 6455 §7.4: 1004 to 1006 and 1015 never travel; below 1000 and from 5000 on there is nothing.
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(Violation::CloseCode);
        }
        let reason = str::from_utf8(reason).map_err(|_invalid| Violation::CloseReason)?;
        Ok(Self {
            code: Some(code),
            reason: reason.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(fin: bool, opcode: Opcode, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
        let (header, size) = Header {
            fin,
            opcode,
            mask,
            len: payload.len() as u64,
        }
        .encode();
        let mut out = header[..size].to_vec();
        let at = out.len();
        out.extend_from_slice(payload);
        mask_in_place(&mut out[at..], mask.unwrap_or_default());
        out
    }

    const KEY: Option<[u8; 4]> = Some([1, 2, 3, 4]);

    fn deframe(raw: &[u8]) -> (Vec<u8>, Result<Found, Violation>) {
        let mut buf = b"before".to_vec();
        buf.extend_from_slice(raw);
        let found = Deframer::new(Role::Server).deframe(&mut buf, 6);
        (buf.split_off(6), found)
    }

    #[track_caller]
    fn refuse(frames: &[Vec<u8>], why: Violation) {
        assert_eq!(deframe(&frames.concat()).1, Err(why));
    }

    #[test]
    fn fragments_with_a_ping_between_them_are_one_stream() {
        let raw = [
            frame(false, Opcode::Binary, KEY, b"ab"),
            frame(true, Opcode::Ping, KEY, b"1"),
            frame(false, Opcode::Continuation, KEY, b""),
            frame(true, Opcode::Ping, KEY, b"2"),
            frame(true, Opcode::Continuation, KEY, b"cd"),
            frame(true, Opcode::Pong, KEY, b"unasked"),
            frame(true, Opcode::Binary, KEY, b"e"),
        ];
        let found = Found {
            ping: Some(b"2".to_vec()),
            close: None,
        };
        assert_eq!(deframe(&raw.concat()), (b"abcde".to_vec(), Ok(found)));
    }

    #[test]
    fn close_ends_everything() {
        let raw = [
            frame(true, Opcode::Close, KEY, b"\x0f\xa1bye"),
            frame(true, Opcode::Binary, KEY, b"late"),
        ];
        let close = Close {
            code: Some(4001),
            reason: "bye".to_owned(),
        };
        assert_eq!(
            deframe(&raw.concat()),
            (
                vec![],
                Ok(Found {
                    ping: None,
                    close: Some(close)
                })
            )
        );
    }

    #[test]
    fn breaches_are_named() {
        let text = frame(true, Opcode::Text, KEY, b"x");
        refuse(&[text], Violation::Text);
        refuse(
            &[frame(true, Opcode::Binary, None, b"x")],
            Violation::NotMasked,
        );
        refuse(
            &[frame(true, Opcode::Continuation, KEY, b"x")],
            Violation::Continuation,
        );
        let open = frame(false, Opcode::Binary, KEY, b"x");
        refuse(&[open.clone(), open], Violation::Interleaved);
        refuse(
            &[frame(true, Opcode::Close, KEY, b"x")],
            Violation::CloseCode,
        );
        refuse(
            &[frame(true, Opcode::Close, KEY, &1005_u16.to_be_bytes())],
            Violation::CloseCode,
        );
        refuse(
            &[frame(true, Opcode::Close, KEY, b"\x03\xe8\xff")],
            Violation::CloseReason,
        );
        let mut masked = frame(true, Opcode::Binary, KEY, b"x");
        assert_eq!(
            Deframer::new(Role::Client).deframe(&mut masked, 0),
            Err(Violation::Masked)
        );
    }

    #[test]
    fn payload_before_a_breach_is_kept() {
        let raw = [
            frame(true, Opcode::Binary, KEY, b"good"),
            frame(true, Opcode::Text, KEY, b"bad"),
        ]
        .concat();
        assert_eq!(deframe(&raw), (b"good".to_vec(), Err(Violation::Text)));
    }

    proptest! {
        #[test]
        fn reads_may_be_cut_anywhere(
            messages in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..400), any::<[u8; 4]>()), 0..6),
            cuts in prop::collection::vec(1..40_usize, 1..20),
        ) {
            let raw: Vec<u8> =
                messages.iter().flat_map(|(m, key)| frame(true, Opcode::Binary, Some(*key), m)).collect();
            let payload: Vec<u8> = messages.iter().flat_map(|(m, _)| m.clone()).collect();
            let mut deframer = Deframer::new(Role::Server);
            let (mut buf, mut at) = (Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                if at == raw.len() { break }
                let end = raw.len().min(at + cut);
                let start = buf.len();
                buf.extend_from_slice(&raw[at..end]);
                deframer.deframe(&mut buf, start).unwrap();
                at = end;
            }
            prop_assert_eq!(buf, payload);
        }

        #[test]
        fn garbage_is_an_error_or_payload(raw: Vec<u8>) {
            let (payload, _found) = deframe(&raw);
            prop_assert!(payload.len() <= raw.len());
        }
    }
}
