//! Large messages in parts (§6.3): cutting them, and keeping track of those in flight.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::error::{Code, Violation};
use crate::frame::Fragment;

/// The parts of a payload of `total_len` bytes: their numbers and where they lie.
pub fn parts(total_len: usize, fragment_len_max: u32) -> impl Iterator<Item = (u32, Range<usize>)> {
    let step = (fragment_len_max as usize).max(1);
    let starts = (0..total_len.max(1)).step_by(step);
    (0_u32..).zip(starts).map(move |(index, start)| (index, start..total_len.min(start + step)))
}

/// Why a fragment has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// Too many messages are in flight already.
    #[error("more than {max} fragmented messages in flight")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// A first fragment for a message that has begun, or a later one out of turn.
    #[error("fragment {index} of message {id} is out of turn")]
    OutOfTurn {
        /// The message.
        id: u64,
        /// The fragment.
        index: u32,
    },
    /// The message says or turns out to be longer than it may be.
    #[error("a fragmented message of {len} bytes is longer than the limit of {max}")]
    TooLong {
        /// Its length in bytes.
        len: u64,
        /// The bound in bytes.
        max: u64,
    },
    /// A fragment without any payload, or of a message of no length.
    #[error("fragment {index} of message {id} is empty")]
    Empty {
        /// The message.
        id: u64,
        /// The fragment.
        index: u32,
    },
}

impl From<FragmentError> for Violation {
    fn from(error: FragmentError) -> Self {
        let code = match error {
            FragmentError::TooMany { .. } => Code::TooMany,
            FragmentError::TooLong { .. } => Code::TooLarge,
            FragmentError::OutOfTurn { .. } | FragmentError::Empty { .. } => Code::BadFrame,
        };
        Self::new(code, error.to_string())
    }
}

/// Bounds of a [`Table`].
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most messages in flight.
    pub messages_max: usize,
    /// Longest message, in bytes.
    pub message_len_max: u64,
    /// How long a message may stay without its next fragment.
    pub idle_max: Duration,
}

/// The fragmented messages in flight in one direction, each with what its owner keeps about it.
#[derive(Debug)]
pub struct Table<T> {
    bounds: Bounds,
    messages: BTreeMap<u64, InFlight<T>>,
}

#[derive(Debug)]
struct InFlight<T> {
    next_index: u32,
    received: u64,
    total_len: u64,
    heard: Instant,
    kept: T,
}

/// What a fragment belongs to.
#[derive(Debug)]
pub enum Accepted<'t, T> {
    /// More fragments follow.
    More(&'t mut T),
    /// It was the last; the message is in flight no longer.
    Last(T),
}

impl<T> Table<T> {
    /// An empty table.
    pub const fn new(bounds: Bounds) -> Self {
        Self { bounds, messages: BTreeMap::new() }
    }

    /// Accounts for a fragment with `len` bytes of payload; `begin` makes what is kept when it is
    /// the first.
    ///
    /// # Errors
    /// When the fragment has no place; a message in flight that it names is then forgotten.
    pub fn accept(
        &mut self,
        fragment: Fragment,
        len: usize,
        now: Instant,
        begin: impl FnOnce() -> T,
    ) -> Result<Accepted<'_, T>, FragmentError> {
        let result = self.check(fragment, len as u64, now);
        if let Err(error) = result {
            self.messages.remove(&fragment.id);
            return Err(error);
        }
        let message = self.messages.entry(fragment.id).or_insert_with(|| InFlight {
            next_index: 0,
            received: 0,
            total_len: fragment.total_len,
            heard: now,
            kept: begin(),
        });
        message.next_index += 1;
        message.received += len as u64;
        message.heard = now;
        if message.received < message.total_len {
            // The second look-up keeps the borrow checker content with the removal below.
            let message = self.messages.get_mut(&fragment.id);
            return Ok(Accepted::More(&mut message.expect("the message was found above").kept));
        }
        let message = self.messages.remove(&fragment.id);
        Ok(Accepted::Last(message.expect("the message was found above").kept))
    }

    fn check(&mut self, fragment: Fragment, len: u64, now: Instant) -> Result<(), FragmentError> {
        let Fragment { id, index, total_len } = fragment;
        let max = self.bounds.message_len_max;
        if total_len > max {
            return Err(FragmentError::TooLong { len: total_len, max });
        }
        if len == 0 || total_len == 0 {
            return Err(FragmentError::Empty { id, index });
        }
        let (next_index, received, promised) = match self.messages.get(&id) {
            Some(message) => (message.next_index, message.received, message.total_len),
            None => (0, 0, total_len),
        };
        if index != next_index {
            return Err(FragmentError::OutOfTurn { id, index });
        }
        if received + len > promised || total_len != promised {
            return Err(FragmentError::TooLong { len: received + len, max: promised });
        }
        if index == 0 && self.messages.len() >= self.bounds.messages_max {
            self.expire(now);
            if self.messages.len() >= self.bounds.messages_max {
                return Err(FragmentError::TooMany { max: self.bounds.messages_max });
            }
        }
        Ok(())
    }

    /// Forgets messages whose next fragment is overdue; returns how many.
    pub fn expire(&mut self, now: Instant) -> usize {
        let before = self.messages.len();
        let idle_max = self.bounds.idle_max;
        self.messages.retain(|_, message| now.saturating_duration_since(message.heard) < idle_max);
        before - self.messages.len()
    }

    /// Forgets one message.
    pub fn forget(&mut self, id: u64) {
        self.messages.remove(&id);
    }

    /// Forgets all messages, as when the connection that they came on has ended.
    pub fn clear(&mut self) {
        self.messages.clear();
    }

    /// How many messages are in flight.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether no message is in flight.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { messages_max: 2, message_len_max: 100, idle_max: Duration::from_secs(120) };

    #[expect(clippy::disallowed_methods, reason = "a test may begin at any time")]
    fn start() -> Instant {
        Instant::now()
    }

    fn fragment(id: u64, index: u32, total_len: u64) -> Fragment {
        Fragment { id, index, total_len }
    }

    #[test]
    fn parts_cover_a_payload_without_gaps() {
        for (total, max, count) in [(0, 4, 1), (1, 4, 1), (4, 4, 1), (5, 4, 2), (12, 4, 3)] {
            let parts: Vec<_> = parts(total, max).collect();
            assert_eq!(parts.len(), count);
            let mut end = 0;
            for (expected, (index, range)) in (0..).zip(parts) {
                assert_eq!((index, range.start), (expected, end));
                end = range.end;
            }
            assert_eq!(end, total);
        }
    }

    #[test]
    fn a_message_is_kept_until_its_last_fragment() {
        let (mut table, now) = (Table::new(BOUNDS), start());
        let first = table.accept(fragment(7, 0, 10), 6, now, || 1).unwrap();
        assert!(matches!(first, Accepted::More(&mut 1)));
        let last = table.accept(fragment(7, 1, 10), 4, now, || 2).unwrap();
        assert!(matches!(last, Accepted::Last(1)));
        assert!(table.is_empty());
    }

    #[test]
    fn what_has_no_place_is_refused_by_name() {
        let (mut table, now) = (Table::new(BOUNDS), start());
        let mut refuse = |f: Fragment, len| table.accept(f, len, now, || ()).map(|_| ()).unwrap_err();
        assert_eq!(refuse(fragment(1, 1, 10), 1), FragmentError::OutOfTurn { id: 1, index: 1 });
        assert_eq!(refuse(fragment(1, 0, 101), 1), FragmentError::TooLong { len: 101, max: 100 });
        assert_eq!(refuse(fragment(1, 0, 10), 0), FragmentError::Empty { id: 1, index: 0 });
        assert_eq!(refuse(fragment(1, 0, 10), 11), FragmentError::TooLong { len: 11, max: 10 });
        for id in [1, 2] {
            table.accept(fragment(id, 0, 10), 1, now, || ()).unwrap();
        }
        let third = table.accept(fragment(3, 0, 10), 1, now, || ()).unwrap_err();
        assert_eq!(third, FragmentError::TooMany { max: 2 });
        let later = now + BOUNDS.idle_max;
        table.accept(fragment(3, 0, 10), 1, later, || ()).unwrap();
        assert_eq!(table.len(), 1, "the overdue ones made room");
    }
}
