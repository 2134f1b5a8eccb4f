//! A broker's end of one connection that does exactly what a test says.

use std::future::poll_fn;

use bytes::Bytes;
use dialtone_client::{Client, Options};
use dialtone_protocol::codec::split_frame;
use dialtone_protocol::frame::{
    Close, Deliver, Fragment, Frame, Interest, Message, Pong, Published, Refused, Subscribe,
    Subscribed, Unsubscribe, Unsubscribed, Welcome,
};
use dialtone_protocol::session::Timing;
use dialtone_protocol::session::server::{Session, Step};
use dialtone_protocol::{Code, ConnectionId, Limits, RequestId, SubscriptionId};
use dialtone_transport::memory::Hub;
use dialtone_transport::{Batch, Connection, Endpoint, Lane, ListenOptions, Listener};
use tokio::time::Instant;

/// Where clients are accepted.
pub(crate) struct Node {
    listener: Listener,
    name: String,
}

impl Node {
    pub(crate) async fn bind(hub: &Hub, name: &str) -> Self {
        let options = ListenOptions {
            hub: Some(hub.clone()),
            ..ListenOptions::default()
        };
        let listener = Listener::bind(&Endpoint::Memory(name.to_owned()), &options)
            .await
            .unwrap();
        Self {
            listener,
            name: name.to_owned(),
        }
    }

    /// A connection without a handshake.
    pub(crate) async fn accept(&self) -> Peer {
        let connection = self
            .listener
            .accept()
            .await
            .unwrap()
            .establish()
            .await
            .unwrap();
        let session = Session::new(Timing::default(), Instant::now().into_std());
        Peer {
            connection,
            session,
            buf: Vec::new(),
            inbox: format!("_INBOX.{}.1-secret", self.name),
            node: self.name.clone(),
        }
    }

    /// A connection whose handshake is over.
    pub(crate) async fn welcome(&self) -> Peer {
        self.welcome_with(Limits::default()).await
    }

    pub(crate) async fn welcome_with(&self, limits: Limits) -> Peer {
        let mut peer = self.accept().await;
        peer.expect_hello().await;
        peer.send_welcome(limits, &[]).await;
        peer
    }
}

/// A hub with one node, a client connected to it and the node's end of the connection.
pub(crate) async fn pair() -> (Client, Peer, Node) {
    pair_with(|options| options, Limits::default()).await
}

pub(crate) async fn pair_with(
    set: impl FnOnce(Options) -> Options,
    limits: Limits,
) -> (Client, Peer, Node) {
    let hub = Hub::new();
    let node = Node::bind(&hub, "n1").await;
    let options = set(Options::new("memory:n1").hub(hub));
    let (client, peer) = tokio::join!(options.connect(), node.welcome_with(limits));
    (client.unwrap(), peer, node)
}

/// The broker's end of one connection.
pub(crate) struct Peer {
    connection: Connection,
    session: Session,
    buf: Vec<u8>,
    pub(crate) inbox: String,
    node: String,
}

/// A publish frame, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) subject: String,
    pub(crate) reply: Option<String>,
    pub(crate) request: Option<RequestId>,
    pub(crate) headers: Option<Vec<u8>>,
    pub(crate) encoding: u8,
    pub(crate) fragment: Option<Fragment>,
    pub(crate) payload: Vec<u8>,
}

impl Peer {
    /// The body of the next frame; `None` at the end.
    pub(crate) async fn body(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some((body, len)) = split_frame(&self.buf, u32::MAX).unwrap() {
                let body = body.to_vec();
                self.buf.drain(..len);
                return Some(body);
            }
            self.buf.reserve(65_536);
            let received = poll_fn(|cx| {
                self.connection
                    .reader
                    .poll_recv(cx, Lane::Interactive, &mut self.buf)
            })
            .await;
            if received.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_raw(&mut self, bytes: Vec<u8>) {
        let mut batch: Batch = [Bytes::from(bytes)].into_iter().collect();
        poll_fn(|cx| {
            self.connection
                .writer
                .poll_send(cx, Lane::Interactive, &mut batch)
        })
        .await
        .unwrap();
    }

    pub(crate) async fn send(&mut self, frame: &Frame<'_>) {
        self.send_raw(frame.to_vec()).await;
    }

    pub(crate) async fn close(&mut self, code: Code, text: &str) {
        self.send(&Frame::Close(Close {
            code,
            text: text.to_owned(),
        }))
        .await;
    }

    pub(crate) async fn expect_hello(&mut self) {
        let body = self.body().await.unwrap();
        assert!(matches!(
            self.session
                .on_body(&body, Instant::now().into_std())
                .unwrap(),
            Step::Hello(..)
        ));
    }

    pub(crate) async fn send_welcome(&mut self, limits: Limits, addresses: &[&str]) {
        self.session.open(limits.clone(), Instant::now().into_std());
        let welcome = Welcome {
            version: 1,
            connection: ConnectionId(1),
            node: self.node.clone(),
            server: "test".to_owned(),
            identity: "somebody".to_owned(),
            inbox: self.inbox.clone(),
            limits,
            ping_interval_ms: 60_000,
            addresses: addresses.iter().map(|&text| text.to_owned()).collect(),
        };
        self.send(&Frame::Welcome(Box::new(welcome))).await;
    }

    /// The next step that the client asks for, which must be within the rules.
    async fn step<T>(&mut self, read: impl FnOnce(Step<'_>) -> T) -> T {
        let body = self.body().await.expect("the client ended the connection");
        read(
            self.session
                .on_body(&body, Instant::now().into_std())
                .unwrap(),
        )
    }

    pub(crate) async fn expect_subscribe(&mut self) -> Subscribe {
        self.step(|step| match step {
            Step::Subscribe(subscribe) => subscribe,
            other => panic!("{other:?}"),
        })
        .await
    }

    /// Confirms the next subscription; its number.
    pub(crate) async fn confirm_subscribe(&mut self) -> SubscriptionId {
        let subscribe = self.expect_subscribe().await;
        self.send(&Frame::Subscribed(Subscribed {
            request: subscribe.request,
            refused: Vec::new(),
        }))
        .await;
        subscribe.wanted.first().unwrap().id
    }

    pub(crate) async fn refuse_subscribe(&mut self, code: Code) {
        let subscribe = self.expect_subscribe().await;
        let refused = subscribe
            .wanted
            .iter()
            .map(|wanted| (wanted.id, Refused::new(code, "no")))
            .collect();
        self.send(&Frame::Subscribed(Subscribed {
            request: subscribe.request,
            refused,
        }))
        .await;
    }

    pub(crate) async fn expect_unsubscribe(&mut self) -> Unsubscribe {
        self.step(|step| match step {
            Step::Unsubscribe(unsubscribe) => unsubscribe,
            other => panic!("{other:?}"),
        })
        .await
    }

    pub(crate) async fn confirm_unsubscribe(&mut self) -> Vec<SubscriptionId> {
        let unsubscribe = self.expect_unsubscribe().await;
        self.send(&Frame::Unsubscribed(Unsubscribed {
            request: unsubscribe.request,
        }))
        .await;
        unsubscribe.ids
    }

    pub(crate) async fn expect_publish(&mut self) -> Got {
        let body = self.body().await.expect("the client ended the connection");
        let Frame::Publish(publish) = Frame::decode(&body).unwrap() else {
            panic!("{:?}", Frame::decode(&body));
        };
        Got {
            subject: publish.message.subject.to_owned(),
            reply: publish.message.reply.map(str::to_owned),
            request: publish.request,
            headers: publish.message.headers.map(<[u8]>::to_vec),
            encoding: publish.message.encoding,
            fragment: publish.fragment,
            payload: publish.message.payload.to_vec(),
        }
    }

    pub(crate) async fn expect_interest(&mut self) -> Interest {
        self.step(|step| match step {
            Step::Interest(interest) => interest,
            other => panic!("{other:?}"),
        })
        .await
    }

    pub(crate) async fn expect_ping(&mut self) -> u64 {
        self.step(|step| match step {
            Step::Ping(token) => token,
            other => panic!("{other:?}"),
        })
        .await
    }

    pub(crate) async fn expect_close(&mut self) -> Close {
        self.step(|step| match step {
            Step::Close(close) => close,
            other => panic!("{other:?}"),
        })
        .await
    }

    /// Does nothing for a while but say that it is there.
    pub(crate) async fn linger(&mut self, length: std::time::Duration) {
        let until = Instant::now() + length;
        while let Ok(token) = tokio::time::timeout_at(until, self.expect_ping()).await {
            self.send(&Frame::Pong(Pong { token })).await;
        }
    }

    pub(crate) async fn acknowledge(
        &mut self,
        request: Option<RequestId>,
        outcome: Result<u32, Refused>,
    ) {
        self.send(&Frame::Published(Published {
            request: request.unwrap(),
            outcome,
        }))
        .await;
    }

    pub(crate) async fn deliver(
        &mut self,
        subscription: SubscriptionId,
        subject: &str,
        payload: &[u8],
    ) {
        self.send(&deliver(subscription, subject, None, payload))
            .await;
    }
}

pub(crate) fn deliver<'a>(
    subscription: SubscriptionId,
    subject: &'a str,
    reply: Option<&'a str>,
    payload: &'a [u8],
) -> Frame<'a> {
    let message = Message {
        subject,
        reply,
        encoding: 0,
        headers: None,
        payload,
    };
    Frame::Deliver(Deliver {
        subscription,
        unreliable: false,
        fragment: None,
        message,
    })
}
