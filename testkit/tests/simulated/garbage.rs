//! Garbage: whatever one peer sends, it is closed with a code, and nobody else notices.

use dialtone_protocol::frame::handshake::MAGIC;
use dialtone_protocol::frame::{
    Cancel, Credentials, Hello, Interest, List, Ping, Subscribe, Unsubscribe, Wanted,
};
use dialtone_protocol::{Code, Frame, RequestId, SubscriptionId};
use dialtone_testkit::peer::{NotWelcome, fragments, publish};
use dialtone_testkit::{Manner, Peer, Said, World};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::{seconds, simulate};

fn noise(rng: &mut StdRng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes[..]);
    bytes
}

/// Some frame that a client may send.
fn valid(rng: &mut StdRng) -> Vec<u8> {
    let request = RequestId(rng.random_range(0..5));
    let payload = noise(rng, 300);
    let wanted = Wanted {
        id: SubscriptionId(rng.random_range(0..9)),
        ..Wanted::new("attack.*")
    };
    match rng.random_range(0..9) {
        0 => Frame::Subscribe(Subscribe {
            request,
            wanted: vec![wanted.clone(), wanted],
        })
        .to_vec(),
        1 => Frame::Unsubscribe(Unsubscribe {
            request,
            ids: vec![SubscriptionId(1)],
        })
        .to_vec(),
        2 => Frame::Interest(Interest {
            request,
            subject: "attack.x".to_owned(),
            wait_ms: 1_000,
        })
        .to_vec(),
        3 => Frame::Cancel(Cancel { request }).to_vec(),
        4 => Frame::List(List { request }).to_vec(),
        5 => Frame::Ping(Ping { token: 1 }).to_vec(),
        6 => fragments(1, "attack.x", &payload, 100)
            .into_iter()
            .flat_map(|frame| Frame::Publish(frame).to_vec())
            .collect(),
        _ => Frame::Publish(publish("attack.x", &payload)).to_vec(),
    }
}

/// Bytes that are almost right.
fn almost(rng: &mut StdRng) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..rng.random_range(1..10))
        .flat_map(|_| valid(rng))
        .collect();
    for _ in 0..rng.random_range(1..6) {
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..4) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => drop(bytes.remove(at)),
            _ => bytes.insert(at, rng.random()),
        }
    }
    bytes
}

/// A frame with a right length and anything in it.
fn framed(rng: &mut StdRng) -> Vec<u8> {
    let len = rng.random_range(1..200);
    let mut bytes = u32::try_from(len).unwrap().to_le_bytes().to_vec();
    let mut body = noise(rng, len);
    body[0] %= 25;
    bytes.extend(body);
    bytes
}

async fn attack(world: &World, rng: &mut StdRng) {
    let connection = world.connect();
    if rng.random_ratio(1, 4) {
        let len = rng.random_range(0..400);
        let first = noise(rng, len);
        match Peer::begin(connection, &first).await {
            Ok(_) => panic!("noise is no hello"),
            Err(NotWelcome::Closed(close)) => assert_ne!(close.code, Code::Normal),
            Err(NotWelcome::Ended) => panic!("it was not told why"),
        }
        return;
    }
    let credentials = Credentials::None;
    let hello = Hello {
        magic: MAGIC,
        version_min: 1,
        version_max: 1,
        client: "attacker".to_owned(),
        credentials,
    };
    let mut peer = Peer::begin(connection, &Frame::Hello(hello).to_vec())
        .await
        .unwrap();
    for _ in 0..rng.random_range(1..5) {
        let bytes = match rng.random_range(0..3) {
            0 => almost(rng),
            1 => framed(rng),
            _ => valid(rng),
        };
        peer.send_bytes(&bytes).await;
        for said in peer.listen(seconds(2)).await {
            if let Said::Close(close) = said {
                let its_own_doing =
                    (400..500).contains(&close.code.number()) || close.code == Code::Normal;
                assert!(its_own_doing, "{close:?}");
            }
        }
        if peer.is_over() {
            return;
        }
    }
    if rng.random() {
        // Leaves in the middle of a frame.
        let bytes = valid(rng);
        peer.send_bytes(&bytes[..rng.random_range(0..bytes.len())])
            .await;
    }
}

#[test]
fn nobody_notices_what_an_attacker_sends() {
    simulate(25, async |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new(seed).await;
        let (mut publisher, mut subscriber) = (world.peer().await, world.peer().await);
        subscriber.subscribe("victim.*").await.unwrap();
        let mut expected = Vec::new();
        for round in 0..40 {
            world.network(Manner::rough(seed * 64 + round));
            let payload = format!("{round}");
            let ((), outcome) = tokio::join!(
                attack(&world, &mut rng),
                publisher.publish_acked("victim.x", payload.as_bytes())
            );
            assert_eq!(outcome, Ok(1));
            expected.push(payload);
        }
        let got: Vec<String> = subscriber
            .sync()
            .await
            .into_iter()
            .map(|said| match said {
                Said::Deliver(delivered) => String::from_utf8(delivered.payload.to_vec()).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(got, expected);
        tokio::time::sleep(seconds(30)).await;
        let status = world.broker().status();
        assert_eq!(
            (
                status.connections,
                status.subscriptions,
                status.interest_waiting
            ),
            (2, 1, 0)
        );
    });
}

#[test]
fn a_violation_has_a_code_and_the_frames_before_it_count() {
    simulate(1, async |seed| {
        let world = World::new(seed).await;
        let mut subscriber = world.peer().await;
        subscriber.subscribe("a").await.unwrap();
        let wrong: [Vec<u8>; 5] = [
            vec![1, 0, 0, 0, 200],
            vec![0, 0, 0, 0],
            vec![2, 0, 0, 0, 5, 0],
            vec![3, 0, 0, 0, 13, 0, 0],
            Frame::Ping(Ping { token: 1 }).to_vec()[..4]
                .iter()
                .copied()
                .chain([3, 1, 0])
                .collect(),
        ];
        for wrong in wrong {
            let mut peer = world.peer().await;
            let mut bytes = Frame::Publish(publish("a", b"before")).to_vec();
            bytes.extend(wrong);
            bytes.extend(Frame::Publish(publish("a", b"after")).to_vec());
            peer.send_bytes(&bytes).await;
            let close = peer.closed().await.expect("the broker says why");
            let expected = [Code::BadFrame, Code::TooLarge];
            assert!(expected.contains(&close.code), "{close:?}");
            let said = subscriber.sync().await;
            assert!(
                matches!(&said[..], [Said::Deliver(delivered)] if &delivered.payload[..] == b"before"),
                "{said:?}"
            );
        }
        assert_eq!(world.broker().status().violations_total, 5);
    });
}
