//! Messages that a client publishes in chunks, until they are whole.
//!
//! The predecessor routed each chunk by itself, so that the chunks of one message could reach different members of a
//! queue group. Here a message is one message: it goes on when its last chunk has come.

use std::time::{Duration, Instant};

use bytes::Bytes;
use hashbrown::HashMap;
use thiserror::Error;

/// The bounds of a [`Partial`].
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::struct_field_names,
    reason = "every one is a maximum, and names end with their qualifier"
)]
pub struct Bounds {
    /// Most messages.
    pub messages_max: usize,
    /// Most bytes of all of them.
    pub len_max: usize,
    /// Most bytes of one.
    pub message_len_max: u64,
    /// How long the next chunk may take.
    pub idle_max: Duration,
}

/// What a piece costs beyond its bytes, so that many small ones do not take more room than they seem to.
const PIECE_COST: usize = 64;

/// Pieces that are shorter are copied, in bytes: they lie in a larger buffer that they would keep.
const COPIED_LEN_MAX: usize = 16 << 10;

/// Messages whose last chunk has not come.
#[derive(Debug)]
pub struct Partial {
    bounds: Bounds,
    messages: HashMap<Key, Unfinished>,
    /// Of all messages, with what their pieces cost.
    cost: usize,
}

/// The subject and the publisher's name of a message.
type Key = (Box<str>, Box<str>);

#[derive(Debug)]
struct Unfinished {
    next: u64,
    pieces: Vec<Bytes>,
    len: usize,
    touched: Instant,
}

impl Unfinished {
    fn cost(&self) -> usize {
        self.len + self.pieces.len() * PIECE_COST
    }
}

/// A chunk without what the whole message says.
#[derive(Debug, Clone)]
pub struct Chunk<'a> {
    /// Where the message goes.
    pub subject: &'a str,
    /// What the publisher calls it.
    pub id: &'a str,
    /// 0, 1, 2, … without gaps.
    pub seq: u64,
    /// Nothing follows.
    pub done: bool,
    /// The bytes.
    pub payload: Bytes,
}

/// Why a message was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PartialError {
    /// A chunk is missing, or came twice.
    #[error("chunk {seq} of a message is out of turn; the message is given up")]
    OutOfTurn {
        /// The one that came.
        seq: u64,
    },
    /// The message is too large.
    #[error("a message of more than {max} bytes")]
    TooLarge {
        /// What is allowed, in bytes.
        max: u64,
    },
    /// The messages that have begun take too much room.
    #[error("unfinished messages take more than {max} bytes")]
    NoRoom {
        /// What is allowed, in bytes.
        max: usize,
    },
    /// There are too many.
    #[error("more than {max} unfinished messages")]
    TooMany {
        /// What is allowed.
        max: usize,
    },
}

impl Partial {
    /// With nothing in it.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            messages: HashMap::new(),
            cost: 0,
        }
    }

    /// What one message may have, in bytes.
    pub fn set_message_len_max(&mut self, max: u64) {
        self.bounds.message_len_max = max;
    }

    /// Takes a chunk; the pieces of the whole message when it was the last one.
    ///
    /// # Errors
    /// When the message had to be given up.
    pub fn accept(
        &mut self,
        chunk: Chunk<'_>,
        now: Instant,
    ) -> Result<Option<Vec<Bytes>>, PartialError> {
        self.expire(now);
        let key = (Box::from(chunk.subject), Box::from(chunk.id));
        if chunk.seq == 0 {
            self.forget(&key);
            if self.messages.len() == self.bounds.messages_max {
                let max = self.bounds.messages_max;
                return Err(PartialError::TooMany { max });
            }
        }
        let out_of_turn = PartialError::OutOfTurn { seq: chunk.seq };
        let next = self.messages.get(&key).map_or(0, |message| message.next);
        if chunk.seq != next {
            self.forget(&key);
            return Err(out_of_turn);
        }
        if let Err(error) = self.check_room(&key, chunk.payload.len()) {
            self.forget(&key);
            return Err(error);
        }
        self.cost += chunk.payload.len() + PIECE_COST;
        let message = self
            .messages
            .entry(key.clone())
            .or_insert_with(|| Unfinished {
                next: 0,
                pieces: Vec::new(),
                len: 0,
                touched: now,
            });
        message.next += 1;
        message.len += chunk.payload.len();
        message.touched = now;
        message
            .pieces
            .push(if chunk.payload.len() < COPIED_LEN_MAX {
                Bytes::copy_from_slice(&chunk.payload)
            } else {
                chunk.payload
            });
        Ok(if chunk.done { self.take(&key) } else { None })
    }

    fn check_room(&self, key: &Key, more: usize) -> Result<(), PartialError> {
        let have = self.messages.get(key).map_or(0, |message| message.len);
        let max = self.bounds.message_len_max;
        if (have + more) as u64 > max {
            return Err(PartialError::TooLarge { max });
        }
        let max = self.bounds.len_max;
        if self.cost + more + PIECE_COST > max {
            return Err(PartialError::NoRoom { max });
        }
        Ok(())
    }

    fn take(&mut self, key: &Key) -> Option<Vec<Bytes>> {
        let message = self.messages.remove(key)?;
        self.cost -= message.cost();
        Some(message.pieces)
    }

    fn forget(&mut self, key: &Key) {
        drop(self.take(key));
    }

    /// Gives up what has waited too long for its next chunk.
    pub fn expire(&mut self, now: Instant) {
        let Bounds { idle_max, .. } = self.bounds;
        let cost = &mut self.cost;
        self.messages.retain(|_, message| {
            let keep = now.saturating_duration_since(message.touched) <= idle_max;
            if !keep {
                *cost -= message.cost();
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(9);

    fn partial() -> Partial {
        Partial::new(Bounds {
            messages_max: 2,
            len_max: 10 + 2 * PIECE_COST,
            message_len_max: 8,
            idle_max: IDLE,
        })
    }

    fn chunk<'a>(id: &'a str, seq: u64, done: bool, payload: &'static str) -> Chunk<'a> {
        Chunk {
            subject: "a.b",
            id,
            seq,
            done,
            payload: Bytes::from_static(payload.as_bytes()),
        }
    }

    #[test]
    fn chunks_become_a_message_however_they_interleave() {
        let (mut partial, now) = (partial(), Instant::now());
        partial.bounds.len_max = 10 + 4 * PIECE_COST;
        for piece in [
            chunk("x", 0, false, "on"),
            chunk("y", 0, false, "tw"),
            chunk("x", 1, false, "e"),
        ] {
            assert_eq!(partial.accept(piece, now), Ok(None));
        }
        let whole = |pieces: Vec<Bytes>| pieces.concat();
        let two = partial.accept(chunk("y", 1, true, "o"), now).unwrap();
        let one = partial.accept(chunk("x", 2, true, "!"), now).unwrap();
        assert_eq!(
            (one.map(whole), two.map(whole)),
            (Some(b"one!".to_vec()), Some(b"two".to_vec()))
        );
        assert_eq!(partial.cost, 0);
    }

    #[test]
    fn a_gap_gives_the_message_up() {
        let (mut partial, now) = (partial(), Instant::now());
        partial.accept(chunk("x", 0, false, "a"), now).unwrap();
        let error = PartialError::OutOfTurn { seq: 2 };
        assert_eq!(partial.accept(chunk("x", 2, true, "b"), now), Err(error));
        let error = PartialError::OutOfTurn { seq: 1 };
        assert_eq!(partial.accept(chunk("x", 1, true, "b"), now), Err(error));
        for seq in 0..2 {
            assert_eq!(partial.accept(chunk("y", seq, false, "a"), now), Ok(None));
        }
        assert_eq!(partial.accept(chunk("y", 1, true, "a"), now), Err(error));
        assert_eq!(partial.cost, 0);
    }

    #[test]
    fn every_bound_holds() {
        let (mut partial, now) = (partial(), Instant::now());
        partial
            .accept(chunk("x", 0, false, "12345678"), now)
            .unwrap();
        assert_eq!(
            partial.accept(chunk("x", 1, false, "9"), now),
            Err(PartialError::TooLarge { max: 8 })
        );
        partial
            .accept(chunk("x", 0, false, "12345678"), now)
            .unwrap();
        assert_eq!(
            partial.accept(chunk("y", 0, false, "123"), now),
            Err(PartialError::NoRoom { max: 138 })
        );
        partial.accept(chunk("y", 0, false, "1"), now).unwrap();
        assert_eq!(
            partial.accept(chunk("z", 0, false, ""), now),
            Err(PartialError::TooMany { max: 2 })
        );
    }

    #[test]
    fn what_does_not_go_on_is_given_up() {
        let (mut partial, now) = (partial(), Instant::now());
        partial
            .accept(chunk("x", 0, false, "12345678"), now)
            .unwrap();
        partial.expire(now + IDLE);
        assert_eq!(partial.cost, 8 + PIECE_COST);
        partial.expire(now + IDLE + Duration::from_millis(1));
        assert_eq!((partial.cost, partial.messages.len()), (0, 0));
    }
}
