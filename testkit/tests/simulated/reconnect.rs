//! Reconnecting: wherever the link is cut, subscriptions come back once, nothing is delivered twice, and what was
//! awaited fails by name.

use std::time::Duration;

use dialtone_client::{Client, Encoding, RequestError, Subscription, service::Answer};
use dialtone_testkit::{Manner, Peer, World};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::{millis, seconds, simulate};

const PATTERNS: [&str; 4] = ["n.*", "n.x", "n.>", "other"];

async fn subscribe(client: &Client) -> Vec<Subscription> {
    let mut subscriptions = Vec::new();
    for pattern in PATTERNS {
        subscriptions.push(client.subscribe(pattern).await.unwrap());
    }
    subscriptions
}

/// The numbers that have arrived.
fn taken(subscription: &mut Subscription) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some(message) = subscription.try_next() {
        numbers.push(String::from_utf8_lossy(message.payload()).parse().unwrap());
    }
    numbers
}

/// Publishes numbers for a while; returns the next number.
async fn publish(publisher: &mut Peer, mut number: u64, count: u64) -> u64 {
    for _ in 0..count {
        publisher
            .publish("n.x", number.to_string().as_bytes())
            .await;
        number += 1;
        tokio::time::sleep(millis(7)).await;
    }
    number
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(
        tokio::time::timeout(seconds(600), waiting).await.is_ok(),
        "{what}"
    );
}

#[test]
fn a_link_that_is_cut_anywhere_loses_but_never_repeats() {
    simulate(40, async |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new(seed).await;
        let (mut publisher, _whole) = world.peer_on(&Manner::ideal()).await;
        let client = world.client().await.unwrap();
        let mut subscriptions = subscribe(&client).await;
        let mut got: Vec<Vec<u64>> = vec![Vec::new(); PATTERNS.len()];
        let mut next = 0;
        for round in 0..8 {
            // The next links are cut after some bytes, often in the middle of restoring.
            world.network(Manner {
                cut_after: Some(rng.random_range(1..800)),
                ..Manner::rough(seed * 8 + round)
            });
            if round % 3 == 0 {
                // The publisher stays: only links of the client are cut.
                world.cut_all_but_first();
            }
            let count = rng.random_range(1..100);
            next = publish(&mut publisher, next, count).await;
            for (got, subscription) in got.iter_mut().zip(&mut subscriptions) {
                got.extend(taken(subscription));
            }
        }
        world.network(Manner::ideal());
        world.cut_all_but_first();
        // The broker must have seen the cut before it can be asked who has come back.
        tokio::time::sleep(seconds(10)).await;
        until("subscriptions come back", || {
            world.broker().status().subscriptions == 4
        })
        .await;
        client.flush().await.unwrap();
        assert_eq!(world.broker().status().subscriptions, 4);
        assert_eq!(world.broker().status().connections, 2);
        assert_eq!(client.subscriptions().await.unwrap().len(), 4);
        assert_eq!(
            publisher
                .publish_acked("n.x", next.to_string().as_bytes())
                .await,
            Ok(3)
        );
        client.flush().await.unwrap();
        tokio::time::sleep(seconds(1)).await;
        for (index, (got, subscription)) in got.iter_mut().zip(&mut subscriptions).enumerate() {
            got.extend(taken(subscription));
            assert!(
                got.is_sorted_by(|one, other| one < other),
                "{}: {got:?}",
                PATTERNS[index]
            );
            assert_eq!(got.last().copied(), (index < 3).then_some(next));
        }
    });
}

#[test]
fn requests_in_flight_end_with_an_error_of_their_own() {
    simulate(30, async |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new(seed).await;
        let (server, caller) = (world.client().await.unwrap(), world.client().await.unwrap());
        let echo = async |message: dialtone_client::Message| {
            tokio::time::sleep(millis(20)).await;
            Ok(Answer::new(
                Encoding::MessagePack,
                message.payload().clone(),
            ))
        };
        let _service = server.service("echo", "g", echo).await.unwrap();
        world.network(Manner {
            cut_after: Some(rng.random_range(200..3_000)),
            ..Manner::ideal()
        });
        let calls = (0..100_u8).map(async |number| {
            tokio::time::sleep(millis(u64::from(number) * 9)).await;
            let result = caller
                .message("echo")
                .payload(&[number])
                .timeout(seconds(60))
                .request()
                .await;
            match result {
                Ok(answer) => assert_eq!(answer.payload()[..], [number]),
                Err(
                    RequestError::Disconnected
                    | RequestError::NoSubscribers { .. }
                    | RequestError::TimedOut(_),
                ) => {}
                Err(RequestError::Publish(error)) => panic!("{error:?}"),
                Err(other) => panic!("{other:?}"),
            }
        });
        let cuts = async {
            for _ in 0..4 {
                tokio::time::sleep(millis(rng.random_range(1..300))).await;
                world.cut_all_but_first();
            }
            world.network(Manner::ideal());
            world.cut_all_but_first();
        };
        tokio::join!(futures_util::future::join_all(calls), cuts);
        until("both come back", || {
            world.broker().status().connections == 2
        })
        .await;
        let asking = async {
            loop {
                if caller.request("echo", "last").await.is_ok() {
                    break;
                }
                tokio::time::sleep(millis(100)).await;
            }
        };
        assert!(
            tokio::time::timeout(seconds(600), asking).await.is_ok(),
            "the service does not come back"
        );
    });
}

#[tokio::test(start_paused = true)]
async fn an_answer_does_not_reach_the_connection_after() -> anyhow::Result<()> {
    let world = World::new(1).await;
    let mut server = world.peer().await;
    server.subscribe("ask").await.unwrap();
    let caller = world.client().await?;
    let before = caller.inbox();
    let asking = async {
        let request = server.find(|said| match said {
            dialtone_testkit::Said::Deliver(delivered) => delivered.reply.clone(),
            _ => None,
        });
        let reply = request.await;
        world.cut_all_but_first();
        tokio::time::sleep(seconds(5)).await;
        (server.publish_acked(&reply, b"late").await, reply)
    };
    let (result, (delivered, reply)) = tokio::join!(caller.request("ask", "?"), asking);
    assert!(
        matches!(result, Err(RequestError::Disconnected)),
        "{result:?}"
    );
    assert_eq!(delivered, Ok(0));
    assert!(reply.starts_with(&before.unwrap()));
    assert!(!reply.starts_with(&caller.inbox().unwrap()));
    Ok(())
}
