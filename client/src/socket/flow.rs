//! The rules of a stream, without I/O: numbers, credit, and how packets look.
//!
//! ```text
//!  0      1                 9
//!  ┌──────┬─────────────────┬────────────┐
//!  │ kind │ number (u64 LE) │ bytes      │
//!  └──────┴─────────────────┴────────────┘
//! ```

use std::time::Instant;

use super::SocketError;
use crate::payload::Encoding;

/// The encoding of packets, so that nobody takes them for `MessagePack`.
pub(super) const ENCODING: Encoding = Encoding::Other(128);

/// What each piece counts for beyond its bytes, so that the window bounds the number of pieces too.
const PIECE_COST: u64 = 64;

/// What a packet says; its number's meaning depends on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// 0: bytes; the number of the piece.
    Data,
    /// 1: how much was consumed since the beginning.
    Credit,
    /// 2: nothing more follows; how many pieces there were.
    End,
    /// 3: are you there.
    Ping,
    /// 4: yes.
    Pong,
    /// 5: the stream is given up; the bytes say why.
    Reset,
}

/// One message of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) kind: Kind,
    pub(super) number: u64,
    pub(super) bytes: &'a [u8],
}

impl<'a> Packet<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(9 + self.bytes.len());
        out.push(match self.kind {
            Kind::Data => 0,
            Kind::Credit => 1,
            Kind::End => 2,
            Kind::Ping => 3,
            Kind::Pong => 4,
            Kind::Reset => 5,
        });
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(self.bytes);
        out
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        let (number, bytes) = rest.split_first_chunk::<8>()?;
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Credit,
            2 => Kind::End,
            3 => Kind::Ping,
            4 => Kind::Pong,
            5 => Kind::Reset,
            _ => return None,
        };
        Some(Self {
            kind,
            number: u64::from_le_bytes(*number),
            bytes,
        })
    }
}

/// One end's standing with the other. What a piece counts for is its length and [`PIECE_COST`].
#[derive(Debug)]
pub(super) struct Flow {
    /// How much the peer may have under way to this end.
    window: u64,
    /// How much this end may have under way.
    peer_window: u64,
    pieces_sent: u64,
    sent: u64,
    /// How much of what was sent the peer has consumed.
    acknowledged: u64,
    pieces_received: u64,
    received: u64,
    consumed: u64,
    /// How much of what was consumed the peer was told of.
    credited: u64,
    peer_finished: bool,
    heard: Instant,
}

impl Flow {
    pub(super) fn new(window: u32, peer_window: u32, now: Instant) -> Self {
        Self {
            window: window.into(),
            peer_window: peer_window.into(),
            pieces_sent: 0,
            sent: 0,
            acknowledged: 0,
            pieces_received: 0,
            received: 0,
            consumed: 0,
            credited: 0,
            peer_finished: false,
            heard: now,
        }
    }

    /// The number of the next piece, if the peer has room for it.
    pub(super) fn take_credit(&mut self, len: usize) -> Option<u64> {
        let cost = len as u64 + PIECE_COST;
        if self.sent + cost > self.acknowledged + self.peer_window {
            return None;
        }
        self.sent += cost;
        self.pieces_sent += 1;
        Some(self.pieces_sent - 1)
    }

    /// How many pieces were sent.
    pub(super) fn pieces_sent(&self) -> u64 {
        self.pieces_sent
    }

    pub(super) fn has_peer_finished(&self) -> bool {
        self.peer_finished
    }

    /// A piece was handed to the user; what the peer must be told, if it is time.
    pub(super) fn consumed(&mut self, len: usize) -> Option<u64> {
        self.consumed += len as u64 + PIECE_COST;
        if self.consumed - self.credited < self.window / 4 {
            return None;
        }
        self.credited = self.consumed;
        Some(self.credited)
    }

    pub(super) fn on_data(&mut self, number: u64, len: usize) -> Result<(), SocketError> {
        if self.peer_finished {
            return Err(SocketError::Violation("data after the end"));
        }
        if number != self.pieces_received {
            return Err(SocketError::Gap {
                expected: self.pieces_received,
                found: number,
            });
        }
        self.pieces_received += 1;
        self.received += len as u64 + PIECE_COST;
        if self.received > self.credited + self.window {
            return Err(SocketError::Violation("more data than the window allows"));
        }
        Ok(())
    }

    pub(super) fn on_credit(&mut self, total: u64) -> Result<(), SocketError> {
        if total > self.sent {
            return Err(SocketError::Violation("credit for what was never sent"));
        }
        self.acknowledged = self.acknowledged.max(total);
        Ok(())
    }

    pub(super) fn on_end(&mut self, pieces: u64) -> Result<(), SocketError> {
        if pieces != self.pieces_received {
            return Err(SocketError::Gap {
                expected: self.pieces_received,
                found: pieces,
            });
        }
        self.peer_finished = true;
        Ok(())
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    pub(super) fn heard_at(&self) -> Instant {
        self.heard
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flow() -> Flow {
        Flow::new(1_000, 1_000, tokio::time::Instant::now().into_std())
    }

    #[test]
    fn credit_stops_the_sender_and_consuming_lets_it_go_on() {
        let (mut sender, mut receiver) = (flow(), flow());
        let mut sent = Vec::new();
        while let Some(number) = sender.take_credit(36) {
            receiver.on_data(number, 36).unwrap();
            sent.push(number);
        }
        assert_eq!(sent, (0..10).collect::<Vec<_>>());
        assert_eq!(receiver.consumed(36), None);
        assert_eq!(receiver.consumed(36), None);
        let credit = receiver.consumed(36).unwrap();
        sender.on_credit(credit).unwrap();
        assert_eq!(sender.take_credit(236), Some(10));
        assert_eq!(sender.take_credit(0), None);
    }

    #[test]
    fn lost_pieces_and_false_credit_are_seen() {
        let mut receiver = flow();
        receiver.on_data(0, 1).unwrap();
        assert!(matches!(
            receiver.on_data(2, 1),
            Err(SocketError::Gap {
                expected: 1,
                found: 2
            })
        ));
        assert!(matches!(receiver.on_end(2), Err(SocketError::Gap { .. })));
        receiver.on_end(1).unwrap();
        assert!(matches!(
            receiver.on_data(1, 1),
            Err(SocketError::Violation(_))
        ));
        assert!(matches!(
            flow().on_data(0, 1_000),
            Err(SocketError::Violation(_))
        ));
        assert!(matches!(
            flow().on_credit(1),
            Err(SocketError::Violation(_))
        ));
    }

    proptest! {
        #[test]
        fn packets_come_back(kind in 0_u8..6, number: u64, bytes: Vec<u8>) {
            let encoded = [&[kind][..], &number.to_le_bytes(), &bytes].concat();
            let packet = Packet::decode(&encoded).unwrap();
            prop_assert_eq!(packet.encode(), encoded);
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _packet = Packet::decode(&bytes);
        }
    }
}
