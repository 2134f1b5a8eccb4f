//! Subscriptions: beginning, receiving, overflowing, ending.

use std::time::Duration;

use dialtone_client::{Bounds, Code, Overflow, SubscribeError};
use dialtone_protocol::frame::{Deliver, Dropped, Ended, Fragment, Frame, Message};
use futures_util::StreamExt as _;

use crate::peer::{deliver, pair};

#[tokio::test(start_paused = true)]
async fn messages_arrive_in_order_and_whole() {
    let (client, mut peer, _node) = pair().await;
    let (subscription, id) = tokio::join!(client.subscribe("a.*"), peer.confirm_subscribe());
    let mut subscription = subscription.unwrap();
    let mut bytes = Vec::new();
    for n in 0..2_000_u32 {
        deliver(
            id,
            &format!("a.{}", n % 7),
            Some("somewhere"),
            &n.to_le_bytes(),
        )
        .encode(&mut bytes);
    }
    // Cut where no frame ends.
    for part in bytes.chunks(777) {
        peer.send_raw(part.to_vec()).await;
    }
    for n in 0..2_000_u32 {
        let message = subscription.next().await.unwrap();
        assert_eq!(message.payload().as_ref(), n.to_le_bytes());
        assert_eq!(message.subject().as_str(), format!("a.{}", n % 7));
        assert_eq!(message.reply(), Some("somewhere"));
    }
}

#[tokio::test(start_paused = true)]
async fn fragments_become_one_message() {
    let (client, mut peer, _node) = pair().await;
    let (subscription, id) = tokio::join!(client.subscribe("a"), peer.confirm_subscribe());
    let mut subscription = subscription.unwrap();
    for (index, payload) in [(0, b"abcd"), (1, b"efgh")] {
        let fragment = Some(Fragment {
            id: 7,
            index,
            total_len: 8,
        });
        let headers = (index == 0).then_some(&br#"{"k":1}"#[..]);
        let message = Message {
            subject: "a",
            reply: None,
            encoding: 1,
            headers,
            payload,
        };
        peer.send(&Frame::Deliver(Deliver {
            subscription: id,
            unreliable: false,
            fragment,
            message,
        }))
        .await;
        peer.deliver(id, "a", b"between").await;
    }
    let mut payloads = Vec::new();
    for _ in 0..3 {
        payloads.push(subscription.next().await.unwrap());
    }
    let texts: Vec<_> = payloads
        .iter()
        .map(|message| message.payload().as_ref())
        .collect();
    assert_eq!(texts, [&b"between"[..], b"abcdefgh", b"between"]);
    assert_eq!(payloads[1].headers().unwrap().get("k"), Some(&1.into()));
}

#[tokio::test(start_paused = true)]
async fn refusals_are_typed() {
    let (client, mut peer, _node) = pair().await;
    for code in [Code::Denied, Code::TooMany, Code::Internal] {
        let (result, ()) = tokio::join!(client.subscribe("a"), peer.refuse_subscribe(code));
        let error = result.unwrap_err();
        assert_eq!(error.code(), code);
        match code {
            Code::Denied => assert!(matches!(error, SubscribeError::Denied(_))),
            Code::TooMany => assert!(matches!(error, SubscribeError::TooMany(_))),
            _ => assert!(matches!(error, SubscribeError::Refused(_))),
        }
    }
    assert_eq!(
        client.subscribe("a..b").await.unwrap_err().code(),
        Code::InvalidSubject
    );
}

#[tokio::test(start_paused = true)]
async fn dropping_a_subscription_ends_it_at_the_broker() {
    let (client, mut peer, _node) = pair().await;
    let (subscription, id) = tokio::join!(client.subscribe("a"), peer.confirm_subscribe());
    drop(subscription.unwrap());
    assert_eq!(peer.confirm_unsubscribe().await, [id]);
    // What was on its way is nobody's.
    peer.deliver(id, "a", b"late").await;
    assert!(client.rtt_of(&mut peer).await);
}

#[tokio::test(start_paused = true)]
async fn a_wish_that_is_taken_back_leaves_nothing_behind() {
    let (client, mut peer, _node) = pair().await;
    let wish = tokio::time::timeout(Duration::from_millis(1), client.subscribe("a"));
    assert!(wish.await.is_err());
    let id = peer.confirm_subscribe().await;
    assert_eq!(peer.confirm_unsubscribe().await, [id]);
}

#[tokio::test(start_paused = true)]
async fn a_drained_subscription_still_gives_what_it_had() {
    let (client, mut peer, _node) = pair().await;
    let (subscription, id) = tokio::join!(client.subscribe("a"), peer.confirm_subscribe());
    let mut subscription = subscription.unwrap();
    peer.deliver(id, "a", b"1").await;
    let confirm = async {
        let unsubscribe = peer.expect_unsubscribe().await;
        peer.deliver(id, "a", b"2").await;
        let request = unsubscribe.request;
        peer.send(&Frame::Unsubscribed(
            dialtone_protocol::frame::Unsubscribed { request },
        ))
        .await;
    };
    tokio::join!(subscription.drain(), confirm);
    let rest: Vec<_> = subscription
        .by_ref()
        .map(|message| message.payload().to_vec())
        .collect()
        .await;
    assert_eq!(rest, [b"1", b"2"]);
    assert!(subscription.ended().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_broker_can_end_a_subscription_and_says_why() {
    let (client, mut peer, _node) = pair().await;
    let (subscription, id) = tokio::join!(client.subscribe("a"), peer.confirm_subscribe());
    let mut subscription = subscription.unwrap();
    peer.deliver(id, "a", b"1").await;
    peer.send(&Frame::Ended(Ended {
        subscription: id,
        code: Code::Denied,
        text: "no more".to_owned(),
    }))
    .await;
    assert_eq!(subscription.next().await.unwrap().payload().as_ref(), b"1");
    assert!(subscription.next().await.is_none());
    let refused = subscription.ended().unwrap();
    assert_eq!(
        (refused.code, refused.text.as_str()),
        (Code::Denied, "no more")
    );
}

#[tokio::test(start_paused = true)]
async fn the_oldest_messages_are_dropped_and_counted() {
    let (client, mut peer, _node) = pair().await;
    let bounds = Bounds {
        messages_max: 3,
        overflow: Overflow::DropOldest,
        ..Bounds::default()
    };
    let (subscription, id) = tokio::join!(
        client.subscription("a").bounds(bounds).subscribe(),
        peer.confirm_subscribe()
    );
    let mut subscription = subscription.unwrap();
    for n in 0..10_u8 {
        peer.deliver(id, "a", &[n]).await;
    }
    peer.send(&Frame::Dropped(Dropped {
        subscription: id,
        count: 5,
    }))
    .await;
    assert!(client.rtt_of(&mut peer).await);
    let mut kept = Vec::new();
    while let Some(message) = subscription.try_next() {
        kept.push(message.payload()[0]);
    }
    assert_eq!(kept, [7, 8, 9]);
    assert_eq!(subscription.dropped(), 7 + 5);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_stops_the_reading_until_there_is_room() {
    let (client, mut peer, _node) = pair().await;
    let bounds = Bounds {
        messages_max: 10,
        ..Bounds::default()
    };
    let (subscription, id) = tokio::join!(
        client.subscription("a").bounds(bounds).subscribe(),
        peer.confirm_subscribe()
    );
    let mut subscription = subscription.unwrap();
    let payload = vec![0; 60_000];
    let flood = tokio::spawn(async move {
        for _ in 0..200 {
            peer.deliver(id, "a", &payload).await;
        }
        peer
    });
    // With paused time this passes once everything that can happen has happened.
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert!(
        !flood.is_finished(),
        "12 MB do not fit into ten messages and the pipe"
    );
    for _ in 0..200 {
        subscription.next().await.unwrap();
    }
    let mut peer = flood.await.unwrap();
    assert!(client.rtt_of(&mut peer).await, "the connection was kept");
}

trait RttOf {
    /// Whether everything that the peer sent before was processed.
    async fn rtt_of(&self, peer: &mut crate::peer::Peer) -> bool;
}

impl RttOf for dialtone_client::Client {
    async fn rtt_of(&self, peer: &mut crate::peer::Peer) -> bool {
        let answer = async {
            loop {
                let body = peer.body().await.unwrap();
                if let Frame::Ping(ping) = Frame::decode(&body).unwrap() {
                    let token = ping.token;
                    peer.send(&Frame::Pong(dialtone_protocol::frame::Pong { token }))
                        .await;
                    // Pings of the session's own count from 1.
                    if token >= 1 << 32 {
                        return;
                    }
                }
            }
        };
        tokio::join!(self.rtt(), answer).0.is_ok()
    }
}
