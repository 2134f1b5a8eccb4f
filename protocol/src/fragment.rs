//! Large messages in parts (§6.3): cutting them, and keeping track of those in flight.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::error::{Code, Violation};
use crate::frame::Fragment;

/// The parts of a payload of `total_len` bytes: their numbers and where they lie.
pub fn parts(total_len: usize, fragment_len_max: u32) -> impl Iterator<Item = (u32, Range<usize>)> {
    let step = (fragment_len_max as usize).max(1);
    let starts = (0..total_len.max(1)).step_by(step);
    (0_u32..)
        .zip(starts)
        .map(move |(index, start)| (index, start..total_len.min(start + step)))
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
#[expect(
    clippy::struct_field_names,
    reason = "every one is a maximum, and names end with their qualifier"
)]
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
    /// Sum of what was received of all messages in flight, in bytes.
    held_len: u64,
    /// No message is overdue before this. A lower bound, so that hearing of a message is cheap.
    next_expiry: Option<Instant>,
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
        Self {
            bounds,
            messages: BTreeMap::new(),
            held_len: 0,
            next_expiry: None,
        }
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
        let len = len as u64;
        if let Err(error) = self.check(fragment, len, now) {
            self.forget(fragment.id);
            return Err(error);
        }
        if fragment.index == 0 && self.next_expiry.is_none() {
            self.next_expiry = now.checked_add(self.bounds.idle_max);
        }
        let mut entry = match self.messages.entry(fragment.id) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(entry) => entry.insert_entry(InFlight {
                next_index: 0,
                received: 0,
                total_len: fragment.total_len,
                heard: now,
                kept: begin(),
            }),
        };
        let message = entry.get_mut();
        message.received += len;
        if message.received == message.total_len {
            let message = entry.remove();
            self.held_len -= message.received - len;
            return Ok(Accepted::Last(message.kept));
        }
        message.next_index += 1;
        message.heard = now;
        self.held_len += len;
        Ok(Accepted::More(&mut entry.into_mut().kept))
    }

    fn check(&mut self, fragment: Fragment, len: u64, now: Instant) -> Result<(), FragmentError> {
        let Fragment {
            id,
            index,
            total_len,
        } = fragment;
        let max = self.bounds.message_len_max;
        if total_len > max {
            return Err(FragmentError::TooLong {
                len: total_len,
                max,
            });
        }
        if len == 0 || total_len == 0 {
            return Err(FragmentError::Empty { id, index });
        }
        let (next_index, received, promised) = match self.messages.get(&id) {
            Some(message) => (message.next_index, message.received, message.total_len),
            None => (0, 0, total_len),
        };
        // The last number has no successor, so that a message that needs more is out of turn too.
        let is_last = received.saturating_add(len) >= promised;
        if index != next_index || (index == u32::MAX && !is_last) {
            return Err(FragmentError::OutOfTurn { id, index });
        }
        if total_len != promised {
            return Err(FragmentError::TooLong {
                len: total_len,
                max: promised,
            });
        }
        if received.saturating_add(len) > promised {
            return Err(FragmentError::TooLong {
                len: received.saturating_add(len),
                max: promised,
            });
        }
        if index == 0 && self.messages.len() >= self.bounds.messages_max {
            self.expire(now);
            if self.messages.len() >= self.bounds.messages_max {
                return Err(FragmentError::TooMany {
                    max: self.bounds.messages_max,
                });
            }
        }
        Ok(())
    }

    /// Forgets messages whose next fragment is overdue; returns how many. Costs nothing before
    /// [`next_expiry`](Self::next_expiry).
    pub fn expire(&mut self, now: Instant) -> usize {
        if self.next_expiry.is_none_or(|due| now < due) {
            return 0;
        }
        let before = self.messages.len();
        let idle_max = self.bounds.idle_max;
        self.messages.retain(|_, message| {
            let stays = now.saturating_duration_since(message.heard) < idle_max;
            self.held_len -= if stays { 0 } else { message.received };
            stays
        });
        let oldest = self.messages.values().map(|message| message.heard).min();
        self.next_expiry = oldest.and_then(|heard| heard.checked_add(idle_max));
        before - self.messages.len()
    }

    /// When to call [`expire`](Self::expire) at the latest; it may be that nothing is overdue then.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.next_expiry
    }

    /// Whether a message is in flight.
    pub fn contains(&self, id: u64) -> bool {
        self.messages.contains_key(&id)
    }

    /// Forgets one message.
    pub fn forget(&mut self, id: u64) {
        if let Some(message) = self.messages.remove(&id) {
            self.held_len -= message.received;
        }
    }

    /// Forgets all messages, as when the connection that they came on has ended.
    pub fn clear(&mut self) {
        self.messages.clear();
        self.held_len = 0;
        self.next_expiry = None;
    }

    /// How many messages are in flight.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether no message is in flight.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many bytes were received of the messages in flight, together.
    pub fn held_len(&self) -> u64 {
        self.held_len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        messages_max: 2,
        message_len_max: 100,
        idle_max: Duration::from_mins(2),
    };

    #[expect(clippy::disallowed_methods, reason = "a test may begin at any time")]
    fn start() -> Instant {
        Instant::now()
    }

    fn fragment(id: u64, index: u32, total_len: u64) -> Fragment {
        Fragment {
            id,
            index,
            total_len,
        }
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
        let mut refuse =
            |f: Fragment, len| table.accept(f, len, now, || ()).map(|_| ()).unwrap_err();
        assert_eq!(
            refuse(fragment(1, 1, 10), 1),
            FragmentError::OutOfTurn { id: 1, index: 1 }
        );
        assert_eq!(
            refuse(fragment(1, 0, 101), 1),
            FragmentError::TooLong { len: 101, max: 100 }
        );
        assert_eq!(
            refuse(fragment(1, 0, 10), 0),
            FragmentError::Empty { id: 1, index: 0 }
        );
        assert_eq!(
            refuse(fragment(1, 0, 10), 11),
            FragmentError::TooLong { len: 11, max: 10 }
        );
        for id in [1, 2] {
            table.accept(fragment(id, 0, 10), 1, now, || ()).unwrap();
        }
        let third = table.accept(fragment(3, 0, 10), 1, now, || ()).unwrap_err();
        assert_eq!(third, FragmentError::TooMany { max: 2 });
        let later = now + BOUNDS.idle_max;
        table.accept(fragment(3, 0, 10), 1, later, || ()).unwrap();
        assert_eq!(table.len(), 1, "the overdue ones made room");
    }

    #[test]
    fn a_message_that_changes_its_length_is_forgotten() {
        let (mut table, now) = (Table::new(BOUNDS), start());
        table.accept(fragment(1, 0, 10), 6, now, || ()).unwrap();
        let error = table.accept(fragment(1, 1, 11), 4, now, || ()).unwrap_err();
        assert_eq!(error, FragmentError::TooLong { len: 11, max: 10 });
        assert_eq!((table.len(), table.held_len()), (0, 0));
    }

    #[test]
    fn what_is_held_is_counted_through_every_end() {
        let (mut table, now) = (Table::new(BOUNDS), start());
        table.accept(fragment(1, 0, 10), 6, now, || ()).unwrap();
        table
            .accept(fragment(2, 0, 10), 3, now + Duration::from_secs(1), || ())
            .unwrap();
        assert_eq!(table.held_len(), 9);
        assert_eq!(table.next_expiry(), Some(now + BOUNDS.idle_max));
        assert_eq!(table.expire(now + BOUNDS.idle_max), 1);
        assert_eq!(
            (table.held_len(), table.contains(1), table.contains(2)),
            (3, false, true)
        );
        assert_eq!(
            table.next_expiry(),
            Some(now + BOUNDS.idle_max + Duration::from_secs(1))
        );
        table.accept(fragment(2, 1, 10), 7, now, || ()).unwrap();
        assert_eq!(table.held_len(), 0);
        table.accept(fragment(3, 0, 10), 3, now, || ()).unwrap();
        table.forget(3);
        assert_eq!(table.held_len(), 0);
        table.accept(fragment(3, 0, 10), 3, now, || ()).unwrap();
        table.clear();
        assert_eq!((table.held_len(), table.next_expiry()), (0, None));
    }

    #[test]
    fn a_table_without_expiry_never_forgets() {
        let (mut table, now) = (
            Table::new(Bounds {
                idle_max: Duration::MAX,
                ..BOUNDS
            }),
            start(),
        );
        table.accept(fragment(1, 0, 10), 6, now, || ()).unwrap();
        assert_eq!((table.next_expiry(), table.expire(now)), (None, 0));
    }
}
