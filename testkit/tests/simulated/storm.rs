//! Many clients and many subscriptions: what crosses the links between nodes is bounded by what changes.

#![expect(
    clippy::print_stdout,
    reason = "how much crosses the links is for who reads along"
)]

use std::time::Duration;

use dialtone_protocol::SubscriptionId;
use dialtone_protocol::frame::Wanted;
use dialtone_testkit::mesh::Loss;
use dialtone_testkit::{Manner, Mesh, Peer, Said};

use crate::{seconds, simulate};

/// How long nodes may take to agree, with a hundred thousand changes under way.
const REST_MAX: Duration = seconds(120);

/// Bytes of a storm that may cross all links for each connect and disconnect of a client with nothing but its inbox.
/// Nothing is told of it; what is left are the nodes' own questions whether they are there.
const BYTES_PER_CONNECT_MAX: u64 = 16;

async fn three_nodes(seed: u64) -> Mesh {
    let mut mesh = Mesh::new(seed);
    for name in ["c1", "c2", "c3"] {
        mesh.start("c", name).await;
    }
    mesh.discover();
    mesh.rest(REST_MAX).await.unwrap();
    mesh
}

#[test]
fn a_storm_of_clients_with_an_inbox_each_costs_other_nodes_next_to_nothing() {
    const CLIENTS: u64 = 10_000;
    simulate(1, async |seed| {
        let mesh = three_nodes(seed).await;
        let before = mesh.written();
        let mut names = mesh.names().into_iter().cycle();
        let mut here: Vec<Peer> = Vec::new();
        for _ in 0..CLIENTS {
            let name = names.next().unwrap();
            here.push(mesh.peer(&name).await);
            if here.len() == 500 {
                // An answer to each finds its way, so that inboxes are in use while others come and go.
                let reply = format!("{}.1", here[0].welcome().inbox);
                assert_eq!(here[499].publish_acked(&reply, b"answer").await, Ok(1));
                here.clear();
            }
        }
        mesh.rest(REST_MAX).await.unwrap();
        let bytes = mesh.written() - before;
        println!(
            "{CLIENTS} connects: {bytes} bytes between nodes, {} thousandths of a byte each",
            1_000 * bytes / CLIENTS
        );
        assert!(bytes <= CLIENTS * BYTES_PER_CONNECT_MAX, "{bytes} bytes");
        for name in mesh.names() {
            let interest = mesh.status(&name).interest;
            assert_eq!((interest.patterns, interest.version), (0, 0), "{name}");
        }
    });
}

/// Subscribes to `count` subjects in batches.
async fn subscribe_to_many(peer: &mut Peer, count: u32) {
    let numbers: Vec<u32> = (1..=count).collect();
    for batch in numbers.chunks(1_000) {
        let wanted = batch.iter().map(|number| Wanted {
            id: SubscriptionId(*number),
            ..Wanted::new(format!("many.{number}"))
        });
        assert_eq!(peer.subscribe_all(wanted.collect()).await, []);
    }
}

#[test]
fn a_hundred_thousand_subscriptions_reach_other_nodes_and_are_gone_with_theirs() {
    const COUNT: u32 = 100_000;
    simulate(1, async |seed| {
        let mut mesh = three_nodes(seed).await;
        let before = mesh.written();
        let mut subscriber = mesh.peer("c3").await;
        subscribe_to_many(&mut subscriber, COUNT).await;
        mesh.rest(REST_MAX).await.unwrap();
        let bytes = mesh.written() - before;
        println!(
            "{COUNT} subscriptions: {bytes} bytes between nodes, {} each",
            bytes / u64::from(COUNT)
        );
        let known = |mesh: &Mesh, name: &str| {
            let view = mesh.status(name);
            let link = view.links.iter().find(|link| link.node == "c3");
            link.map(|link| link.interest.patterns)
        };
        assert_eq!(known(&mesh, "c1"), Some(COUNT.into()));
        let mut publisher = mesh.peer("c1").await;
        for number in [1, 777, COUNT] {
            let subject = format!("many.{number}");
            assert_eq!(publisher.publish_acked(&subject, b"x").await, Ok(1));
        }
        mesh.lose("c3", Loss::Killed);
        mesh.rest(REST_MAX).await.unwrap();
        assert_eq!(known(&mesh, "c1"), None);
        assert_eq!(publisher.publish_acked("many.777", b"x").await, Ok(0));
        for name in ["c1", "c2"] {
            assert_eq!(mesh.broker(name).status().patterns, 0, "{name}");
        }
        mesh.start("c", "c3").await;
        mesh.rest(REST_MAX).await.unwrap();
        assert_eq!(known(&mesh, "c1"), Some(0));
    });
}

/// A link that takes a hundred thousand bytes a second in each direction.
fn narrow(_seed: u64) -> (Manner, Manner) {
    let way = Manner {
        bandwidth: Some(100_000),
        chunk_max: 1_500,
        capacity: 16 << 10,
        ..Manner::ideal()
    };
    (way.clone(), way)
}

#[test]
fn changes_of_interest_do_not_wait_behind_messages() {
    const MESSAGES: usize = 2_000;
    simulate(3, async |seed| {
        let mut mesh = Mesh::new(seed);
        mesh.set_ways(narrow);
        mesh.start("c", "c1").await;
        mesh.start("c", "c2").await;
        mesh.rest(REST_MAX).await.unwrap();
        let (mut publisher, mut here) = (mesh.peer("c1").await, mesh.peer("c1").await);
        let mut there = mesh.peer("c2").await;
        there.subscribe("load").await.unwrap();
        mesh.rest(REST_MAX).await.unwrap();
        // Twenty seconds of what the link takes.
        for _ in 0..MESSAGES {
            publisher.publish("load", &[7; 1_000]).await;
        }
        publisher.sync().await;
        let mut held = Vec::new();
        for number in 0..300 {
            held.push(here.subscribe(&format!("news.{number}")).await.unwrap());
        }
        here.unsubscribe(&held[..299]).await;
        let question = there.ask_interest("news.299", seconds(10)).await;
        assert_eq!(there.interested(question).await, Ok(true));
        let waiting = mesh.status("c1").links[0].pending_bytes;
        assert!(waiting > 100_000, "only {waiting} bytes wait");
        // Nothing of what waited is lost for it.
        let heard = there.listen(seconds(60)).await;
        let load = heard.iter().filter(|said| matches!(said, Said::Deliver(_)));
        assert_eq!(load.count(), MESSAGES);
        mesh.rest(REST_MAX).await.unwrap();
    });
}
