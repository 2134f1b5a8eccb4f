//! Ending: closing, draining, dropping the last handle.

use std::time::Duration;

use dialtone_client::{Code, Reason};
use dialtone_protocol::frame::{Close, Frame, Pong};

use crate::peer::pair;

#[tokio::test(start_paused = true)]
async fn what_was_published_is_written_before_the_close() {
    let (client, mut peer, _node) = pair().await;
    client.publish("a", b"1").await.unwrap();
    client.publish("b", vec![0; 500_000]).await.unwrap();
    let read = async {
        for _ in 0..5 {
            peer.expect_publish().await;
        }
        assert_eq!(peer.expect_close().await.code, Code::Normal);
        assert!(peer.body().await.is_none());
    };
    tokio::join!(client.close(), read);
    assert!(matches!(client.closed().await, Reason::Closed));
    assert!(client.publish("a", b"").await.is_err());
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_driver_ends_with_the_last_handle() {
    let (client, mut peer, _node) = pair().await;
    let (subscription, _) = tokio::join!(client.subscribe("a"), peer.confirm_subscribe());
    let status = client.status();
    client.publish("b", b"last").await.unwrap();
    drop(client);
    assert_eq!(peer.expect_publish().await.subject, "b");
    assert!(status.borrow().is_connected(), "a subscription is a handle");
    drop(subscription);
    peer.expect_unsubscribe().await;
    assert_eq!(peer.expect_close().await.code, Code::Normal);
    assert!(peer.body().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn why_the_broker_closes_is_told_to_who_waits() {
    let (client, mut peer, _node) = pair().await;
    let broker = async {
        for _ in 0..2 {
            peer.expect_publish().await;
        }
        peer.send(&Frame::Close(Close {
            code: Code::SlowConsumer,
            text: "it took nothing for 10s".to_owned(),
        }))
        .await;
    };
    let (request, publish, rtt, ()) = tokio::join!(
        client.request("a", b""),
        client.publish_acked("a", b""),
        client.rtt(),
        broker
    );
    let text = "the broker closed the connection: slow consumer (470): it took nothing for 10s";
    let (request, publish) = (request.unwrap_err(), publish.unwrap_err());
    assert_eq!(request.to_string(), text);
    assert_eq!(request.code(), Code::SlowConsumer);
    assert_eq!(publish.to_string(), text);
    assert_eq!(rtt.unwrap_err().to_string(), text);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_cannot_hold_a_closing_client() {
    let (client, _peer, _node) = pair().await;
    client.publish("a", vec![0; 2_000_000]).await.unwrap();
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn draining_gives_handlers_their_messages_first() {
    let (client, mut peer, _node) = pair().await;
    let (subscription, id) = tokio::join!(client.subscribe("a"), peer.confirm_subscribe());
    let mut subscription = subscription.unwrap();
    peer.deliver(id, "a", b"1").await;
    peer.deliver(id, "a", b"2").await;
    let answering = client.clone();
    let consumer = tokio::spawn(async move {
        let mut count = 0;
        while let Some(message) = subscription.next().await {
            tokio::time::sleep(Duration::from_secs(1)).await;
            answering.publish("seen", message.payload()).await.unwrap();
            count += 1;
        }
        count
    });
    let broker = async {
        assert_eq!(peer.confirm_unsubscribe().await, [id]);
        let mut seen = 0;
        while let Some(body) = peer.body().await {
            match Frame::decode(&body).unwrap() {
                Frame::Publish(_) => seen += 1,
                Frame::Ping(ping) => peer.send(&Frame::Pong(Pong { token: ping.token })).await,
                Frame::Close(_) => {}
                other => panic!("{other:?}"),
            }
        }
        seen
    };
    let (drained, seen) = tokio::join!(client.drain(), broker);
    drained.unwrap();
    assert_eq!((seen, consumer.await.unwrap()), (2, 2));
}
