//! A second reading of RFC 6455 §5 at a server's end: slow, obvious, and of all bytes at once.

use dialtone_transport::websocket::Violation;

/// What a whole stream of frames says.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The data of all messages, as far as it is there.
    pub(crate) payload: Vec<u8>,
    /// The payloads of the pings that are whole.
    pub(crate) pings: Vec<Vec<u8>>,
    /// How it ends.
    pub(crate) ending: Ending,
    /// What a close is answered with.
    pub(crate) close_code: Option<u16>,
}

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// In the middle.
    Reset,
    /// By a close with a code of the application; 0 is in good order.
    Closed(u16),
    /// By a close with one of the protocol's own codes for failures.
    Aborted,
    /// By a breach of the rules.
    Violation(Violation),
}

/// Reads frames until the stream ends.
pub(crate) fn all(raw: &[u8]) -> Stream {
    let mut stream = Stream {
        payload: Vec::new(),
        pings: Vec::new(),
        ending: Ending::Reset,
        close_code: None,
    };
    let mut frames = Frames {
        rest: raw,
        in_message: false,
    };
    loop {
        match frames.next(&mut stream) {
            Ok(Some(())) => {}
            Ok(None) => return stream,
            Err(violation) => {
                stream.ending = Ending::Violation(violation);
                return stream;
            }
        }
    }
}

struct Frames<'a> {
    rest: &'a [u8],
    in_message: bool,
}

impl<'a> Frames<'a> {
    /// Reads a frame; `None` when none follows.
    fn next(&mut self, stream: &mut Stream) -> Result<Option<()>, Violation> {
        let Some(&[first, second]) = self.rest.first_chunk::<2>() else {
            return Ok(None);
        };
        let (fin, opcode, short) = (first & 0x80 != 0, first & 0x0f, second & 0x7f);
        if first & 0x70 != 0 {
            return Err(Violation::ReservedBits);
        }
        match opcode {
            8..=10 if !fin => return Err(Violation::FragmentedControl),
            8..=10 if short > 125 => return Err(Violation::LongControl),
            0..=2 | 8..=10 => {}
            other => return Err(Violation::Opcode(other)),
        }
        self.take(2);
        let Some((len, key)) = self.len_and_key(short, second & 0x80 != 0)? else {
            return Ok(None);
        };
        match opcode {
            1 => return Err(Violation::Text),
            2 if self.in_message => return Err(Violation::Interleaved),
            0 if !self.in_message => return Err(Violation::Continuation),
            _ => {}
        }
        let there = usize::try_from(len)
            .unwrap_or(usize::MAX)
            .min(self.rest.len());
        let masked = self.take(there).iter().zip(key.iter().cycle());
        let data: Vec<u8> = masked.map(|(byte, key)| byte ^ key).collect();
        let whole = there as u64 == len;
        if opcode < 3 {
            self.in_message = !fin;
            stream.payload.extend(data);
        } else if whole && opcode == 9 {
            stream.pings.push(data);
        } else if whole && opcode == 8 {
            return stream.close(&data).map(|()| None);
        }
        Ok(whole.then_some(()))
    }

    fn len_and_key(
        &mut self,
        short: u8,
        masked: bool,
    ) -> Result<Option<(u64, [u8; 4])>, Violation> {
        let size = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.rest.len() < size {
            return Ok(None);
        }
        let long = self.take(size).iter();
        let long = long.fold(0, |len, byte| len << 8 | u64::from(*byte));
        let len = if size == 0 { short.into() } else { long };
        if len > u64::MAX / 2 {
            return Err(Violation::Length);
        }
        if !masked {
            return Err(Violation::NotMasked);
        }
        if self.rest.len() < 4 {
            return Ok(None);
        }
        let key = self.take(4).first_chunk().copied();
        Ok(key.map(|key| (len, key)))
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }
}

impl Stream {
    fn close(&mut self, data: &[u8]) -> Result<(), Violation> {
        self.close_code = Some(1000);
        self.ending = Ending::Closed(0);
        let Some((code, reason)) = data.split_first_chunk::<2>() else {
            return if data.is_empty() {
                Ok(())
            } else {
                Err(Violation::CloseCode)
            };
        };
        let code = u16::from_be_bytes(*code);
        let reserved = [1004, 1005, 1006, 1015].contains(&code);
        if !(1000..5000).contains(&code) || (1016..3000).contains(&code) || reserved {
            return Err(Violation::CloseCode);
        }
        if String::from_utf8(reason.to_vec()).is_err() {
            return Err(Violation::CloseReason);
        }
        self.close_code = Some(code);
        self.ending = match code {
            1000 | 1001 => Ending::Closed(0),
            4000.. => Ending::Closed(code - 4000),
            _ => Ending::Aborted,
        };
        Ok(())
    }
}
