//! What a peer gets wrong costs that peer alone: it is told why, with a stable code, and its neighbours notice nothing.

use std::sync::Arc;

use bytes::Bytes;
use dialtone_broker::auth::file::{FileAuth, hash_password};
use dialtone_client::{Client, Subscription};
use dialtone_protocol::frame::{Close, Message, Publish};
use dialtone_protocol::{Code, Frame, Limits, RequestId};
use dialtone_transport::Error;

use crate::site::{Hand, Over, Site};

/// Two who talk to each other, whatever others do.
struct Neighbours {
    publisher: Client,
    subscriber: Client,
    subscription: Subscription,
    said: u64,
}

impl Neighbours {
    async fn new(publisher: Client, subscriber: Client) -> Self {
        let subscription = subscriber.subscribe("talk").await.unwrap();
        Self {
            publisher,
            subscriber,
            subscription,
            said: 0,
        }
    }

    /// Says something, which must arrive, and next.
    async fn talk(&mut self) {
        self.said += 1;
        let said = self.said.to_le_bytes();
        assert_eq!(
            self.publisher.publish_acked("talk", &said).await.unwrap(),
            1
        );
        assert_eq!(self.subscription.next().await.unwrap().payload()[..], said);
    }

    async fn leave(self) {
        self.publisher.close().await;
        self.subscriber.close().await;
    }
}

/// Sends bytes after the welcome, and returns what the broker says at the end.
async fn ended_by(site: &Site, bytes: &[u8]) -> Close {
    let mut hand = Hand::new(site).await;
    hand.send_bytes(bytes).await;
    let close = hand.until(|frame| match frame {
        Frame::Close(close) => Some(close.clone()),
        other => panic!("{other:?}"),
    });
    let close = close.await;
    let end = hand.end().await;
    let told = close.code.number();
    assert!(
        matches!(&end, Error::Closed { code, .. } if *code == told),
        "the transport says the same: {end:?}"
    );
    close
}

/// Bytes after the welcome that end the connection; `expected` is the code and a part of the text.
async fn it_ends_with(over: Over, bytes: &[u8], expected: (Code, &str)) {
    let site = Site::new(over).await;
    let mut neighbours = Neighbours::new(site.client().await, site.client().await).await;
    for round in 1..=3 {
        let close = ended_by(&site, bytes).await;
        assert_eq!(close.code, expected.0, "{close:?}");
        assert!(close.text.contains(expected.1), "{close:?}");
        neighbours.talk().await;
        assert_eq!(site.broker.status().violations_total, round);
    }
    assert_eq!(
        site.broker.status().accepted_total,
        5,
        "no neighbour had to connect again"
    );
    neighbours.leave().await;
    site.stop().await;
}

pub(crate) async fn a_frame_of_garbage(over: Over) {
    let body = [0xee, 1, 2, 3, 4];
    let mut bytes = vec![u8::try_from(body.len()).unwrap(), 0, 0, 0];
    bytes.extend(body);
    it_ends_with(over, &bytes, (Code::BadFrame, "unknown frame kind 238")).await;
}

pub(crate) async fn a_frame_that_ends_too_early(over: Over) {
    let mut bytes = Frame::Ping(dialtone_protocol::frame::Ping { token: 7 }).to_vec();
    // The length says less than the kind of frame needs.
    bytes[0] -= 1;
    bytes.pop();
    it_ends_with(over, &bytes, (Code::BadFrame, "malformed ping frame")).await;
}

pub(crate) async fn a_frame_too_large(over: Over) {
    let len = Limits::default().frame_len_max + 1;
    let text = format!(
        "a frame of {len} bytes is longer than the limit of {}",
        len - 1
    );
    // The length alone is enough to know.
    it_ends_with(over, &len.to_le_bytes(), (Code::TooLarge, &text)).await;
}

pub(crate) async fn an_illegal_subject(over: Over) {
    let site = Site::new(over).await;
    let mut neighbours = Neighbours::new(site.client().await, site.client().await).await;
    let client = site.client().await;
    for illegal in ["a..b", "", "a.*", "a b", ".a", "a.>"] {
        let refused = client.publish_acked(illegal, "x").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidSubject, "{illegal:?}");
    }
    let refused = client.subscribe("a.>.b").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidSubject);

    // A client that does not look itself is told by the broker, and may go on.
    let mut hand = Hand::new(&site).await;
    let message = Message {
        subject: "a..b",
        reply: None,
        encoding: 0,
        headers: None,
        payload: b"x",
    };
    for request in [Some(RequestId(5)), None] {
        let publish = Publish {
            request,
            unreliable: false,
            fragment: None,
            message,
        };
        hand.send(&Frame::Publish(publish)).await;
    }
    // Acknowledgements may come later than what is said about messages without one.
    let (mut refused, mut denied) = (None, None);
    let both = hand.until(|frame| {
        match frame {
            Frame::Published(published) => refused = Some(published.clone()),
            Frame::Denied(frame) => denied = Some(frame.clone()),
            other => panic!("{other:?}"),
        }
        (refused.is_some() && denied.is_some()).then_some(())
    });
    both.await;
    let (refused, denied) = (refused.unwrap(), denied.unwrap());
    assert_eq!(refused.request, RequestId(5));
    assert_eq!(refused.outcome.unwrap_err().code, Code::InvalidSubject);
    assert_eq!(denied.code, Code::InvalidSubject);
    assert_eq!(denied.subject, "a..b");
    hand.ping(9).await;

    neighbours.talk().await;
    assert_eq!(site.broker.status().accepted_total, 4);
    neighbours.leave().await;
    client.close().await;
}

pub(crate) async fn a_wrong_password(over: Over) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users.toml");
    let hash = hash_password("right").unwrap();
    std::fs::write(
        &path,
        format!("[[user]]\nname = \"ann\"\npassword = \"{hash}\"\n"),
    )
    .unwrap();
    let users = FileAuth::open(&path, Limits::default()).unwrap();
    let site = Site::with(over, Arc::new(users)).await;
    let connect = |user, password| site.options().password(user, password).connect();
    let mut neighbours = Neighbours::new(
        connect("ann", "right").await.unwrap(),
        connect("ann", "right").await.unwrap(),
    )
    .await;
    for (user, password) in [("ann", "wrong"), ("ann", ""), ("bob", "right")] {
        let error = connect(user, password).await.unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated, "{error}");
        neighbours.talk().await;
    }
    let error = site.options().connect().await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    neighbours.talk().await;
    let status = site.broker.status();
    assert_eq!((status.auth_failures_total, status.connections), (4, 2));
    neighbours.leave().await;
    site.stop().await;
}

/// A frame is read as it arrives, in however small pieces.
pub(crate) async fn a_frame_byte_by_byte(over: Over) {
    let site = Site::new(over).await;
    let mut hand = Hand::new(&site).await;
    hand.subscribe("talk").await;
    let message = Message {
        subject: "talk",
        reply: None,
        encoding: 0,
        headers: None,
        payload: b"slowly",
    };
    let publish = Publish {
        request: None,
        unreliable: false,
        fragment: None,
        message,
    };
    for byte in Frame::Publish(publish).to_vec() {
        hand.send_bytes(&[byte]).await;
        tokio::task::yield_now().await;
    }
    let got = hand.until(|frame| match frame {
        Frame::Deliver(deliver) => Some(Bytes::copy_from_slice(deliver.message.payload)),
        other => panic!("{other:?}"),
    });
    assert_eq!(got.await, "slowly");
}
