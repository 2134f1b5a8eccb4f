//! Draining: everybody is told, everything works until the end, what is due is written, and the broker does end.

use std::sync::Arc;

use dialtone_broker::Config;
use dialtone_broker::auth::Permissions;
use dialtone_protocol::frame::handshake::MAGIC;
use dialtone_protocol::frame::{Credentials, Hello};
use dialtone_protocol::{Code, Frame};
use dialtone_testkit::peer::{NotWelcome, publish};
use dialtone_testkit::providers::Scripted;
use dialtone_testkit::world::patient;
use dialtone_testkit::{Manner, Peer, Said, World};
use tokio::time::Instant;

use crate::{millis, seconds, simulate};

fn graceful() -> Config {
    let advertise = vec!["wss://elsewhere.example:4443/".to_owned()];
    Config {
        drain_grace: seconds(30),
        advertise,
        ..patient()
    }
}

#[test]
fn everybody_is_told_and_closed_when_the_grace_is_over() {
    simulate(10, async |seed| {
        let world = World::open(seed, graceful()).await;
        world.network(Manner::rough(seed));
        let (mut one, mut other) = (world.peer().await, world.peer().await);
        one.subscribe("a").await.unwrap();
        let began = Instant::now();
        world.broker().drain();
        let drain = one
            .find(|said| {
                if let Said::Drain(drain) = said {
                    Some(drain.clone())
                } else {
                    None
                }
            })
            .await;
        assert_eq!(
            (drain.addresses, drain.grace_ms),
            (vec!["wss://elsewhere.example:4443/".to_owned()], 30_000)
        );
        // Until the end everything works as before.
        assert_eq!(other.publish_acked("a", b"x").await, Ok(1));
        assert!(
            one.sync()
                .await
                .iter()
                .any(|said| matches!(said, Said::Deliver(_)))
        );
        let late = Peer::hello(world.connect(), Credentials::None).await;
        assert!(matches!(late, Err(NotWelcome::Closed(close)) if close.code == Code::Draining));
        let (one, other) = tokio::join!(one.closed(), other.closed());
        assert_eq!(one.map(|close| close.code), Some(Code::Draining));
        assert_eq!(other.map(|close| close.code), Some(Code::Draining));
        world.ended().await;
        let took = began.elapsed();
        assert!((30_000..35_000).contains(&took.as_millis()), "{took:?}");
    });
}

#[test]
fn a_broker_ends_at_once_when_everybody_has_left() {
    simulate(1, async |seed| {
        let world = World::open(seed, graceful()).await;
        let peers = (world.peer().await, world.peer().await);
        world.broker().drain();
        tokio::time::sleep(seconds(1)).await;
        drop(peers);
        let began = Instant::now();
        world.ended().await;
        assert!(began.elapsed() < seconds(1), "{:?}", began.elapsed());
    });
}

#[test]
fn what_is_due_is_written_before_the_end() {
    simulate(5, async |seed| {
        let world = World::open(
            seed,
            Config {
                drain_grace: seconds(1),
                ..patient()
            },
        )
        .await;
        let slow = Manner {
            bandwidth: Some(100_000),
            capacity: 4_096,
            ..Manner::ideal()
        };
        let (mut subscriber, _link) = world.peer_on(&slow).await;
        subscriber.subscribe("a").await.unwrap();
        let mut publisher = world.peer().await;
        for _ in 0..300 {
            publisher
                .send(&Frame::Publish(publish("a", &[0; 1_000])))
                .await;
        }
        publisher.sync().await;
        world.broker().drain();
        // Three seconds of bytes are due, of which one second's fit into the grace and the rest into the goodbye.
        let said = subscriber.listen_to_the_end().await;
        assert_eq!(
            said.iter()
                .filter(|said| matches!(said, Said::Deliver(_)))
                .count(),
            300
        );
        assert!(matches!(said.last(), Some(Said::Close(close)) if close.code == Code::Draining));
        drop(publisher);
        world.ended().await;
    });
}

#[test]
fn a_broker_ends_though_a_peer_never_reads() {
    simulate(1, async |seed| {
        let world = World::open(
            seed,
            Config {
                drain_grace: seconds(1),
                ..patient()
            },
        )
        .await;
        let (mut deaf, _link) = world
            .peer_on(&Manner {
                capacity: 1_024,
                ..Manner::ideal()
            })
            .await;
        deaf.subscribe("a").await.unwrap();
        let mut publisher = world.peer().await;
        publisher
            .publish_acked("a", &vec![0; 50_000])
            .await
            .unwrap();
        drop(publisher);
        let took = world.stop().await;
        assert!(took < seconds(10), "{took:?}");
    });
}

#[test]
fn a_broker_ends_though_a_peer_is_in_the_middle_of_its_handshake() {
    simulate(1, async |seed| {
        let world = World::open(
            seed,
            Config {
                drain_grace: seconds(1),
                ..patient()
            },
        )
        .await;
        // Connected before the drain begins, but says hello only when the grace is over.
        let connection = world.connect();
        tokio::task::yield_now().await;
        tokio::time::sleep(millis(10)).await;
        let begin = async {
            tokio::time::sleep(seconds(3)).await;
            let hello = Hello {
                magic: MAGIC,
                version_min: 1,
                version_max: 1,
                client: String::new(),
                credentials: Credentials::None,
            };
            let peer = Peer::begin(connection, &Frame::Hello(hello).to_vec()).await;
            match peer {
                Ok(mut peer) => peer.closed().await,
                Err(NotWelcome::Closed(close)) => Some(close),
                Err(NotWelcome::Ended) => None,
            }
        };
        let (took, close) = tokio::join!(world.stop(), begin);
        assert!(took < seconds(20), "{took:?}");
        assert_eq!(close.map(|close| close.code), Some(Code::Draining));
    });
}

#[test]
fn a_broker_ends_though_a_provider_never_answers() {
    simulate(1, async |seed| {
        let provider = Scripted::new(seed, seconds(0));
        provider.user("ann", Permissions::Ask);
        let config = Config {
            drain_grace: seconds(1),
            ..patient()
        };
        let world = World::with(seed, config, Arc::new(provider.clone())).await;
        let mut ann = world.user("ann").await.unwrap();
        provider.delay(seconds(1_000_000));
        ann.publish("a", b"x").await;
        tokio::time::sleep(millis(1)).await;
        let took = world.stop().await;
        assert!(took < seconds(60), "{took:?}");
    });
}
