//! Who does not read: closed as a slow consumer, within the bounds of its outbox, and without harm to its neighbours.

use std::time::Duration;

use dialtone_broker::{Config, OutboxConfig};
use dialtone_protocol::frame::{Dropped, Wanted};
use dialtone_protocol::{Code, Frame};
use dialtone_testkit::peer::{fragments, publish};
use dialtone_testkit::world::patient;
use dialtone_testkit::{Delivered, Manner, Peer, Said, World};
use tokio::time::Instant;

use crate::{millis, seconds, simulate};

fn bounded() -> Config {
    let outbox = OutboxConfig {
        high_bytes: 128 << 10,
        low_bytes: 64 << 10,
        max_bytes: 512 << 10,
        ..OutboxConfig::default()
    };
    Config {
        outbox,
        ..patient()
    }
}

/// Holds little, so that a peer that does not read is noticed.
fn narrow() -> Manner {
    Manner {
        capacity: 8 << 10,
        ..Manner::ideal()
    }
}

/// Publishes numbered messages of a kilobyte, and watches that no outbox exceeds its bound.
async fn publish_numbers(world: &World, publisher: &mut Peer, count: u32) {
    let max = bounded().outbox.max_bytes as u64;
    for number in 0..count {
        let mut payload = vec![0; 1_000];
        payload[..4].copy_from_slice(&number.to_le_bytes());
        publisher.publish("news", &payload).await;
        for connection in world.broker().all_connections(100) {
            assert!(connection.pending_bytes <= max, "{connection:?}");
        }
    }
    publisher.sync().await;
}

fn number(delivered: &Delivered) -> u32 {
    u32::from_le_bytes(delivered.payload[..4].try_into().unwrap())
}

fn numbers(said: &[Said]) -> Vec<u32> {
    said.iter()
        .filter_map(|said| {
            if let Said::Deliver(delivered) = said {
                Some(number(delivered))
            } else {
                None
            }
        })
        .collect()
}

async fn listen_to(peer: &mut Peer, count: usize) -> Vec<u32> {
    let mut got = Vec::new();
    while got.len() < count
        && let Some(said) = peer.next().await
    {
        got.extend(numbers(&[said]));
    }
    got
}

#[test]
fn who_never_reads_is_closed_and_harms_nobody() {
    simulate(5, async |seed| {
        let world = World::open(seed, bounded()).await;
        let (mut deaf, _link) = world.peer_on(&narrow()).await;
        deaf.subscribe("news").await.unwrap();
        world.network(Manner {
            delay_max: millis(5 * seed),
            capacity: 64 << 10,
            ..Manner::ideal()
        });
        let (mut one, mut other) = (world.peer().await, world.peer().await);
        one.subscribe("news").await.unwrap();
        other.subscribe("*").await.unwrap();
        world.network(Manner {
            capacity: 32 << 10,
            ..Manner::ideal()
        });
        let mut publisher = world.peer().await;
        let ((), one, other) = tokio::join!(
            publish_numbers(&world, &mut publisher, 3_000),
            listen_to(&mut one, 3_000),
            listen_to(&mut other, 3_000)
        );
        assert!(
            one.iter().copied().eq(0..3_000) && other.iter().copied().eq(0..3_000),
            "a neighbour lost something"
        );
        let status = world.broker().status();
        assert_eq!(status.slow_consumers_total, 1);
        // Its place is free when the goodbye was not taken for a while.
        tokio::time::sleep(seconds(10)).await;
        assert_eq!(world.broker().status().connections, 3);
        assert_eq!(world.broker().status().subscriptions, 2);
        let got = numbers(&deaf.listen_to_the_end().await);
        assert!(
            got.iter().copied().eq(0..u32::try_from(got.len()).unwrap()),
            "what it got must be the beginning"
        );
        assert!(got.len() < 1_000);
    });
}

#[test]
fn who_reads_on_after_all_is_told_why() {
    simulate(20, async |seed| {
        let world = World::open(seed, bounded()).await;
        let manner = Manner {
            chunk_max: 1 + usize::try_from(seed).unwrap() * 531,
            ..narrow()
        };
        let (mut slow, _link) = world.peer_on(&manner).await;
        slow.subscribe("news").await.unwrap();
        let mut publisher = world.peer().await;
        // Longer than what is shared by its receivers, and shorter.
        for number in 0_u32..1_000 {
            let mut payload = vec![0; if number % 3 == 0 { 20_000 } else { 100 }];
            payload[..4].copy_from_slice(&number.to_le_bytes());
            publisher.publish("news", &payload).await;
        }
        publisher.sync().await;
        assert_eq!(world.broker().status().slow_consumers_total, 1);
        assert_eq!(world.broker().status().outbox_bytes, 0);
        tokio::time::sleep(seconds(seed % 5)).await;
        let said = slow.listen_to_the_end().await;
        let Some((Said::Close(close), before)) = said.split_last() else {
            panic!("the last frame is {:?}", said.last());
        };
        assert_eq!(close.code, Code::SlowConsumer);
        let got = numbers(before);
        let count = u32::try_from(got.len()).unwrap();
        assert!(
            got.iter().copied().eq(0..count),
            "what it got must be the beginning"
        );
    });
}

#[test]
fn a_deaf_subscriber_hardly_slows_its_neighbours() {
    simulate(1, async |seed| {
        let run = async |with_deaf: bool| -> Duration {
            let world = World::open(seed, bounded()).await;
            let (mut deaf, _link) = world.peer_on(&narrow()).await;
            if with_deaf {
                deaf.subscribe("news").await.unwrap();
            }
            world.network(Manner {
                bandwidth: Some(1 << 20),
                capacity: 32 << 10,
                ..Manner::ideal()
            });
            let (mut healthy, mut publisher) = (world.peer().await, world.peer().await);
            healthy.subscribe("news").await.unwrap();
            let began = Instant::now();
            tokio::join!(
                publish_numbers(&world, &mut publisher, 5_000),
                listen_to(&mut healthy, 5_000)
            );
            began.elapsed()
        };
        let (alone, beside) = (run(false).await, run(true).await);
        assert!(
            beside.as_secs_f64() <= alone.as_secs_f64() / 0.95,
            "{alone:?} alone, {beside:?} beside a deaf one"
        );
    });
}

#[test]
fn who_reads_slowly_loses_nothing_and_holds_up_the_publisher() {
    simulate(5, async |seed| {
        let mut config = bounded();
        config.outbox.max_bytes = 2 << 20;
        let world = World::open(seed, config).await;
        let slow = Manner {
            bandwidth: Some(100_000),
            capacity: 8 << 10,
            chunk_max: 2_000,
            ..Manner::ideal()
        };
        let (mut subscriber, _link) = world.peer_on(&slow).await;
        subscriber.subscribe("news").await.unwrap();
        let (mut publisher, _link) = world
            .peer_on(&Manner {
                capacity: 8 << 10,
                ..Manner::ideal()
            })
            .await;
        let began = Instant::now();
        let publishing = async {
            for number in 0_u32..2_000 {
                let mut payload = vec![0; 1_000];
                payload[..4].copy_from_slice(&number.to_le_bytes());
                publisher.publish("news", &payload).await;
            }
            began.elapsed()
        };
        let (published, got) = tokio::join!(publishing, listen_to(&mut subscriber, 2_000));
        assert!(got.iter().copied().eq(0..2_000), "lost something");
        assert!(
            published > seconds(10),
            "the publisher was held up for {published:?} only"
        );
        let status = world.broker().status();
        assert_eq!(status.slow_consumers_total, 0);
        assert!(status.stalls_total > 0);
    });
}

#[test]
fn a_stall_ends_when_the_slow_one_leaves() {
    simulate(1, async |seed| {
        let mut config = bounded();
        config.outbox.stall_max = seconds(1_000);
        config.outbox.stall_progress = seconds(1_000);
        config.outbox.slow_max = seconds(2_000);
        let world = World::open(seed, config).await;
        let (mut slow, link) = world.peer_on(&narrow()).await;
        slow.subscribe("news").await.unwrap();
        let (mut publisher, _link) = world.peer_on(&narrow()).await;
        let began = Instant::now();
        let cutting = async {
            tokio::time::sleep(seconds(5)).await;
            link.cut();
        };
        tokio::join!(publish_numbers(&world, &mut publisher, 300), cutting);
        let took = began.elapsed();
        assert!((5_000..5_100).contains(&took.as_millis()), "{took:?}");
    });
}

fn latest(wanted: &str, messages: u16) -> Wanted {
    Wanted {
        drop_oldest: messages,
        ..Wanted::new(wanted)
    }
}

#[test]
fn drop_oldest_gets_the_newest_and_is_told_of_each_gap() {
    simulate(10, async |seed| {
        let world = World::open(seed, bounded()).await;
        let (mut slow, _link) = world.peer_on(&narrow()).await;
        let limit = u16::try_from(1 + seed * 3).unwrap();
        slow.subscribe_to(latest("news", limit)).await.unwrap();
        let mut publisher = world.peer().await;
        publish_numbers(&world, &mut publisher, 1_000).await;
        let mut said = slow.listen(seconds(1)).await;
        publish_numbers(&world, &mut publisher, 10).await;
        said.extend(slow.listen(seconds(1)).await);
        let (mut next, mut dropped) = (0, 0);
        for said in &said[..said.len() - 10] {
            match said {
                Said::Dropped(Dropped { count, .. }) => {
                    dropped += count;
                    next += u32::try_from(*count).unwrap();
                }
                Said::Deliver(delivered) => {
                    assert_eq!(number(delivered), next, "the notice stands at the gap");
                    next += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(next, 1_000, "the newest is there");
        assert!(dropped > 500 && dropped == world.broker().status().all_dropped(&world));
        assert!(numbers(&said[said.len() - 10..]).iter().copied().eq(0..10));
        assert_eq!(world.broker().status().slow_consumers_total, 0);
    });
}

/// What the connections say that they have dropped.
trait AllDropped {
    fn all_dropped(&self, world: &World) -> u64;
}

impl AllDropped for dialtone_broker::status::Status {
    fn all_dropped(&self, world: &World) -> u64 {
        world
            .broker()
            .all_connections(100)
            .iter()
            .map(|connection| connection.dropped)
            .sum()
    }
}

#[test]
fn drop_oldest_also_drops_large_messages() {
    simulate(1, async |seed| {
        let world = World::open(seed, bounded()).await;
        let (mut slow, _link) = world.peer_on(&narrow()).await;
        slow.subscribe_to(latest("news", 2)).await.unwrap();
        let mut publisher = world.peer().await;
        let payload = vec![0; 200_000];
        for id in 0..20 {
            for frame in fragments(id, "news", &payload, 100_000) {
                publisher.send(&Frame::Publish(frame)).await;
            }
        }
        publisher.sync().await;
        assert_eq!(
            world.broker().status().slow_consumers_total,
            0,
            "§4.4: a message in fragments counts as one"
        );
        let said = slow.listen(seconds(1)).await;
        assert!(
            said.iter().any(|said| matches!(said, Said::Dropped(_))),
            "{}",
            said.len()
        );
    });
}

#[test]
fn nothing_that_was_held_back_arrives_after_the_end_of_a_subscription() {
    simulate(1, async |seed| {
        let world = World::open(seed, bounded()).await;
        let (mut slow, _link) = world.peer_on(&narrow()).await;
        let id = slow.subscribe_to(latest("news", 50)).await.unwrap();
        let mut publisher = world.peer().await;
        publish_numbers(&world, &mut publisher, 500).await;
        let request = dialtone_protocol::RequestId(77);
        let end = dialtone_protocol::frame::Unsubscribe {
            request,
            ids: vec![id],
        };
        slow.send(&Frame::Unsubscribe(end)).await;
        let said = slow.listen(seconds(1)).await;
        let at = said
            .iter()
            .position(|said| matches!(said, Said::Unsubscribed(_)))
            .expect("it is confirmed");
        let late = numbers(&said[at..]);
        assert!(
            late.is_empty(),
            "{} deliveries after the confirmation, §4.2",
            late.len()
        );
    });
}

#[test]
fn a_frozen_subscriber_is_closed_after_its_time_though_its_outbox_is_not_full() {
    simulate(1, async |seed| {
        let world = World::open(seed, bounded()).await;
        let (mut deaf, _link) = world.peer_on(&narrow()).await;
        deaf.subscribe("news").await.unwrap();
        let mut publisher = world.peer().await;
        // More than the high-water mark, far less than the bound.
        publish_numbers(&world, &mut publisher, 200).await;
        assert_eq!(world.broker().status().slow_consumers_total, 0);
        tokio::time::sleep(seconds(11)).await;
        publisher
            .send(&Frame::Publish(publish("news", &[0; 10])))
            .await;
        publisher.sync().await;
        assert_eq!(world.broker().status().slow_consumers_total, 1);
    });
}

#[test]
fn a_large_message_waits_for_a_network_that_pauses() {
    simulate(10, async |seed| {
        let mut config = bounded();
        config.outbox.max_bytes = 4 << 20;
        let world = World::open(seed, config).await;
        let pausing = Manner {
            chunk_max: 8 << 10,
            stall_every: 500,
            stall: millis(100 + 80 * seed),
            ..narrow()
        };
        let (mut subscriber, _link) = world.peer_on(&pausing).await;
        subscriber.subscribe("large").await.unwrap();
        world.network(Manner {
            capacity: 32 << 10,
            ..Manner::ideal()
        });
        let mut publisher = world.peer().await;
        let payload = vec![7; 20 << 20];
        let sending = async {
            for frame in fragments(1, "large", &payload, 100_000) {
                publisher.send(&Frame::Publish(frame)).await;
            }
            publisher.sync().await;
        };
        let receiving = async {
            let mut len = 0;
            while len < payload.len() {
                match subscriber.next().await {
                    Some(Said::Deliver(part)) => len += part.payload.len(),
                    other => panic!("{other:?} after {len} bytes"),
                }
            }
        };
        tokio::join!(sending, receiving);
        assert_eq!(world.broker().status().slow_consumers_total, 0);
    });
}
