//! Queue groups: one member for each message, all fragments to that member, and the same member for the same key.

use std::collections::{BTreeMap, BTreeSet};

use dialtone_protocol::frame::{Pick, Wanted};
use dialtone_protocol::{Frame, SubscriptionId};
use dialtone_testkit::peer::{fragments, publish};
use dialtone_testkit::{Delivered, Manner, Peer, Said, World};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::{seconds, simulate};

fn member(pattern: &str, pick: Pick) -> Wanted {
    Wanted {
        group: Some("workers".to_owned()),
        pick,
        ..Wanted::new(pattern)
    }
}

/// All deliveries until nothing comes for a while.
async fn deliveries(peer: &mut Peer) -> Vec<Delivered> {
    let mut all = Vec::new();
    loop {
        let said = peer.listen(seconds(20)).await;
        if said.is_empty() {
            return all;
        }
        all.extend(said.into_iter().filter_map(|said| {
            if let Said::Deliver(delivered) = said {
                Some(delivered)
            } else {
                None
            }
        }));
    }
}

async fn workers(world: &World, seed: u64, count: usize, pattern: &str, pick: Pick) -> Vec<Peer> {
    let mut workers = Vec::new();
    for index in 0..count {
        world.network(Manner::rough(seed * 16 + index as u64));
        let mut worker = world.peer().await;
        worker.subscribe_to(member(pattern, pick)).await.unwrap();
        workers.push(worker);
    }
    workers
}

#[test]
fn each_message_goes_to_one_member_whole() {
    simulate(20, async |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new(seed).await;
        let mut workers = workers(&world, seed, 4, "work.*", Pick::Any).await;
        world.network(Manner::ideal());
        let mut publisher = world.peer().await;
        let total: u64 = 60;
        for id in 0..total {
            let payload = vec![u8::try_from(id).unwrap(); rng.random_range(1..3_000)];
            let frames = fragments(id, "work.x", &payload, 500);
            let mut bytes = Vec::new();
            if frames.len() == 1 {
                Frame::Publish(publish("work.x", &payload)).encode(&mut bytes);
            }
            frames
                .iter()
                .filter(|_| frames.len() > 1)
                .for_each(|frame| Frame::Publish(*frame).encode(&mut bytes));
            publisher.send_bytes(&bytes).await;
        }
        assert_eq!(publisher.sync().await, []);
        let mut whole: BTreeMap<u8, usize> = BTreeMap::new();
        let mut busy = 0;
        for worker in &mut workers {
            let mut parts: BTreeMap<u8, Vec<u32>> = BTreeMap::new();
            for delivered in deliveries(worker).await {
                let index = delivered.fragment.map_or(0, |fragment| fragment.index);
                parts.entry(delivered.payload[0]).or_default().push(index);
            }
            busy += usize::from(!parts.is_empty());
            for (message, indices) in parts {
                assert!(
                    indices
                        .iter()
                        .enumerate()
                        .all(|(at, &index)| at == index as usize),
                    "{message}: {indices:?}"
                );
                assert_eq!(
                    whole.insert(message, indices.len()),
                    None,
                    "{message} went to two members"
                );
            }
        }
        assert_eq!(whole.len(), 60);
        assert!(busy > 1, "one member got everything");
    });
}

#[test]
fn a_key_stays_with_its_member() {
    simulate(20, async |seed| {
        let world = World::new(seed).await;
        let mut workers = workers(&world, seed, 5, "work.*.*", Pick::Segment(1)).await;
        world.network(Manner::ideal());
        let mut publisher = world.peer().await;
        for key in 0..20 {
            for detail in 0..10 {
                publisher
                    .publish(&format!("work.{key}.{detail}"), b"x")
                    .await;
            }
        }
        assert_eq!(publisher.sync().await, []);
        let mut owners: BTreeMap<String, usize> = BTreeMap::new();
        let mut count = 0;
        for (index, worker) in workers.iter_mut().enumerate() {
            for delivered in deliveries(worker).await {
                let key = delivered.subject.split('.').nth(1).unwrap().to_owned();
                assert_eq!(*owners.entry(key).or_insert(index), index);
                count += 1;
            }
        }
        assert_eq!(count, 200);
        assert!(
            owners.values().collect::<BTreeSet<_>>().len() > 1,
            "one member has all keys"
        );

        // When a member leaves, only its own keys move.
        let gone = *owners.values().next().unwrap();
        drop(workers.remove(gone));
        let publishing = async {
            for key in 0..20 {
                assert_eq!(
                    publisher
                        .publish_acked(&format!("work.{key}.again"), b"x")
                        .await,
                    Ok(1)
                );
            }
        };
        publishing.await;
        let others = (0..5).filter(|&index| index != gone);
        for (index, worker) in others.zip(&mut workers) {
            for delivered in deliveries(worker).await {
                let key = delivered.subject.split('.').nth(1).unwrap();
                assert!(
                    owners[key] == index || owners[key] == gone,
                    "{key} moved without need"
                );
            }
        }
    });
}

#[test]
fn groups_of_different_names_or_patterns_are_apart() {
    simulate(1, async |seed| {
        let world = World::new(seed).await;
        let (mut subscriber, mut publisher) = (world.peer().await, world.peer().await);
        let group = |name: &str, pattern: &str| Wanted {
            group: Some(name.to_owned()),
            ..Wanted::new(pattern)
        };
        for wanted in [
            group("g", "a.b"),
            group("g", "a.b"),
            group("h", "a.b"),
            group("g", "a.*"),
            Wanted::new("a.b"),
        ] {
            subscriber.subscribe_to(wanted).await.unwrap();
        }
        assert_eq!(publisher.publish_acked("a.b", b"x").await, Ok(4));
        assert_eq!(subscriber.sync().await.len(), 4);
    });
}

#[test]
fn a_member_that_leaves_in_the_middle_of_a_message_gets_no_stand_in() {
    simulate(1, async |seed| {
        let world = World::new(seed).await;
        let (mut one, mut other) = (world.peer().await, world.peer().await);
        let pick = member("work", Pick::Any);
        let ids = [
            one.subscribe_to(pick.clone()).await.unwrap(),
            other.subscribe_to(pick).await.unwrap(),
        ];
        let mut publisher = world.peer().await;
        let payload = vec![7; 1_000];
        let frames = fragments(1, "work", &payload, 100);
        for frame in &frames[..5] {
            publisher.send(&Frame::Publish(*frame)).await;
        }
        publisher.sync().await;
        let heard = |said: &[Said]| {
            said.iter()
                .filter(|said| matches!(said, Said::Deliver(_)))
                .count()
        };
        let early = [heard(&one.sync().await), heard(&other.sync().await)];
        assert!(early == [5, 0] || early == [0, 5], "{early:?}");
        let (leaving, staying, id): (&mut Peer, &mut Peer, SubscriptionId) = if early[0] == 5 {
            (&mut one, &mut other, ids[0])
        } else {
            (&mut other, &mut one, ids[1])
        };
        leaving.unsubscribe(&[id]).await;
        for frame in &frames[5..] {
            publisher.send(&Frame::Publish(*frame)).await;
        }
        publisher.sync().await;
        assert_eq!(
            heard(&staying.sync().await),
            0,
            "half of a message went to another member"
        );
        assert_eq!(publisher.publish_acked("work", b"next").await, Ok(1));
        assert_eq!(heard(&staying.sync().await), 1);
    });
}
