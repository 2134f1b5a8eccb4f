//! Deliveries as WebSocket messages, each encoded once for all clients of a thread that subscribe to the same pattern.
//!
//! What is kept is what was encoded last: those who are told the same are told it one after the other. The bytes of the
//! message are compared, so that a packet is found for exactly what it says.

use std::cell::RefCell;
use std::collections::VecDeque;

use ahash::RandomState;
use bytes::Bytes;
use dialtone_protocol::frame::Message;
use dialtone_protocol::frame::message::DeliverView;
use dialtone_transport::websocket::Opcode;
use hashbrown::HashTable;

use super::output::{Delivery, Names, Output, is_object};
use crate::patterns::Pattern;
use crate::websocket::put_head;

/// Most bytes of packets, and of what they say, that a thread keeps.
const LEN_MAX: usize = 1 << 20;

/// Payloads that are longer stand beside their packets, in bytes, and are shared rather than copied.
const APART_LEN_MIN: usize = 4 << 10;

/// A hash looks at so many bytes of a message at most; all of them are compared. Few that are longer are kept, so that
/// not many can have the same hash.
const HASHED_LEN: usize = APART_LEN_MIN;

thread_local! {
    static PACKETS: RefCell<Packets> = RefCell::new(Packets::new());
}

/// Tells a client a message that fits into one packet. `body` is the frame of `view`.
pub(super) fn deliver(output: &mut Output, pattern: &Pattern, view: &DeliverView<'_>, body: &[u8]) {
    PACKETS.with_borrow_mut(|packets| {
        if pattern.is_shared() {
            packets.shared(output, pattern, view, body);
        } else {
            packets.single(output, pattern, body);
        }
    });
}

/// See the module.
struct Packets {
    names: Names,
    hasher: RandomState,
    /// Numbers of packets by the hash of what they say.
    index: HashTable<(u64, u64)>,
    kept: VecDeque<Packet>,
    /// The number of the first one.
    first: u64,
    len: usize,
}

/// A message for a pattern, as it goes to clients.
struct Packet {
    hash: u64,
    pattern: u64,
    /// The section of the deliver frame, without the payload if that is apart.
    says: Vec<u8>,
    encoded: Vec<u8>,
    payload: Option<Bytes>,
}

/// A frame that delivers nothing.
struct NoDelivery;

impl Packet {
    fn len(&self) -> usize {
        self.says.len() + self.encoded.len() + self.payload.as_ref().map_or(0, Bytes::len)
    }

    fn is(&self, pattern: u64, section: &[u8]) -> bool {
        let payload = self.payload.as_deref().unwrap_or_default();
        self.pattern == pattern
            && self.says.len() + payload.len() == section.len()
            && section.starts_with(&self.says)
            && section.ends_with(payload)
    }
}

impl Packets {
    fn new() -> Self {
        Self {
            names: Names::new(rand::random()),
            hasher: RandomState::new(),
            index: HashTable::new(),
            kept: VecDeque::new(),
            first: 0,
            len: 0,
        }
    }

    fn shared(
        &mut self,
        output: &mut Output,
        pattern: &Pattern,
        view: &DeliverView<'_>,
        body: &[u8],
    ) {
        let hash = self.hash(pattern, view);
        let (kept, first) = (&self.kept, self.first);
        let packet_at = |number: u64| {
            let place = usize::try_from(number.checked_sub(first)?).ok()?;
            kept.get(place)
        };
        let found = self.index.find(hash, |&(of, number)| {
            let packet = packet_at(number).filter(|_| of == hash);
            packet.is_some_and(|packet| packet.is(pattern.number(), view.section))
        });
        if let Some(packet) = found.and_then(|&(_, number)| packet_at(number)) {
            return output.encoded(&packet.encoded, packet.payload.clone());
        }
        let mut encoded = Vec::with_capacity(view.section.len().min(APART_LEN_MIN) + 160);
        let Ok(payload) = self.encode(&mut encoded, pattern, body) else {
            return;
        };
        output.encoded(&encoded, payload.clone());
        let says_len = view.section.len() - payload.as_ref().map_or(0, Bytes::len);
        self.keep(Packet {
            hash,
            pattern: pattern.number(),
            says: view.section.get(..says_len).unwrap_or_default().to_vec(),
            encoded,
            payload,
        });
    }

    /// For a pattern of one subscription, whose packets nobody else is told.
    fn single(&mut self, output: &mut Output, pattern: &Pattern, body: &[u8]) {
        output.write(|out| self.encode(out, pattern, body).ok().flatten());
    }

    /// Appends both WebSocket messages, the second one without its payload if that is to be shared, which is returned
    /// then. Nothing is appended where there is an error.
    fn encode(
        &mut self,
        out: &mut Vec<u8>,
        pattern: &Pattern,
        body: &[u8],
    ) -> Result<Option<Bytes>, NoDelivery> {
        let message = message_of(body).ok_or(NoDelivery)?;
        let name = self.names.next();
        let delivery = Delivery {
            pattern: pattern.event(),
            subject: message.subject,
            id: name.as_bytes(),
            seq: 0,
            done: true,
            encoding: message.encoding,
            headers: message.headers.filter(|headers| is_object(headers)),
            reply: message.reply,
        };
        delivery.put_message(out);
        put_head(out, Opcode::Binary, message.payload.len());
        if message.payload.len() >= APART_LEN_MIN {
            return Ok(Some(Bytes::copy_from_slice(message.payload)));
        }
        out.extend_from_slice(message.payload);
        Ok(None)
    }

    fn hash(&self, pattern: &Pattern, view: &DeliverView<'_>) -> u64 {
        let section = view.section;
        let end = section.len().min(HASHED_LEN);
        let begin = section.get(..end).unwrap_or_default();
        self.hasher
            .hash_one((pattern.number(), section.len(), begin))
    }

    fn keep(&mut self, packet: Packet) {
        if packet.len() > LEN_MAX {
            return;
        }
        let number = self.first + self.kept.len() as u64;
        self.len += packet.len();
        self.index
            .insert_unique(packet.hash, (packet.hash, number), |&(hash, _)| hash);
        self.kept.push_back(packet);
        while self.len > LEN_MAX {
            let Some(oldest) = self.kept.pop_front() else {
                return;
            };
            let first = self.first;
            if let Ok(entry) = self
                .index
                .find_entry(oldest.hash, |&(_, number)| number == first)
            {
                entry.remove();
            }
            self.first += 1;
            self.len -= oldest.len();
        }
    }
}

fn message_of(body: &[u8]) -> Option<Message<'_>> {
    match dialtone_protocol::Frame::decode(body) {
        Ok(dialtone_protocol::Frame::Deliver(deliver)) => Some(deliver.message),
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use dialtone_protocol::codec::LEN_FIELD;
    use dialtone_protocol::frame::Deliver;
    use dialtone_protocol::{Frame, SubscriptionId};

    use super::*;
    use crate::patterns::Patterns;

    fn frame(subscription: u32, payload: &[u8]) -> Vec<u8> {
        let deliver = Deliver {
            subscription: SubscriptionId(subscription),
            unreliable: false,
            fragment: None,
            message: Message {
                subject: "a.b",
                reply: Some("_INBOX.x.y"),
                encoding: 1,
                headers: Some(br#"{"h":1}"#),
                payload,
            },
        };
        Frame::Deliver(deliver).to_vec().split_off(LEN_FIELD)
    }

    fn told(packets: &mut Packets, pattern: &Pattern, body: &[u8]) -> Vec<u8> {
        let mut output = Output::default();
        let view = DeliverView::decode(body).unwrap();
        packets.shared(&mut output, pattern, &view, body);
        output.written()
    }

    #[test]
    fn the_same_is_encoded_once_and_only_the_same() {
        let (patterns, mut packets) = (Patterns::default(), Packets::new());
        let (one, other) = (patterns.enter("a.*", "x"), patterns.enter("a.b", "x"));
        for payload in [vec![7; 10], vec![7; 10_000]] {
            // Names differ, so that equal bytes are the same packet.
            let first = told(&mut packets, &one, &frame(1, &payload));
            assert_eq!(told(&mut packets, &one, &frame(9, &payload)), first);
            assert_ne!(told(&mut packets, &other, &frame(1, &payload)), first);
            let mut another = payload.clone();
            *another.last_mut().unwrap() = 8;
            assert_ne!(told(&mut packets, &one, &frame(1, &another)), first);
            assert_eq!(told(&mut packets, &one, &frame(1, &payload)), first);
            assert!(first.ends_with(&payload));
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (patterns, mut packets) = (Patterns::default(), Packets::new());
        let pattern = patterns.enter("a.*", "x");
        let number = |number: u32| frame(1, &number.to_le_bytes().repeat(50));
        let first = told(&mut packets, &pattern, &number(0));
        for more in 1..10_000 {
            told(&mut packets, &pattern, &number(more));
        }
        assert!(packets.len <= LEN_MAX);
        assert_eq!(packets.index.len(), packets.kept.len());
        assert_ne!(told(&mut packets, &pattern, &number(0)), first);
        let last = told(&mut packets, &pattern, &number(9_999));
        assert_eq!(told(&mut packets, &pattern, &number(9_999)), last);
        let kept = packets.kept.len();
        told(&mut packets, &pattern, &frame(1, &vec![0; LEN_MAX + 1]));
        assert_eq!(packets.kept.len(), kept);
    }
}
