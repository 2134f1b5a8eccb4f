//! A run depends on its seed: the same simulation, run twice, leaves the same record.

use dialtone_protocol::Frame;
use dialtone_testkit::peer::{fragments, publish};
use dialtone_testkit::recorder::{Event, difference};
use dialtone_testkit::{Manner, Recorder, World};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::{millis, seconds, simulate};

async fn scene(seed: u64) -> Vec<Event> {
    let mut rng = StdRng::seed_from_u64(seed);
    let world = World::new(seed).await;
    let recorder = Recorder::new();
    let mut peers = Vec::new();
    for index in 0..4 {
        world.network(Manner::rough(seed * 4 + index));
        let (mut peer, link) = world.peer_on(&Manner::rough(seed * 4 + index)).await;
        peer.record(&recorder, &format!("peer {index}"));
        for pattern in ["a.*", "a.b", ">"].iter().take(rng.random_range(1..4)) {
            peer.subscribe(pattern).await.unwrap();
        }
        peers.push((peer, link));
    }
    for _ in 0..60 {
        let index = rng.random_range(0..peers.len());
        let payload = vec![7; rng.random_range(0..2_000)];
        let subject = ["a.b", "a.c", "b"][rng.random_range(0..3)];
        let (peer, link) = &mut peers[index];
        match rng.random_range(0..12) {
            0 => {
                for frame in fragments(1, subject, &[7; 5_000], 1_000) {
                    peer.send(&Frame::Publish(frame)).await;
                }
            }
            1 if rng.random_ratio(1, 4) => link.cut(),
            2 => drop(peer.ask_interest("a.x", millis(500)).await),
            _ => peer.send(&Frame::Publish(publish(subject, &payload))).await,
        }
        drop(peer.listen(millis(rng.random_range(0..100))).await);
    }
    let listening = peers
        .iter_mut()
        .map(async |(peer, _)| drop(peer.listen(seconds(30)).await));
    futures_util::future::join_all(listening).await;
    recorder.events()
}

#[test]
fn the_same_seed_leaves_the_same_record() {
    let records: Mutex<Vec<Vec<Event>>> = Mutex::default();
    let run = async |seed| {
        let record = scene(seed).await;
        records.lock().push(record);
    };
    simulate(8, run);
    simulate(8, run);
    let records = records.into_inner();
    let half = records.len() / 2;
    for (seed, (one, other)) in records[..half].iter().zip(&records[half..]).enumerate() {
        assert!(one.len() > 20, "seed {seed} records next to nothing");
        assert_eq!(difference(one, other), None, "seed {seed}");
    }
}
