//! Large messages: they interleave, arrive whole or not at all, and what is unfinished is bounded.

use std::collections::BTreeMap;

use dialtone_protocol::frame::{Fragment, Publish, Wanted};
use dialtone_protocol::{Code, Frame, Limits, RequestId};
use dialtone_testkit::peer::{fragments, publish};
use dialtone_testkit::world::patient;
use dialtone_testkit::{Delivered, Manner, Peer, Said, World};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::{millis, seconds, simulate};

/// A payload that says which message it is of.
fn content(id: u64, len: usize) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(id);
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes[..]);
    bytes
}

fn deliveries(said: Vec<Said>) -> Vec<Delivered> {
    said.into_iter()
        .filter_map(|said| {
            if let Said::Deliver(delivered) = said {
                Some(delivered)
            } else {
                None
            }
        })
        .collect()
}

/// Puts fragments together, in the order in which messages were finished.
fn whole(delivered: Vec<Delivered>) -> Vec<Vec<u8>> {
    let mut open: BTreeMap<u64, (u32, Vec<u8>)> = BTreeMap::new();
    let mut done = Vec::new();
    for Delivered {
        fragment, payload, ..
    } in delivered
    {
        let Some(Fragment {
            id,
            index,
            total_len,
        }) = fragment
        else {
            done.push(payload.to_vec());
            continue;
        };
        let (next, bytes) = open.entry(id).or_default();
        assert_eq!(*next, index, "fragment out of turn");
        *next += 1;
        bytes.extend_from_slice(&payload);
        if bytes.len() as u64 == total_len {
            done.push(open.remove(&id).unwrap().1);
        }
    }
    assert!(open.is_empty(), "unfinished: {:?}", open.keys());
    done
}

#[test]
fn mixed_fragments_of_several_messages_arrive_whole() {
    simulate(20, async |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new(seed).await;
        let mut subscribers = Vec::new();
        for index in 0..3 {
            world.network(Manner::rough(seed * 8 + index));
            let mut subscriber = world.peer().await;
            subscriber.subscribe("large.*").await.unwrap();
            subscribers.push(subscriber);
        }
        let mut publisher = world.peer().await;
        let payloads: Vec<Vec<u8>> = (0..6)
            .map(|id| content(id, rng.random_range(2_000..12_000)))
            .collect();
        let mut queues: Vec<Vec<Publish<'_>>> = (0..)
            .zip(&payloads)
            .map(|(id, payload)| fragments(id, "large.x", payload, 1_000))
            .collect();
        let mut finished = Vec::new();
        let mut bytes = Vec::new();
        while queues.iter().any(|queue| !queue.is_empty()) {
            let index = rng.random_range(0..queues.len());
            if queues[index].is_empty() {
                continue;
            }
            Frame::Publish(queues[index].remove(0)).encode(&mut bytes);
            if queues[index].is_empty() {
                finished.push(payloads[index].clone());
            }
        }
        publisher.send_bytes(&bytes).await;
        publisher.sync().await;
        for subscriber in &mut subscribers {
            let mut said = Vec::new();
            while let more = subscriber.listen(seconds(60)).await
                && !more.is_empty()
            {
                said.extend(more);
            }
            assert!(whole(deliveries(said)) == finished, "messages differ");
        }
    });
}

#[test]
fn the_last_fragment_is_acknowledged_with_the_count_of_the_first() {
    simulate(1, async |seed| {
        let world = World::new(seed).await;
        let (mut publisher, mut one, mut late) =
            (world.peer().await, world.peer().await, world.peer().await);
        let id = one.subscribe("large").await.unwrap();
        one.subscribe_to(Wanted {
            tap: true,
            ..Wanted::new("large")
        })
        .await
        .unwrap();
        let payload = content(1, 5_000);
        let mut frames = fragments(9, "large", &payload, 1_000);
        frames[2].request = Some(RequestId(1));
        frames[4].request = Some(RequestId(2));
        publisher.send(&Frame::Publish(frames[0])).await;
        publisher.sync().await;
        late.subscribe("large").await.unwrap();
        for frame in &frames[1..] {
            publisher.send(&Frame::Publish(*frame)).await;
        }
        let said = publisher.sync().await;
        assert!(
            matches!(&said[..], [Said::Published(p)] if p.request == RequestId(2) && p.outcome == Ok(1)),
            "{said:?}"
        );
        assert_eq!(
            late.sync().await,
            [],
            "who subscribes later gets none of the fragments"
        );
        let got = deliveries(one.listen(seconds(5)).await);
        let plain = got
            .into_iter()
            .filter(|delivered| delivered.subscription == id)
            .collect();
        assert!(whole(plain) == [payload]);
    });
}

#[tokio::test(start_paused = true)]
async fn of_a_publisher_that_dies_in_the_middle_nothing_is_seen() -> anyhow::Result<()> {
    let world = World::new(1).await;
    let client = world.client().await?;
    let mut subscription = client.subscribe("large").await?;
    let mut publisher = world.peer().await;
    let payload = content(1, 500_000);
    for frame in &fragments(1, "large", &payload, 100_000)[..4] {
        publisher.send(&Frame::Publish(*frame)).await;
    }
    publisher.sync().await;
    drop(publisher);
    assert!(
        tokio::time::timeout(seconds(1_000), subscription.next())
            .await
            .is_err()
    );
    // A later message of the same publisher's number is not mixed up with it.
    let mut publisher = world.peer().await;
    let payload = content(2, 500_000);
    for frame in fragments(1, "large", &payload, 100_000) {
        publisher.send(&Frame::Publish(frame)).await;
    }
    publisher.sync().await;
    let message = subscription.next().await.unwrap();
    assert!(*message.payload() == payload);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn small_messages_pass_between_the_fragments_of_large_ones() -> anyhow::Result<()> {
    let world = World::new(1).await;
    world.network(Manner {
        bandwidth: Some(1 << 20),
        capacity: 64 << 10,
        ..Manner::ideal()
    });
    let subscriber = world.client().await?;
    let (mut large, mut small) = (
        subscriber.subscribe("large").await?,
        subscriber.subscribe("small").await?,
    );
    world.network(Manner::ideal());
    let publisher = world.client().await?;
    let payload = content(1, 20 << 20);
    publisher.publish("large", &payload).await?;
    // The large message takes 20 s on this link.
    tokio::time::sleep(seconds(2)).await;
    let began = tokio::time::Instant::now();
    publisher.publish("small", "x").await?;
    assert!(small.next().await.is_some());
    assert!(
        began.elapsed() < seconds(5),
        "a small message waited {:?}",
        began.elapsed()
    );
    assert!(large.try_next().is_none());
    assert!(*large.next().await.unwrap().payload() == payload);
    Ok(())
}

async fn violation(limits: Limits, frames: &[Publish<'_>], code: Code) {
    let mut config = patient();
    config.limits = limits;
    let world = World::open(1, config).await;
    let (mut publisher, mut neighbour) = (world.peer().await, world.peer().await);
    for frame in frames {
        publisher.send(&Frame::Publish(*frame)).await;
    }
    let close = publisher.closed().await.expect("the broker says why");
    assert_eq!(close.code, code, "{}", close.text);
    neighbour.subscribe("a").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn wrong_fragments_end_their_publisher() {
    let limits = Limits {
        fragmented_max: 4,
        message_len_max: 10_000,
        ..Limits::default()
    };
    let payload = content(1, 5_000);
    let part = |id, index, total_len, len: usize| Publish {
        fragment: Some(Fragment {
            id,
            index,
            total_len,
        }),
        ..publish("large", &payload[..len])
    };
    violation(limits.clone(), &[part(1, 1, 100, 10)], Code::BadFrame).await;
    violation(
        limits.clone(),
        &[part(1, 0, 100, 10), part(1, 2, 100, 10)],
        Code::BadFrame,
    )
    .await;
    violation(limits.clone(), &[part(1, 0, 100, 0)], Code::BadFrame).await;
    violation(
        limits.clone(),
        &[part(1, 0, 100, 10), part(1, 1, 101, 10)],
        Code::TooLarge,
    )
    .await;
    violation(limits.clone(), &[part(1, 0, 100, 101)], Code::TooLarge).await;
    violation(limits.clone(), &[part(1, 0, 10_001, 10)], Code::TooLarge).await;
    let many: Vec<_> = (0..5).map(|id| part(id, 0, 100, 10)).collect();
    violation(limits, &many, Code::TooMany).await;
}

#[test]
fn an_unfinished_message_makes_room_after_a_while() {
    simulate(1, async |seed| {
        let mut config = patient();
        config.limits = Limits {
            fragmented_max: 2,
            ..Limits::default()
        };
        config.timing.ping_interval = seconds(60);
        let world = World::open(seed, config).await;
        let mut publisher = world.peer().await;
        let payload = content(1, 3_000);
        for id in 0..2 {
            publisher
                .send(&Frame::Publish(fragments(id, "a", &payload, 1_000)[0]))
                .await;
        }
        assert_eq!(publisher.listen(seconds(400)).await, []);
        for id in 2..4 {
            publisher
                .send(&Frame::Publish(fragments(id, "a", &payload, 1_000)[0]))
                .await;
        }
        assert_eq!(
            publisher.sync().await,
            [],
            "the old ones are forgotten after two minutes"
        );
        assert!(!publisher.is_over());
    });
}

#[test]
fn a_small_message_may_overtake_a_large_one_and_both_arrive_whole() {
    simulate(1, async |seed| {
        let world = World::new(seed).await;
        let narrow = Manner {
            capacity: 4_096,
            ..Manner::ideal()
        };
        let (mut subscriber, _link) = world.peer_on(&narrow).await;
        subscriber.subscribe("a").await.unwrap();
        let mut publisher = world.peer().await;
        let payload = content(1, 500_000);
        for frame in fragments(1, "a", &payload, 100_000) {
            publisher.send(&Frame::Publish(frame)).await;
        }
        publisher.publish("a", b"small").await;
        publisher.sync().await;
        let got = whole(deliveries(subscriber.listen(seconds(60)).await));
        assert_eq!(got.len(), 2);
        // §10: the lanes are in no order between them, and the small one does not wait.
        assert_eq!((got[0].len(), got[1].len()), (5, 500_000));
    });
}

/// The peers of this file read what is due within milliseconds.
#[test]
fn large_messages_to_an_inbox_arrive_whole() {
    simulate(1, async |seed| {
        let world = World::new(seed).await;
        let (mut publisher, mut receiver): (Peer, Peer) = (world.peer().await, world.peer().await);
        let inbox = format!("{}.7", receiver.welcome().inbox);
        let payload = content(1, 300_000);
        for frame in fragments(1, &inbox, &payload, 100_000) {
            publisher.send(&Frame::Publish(frame)).await;
        }
        publisher.sync().await;
        assert!(whole(deliveries(receiver.listen(millis(100)).await)) == [payload]);
    });
}
