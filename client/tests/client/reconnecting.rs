//! Lost connections, and moving away from a node that drains.

use std::cell::Cell;
use std::time::Duration;

use dialtone_client::error::DISCONNECTED;
use dialtone_client::{Client, Code, Limits, Options, Reason, Reconnect, Status};
use dialtone_protocol::frame::{Drain, Frame, Subscribed};
use dialtone_transport::memory::Hub;
use tokio::time::Instant;

use crate::peer::{Node, Peer, pair, pair_with};

#[tokio::test(start_paused = true)]
async fn subscriptions_are_restored_in_one_batch() {
    let (client, mut peer, node) = pair().await;
    let mut subscriptions = Vec::new();
    for n in 0..50 {
        let (subscription, _) =
            tokio::join!(client.subscribe(format!("a.{n}")), peer.confirm_subscribe());
        subscriptions.push(subscription.unwrap());
    }
    drop(subscriptions.remove(0));
    peer.confirm_unsubscribe().await;
    drop(peer);
    let mut peer = node.welcome().await;
    let subscribe = peer.expect_subscribe().await;
    let patterns: Vec<_> = subscribe
        .wanted
        .iter()
        .map(|wanted| wanted.pattern.clone())
        .collect();
    assert_eq!(
        patterns,
        (1..50).map(|n| format!("a.{n}")).collect::<Vec<_>>()
    );
    peer.send(&Frame::Subscribed(Subscribed {
        request: subscribe.request,
        refused: Vec::new(),
    }))
    .await;
    peer.deliver(subscribe.wanted[3].id, "a.4", b"again").await;
    assert_eq!(
        subscriptions[3].next().await.unwrap().payload().as_ref(),
        b"again"
    );
    assert!(client.status().borrow().is_connected());
}

#[tokio::test(start_paused = true)]
async fn a_subscription_refused_at_its_restoration_ends() {
    let (client, mut peer, node) = pair().await;
    let (subscription, _) = tokio::join!(client.subscribe("a"), peer.confirm_subscribe());
    let mut subscription = subscription.unwrap();
    drop(peer);
    let mut peer = node.welcome().await;
    peer.refuse_subscribe(Code::Denied).await;
    assert!(subscription.next().await.is_none());
    assert_eq!(subscription.ended().unwrap().code, Code::Denied);
}

#[tokio::test(start_paused = true)]
async fn questions_end_with_their_connection_and_messages_outlive_it() {
    let (client, mut peer, node) = pair().await;
    let lose = async {
        peer.expect_publish().await;
        drop(peer);
    };
    let (request, (), acked) = tokio::join!(
        client.request("r", b"?"),
        lose,
        client.publish_acked("p", b"x")
    );
    assert_eq!(request.unwrap_err().code(), DISCONNECTED);
    assert_eq!(acked.unwrap_err().code(), DISCONNECTED);
    assert_eq!(client.inbox(), None);
    client.publish("while.away", b"x").await.unwrap();
    let (asked, mut peer) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(5), client.request("later", b"?")),
        node.welcome(),
    );
    assert!(asked.is_err(), "nobody answers");
    assert_eq!(peer.expect_publish().await.subject, "while.away");
    assert_eq!(peer.expect_publish().await.subject, "later");
}

#[tokio::test(start_paused = true)]
async fn garbage_ends_the_connection_but_not_the_client() {
    let frames = [
        vec![255; 64],
        vec![2, 0, 0, 0, 1, 0],
        vec![1, 0, 0, 0, 8],
        vec![0, 0, 0, 0],
    ];
    let (client, mut peer, node) = pair().await;
    let (subscription, id) = tokio::join!(client.subscribe("a"), peer.confirm_subscribe());
    let mut subscription = subscription.unwrap();
    for garbage in frames {
        peer.send_raw(garbage).await;
        let close = peer.expect_close().await;
        assert!(
            close.code == Code::BadFrame || close.code == Code::TooLarge,
            "{close:?}"
        );
        peer = node.welcome().await;
        peer.confirm_subscribe().await;
    }
    // A frame that is never finished.
    peer.send_raw(vec![100, 0, 0, 0, 8, 1]).await;
    drop(peer);
    let mut peer = node.welcome().await;
    peer.confirm_subscribe().await;
    peer.deliver(id, "a", b"well").await;
    assert_eq!(
        subscription.next().await.unwrap().payload().as_ref(),
        b"well"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_broker_is_asked_and_given_up() {
    let (client, mut peer, node) = pair().await;
    let began = Instant::now();
    peer.expect_ping().await;
    assert_eq!(began.elapsed().as_secs(), 60);
    let _peer = node.welcome().await;
    assert_eq!(began.elapsed().as_secs(), 80);
    client
        .status()
        .wait_for(Status::is_connected)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn attempts_are_spread_out_and_bounded() {
    let reconnect = Reconnect {
        attempts_max: Some(6),
        ..Reconnect::default()
    };
    let (client, peer, node) = pair_with(
        |options| Options {
            reconnect,
            ..options
        },
        Limits::default(),
    )
    .await;
    let began = Instant::now();
    drop((peer, node));
    let reason = client.closed().await;
    assert!(
        matches!(reason, Reason::GaveUp { attempts: 6, .. }),
        "{reason:?}"
    );
    // 100 + 200 + … + 3200 ms, each between half and all of it.
    let waited = began.elapsed().as_millis();
    assert!((3_150..=6_400).contains(&waited), "{waited}");
    assert!(client.publish("a", b"").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_refused_for_good_does_not_try_again() {
    let (client, mut peer, _node) = pair().await;
    let (subscription, _) = tokio::join!(client.subscribe("a"), peer.confirm_subscribe());
    let mut subscription = subscription.unwrap();
    peer.close(Code::Unauthenticated, "expired").await;
    let reason = client.closed().await;
    assert!(matches!(reason, Reason::Refused(_)));
    assert_eq!(reason.code(), Code::Unauthenticated);
    assert!(subscription.next().await.is_none());
    assert!(matches!(subscription.closed(), Some(Reason::Refused(_))));
    assert_eq!(
        client.publish("a", b"").await.unwrap_err().code(),
        Code::Unauthenticated
    );
    assert_eq!(
        client.subscribe("b").await.unwrap_err().code(),
        Code::Unauthenticated
    );
    assert_eq!(
        client.request("b", b"").await.unwrap_err().code(),
        Code::Unauthenticated
    );
    assert_eq!(
        client.rtt().await.unwrap_err().code(),
        Code::Unauthenticated
    );
}

#[tokio::test(start_paused = true)]
async fn a_kicked_client_comes_back_slower_each_time() {
    let (client, mut peer, node) = pair().await;
    let began = Instant::now();
    for _ in 0..6 {
        peer.close(Code::Kicked, "out").await;
        peer = node.welcome().await;
    }
    assert!(began.elapsed() > Duration::from_secs(3));
    client
        .status()
        .wait_for(Status::is_connected)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_draining_node_is_left_before_it_closes() {
    let hub = Hub::new();
    let old_node = Node::bind(&hub, "n1").await;
    let new_node = Node::bind(&hub, "n2").await;
    let (client, mut old) = tokio::join!(
        Options::new("memory:n1").hub(hub).connect(),
        old_node.welcome()
    );
    let client = client.unwrap();
    let (subscription, id) = tokio::join!(client.subscribe("a"), old.confirm_subscribe());
    let mut subscription = subscription.unwrap();
    old.send(&Frame::Drain(Drain {
        addresses: vec!["memory:n2".to_owned()],
        grace_ms: 10_000,
    }))
    .await;
    let mut new = new_node.welcome().await;
    // The old node still delivers until it has answered.
    assert_eq!(old.expect_unsubscribe().await.ids, [id]);
    old.deliver(id, "a", b"last").await;
    assert_eq!(
        subscription.next().await.unwrap().payload().as_ref(),
        b"last"
    );
    client.publish("p", b"kept").await.unwrap();
    drop(old);
    let restored = new.confirm_subscribe().await;
    assert_eq!(new.expect_publish().await.subject, "p");
    new.deliver(restored, "a", b"first").await;
    assert_eq!(
        subscription.next().await.unwrap().payload().as_ref(),
        b"first"
    );
}

#[tokio::test(start_paused = true)]
async fn answers_are_awaited_before_the_client_moves() {
    let hub = Hub::new();
    let old_node = Node::bind(&hub, "n1").await;
    let new_node = Node::bind(&hub, "n2").await;
    let (client, mut old) = tokio::join!(
        Options::new("memory:n1").hub(hub).connect(),
        old_node.welcome()
    );
    let client = client.unwrap();
    let answer = async {
        let request = old.expect_publish().await;
        old.send(&Frame::Drain(Drain {
            addresses: vec!["memory:n2".to_owned()],
            grace_ms: 10_000,
        }))
        .await;
        let new = new_node.welcome().await;
        old.deliver(
            dialtone_protocol::SubscriptionId::INBOX,
            request.reply.as_deref().unwrap(),
            b"here",
        )
        .await;
        assert_eq!(old.expect_close().await.code, Code::Normal);
        new
    };
    let (result, _new) = tokio::join!(client.request("r", b"?"), answer);
    assert_eq!(result.unwrap().payload().as_ref(), b"here");
    let mut status = client.status();
    let moved = status
        .wait_for(|status| matches!(status, Status::Connected { node, .. } if node == "n2"))
        .await;
    moved.unwrap();
}

/// Publishes with acknowledgement, again and again, so that one is always on its way; how many were acknowledged.
async fn publish_always(client: &Client, stop: &Cell<bool>) -> u32 {
    let mut count = 0;
    while !stop.get() {
        client.publish_acked("p", b"x").await.unwrap();
        count += 1;
    }
    count
}

/// Acknowledges each message when the next one has come, or none comes for a while, until the client leaves.
async fn acknowledge_late(old: &mut Peer) {
    let mut last = old.expect_publish().await.request;
    loop {
        let next = tokio::time::timeout(Duration::from_millis(100), old.body()).await;
        old.acknowledge(last, Ok(1)).await;
        let body = match next {
            Ok(body) => body.unwrap(),
            Err(_elapsed) => old.body().await.unwrap(),
        };
        match Frame::decode(&body).unwrap() {
            Frame::Publish(publish) => last = publish.request,
            Frame::Close(close) => return assert_eq!(close.code, Code::Normal),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_always_waits_for_some_answer_moves_soon_and_loses_none() {
    let hub = Hub::new();
    let old_node = Node::bind(&hub, "n1").await;
    let new_node = Node::bind(&hub, "n2").await;
    let (client, mut old) = tokio::join!(
        Options::new("memory:n1").hub(hub).connect(),
        old_node.welcome()
    );
    let client = client.unwrap();
    let stop = Cell::new(false);
    let began = Instant::now();
    let nodes = async {
        let addresses = vec!["memory:n2".to_owned()];
        let grace_ms = 100_000;
        old.send(&Frame::Drain(Drain {
            addresses,
            grace_ms,
        }))
        .await;
        let (mut new, ()) = tokio::join!(new_node.welcome(), acknowledge_late(&mut old));
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
        stop.set(true);
        for _ in 0..2 {
            let request = new.expect_publish().await.request;
            new.acknowledge(request, Ok(1)).await;
        }
    };
    let (one, other) = (
        publish_always(&client, &stop),
        publish_always(&client, &stop),
    );
    let (one, other, ()) = tokio::join!(one, other, nodes);
    assert!(one > 1 && other > 1, "{one} and {other}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_long_holds_up_no_other_question_while_the_client_is_to_move() {
    let hub = Hub::new();
    let old_node = Node::bind(&hub, "n1").await;
    let new_node = Node::bind(&hub, "n2").await;
    let (client, mut old) = tokio::join!(
        Options::new("memory:n1").hub(hub).connect(),
        old_node.welcome()
    );
    let client = client.unwrap();
    let node = async {
        let request = old.expect_publish().await;
        let addresses = vec!["memory:n2".to_owned()];
        let grace_ms = 100_000;
        old.send(&Frame::Drain(Drain {
            addresses,
            grace_ms,
        }))
        .await;
        let _new = new_node.welcome().await;
        let asked = old.expect_publish().await.request;
        old.acknowledge(asked, Ok(1)).await;
        let reply = request.reply.unwrap();
        old.deliver(dialtone_protocol::SubscriptionId::INBOX, &reply, b"late")
            .await;
        assert_eq!(old.expect_close().await.code, Code::Normal);
    };
    let question = async {
        // When questions are held back already.
        tokio::time::sleep(Duration::from_millis(10)).await;
        client.publish_acked("p", b"x").await
    };
    let (answer, asked, ()) = tokio::join!(client.request("r", b"?"), question, node);
    assert_eq!(answer.unwrap().payload().as_ref(), b"late");
    assert_eq!(asked.unwrap(), 1);
}
