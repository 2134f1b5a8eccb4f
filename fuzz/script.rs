//! Reads an input as a list of things that happen to a session.
//!
//! ```text
//! 0  frame      a frame with its length field, as it stands (so that golden vectors are seeds)
//! 1  n bytes    a frame made of the n bytes that follow
//! 2  n bytes    a body that is those bytes
//! 3  n          n × 100 ms pass
//! 4             the deadline has come
//! 5  n          n × 64 bytes arrive
//! 6  n          the session's own occasion, in kind n
//! ```

use arbitrary::{Arbitrary as _, Unstructured};
use dialtone_protocol::Frame;
use dialtone_protocol::codec::{LEN_FIELD, split_frame};

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// The body of a frame arrives.
    Body(Vec<u8>),
    /// As many tenths of a second pass.
    Passes(u64),
    /// The session is asked what is due when its deadline has come.
    Deadline,
    /// As many bytes arrive.
    Bytes(usize),
    /// What the session under test makes of it.
    Own(u8),
}

/// What is left of an input.
#[derive(Debug)]
pub(crate) struct Script<'a>(pub(crate) &'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.byte()?).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(bytes)
    }

    fn frame(&mut self) -> Option<Vec<u8>> {
        let (body, len) = split_frame(self.0, 1 << 20).ok()??;
        self.0 = self.0.get(len..)?;
        Some(body.to_vec())
    }
}

impl Iterator for Script<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        match self.byte()? % 7 {
            0 => self.frame().map(Event::Body),
            1 => {
                let made = Frame::arbitrary(&mut Unstructured::new(self.bytes()?)).ok()?;
                made.to_vec()
                    .get(LEN_FIELD..)
                    .map(<[u8]>::to_vec)
                    .map(Event::Body)
            }
            2 => self.bytes().map(<[u8]>::to_vec).map(Event::Body),
            3 => self.byte().map(u64::from).map(Event::Passes),
            4 => Some(Event::Deadline),
            5 => self.byte().map(|n| Event::Bytes(usize::from(n) * 64)),
            _ => self.byte().map(Event::Own),
        }
    }
}
