//! What clients do, as a seed says.

use dialtone_protocol::Frame;
use dialtone_protocol::frame::{Interest, Message, Pick, Publish, Subscribe, Unsubscribe, Wanted};
use dialtone_protocol::{RequestId, SubscriptionId};
use dialtone_testkit::ledger::{Asked, ClientId, ending_request};
use dialtone_testkit::peer::{fragments, publish};
use rand::RngExt as _;
use rand::seq::{IndexedRandom as _, IteratorRandom as _};

use super::Player;
use crate::seconds;

/// Messages of a flood, and bytes of each: together more than a link of the simulation holds, with what waits for it.
const FLOOD_MESSAGES: usize = 100;
const FLOOD_LEN: usize = 4 << 10;

impl Player {
    /// A client does something, without waiting for an answer.
    pub(super) async fn act(&mut self, calm: bool) {
        let Some(id) = self.clients.keys().copied().choose(&mut self.rng) else {
            return;
        };
        let mut bytes = Vec::new();
        for _ in 0..self.rng.random_range(1..6) {
            match self.rng.random_range(0..13) {
                0 | 1 => self.subscribe(id, &mut bytes),
                2 => self.unsubscribe(id, &mut bytes),
                3 => self.publish_large(id, &mut bytes),
                4 => self.request(id, &mut bytes),
                5 => self.ask(id, &mut bytes),
                _ => self.publish(id, &mut bytes),
            }
        }
        if calm && self.rng.random_ratio(1, 12) {
            let names = self.mesh.names();
            let node = names.choose(&mut self.rng).expect("a node lives").clone();
            self.arrive(&node).await;
        }
        self.send(id, &bytes).await;
    }

    /// Asks whether anybody subscribes.
    fn ask(&mut self, id: ClientId, bytes: &mut Vec<u8>) {
        let subject = *["a.b", "b.b", "b.c.d", "c", "f.x"]
            .choose(&mut self.rng)
            .expect("some");
        let wait = *[0, 2, 20].choose(&mut self.rng).expect("some");
        let request = RequestId(self.number(id));
        self.ledger.ask(id, request, subject, seconds(wait));
        Frame::Interest(Interest {
            request,
            subject: subject.to_owned(),
            wait_ms: u32::try_from(wait).expect("a few") * 1_000,
        })
        .encode(bytes);
    }

    /// A client publishes more at once than links take that are slow, or on which nothing arrives.
    pub(super) async fn flood(&mut self) {
        let Some(id) = self.clients.keys().copied().choose(&mut self.rng) else {
            return;
        };
        let mut bytes = Vec::new();
        for _ in 0..FLOOD_MESSAGES {
            let message = self.ledger.publish(id, "f.x", None, 1, false);
            let payload = message.to_le_bytes().repeat(FLOOD_LEN / 8);
            Frame::Publish(publish("f.x", &payload)).encode(&mut bytes);
        }
        self.send(id, &bytes).await;
    }

    async fn send(&mut self, id: ClientId, bytes: &[u8]) {
        if let Some(live) = self.clients.get_mut(&id) {
            live.peer.send_bytes(bytes).await;
        }
    }

    fn number(&mut self, id: ClientId) -> u32 {
        self.clients
            .get_mut(&id)
            .map_or(0, |live| live.peer.number())
    }

    fn subscribe(&mut self, id: ClientId, bytes: &mut Vec<u8>) {
        let number = self.number(id);
        let wanted = self.wanted(number);
        self.ledger.subscribe(id, wanted.clone());
        let request = RequestId(number);
        let wanted = vec![wanted];
        Frame::Subscribe(Subscribe { request, wanted }).encode(bytes);
    }

    fn wanted(&mut self, number: u32) -> Wanted {
        let rng = &mut self.rng;
        let group = rng
            .random_ratio(2, 5)
            .then(|| *["g", "h"].choose(rng).expect("some"));
        let tap = group.is_none() && rng.random_ratio(1, 5);
        let pick = if rng.random_ratio(1, 4) {
            Pick::Segment(0)
        } else {
            Pick::Any
        };
        let pattern = *["a.b", "a.c", "a.*", "*.b", "b.>", ">", "b.c", "f.*"]
            .choose(rng)
            .expect("some");
        Wanted {
            id: SubscriptionId(number),
            group: group.map(str::to_owned),
            tap,
            pick,
            ..Wanted::new(pattern)
        }
    }

    fn unsubscribe(&mut self, id: ClientId, bytes: &mut Vec<u8>) {
        let held = self.ledger.held_by(id);
        let Some(&ended) = held.choose(&mut self.rng) else {
            return;
        };
        self.ledger.unsubscribe(id, ended);
        let request = ending_request(ended);
        let ids = vec![ended];
        Frame::Unsubscribe(Unsubscribe { request, ids }).encode(bytes);
    }

    fn subject(&mut self) -> &'static str {
        ["a.b", "a.c", "b.b", "b.c", "b.c.d", "c"]
            .choose(&mut self.rng)
            .expect("some")
    }

    fn publish(&mut self, id: ClientId, bytes: &mut Vec<u8>) {
        let subject = self.subject();
        let request = self
            .rng
            .random_ratio(1, 2)
            .then(|| RequestId(self.number(id)));
        let message = self.ledger.publish(id, subject, request, 1, false);
        let payload = message.to_le_bytes();
        Frame::Publish(Publish {
            request,
            ..publish(subject, &payload)
        })
        .encode(bytes);
    }

    fn publish_large(&mut self, id: ClientId, bytes: &mut Vec<u8>) {
        let subject = self.subject();
        let parts = self.rng.random_range(2..5_u32);
        let number = self.number(id);
        let request = self.rng.random_ratio(1, 2).then_some(RequestId(number));
        let message = self.ledger.publish(id, subject, request, parts, false);
        let payload = message.to_le_bytes().repeat(100 * parts as usize);
        let mut frames = fragments(number.into(), subject, &payload, 800);
        if let Some(last) = frames.last_mut() {
            last.request = request;
        }
        for frame in frames {
            Frame::Publish(frame).encode(bytes);
        }
    }

    fn request(&mut self, id: ClientId, bytes: &mut Vec<u8>) {
        let subject = self.subject();
        let number = self.number(id);
        let Some(live) = self.clients.get(&id) else {
            return;
        };
        let reply = format!("{}.{number}", live.peer.welcome().inbox);
        let message = self.ledger.publish(id, subject, None, 1, true);
        let payload = message.to_le_bytes();
        let frame = Publish {
            message: Message {
                reply: Some(&reply),
                ..publish(subject, &payload).message
            },
            ..publish(subject, &payload)
        };
        Frame::Publish(frame).encode(bytes);
    }

    pub(super) async fn answer(&mut self, asked: Asked) {
        let request = Some(RequestId(self.number(asked.client)));
        let message = self
            .ledger
            .publish(asked.client, &asked.reply, request, 1, false);
        let payload = message.to_le_bytes();
        let frame = Frame::Publish(Publish {
            request,
            ..publish(&asked.reply, &payload)
        });
        self.send(asked.client, &frame.to_vec()).await;
    }
}
