//! Limits: each has its code, and the peer that exceeds one is the only one to notice.

use std::sync::Arc;

use dialtone_broker::Config;
use dialtone_broker::auth::{Permissions, Principal};
use dialtone_protocol::frame::handshake::MAGIC;
use dialtone_protocol::frame::{Credentials, Hello, Message, Publish, Subscribe, Wanted};
use dialtone_protocol::{Code, Frame, Limits, RequestId, SubscriptionId};
use dialtone_testkit::peer::{NotWelcome, fragments, publish};
use dialtone_testkit::providers::Scripted;
use dialtone_testkit::world::patient;
use dialtone_testkit::{Manner, Peer, Said, World};
use tokio::time::Instant;

use crate::{millis, seconds, simulate};

fn granting(limits: Limits) -> Config {
    Config {
        limits,
        ..patient()
    }
}

/// A peer that sends this is closed with that code, and another one goes on.
async fn closes(limits: Limits, bytes: &[u8], code: Code) {
    let world = World::open(1, granting(limits)).await;
    let (mut peer, mut neighbour) = (world.peer().await, world.peer().await);
    neighbour.subscribe("a").await.unwrap();
    peer.send_bytes(bytes).await;
    let close = peer.closed().await.expect("the broker says why");
    assert_eq!(close.code, code, "{}", close.text);
    assert!(!close.text.is_empty());
    assert_eq!(neighbour.publish_acked("a", b"x").await, Ok(1));
}

fn message<'a>(subject: &'a str, reply: Option<&'a str>, headers: Option<&'a [u8]>) -> Vec<u8> {
    let message = Message {
        subject,
        reply,
        encoding: 0,
        headers,
        payload: b"",
    };
    Frame::Publish(Publish {
        request: None,
        unreliable: false,
        fragment: None,
        message,
    })
    .to_vec()
}

#[tokio::test(start_paused = true)]
async fn sizes_that_end_the_connection() {
    let granted = Limits {
        fragment_len_max: 10_000,
        frame_len_max: 130_000,
        ..Limits::default()
    };
    closes(granted.clone(), &130_001_u32.to_le_bytes(), Code::TooLarge).await;
    closes(granted.clone(), &0_u32.to_le_bytes(), Code::BadFrame).await;
    let long = Frame::Publish(publish("a", &vec![0; 10_001])).to_vec();
    closes(granted.clone(), &long, Code::TooLarge).await;
    closes(
        granted.clone(),
        &message("a", None, Some(&vec![b' '; 100_001])),
        Code::TooLarge,
    )
    .await;
    closes(
        granted.clone(),
        &message("a", Some("b c"), None),
        Code::InvalidSubject,
    )
    .await;
    closes(
        granted.clone(),
        &message("a", Some("b.*"), None),
        Code::InvalidSubject,
    )
    .await;
    let wanted = (1..=1_001)
        .map(|id| Wanted {
            id: SubscriptionId(id),
            ..Wanted::new("a")
        })
        .collect();
    let batch = Frame::Subscribe(Subscribe {
        request: RequestId(1),
        wanted,
    })
    .to_vec();
    closes(granted, &batch, Code::TooLarge).await;
}

#[tokio::test(start_paused = true)]
async fn subjects_that_are_refused_without_an_end() {
    let world = World::new(1).await;
    let mut peer = world.peer().await;
    let long = "a".repeat(8_193);
    let deep = vec!["a"; 65].join(".");
    for wrong in [
        &long,
        &deep,
        "",
        "a..b",
        ".a",
        "a.",
        "a b",
        "a.*",
        "a.>",
        "a\u{7f}",
        "a\u{2003}b",
    ] {
        assert_eq!(
            Peer::code(peer.publish_acked(wrong, b"").await),
            Code::InvalidSubject,
            "{wrong:?}"
        );
    }
    for wrong in [&long, &deep, "", "a..b", ">.a", "a.>.b"] {
        assert_eq!(
            Peer::code(peer.subscribe(wrong).await),
            Code::InvalidSubject,
            "{wrong:?}"
        );
    }
    let named = |group: &str| Wanted {
        group: Some(group.to_owned()),
        ..Wanted::new("a")
    };
    assert_eq!(
        Peer::code(peer.subscribe_to(named("")).await),
        Code::InvalidSubject
    );
    assert_eq!(
        Peer::code(peer.subscribe_to(named(&"g".repeat(257))).await),
        Code::InvalidSubject
    );
    assert!(peer.subscribe_to(named(&"g".repeat(256))).await.is_ok());
    assert!(peer.subscribe(&"a".repeat(8_192)).await.is_ok());
    assert_eq!(peer.publish_acked(&"a".repeat(8_192), b"").await, Ok(1));
    assert!(peer.subscribe(&vec!["*"; 64].join(".")).await.is_ok());
    assert_eq!(
        peer.publish_acked(&vec!["a"; 64].join("."), b"").await,
        Ok(1)
    );
}

#[tokio::test(start_paused = true)]
async fn subscriptions_of_a_connection() {
    let world = World::open(
        1,
        granting(Limits {
            subscriptions_max: 3,
            ..Limits::default()
        }),
    )
    .await;
    let mut peer = world.peer().await;
    let wanted = |id| Wanted {
        id: SubscriptionId(id),
        ..Wanted::new("a")
    };
    let refused = peer
        .subscribe_all(vec![
            wanted(10),
            wanted(0),
            wanted(10),
            wanted(11),
            wanted(12),
            wanted(13),
        ])
        .await;
    let codes: Vec<(u32, Code)> = refused
        .into_iter()
        .map(|(id, refused)| (id.0, refused.code))
        .collect();
    assert_eq!(
        codes,
        [
            (0, Code::Conflict),
            (10, Code::Conflict),
            (13, Code::TooMany)
        ]
    );
    assert_eq!(world.broker().status().subscriptions, 3);
    peer.unsubscribe(&[SubscriptionId(11), SubscriptionId(99)])
        .await;
    assert!(peer.subscribe("b").await.is_ok());
    assert_eq!(Peer::code(peer.subscribe("b").await), Code::TooMany);
}

#[tokio::test(start_paused = true)]
async fn connections_of_an_identity_and_in_total() {
    let provider = Scripted::new(1, seconds(0));
    let two = Some(2);
    provider.principal(Principal {
        connections_max: two,
        ..Principal::new("ann", Permissions::All)
    });
    provider.user("ben", Permissions::All);
    let config = Config {
        connections_max: 4,
        connections_per_identity_max: 3,
        ..patient()
    };
    let world = World::with(1, config, Arc::new(provider)).await;
    let too_many = |result: Result<Peer, NotWelcome>| match result {
        Err(NotWelcome::Closed(close)) => assert_eq!(close.code, Code::TooMany),
        other => panic!("{other:?}"),
    };
    let ann = (
        world.user("ann").await.unwrap(),
        world.user("ann").await.unwrap(),
    );
    too_many(world.user("ann").await);
    let ben = (
        world.user("ben").await.unwrap(),
        world.user("ben").await.unwrap(),
    );
    too_many(world.user("ben").await);
    drop(ann);
    tokio::time::sleep(seconds(10)).await;
    let third = world.user("ben").await.unwrap();
    too_many(world.user("ben").await);
    assert_eq!(world.broker().status().connections, 3);
    drop((ben, third));
}

/// A world in which a connection may publish ten messages of any length a second, and send 100,000
/// bytes.
async fn slow_world(seed: u64) -> World {
    let limits = Limits {
        messages_per_second_max: 10,
        bytes_per_second_max: 100_000,
        ..Limits::default()
    };
    World::open(seed, granting(limits)).await
}

/// A network that delays nothing, so that it is not what slows a peer down.
fn in_pieces(seed: u64) -> Manner {
    Manner {
        chunk_max: 10 << seed,
        ..Manner::ideal()
    }
}

#[test]
fn who_publishes_faster_than_granted_is_slowed_down() {
    simulate(5, async |seed| {
        let world = slow_world(seed).await;
        let mut listener = world.peer().await;
        listener.subscribe("a").await.unwrap();
        world.network(in_pieces(seed));
        let mut peer = world.peer().await;
        let began = Instant::now();
        for number in 0..100_u8 {
            peer.publish("a", &[number]).await;
        }
        assert_eq!(peer.sync().await, []);
        // The first ten are a bucket's worth. Only the next read waits for what the last one owes.
        assert_eq!(peer.sync().await, []);
        assert!(began.elapsed() >= seconds(9), "{:?}", began.elapsed());
        let heard = listener.sync().await;
        let numbers = heard.iter().map(|said| match said {
            Said::Deliver(delivered) => delivered.payload[0],
            other => panic!("{other:?}"),
        });
        assert!(numbers.eq(0..100), "nothing is lost");
        assert!(world.broker().status().throttles_total > 0);
    });
}

#[test]
fn who_sends_more_bytes_than_granted_is_slowed_down() {
    simulate(5, async |seed| {
        let world = slow_world(seed).await;
        let mut listener = world.peer().await;
        world.network(in_pieces(seed));
        let mut peer = world.peer().await;
        let began = Instant::now();
        let sending = async {
            for frame in fragments(1, "a", &vec![0; 3_000_000], 100_000) {
                peer.send(&Frame::Publish(frame)).await;
            }
            peer.sync().await;
            peer.sync().await
        };
        let neighbour = async {
            for _ in 0..10 {
                let asked = Instant::now();
                assert_eq!(listener.publish_acked("b", b"x").await, Ok(0));
                assert!(
                    asked.elapsed() < millis(1),
                    "a neighbour is slowed down too"
                );
                tokio::time::sleep(seconds(1)).await;
            }
        };
        assert_eq!(tokio::join!(sending, neighbour).0, []);
        let took = began.elapsed();
        assert!(took >= seconds(29), "{took:?}");
    });
}

#[test]
fn who_floods_is_closed() {
    simulate(3, async |seed| {
        let world = slow_world(seed).await;
        let mut peer = world.peer().await;
        let flood: Vec<u8> = (0..1_000)
            .flat_map(|_| Frame::Publish(publish("a", b"x")).to_vec())
            .collect();
        peer.send_bytes(&flood).await;
        let close = peer.closed().await.expect("the broker says why");
        assert_eq!(close.code, Code::TooMany);
        assert_eq!(
            close.text,
            "far more than 10 messages a second: 10 s ahead of that rate"
        );
        assert_eq!(world.broker().status().messages_in_total, 110);
    });
}

#[test]
fn who_is_slowed_down_still_hears_and_may_be_ended() {
    simulate(1, async |seed| {
        let world = slow_world(seed).await;
        let mut peer = world.peer().await;
        peer.subscribe("b").await.unwrap();
        let flood: Vec<u8> = (0..100)
            .flat_map(|_| Frame::Publish(publish("a", b"x")).to_vec())
            .collect();
        peer.send_bytes(&flood).await;
        let (mut other, began) = (world.peer().await, Instant::now());
        assert_eq!(other.publish_acked("b", b"x").await, Ok(1));
        assert!(matches!(peer.next().await, Some(Said::Deliver(_))));
        assert!(world.broker().kick(peer.welcome().connection, "enough"));
        assert_eq!(peer.closed().await.unwrap().code, Code::Kicked);
        assert!(began.elapsed() < seconds(1));
    });
}

#[test]
fn a_message_that_the_provider_is_asked_about_counts_once() {
    simulate(1, async |seed| {
        let provider = Scripted::new(seed, seconds(0));
        let limits = Limits {
            messages_per_second_max: 2,
            ..Limits::default()
        };
        provider.user_with_limits("ann", Permissions::Ask, limits);
        provider.decide(|_, _, _| true);
        let world = World::with(seed, patient(), Arc::new(provider)).await;
        let mut ann = world.user("ann").await.unwrap();
        ann.publish("a", b"x").await;
        ann.publish("b", b"x").await;
        assert_eq!(ann.sync().await, [], "two messages in a second are granted");
        assert!(!ann.is_over());
    });
}

/// How a peer fares that begins like this.
async fn begins(first: &[u8]) -> (Option<Code>, u128) {
    let world = World::new(1).await;
    let began = Instant::now();
    let code = match Peer::begin(world.connect(), first).await {
        Ok(_) => None,
        Err(NotWelcome::Closed(close)) => Some(close.code),
        Err(NotWelcome::Ended) => panic!("it was not told why"),
    };
    assert_eq!(
        world.broker().status().connections,
        u64::from(code.is_none())
    );
    (code, began.elapsed().as_secs().into())
}

#[tokio::test(start_paused = true)]
async fn handshakes() {
    let hello = |min, max, len| {
        let credentials = Credentials::Token("x".repeat(len));
        Frame::Hello(Hello {
            magic: MAGIC,
            version_min: min,
            version_max: max,
            client: String::new(),
            credentials,
        })
        .to_vec()
    };
    assert_eq!(begins(&hello(1, 9, 1)).await, (None, 0));
    assert_eq!(
        begins(&hello(2, 9, 1)).await,
        (Some(Code::UnsupportedVersion), 0)
    );
    assert_eq!(
        begins(&hello(1, 1, 16_385)).await,
        (Some(Code::TooLarge), 0)
    );
    assert_eq!(
        begins(&hello(1, 1, 65_536)).await,
        (Some(Code::TooLarge), 0)
    );
    assert_eq!(
        begins(&hello(1, 1, 100)[..50]).await,
        (Some(Code::Timeout), 10)
    );
    assert_eq!(begins(b"").await, (Some(Code::Timeout), 10));
    assert_eq!(
        begins(b"GET / HTTP/1.1\r\n\r\n").await,
        (Some(Code::TooLarge), 0)
    );
    assert_eq!(
        begins(&Frame::Publish(publish("a", b"x")).to_vec()).await,
        (Some(Code::BadFrame), 0)
    );
    let mut newer = hello(1, 9, 1);
    newer.extend_from_slice(b"fields of a later version");
    let len = u32::try_from(newer.len() - 4).unwrap();
    newer[..4].copy_from_slice(&len.to_le_bytes());
    assert_eq!(begins(&newer).await, (None, 0));
}

#[test]
fn a_silent_peer_is_asked_and_then_closed() {
    simulate(1, async |seed| {
        let world = World::open(seed, Config::default()).await;
        let (mut silent, mut alive) = (world.peer().await, world.peer().await);
        silent.ignore_pings();
        let began = Instant::now();
        let (said, _) = tokio::join!(silent.listen_to_the_end(), alive.listen(seconds(300)));
        assert!(
            matches!(&said[..], [Said::Close(close)] if close.code == Code::Timeout),
            "{said:?}"
        );
        assert!(began.elapsed() >= seconds(80));
        assert!(!alive.is_over());
        assert_eq!(world.broker().status().connections, 1);
    });
}
