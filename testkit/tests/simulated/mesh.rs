//! Clusters under faults, against what must hold: see `dialtone_testkit::ledger`.
//!
//! `DIALTONE_SEEDS=1000 cargo nextest run -p dialtone-testkit mesh` plays a thousand seeds of each.

#![expect(
    clippy::print_stdout,
    reason = "how much was played is for who reads along"
)]

use dialtone_broker::Config;
use dialtone_broker::cluster::{self, Trust};
use dialtone_testkit::recorder::{Event, difference};
use dialtone_testkit::world::patient;
use dialtone_testkit::{Manner, Mesh, Recorder};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::{millis, seconds, simulate, simulate_one};

mod player;
use player::{Plan, Played, Player};

/// Ways between nodes of all kinds, each direction with a manner of its own.
fn roads(seed: u64) -> (Manner, Manner) {
    let rng = &mut StdRng::seed_from_u64(seed);
    (road(rng), road(rng))
}

fn road(rng: &mut StdRng) -> Manner {
    if rng.random_ratio(1, 3) {
        return Manner::ideal();
    }
    let chunk_max = *[200, 1_500, 64 << 10].choose(rng).expect("some");
    Manner {
        delay_max: millis(*[0, 1, 40, 250].choose(rng).expect("some")),
        chunk_max,
        capacity: *[16 << 10, 256 << 10].choose(rng).expect("some"),
        bandwidth: *[None, None, Some(40_000)].choose(rng).expect("some"),
        stall_every: if chunk_max < 1_500 { 0 } else { 30 },
        stall: millis(rng.random_range(1..900)),
        cut_after: None,
    }
}

/// Nodes that remember few changes of interest, some of them.
fn forgetful(seed: u64) -> Config {
    let mut part = cluster::Config::new("c", Trust::Anyone);
    part.changes_max = [1, 3, 1 << 17][index(seed) % 3];
    if floods(seed) {
        part.outbox.high_bytes = 32 << 10;
        part.outbox.low_bytes = 16 << 10;
        part.outbox.max_bytes = 96 << 10;
    }
    Config {
        cluster: Some(part),
        drain_grace: seconds(1),
        ..patient()
    }
}

/// Whether links take little, and more is published at times.
fn floods(seed: u64) -> bool {
    seed % 4 == 1
}

async fn player(seed: u64, plan: Plan) -> Player {
    let mesh = Mesh::with(seed, forgetful);
    if !seed.is_multiple_of(3) {
        mesh.set_ways(roads);
    }
    Player::new(seed, mesh, plan).await
}

async fn play(seed: u64, plan: Plan) -> Played {
    let mut player = player(seed, plan).await;
    let played = player
        .play()
        .await
        .unwrap_or_else(|wrong| panic!("{wrong}"));
    let seen = played.seen;
    assert!(
        seen.calm > 20 && seen.crossed > 20 && seen.acknowledged > 20,
        "next to nothing happens: {seen:?}"
    );
    played
}

fn plan(nodes: usize, seed: u64) -> Plan {
    Plan {
        clusters: vec![("c", nodes)],
        clients: 2,
        rounds: 2,
        faults: 60,
        calm: 40,
        floods: floods(seed),
    }
}

#[test]
fn a_few_nodes_under_faults_agree_with_what_must_hold() {
    let all: Mutex<Vec<Played>> = Mutex::default();
    simulate(60, async |seed| {
        let played = play(seed, plan(3 + index(seed) % 5, seed)).await;
        all.lock().push(played);
    });
    let all = all.into_inner();
    let sum = |count: fn(&Played) -> u64| all.iter().map(count).sum::<u64>();
    let questions = sum(|played| played.seen.questions as u64);
    let drained = sum(|played| played.seen.drained as u64);
    let overflowed = sum(|played| played.overflowed);
    let longest = all.iter().map(|played| played.rest).max();
    println!(
        "{questions} questions, {drained} clients of draining nodes, {overflowed} links overflowed, {longest:?} to rest"
    );
    if all.len() >= 20 {
        assert!(
            questions > 0 && drained > 0 && overflowed > 0,
            "{questions} questions, {drained} clients of draining nodes, {overflowed} links overflowed"
        );
    }
}

/// From 20 to 50 of them: 20, 50, 49 and so on down.
#[test]
fn many_nodes_under_faults_agree_with_what_must_hold() {
    let all: Mutex<Vec<(usize, Played)>> = Mutex::default();
    simulate(2, async |seed| {
        let nodes = 20 + index(seed) * 30 % 31;
        let plan = Plan {
            clients: 1,
            rounds: 1,
            ..plan(nodes, seed)
        };
        let played = play(seed, plan).await;
        all.lock().push((nodes, played));
    });
    let all = all.into_inner();
    let sum =
        |count: fn(&Played) -> usize| all.iter().map(|(_, played)| count(played)).sum::<usize>();
    println!(
        "{} clusters with {} nodes, {} messages of calms, {} of them from node to node, {} acknowledged, {:?} to rest",
        all.len(),
        all.iter().map(|(nodes, _)| nodes).sum::<usize>(),
        sum(|played| played.seen.calm),
        sum(|played| played.seen.crossed),
        sum(|played| played.seen.acknowledged),
        all.iter().map(|(_, played)| played.rest).max(),
    );
}

async fn scene(seed: u64) -> Vec<Event> {
    let recorder = Recorder::new();
    let mut player = player(seed, plan(4, seed)).await;
    player.record(&recorder);
    player
        .play()
        .await
        .unwrap_or_else(|wrong| panic!("{wrong}"));
    recorder.events().into_iter().map(without_secrets).collect()
}

/// Inboxes hold secrets, which no seed may decide.
fn without_secrets(event: Event) -> Event {
    let is_hex = |text: &str| text.len() == 32 && text.chars().all(|c| c.is_ascii_hexdigit());
    let words = event
        .what
        .split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    let masked = words.map(|word| {
        let text = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        if is_hex(text) { "secret" } else { word }
    });
    let what = masked.collect();
    Event { what, ..event }
}

#[test]
fn the_same_seed_plays_the_same_faults_and_leaves_the_same_record() {
    let records: Mutex<Vec<Vec<Event>>> = Mutex::default();
    let run = async |seed| {
        let record = scene(seed).await;
        records.lock().push(record);
    };
    simulate(4, run);
    simulate(4, run);
    let records = records.into_inner();
    let half = records.len() / 2;
    for (seed, (one, other)) in records[..half].iter().zip(&records[half..]).enumerate() {
        assert!(one.len() > 100, "seed {seed} records next to nothing");
        assert_eq!(difference(one, other), None, "seed {seed}");
    }
}

#[test]
fn two_clusters_with_gateways_under_faults_agree_with_what_must_hold() {
    simulate(20, play_two_clusters);
}

/// The seed that has shown that a node answered a question for a count with the receivers of another publisher's message,
/// which had come between the two.
#[test]
fn the_seed_with_a_count_of_another_message_agrees_with_what_must_hold() {
    simulate_one(476, play_two_clusters);
}

async fn play_two_clusters(seed: u64) {
    let mut mesh = Mesh::with(seed, forgetful);
    let names = |cluster: &str, count: usize| {
        (1..=count)
            .map(|n| format!("{cluster}{n}"))
            .collect::<Vec<_>>()
    };
    let far = 2 + index(seed) % 2;
    mesh.join_by_gateways("c", "d", &names("d", far));
    mesh.join_by_gateways("d", "c", &names("c", 2));
    if !seed.is_multiple_of(3) {
        mesh.set_ways(roads);
    }
    let plan = Plan {
        clusters: vec![("c", 2), ("d", far)],
        ..plan(0, seed)
    };
    let mut player = Player::new(seed, mesh, plan).await;
    let played = player
        .play()
        .await
        .unwrap_or_else(|wrong| panic!("{wrong}"));
    let seen = played.seen;
    assert!(
        seen.calm > 20 && seen.crossed > 20,
        "next to nothing happens: {seen:?}"
    );
}

/// A seed as a number to choose with.
fn index(seed: u64) -> usize {
    usize::try_from(seed % 1_000).unwrap()
}
