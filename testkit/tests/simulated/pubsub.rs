//! Publish and subscribe against the model: who gets what, once, in which order, and what acknowledgements say.

use std::collections::BTreeMap;

use dialtone_protocol::frame::{Publish, Subscribe, Unsubscribe, Wanted};
use dialtone_protocol::{Frame, RequestId, SubscriptionId};
use dialtone_testkit::model::{Expected, Receiver};
use dialtone_testkit::peer::publish;
use dialtone_testkit::{Delivered, Manner, Model, Peer, Said, World};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::{seconds, simulate};

const SEGMENTS: [&str; 4] = ["a", "b", "c", "*x"];
const PEERS: usize = 4;

/// A random subject of a small world, so that patterns meet it.
fn subject(rng: &mut StdRng) -> String {
    let len = rng.random_range(1..=4);
    let segments: Vec<&str> = (0..len)
        .map(|_| *SEGMENTS[..3].choose(rng).unwrap())
        .collect();
    segments.join(".")
}

fn pattern(rng: &mut StdRng) -> String {
    let mut segments: Vec<String> = subject(rng).split('.').map(str::to_owned).collect();
    for segment in &mut segments {
        if rng.random_ratio(1, 4) {
            "*".clone_into(segment);
        } else if rng.random_ratio(1, 20) {
            SEGMENTS[3].clone_into(segment);
        }
    }
    if rng.random_ratio(1, 4) {
        ">".clone_into(segments.last_mut().unwrap());
    }
    segments.join(".")
}

fn wanted(rng: &mut StdRng, id: u32) -> Wanted {
    let group = rng
        .random_ratio(1, 3)
        .then(|| (*["g", "h"].choose(rng).unwrap()).to_owned());
    let tap = group.is_none() && rng.random_ratio(1, 5);
    Wanted {
        id: SubscriptionId(id),
        group,
        tap,
        ..Wanted::new(pattern(rng))
    }
}

/// What must have arrived, and what has.
#[derive(Default)]
struct History {
    model: Model,
    /// For each plain subscription and tap, the payloads in the order in which they were published by each peer.
    due: BTreeMap<(Receiver, usize), Vec<String>>,
    /// For each message that goes to groups, who may have it.
    due_once: BTreeMap<String, Vec<Vec<Receiver>>>,
    got: BTreeMap<Receiver, Vec<String>>,
    acks: BTreeMap<(usize, RequestId), u32>,
    count: u32,
}

impl History {
    fn publish(&mut self, from: usize, subject: &str) -> (String, u32) {
        self.count += 1;
        let payload = format!("{from} {:06} {subject}", self.count);
        let Expected {
            each,
            one_of,
            count,
        } = self.model.route(subject);
        for receiver in each {
            self.due
                .entry((receiver, from))
                .or_default()
                .push(payload.clone());
        }
        self.due_once.insert(payload.clone(), one_of);
        (payload, count)
    }

    fn hear(&mut self, peer: usize, said: Vec<Said>) {
        for said in said {
            match said {
                Said::Deliver(Delivered {
                    subscription,
                    payload,
                    ..
                }) => {
                    let payload = String::from_utf8(payload.to_vec()).unwrap();
                    self.got
                        .entry((peer, subscription))
                        .or_default()
                        .push(payload);
                }
                Said::Published(published) => {
                    let expected = self
                        .acks
                        .remove(&(peer, published.request))
                        .expect("nobody asked for this");
                    assert_eq!(
                        published.outcome,
                        Ok(expected),
                        "count of {:?} of peer {peer}",
                        published.request
                    );
                }
                Said::Subscribed(subscribed) => assert_eq!(subscribed.refused, []),
                Said::Unsubscribed(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Compares what has arrived with what was due.
    fn check(mut self) {
        assert!(self.acks.is_empty(), "unanswered: {:?}", self.acks);
        for (receiver, got) in self.got {
            for from in 0..PEERS {
                let prefix = format!("{from} ");
                let from_peer: Vec<&String> = got
                    .iter()
                    .filter(|payload| payload.starts_with(&prefix))
                    .collect();
                assert!(
                    from_peer.is_sorted(),
                    "out of order at {receiver:?}: {from_peer:?}"
                );
                let mut due = self
                    .due
                    .remove(&(receiver, from))
                    .unwrap_or_default()
                    .into_iter()
                    .peekable();
                for payload in from_peer {
                    if due.next_if(|next| next == payload).is_some() {
                        continue;
                    }
                    let groups = self
                        .due_once
                        .get_mut(payload)
                        .expect("nobody published this");
                    let mine = groups
                        .iter()
                        .position(|members| members.contains(&receiver));
                    let mine = mine
                        .unwrap_or_else(|| panic!("{payload:?} was not meant for {receiver:?}"));
                    groups.remove(mine);
                }
                let missing: Vec<_> = due.collect();
                assert!(missing.is_empty(), "{receiver:?} misses {missing:?}");
            }
        }
        self.due.retain(|_, due| !due.is_empty());
        assert!(self.due.is_empty(), "nobody got {:?}", self.due);
        self.due_once.retain(|_, groups| !groups.is_empty());
        assert!(
            self.due_once.is_empty(),
            "no member of the group got {:?}",
            self.due_once
        );
    }
}

/// One peer does several things in one go, without waiting for answers.
async fn burst(history: &mut History, peers: &mut [Peer], rng: &mut StdRng) {
    let active = rng.random_range(0..PEERS);
    let mut bytes = Vec::new();
    let mut topic = subject(rng);
    for _ in 0..rng.random_range(1..30) {
        let number = peers[active].number();
        match rng.random_range(0..20) {
            0..2 => {
                let wanted = wanted(rng, number);
                history.model.subscribe(active, wanted.clone());
                Frame::Subscribe(Subscribe {
                    request: RequestId(number),
                    wanted: vec![wanted],
                })
                .encode(&mut bytes);
            }
            2 => {
                let held = history.model.held_by(active);
                let ids: Vec<_> = held.choose(rng).copied().into_iter().collect();
                let ended = ids.iter().all(|id| history.model.unsubscribe(active, *id));
                assert!(ended, "the model has lost {ids:?}");
                Frame::Unsubscribe(Unsubscribe {
                    request: RequestId(number),
                    ids,
                })
                .encode(&mut bytes);
            }
            _ => {
                if rng.random_ratio(1, 3) {
                    topic = subject(rng);
                }
                let (payload, count) = history.publish(active, &topic);
                let request = rng.random_ratio(1, 3).then_some(RequestId(number));
                if let Some(request) = request {
                    history.acks.insert((active, request), count);
                }
                Frame::Publish(Publish {
                    request,
                    ..publish(&topic, payload.as_bytes())
                })
                .encode(&mut bytes);
            }
        }
    }
    peers[active].send_bytes(&bytes).await;
    let said = peers[active].sync().await;
    history.hear(active, said);
}

async fn random_history(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let world = World::new(seed).await;
    let mut peers = Vec::new();
    for peer in 0..PEERS {
        world.network(Manner::rough(seed * 10 + peer as u64));
        peers.push(world.peer().await);
    }
    let mut history = History::default();
    for _ in 0..30 {
        burst(&mut history, &mut peers, &mut rng).await;
    }
    for (index, peer) in peers.iter_mut().enumerate() {
        let said = peer.sync().await;
        history.hear(index, said);
    }
    assert_eq!(world.broker().status().slow_consumers_total, 0);
    history.check();
}

#[test]
fn random_histories_agree_with_the_model() {
    simulate(40, random_history);
}

/// Everybody publishes at the same time; who subscribes does not change meanwhile.
async fn crowd(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let world = World::new(seed).await;
    let mut peers = Vec::new();
    let mut history = History::default();
    for index in 0..PEERS {
        world.network(Manner::rough(seed * 10 + index as u64));
        let mut peer = world.peer().await;
        for _ in 0..rng.random_range(0..6) {
            let wanted = wanted(&mut rng, 0);
            let id = peer.subscribe_to(wanted.clone()).await.unwrap();
            history.model.subscribe(index, Wanted { id, ..wanted });
        }
        peers.push(peer);
    }
    let mut talks = Vec::new();
    for (index, mut peer) in peers.into_iter().enumerate() {
        let mut bytes = Vec::new();
        for _ in 0..100 {
            let subject = subject(&mut rng);
            let (payload, _) = history.publish(index, &subject);
            Frame::Publish(publish(&subject, payload.as_bytes())).encode(&mut bytes);
        }
        talks.push(async move {
            peer.send_bytes(&bytes).await;
            // Rough links are slow rather than broken: wait until long after the last byte.
            let mut said = Vec::new();
            loop {
                let more = peer.listen(seconds(30)).await;
                if more.is_empty() {
                    return (index, said);
                }
                said.extend(more);
            }
        });
    }
    for (index, said) in futures_util::future::join_all(talks).await {
        history.hear(index, said);
    }
    history.check();
}

#[test]
fn concurrent_publishers_agree_with_the_model() {
    simulate(30, crowd);
}

#[test]
fn an_acknowledgement_follows_the_deliveries_of_its_message() {
    simulate(1, async |seed| {
        let world = World::new(seed).await;
        let mut peer = world.peer().await;
        peer.subscribe("own").await.unwrap();
        let mut bytes = Vec::new();
        for request in 100..105 {
            let request = Some(RequestId(request));
            Frame::Publish(Publish {
                request,
                ..publish("own", b"x")
            })
            .encode(&mut bytes);
        }
        peer.send_bytes(&bytes).await;
        let (mut delivered, mut acknowledged) = (0, 0);
        for said in peer.sync().await {
            match said {
                Said::Deliver(_) => delivered += 1,
                Said::Published(_) => acknowledged += 1,
                other => panic!("{other:?}"),
            }
            assert!(
                acknowledged <= delivered,
                "acknowledgement {acknowledged} came after {delivered} deliveries"
            );
        }
        assert_eq!((delivered, acknowledged), (5, 5));
    });
}

#[test]
fn a_message_reaches_each_of_several_overlapping_subscriptions() {
    simulate(1, async |seed| {
        let world = World::new(seed).await;
        let (mut publisher, mut subscriber) = (world.peer().await, world.peer().await);
        let mut ids = Vec::new();
        for pattern in ["a.b", "a.b", "a.*", "*.b", ">", "a.>"] {
            ids.push(subscriber.subscribe(pattern).await.unwrap());
        }
        subscriber.subscribe("a").await.unwrap();
        subscriber.subscribe("a.b.>").await.unwrap();
        let tap = subscriber
            .subscribe_to(Wanted {
                tap: true,
                ..Wanted::new("a.*")
            })
            .await
            .unwrap();
        assert_eq!(publisher.publish_acked("a.b", b"x").await, Ok(6));
        let mut got: Vec<SubscriptionId> = Vec::new();
        for said in subscriber.sync().await {
            let Said::Deliver(delivered) = said else {
                panic!("{said:?}")
            };
            assert_eq!(
                (delivered.subject.as_str(), &delivered.payload[..]),
                ("a.b", &b"x"[..])
            );
            got.push(delivered.subscription);
        }
        got.sort_unstable();
        ids.push(tap);
        assert_eq!(got, ids);
    });
}

#[test]
fn nothing_arrives_after_the_end_of_a_subscription() {
    simulate(1, async |seed| {
        let world = World::new(seed).await;
        let (mut publisher, mut subscriber) = (world.peer().await, world.peer().await);
        let id = subscriber.subscribe("a").await.unwrap();
        assert_eq!(publisher.publish_acked("a", b"1").await, Ok(1));
        subscriber.unsubscribe(&[id]).await;
        assert_eq!(publisher.publish_acked("a", b"2").await, Ok(0));
        assert_eq!(subscriber.sync().await.len(), 1);
        assert_eq!(world.broker().status().subscriptions, 0);
        assert_eq!(world.broker().status().patterns, 0);
    });
}
