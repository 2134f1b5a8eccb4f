//! The peer that behaves: subscribes, publishes to itself, and answers pings.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use dialtone_protocol::codec::split_frame;
use dialtone_protocol::frame::handshake::MAGIC;
use dialtone_protocol::frame::{
    Close, Credentials, Deliver, Fragment, Hello, Message, Pong, Publish, Subscribe, Wanted,
};
use dialtone_protocol::{Code, Frame, RequestId, Subject, SubscriptionId, VERSION};
use dialtone_transport::{Batch, Connection, Lane};

/// What it shows to be let in.
pub(super) const TOKEN: &str = "good";

const LITERAL: SubscriptionId = SubscriptionId(1);
const WILDCARD: SubscriptionId = SubscriptionId(2);

/// A peer that expects what it publishes.
pub(super) struct Good {
    connection: Connection,
    out: Batch,
    received: Vec<u8>,
    welcome: bool,
    subscribed: bool,
    /// The last publish that was acknowledged.
    acknowledged: u32,
    published: u32,
    /// What was published and has not arrived yet. The bad peer's messages may come in between.
    due: VecDeque<(SubscriptionId, Vec<u8>)>,
    /// Messages of which not all fragments have arrived.
    parts: BTreeMap<u64, Vec<u8>>,
}

impl Good {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            out: Batch::new(),
            received: Vec::new(),
            welcome: false,
            subscribed: false,
            acknowledged: 0,
            published: 0,
            due: VecDeque::new(),
            parts: BTreeMap::new(),
        }
    }

    /// Says hello and subscribes.
    pub(super) async fn enter(&mut self) {
        self.send(&Frame::Hello(Hello {
            magic: MAGIC,
            version_min: VERSION,
            version_max: VERSION,
            client: "good/1.0".to_owned(),
            credentials: Credentials::Token(TOKEN.to_owned()),
        }));
        let wanted = [(LITERAL, "good"), (WILDCARD, "good.*")].map(|(id, pattern)| {
            let mut wanted = Wanted::new(pattern);
            wanted.id = id;
            wanted
        });
        let (request, wanted) = (RequestId(0), wanted.to_vec());
        self.send(&Frame::Subscribe(Subscribe { request, wanted }));
        while !self.welcome || !self.subscribed {
            self.read().await;
        }
    }

    /// Publishes a message and waits for it and for its acknowledgement.
    pub(super) async fn talk(&mut self, kind: u8) {
        self.published += 1;
        let (subscription, subject) = match kind {
            0 => (LITERAL, "good"),
            _ => (WILDCARD, "good.day"),
        };
        let payload = format!("message {} of a good peer", self.published).into_bytes();
        self.due.push_back((subscription, payload.clone()));
        let cuts = if kind == 2 { 3 } else { 1 };
        let parts: Vec<&[u8]> = payload.chunks(payload.len().div_ceil(cuts)).collect();
        for (index, part) in (0..).zip(&parts) {
            let is_last = index as usize + 1 == parts.len();
            let fragment = (parts.len() > 1).then_some(Fragment {
                id: self.published.into(),
                index,
                total_len: payload.len() as u64,
            });
            let message = Message {
                subject,
                reply: None,
                encoding: 0,
                headers: None,
                payload: part,
            };
            let request = is_last.then_some(RequestId(self.published));
            let unreliable = false;
            self.send(&Frame::Publish(Publish {
                request,
                unreliable,
                fragment,
                message,
            }));
        }
        while self.acknowledged < self.published || !self.due.is_empty() {
            self.read().await;
        }
    }

    /// Reads, and answers what must be answered.
    #[expect(clippy::infinite_loop, reason = "the caller says when to stop")]
    pub(super) async fn serve(&mut self) -> Infallible {
        loop {
            self.read().await;
        }
    }

    /// Closes in good order and reads to the end.
    pub(super) async fn leave(mut self) {
        let (code, text) = (Code::Normal, String::new());
        self.send(&Frame::Close(Close { code, text }));
        while self.receive().await > 0 {}
    }

    /// Writes what is due and waits for bytes; their number.
    async fn receive(&mut self) -> usize {
        let Connection { reader, writer, .. } = &mut self.connection;
        let received = poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = writer.poll_send(cx, Lane::Interactive, &mut self.out)
            {
                return Poll::Ready(Err(error));
            }
            reader.poll_recv(cx, Lane::Interactive, &mut self.received)
        });
        received.await.expect("a good peer is not thrown out")
    }

    async fn read(&mut self) {
        assert_ne!(self.receive().await, 0, "a good peer is kept");
        while let Some((body, len)) =
            split_frame(&self.received, 1 << 20).expect("the broker keeps to the limit")
        {
            let body = body.to_vec();
            self.received.drain(..len);
            self.hear(Frame::decode(&body).expect("the broker writes frames"));
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what is not due to a peer like this fails it"
    )]
    fn hear(&mut self, frame: Frame<'_>) {
        match frame {
            Frame::Welcome(_) => self.welcome = true,
            Frame::Subscribed(answer) => {
                assert_eq!(answer.refused, []);
                self.subscribed = true;
            }
            Frame::Published(answer) => {
                assert!(
                    answer.outcome.is_ok_and(|count| count > 0),
                    "it subscribes itself"
                );
                self.acknowledged = answer.request.0;
            }
            Frame::Deliver(deliver) => self.take(&deliver),
            Frame::Ping(ping) => self.send(&Frame::Pong(Pong { token: ping.token })),
            Frame::Addresses(_) | Frame::Pong(_) => {}
            other => panic!("a good peer was sent {other:?}"),
        }
    }

    fn take(&mut self, deliver: &Deliver<'_>) {
        let message = deliver.message;
        // Of a message in fragments, the first one's subject counts.
        if deliver.fragment.is_none_or(|fragment| fragment.index == 0) {
            let expected = match message.subject {
                "good" => LITERAL,
                _ => WILDCARD,
            };
            assert_eq!(deliver.subscription, expected, "{}", message.subject);
            assert!(Subject::new(message.subject).is_ok());
        }
        let whole = match deliver.fragment {
            None => message.payload.to_vec(),
            Some(fragment) => {
                let part = self.parts.entry(fragment.id).or_default();
                part.extend_from_slice(message.payload);
                if (part.len() as u64) < fragment.total_len {
                    return;
                }
                self.parts.remove(&fragment.id).unwrap_or_default()
            }
        };
        let due = self.due.front();
        if due.is_some_and(|(id, payload)| *id == deliver.subscription && *payload == whole) {
            self.due.pop_front();
        }
    }

    /// Puts a frame behind what is due; it is written when the peer next waits.
    fn send(&mut self, frame: &Frame<'_>) {
        self.out.push(Bytes::from(frame.to_vec()));
    }
}
