//! Clients and faults that follow from a seed.

use std::collections::BTreeMap;
use std::time::Duration;

use dialtone_protocol::frame::Credentials;
use dialtone_testkit::ledger::{ClientId, Seen};
use dialtone_testkit::mesh::Loss;
use dialtone_testkit::{Ledger, Link, Manner, Mesh, Peer, Recorder};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, IteratorRandom as _};
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use crate::{millis, seconds};

mod acts;

/// When nothing is heard for so long, nothing is under way: longer than anything that a node waits for before it
/// answers.
const QUIET: Duration = seconds(8);

/// How long it may take until all nodes are linked and agree once everything arrives again: a link that was held is
/// found dead after `ping_interval + pong_max`, a handshake that hangs ends after `handshake_max`, and a node is dialled
/// again after `redial_max` at the latest, all with their defaults; and the same once more, because a first link may
/// be one whose other end is dead.
pub(super) const REST_MAX: Duration = seconds(2 * (2 + 5 + 10 + 15));

/// What is played.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The nodes of each cluster.
    pub(super) clusters: Vec<(&'static str, usize)>,
    /// Clients that there are at the beginning, for each node.
    pub(super) clients: usize,
    /// Times of faults, each followed by rest and a calm.
    pub(super) rounds: usize,
    /// What is done in each time of faults.
    pub(super) faults: usize,
    /// What is done in each calm.
    pub(super) calm: usize,
    /// Whether more is published at times than links take.
    pub(super) floods: bool,
}

/// See the module.
pub(super) struct Player {
    plan: Plan,
    pub(super) mesh: Mesh,
    ledger: Ledger,
    rng: StdRng,
    clients: BTreeMap<ClientId, Live>,
    recorder: Option<Recorder>,
    longest_rest: Duration,
    /// Links that were closed because a node did not take what waited for it, at nodes that have gone.
    overflowed: u64,
}

/// What a play has shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Played {
    pub(super) seen: Seen,
    /// The longest time until rest.
    pub(super) rest: Duration,
    /// Links that were closed because a node did not take what waited for it.
    pub(super) overflowed: u64,
}

struct Live {
    node: String,
    peer: Peer,
    link: Link,
}

impl Player {
    pub(super) async fn new(seed: u64, mesh: Mesh, plan: Plan) -> Self {
        let mut player = Self {
            plan,
            mesh,
            ledger: Ledger::default(),
            rng: StdRng::seed_from_u64(seed),
            clients: BTreeMap::new(),
            recorder: None,
            longest_rest: Duration::ZERO,
            overflowed: 0,
        };
        player.start_missing().await;
        for _ in 0..player.plan.clients {
            for node in player.mesh.names() {
                player.arrive(&node).await;
            }
        }
        player
    }

    pub(super) fn record(&mut self, recorder: &Recorder) {
        for (id, live) in &mut self.clients {
            live.peer.record(recorder, &format!("client {id}"));
        }
        self.recorder = Some(recorder.clone());
    }

    /// Plays everything.
    pub(super) async fn play(&mut self) -> Result<Played, String> {
        for _ in 0..self.plan.rounds {
            for _ in 0..self.plan.faults {
                self.disturb().await?;
            }
            self.rest().await?;
            let before = self.faults_seen();
            tracing::debug!("a calm begins");
            self.ledger.calm_begins();
            for _ in 0..self.plan.calm {
                self.act(true).await;
                if self.rng.random_ratio(1, 3) {
                    let length = millis(self.rng.random_range(0..200));
                    self.listen(length).await?;
                }
            }
            self.until_quiet().await?;
            self.ledger.calm_ends();
            tracing::debug!("the calm ends");
            let after = self.faults_seen();
            if before != after {
                return Err(format!(
                    "a calm is none: {before:?} before, {after:?} after"
                ));
            }
        }
        for name in self.mesh.names() {
            self.note_overflows(&name);
        }
        Ok(Played {
            seen: self.ledger.check()?,
            rest: self.longest_rest,
            overflowed: self.overflowed,
        })
    }

    /// What a node knows goes with it.
    fn note_overflows(&mut self, name: &str) {
        self.overflowed += self.mesh.status(name).links_overflowed_total;
    }

    /// What grows with faults only, for each node: links that were made, acknowledgements without the count of a node,
    /// messages that were dropped, and views of interest that were found wrong.
    fn faults_seen(&self) -> Vec<(String, [u64; 4])> {
        let names = self.mesh.names().into_iter();
        let seen = names.map(|name| {
            let view = self.mesh.status(&name);
            let dropped = view.links.iter().map(|link| link.dropped_in).sum();
            let resyncs = view.links.iter().map(|link| link.resyncs).sum();
            let (made, missed) = (view.links_total, view.counts_missed_total);
            (name, [made, missed, dropped, resyncs])
        });
        seen.collect()
    }

    /// Ends all faults and waits until the nodes agree.
    async fn rest(&mut self) -> Result<(), String> {
        tracing::debug!("all faults end");
        self.mesh.heal();
        self.start_missing().await;
        self.mesh.discover();
        let took = self.mesh.rest(REST_MAX).await?;
        self.longest_rest = self.longest_rest.max(took);
        self.until_quiet().await?;
        // A handshake that began before may give another link the place of one that there is.
        self.listen(seconds(12)).await?;
        // What was still under way may have begun or ended subscriptions.
        self.mesh.rest(REST_MAX).await?;
        if self.plan.clusters.len() > 1 {
            // Other clusters are told of what was gathered, and compare it.
            self.listen(seconds(15)).await?;
        }
        let nodes = self.mesh.names();
        let empty = |node: &&String| !self.is_anybody_at(node);
        let empty: Vec<String> = nodes.iter().filter(empty).cloned().collect();
        for node in empty {
            self.arrive(&node).await;
        }
        Ok(())
    }

    fn is_anybody_at(&self, node: &str) -> bool {
        self.clients.values().any(|live| live.node == node)
    }

    async fn start_missing(&mut self) {
        let all = self.plan.clusters.clone();
        for (cluster, count) in all {
            for number in 1..=count {
                let name = format!("{cluster}{number}");
                if !self.mesh.lives(&name) {
                    self.mesh.start(cluster, &name).await;
                }
            }
        }
    }

    async fn arrive(&mut self, node: &str) {
        let manner = match self.rng.random_range(0..3) {
            0 => Manner {
                delay_max: millis(self.rng.random_range(1..40)),
                chunk_max: 700,
                ..Manner::ideal()
            },
            _ => Manner::ideal(),
        };
        let (connection, link) = self.mesh.connect(node, &manner);
        let Ok(mut peer) = Peer::hello(connection, Credentials::None).await else {
            // A node that drains welcomes nobody.
            return;
        };
        let id = self
            .ledger
            .arrive(node, &format!("{}.", peer.welcome().inbox));
        if let Some(recorder) = &self.recorder {
            peer.record(recorder, &format!("client {id}"));
        }
        tracing::debug!(client = id, node, "arrived");
        let node = node.to_owned();
        self.clients.insert(id, Live { node, peer, link });
    }

    /// One fault, or something that clients do.
    async fn disturb(&mut self) -> Result<(), String> {
        let names = self.mesh.names();
        let [one, other] =
            [0, 1].map(|_| names.choose(&mut self.rng).expect("a node lives").clone());
        let what = self.rng.random_range(0..44);
        tracing::debug!(what, one, other, "disturb");
        match what {
            0 | 1 => self.mesh.cut(&one, &other),
            2 | 3 => self.mesh.hold(&one, &other, true),
            4 => {
                self.mesh.hold(&one, &other, true);
                self.mesh.hold(&other, &one, true);
            }
            5 => self.part(),
            6 => self.mesh.heal(),
            7 | 8 => self.lose(&one),
            9 => self.start_missing().await,
            10 => self.stop(&one).await,
            11 => self.leave(&one),
            12 => {
                self.drop_client();
            }
            13 | 14 => self.arrive(&one).await,
            15 => self.drain(&one).await?,
            16 | 17 if self.plan.floods => self.flood().await,
            18..24 => {
                let length = *[1, 50, 300, 2_000, 9_000, 20_000]
                    .choose(&mut self.rng)
                    .expect("some");
                let length = millis(self.rng.random_range(0..length));
                self.listen(length).await?;
            }
            _ => self.act(false).await,
        }
        Ok(())
    }

    /// Parts the nodes in two that do not hear each other.
    fn part(&mut self) {
        let names = self.mesh.names();
        let near: Vec<bool> = names.iter().map(|_| self.rng.random()).collect();
        for (one, is_near) in names.iter().zip(&near) {
            for (other, is_other_near) in names.iter().zip(&near) {
                if is_near != is_other_near {
                    self.mesh.hold(one, other, true);
                }
            }
        }
    }

    /// A node is lost, unless it is the last of its cluster.
    fn lose(&mut self, name: &str) {
        if !self.has_neighbours(name) {
            return;
        }
        let loss = *[Loss::Killed, Loss::Vanished]
            .choose(&mut self.rng)
            .expect("some");
        self.note_overflows(name);
        self.mesh.lose(name, loss);
        self.lose_clients_of(name);
    }

    async fn stop(&mut self, name: &str) {
        if self.has_neighbours(name) {
            self.lose_clients_of(name);
            self.note_overflows(name);
            self.mesh.stop(name).await;
        }
    }

    /// A node tells its clients to leave, who stay until it says goodbye, while everybody goes on.
    async fn drain(&mut self, name: &str) -> Result<(), String> {
        if !self.has_neighbours(name) {
            return Ok(());
        }
        self.mesh.broker(name).drain();
        for _ in 0..self.rng.random_range(1..12) {
            self.act(false).await;
            let length = millis(self.rng.random_range(0..150));
            self.listen(length).await?;
        }
        self.note_overflows(name);
        self.mesh.stop(name).await;
        // What the node has said last is still on its way to those who are far from it.
        while self.is_anybody_at(name) {
            self.listen(millis(100)).await?;
        }
        Ok(())
    }

    fn has_neighbours(&self, name: &str) -> bool {
        let cluster = self.mesh.cluster_of(name);
        let names = self.mesh.names();
        names
            .iter()
            .filter(|other| self.mesh.cluster_of(other) == cluster)
            .count()
            > 1
    }

    fn lose_clients_of(&mut self, name: &str) {
        for (id, live) in &self.clients {
            if live.node == name {
                self.ledger.lose(*id);
                live.link.cut();
            }
        }
        self.clients.retain(|_, live| live.node != name);
    }

    fn leave(&self, name: &str) {
        let cluster = self.mesh.broker(name).cluster();
        cluster.expect("every node has a cluster").leave();
    }

    fn drop_client(&mut self) {
        let Some(id) = self.clients.keys().copied().choose(&mut self.rng) else {
            return;
        };
        self.ledger.lose(id);
        if let Some(live) = self.clients.remove(&id) {
            live.link.cut();
        }
    }

    /// Listens to all clients; whether anything was said.
    async fn listen(&mut self, length: Duration) -> Result<bool, String> {
        // Long enough for the brokers to notice who has gone.
        let until = Instant::now() + length.max(millis(1));
        let listening = self
            .clients
            .iter_mut()
            .map(async |(id, live)| (*id, live.peer.listen(length).await));
        let mut asked = Vec::new();
        let mut heard = false;
        for (id, said) in join_all(listening).await {
            for said in said {
                tracing::debug!(client = id, ?said, "heard");
                heard = true;
                asked.extend(self.ledger.hear(id, said)?);
            }
        }
        // Who is over, or where there is nobody, has let the time pass at once.
        tokio::time::sleep_until(until).await;
        for (id, live) in &self.clients {
            if live.peer.is_over() {
                self.ledger.lose(*id);
            }
        }
        self.clients.retain(|_, live| !live.peer.is_over());
        self.ledger.notice_lost();
        for asked in asked {
            if self.clients.contains_key(&asked.client) {
                self.answer(asked).await;
            }
        }
        Ok(heard)
    }

    async fn until_quiet(&mut self) -> Result<(), String> {
        for _ in 0..1_000 {
            if !self.listen(QUIET).await? && !self.ledger.awaits_answers() {
                return Ok(());
            }
        }
        Err("the clients are never quiet".to_owned())
    }
}
