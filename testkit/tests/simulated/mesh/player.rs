//! Clients and faults that follow from a seed.

use std::collections::BTreeMap;
use std::time::Duration;

use dialtone_protocol::Frame;
use dialtone_protocol::frame::{
    Credentials, Message, Pick, Publish, Subscribe, Unsubscribe, Wanted,
};
use dialtone_protocol::{RequestId, SubscriptionId};
use dialtone_testkit::ledger::{Asked, ClientId, Seen, ending_request};
use dialtone_testkit::mesh::Loss;
use dialtone_testkit::peer::{fragments, publish};
use dialtone_testkit::{Ledger, Link, Manner, Mesh, Peer, Recorder};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, IteratorRandom as _};
use rand::{RngExt as _, SeedableRng as _};

use crate::{millis, seconds};

/// When nothing is heard for so long, nothing is under way: longer than anything that a node waits for before it
/// answers.
const QUIET: Duration = seconds(8);

/// How long it may take until all nodes are linked and agree once everything arrives again: a link that was held is
/// found dead after `ping_interval + pong_max`, a handshake that hangs ends after `handshake_max`, and a node is dialled
/// again after `redial_max` at the latest, all with their defaults; and the same once more, because a first link may
/// be one whose other end is dead.
pub(super) const REST_MAX: Duration = seconds(2 * (5 + 10 + 10 + 15));

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

    /// Plays everything; what was seen, and the longest time until rest.
    pub(super) async fn play(&mut self) -> Result<(Seen, Duration), String> {
        for _ in 0..self.plan.rounds {
            for _ in 0..self.plan.faults {
                self.disturb().await?;
            }
            self.rest().await?;
            let before = self.faults_seen();
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
            let after = self.faults_seen();
            if before != after {
                return Err(format!(
                    "a calm is none: {before:?} before, {after:?} after"
                ));
            }
        }
        Ok((self.ledger.check()?, self.longest_rest))
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
        let node = node.to_owned();
        self.clients.insert(id, Live { node, peer, link });
    }

    /// One fault, or something that clients do.
    async fn disturb(&mut self) -> Result<(), String> {
        let names = self.mesh.names();
        let [one, other] =
            [0, 1].map(|_| names.choose(&mut self.rng).expect("a node lives").clone());
        match self.rng.random_range(0..40) {
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
            15..20 => {
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
        self.mesh.lose(name, loss);
        self.lose_clients_of(name);
    }

    async fn stop(&mut self, name: &str) {
        if self.has_neighbours(name) {
            self.lose_clients_of(name);
            self.mesh.stop(name).await;
        }
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

    /// A client does something, without waiting for an answer.
    async fn act(&mut self, calm: bool) {
        let Some(id) = self.clients.keys().copied().choose(&mut self.rng) else {
            return;
        };
        let mut bytes = Vec::new();
        for _ in 0..self.rng.random_range(1..6) {
            match self.rng.random_range(0..12) {
                0 | 1 => self.subscribe(id, &mut bytes),
                2 => self.unsubscribe(id, &mut bytes),
                3 => self.publish_large(id, &mut bytes),
                4 => self.request(id, &mut bytes),
                _ => self.publish(id, &mut bytes),
            }
        }
        if calm && self.rng.random_ratio(1, 12) {
            let names = self.mesh.names();
            let node = names.choose(&mut self.rng).expect("a node lives").clone();
            self.arrive(&node).await;
        }
        self.send(id, &bytes).await;
    }

    async fn send(&mut self, id: ClientId, bytes: &[u8]) {
        if let Some(live) = self.clients.get_mut(&id) {
            live.peer.send_bytes(bytes).await;
        }
    }

    fn number(&mut self, id: ClientId) -> u32 {
        self.clients
            .get_mut(&id)
            .map_or(0, |live| live.peer.number())
    }

    fn subscribe(&mut self, id: ClientId, bytes: &mut Vec<u8>) {
        let number = self.number(id);
        let wanted = self.wanted(number);
        self.ledger.subscribe(id, wanted.clone());
        let request = RequestId(number);
        let wanted = vec![wanted];
        Frame::Subscribe(Subscribe { request, wanted }).encode(bytes);
    }

    fn wanted(&mut self, number: u32) -> Wanted {
        let rng = &mut self.rng;
        let group = rng
            .random_ratio(2, 5)
            .then(|| *["g", "h"].choose(rng).expect("some"));
        let tap = group.is_none() && rng.random_ratio(1, 5);
        let pick = if rng.random_ratio(1, 4) {
            Pick::Segment(0)
        } else {
            Pick::Any
        };
        let pattern = *["a.b", "a.c", "a.*", "*.b", "b.>", ">", "b.c"]
            .choose(rng)
            .expect("some");
        Wanted {
            id: SubscriptionId(number),
            group: group.map(str::to_owned),
            tap,
            pick,
            ..Wanted::new(pattern)
        }
    }

    fn unsubscribe(&mut self, id: ClientId, bytes: &mut Vec<u8>) {
        let held = self.ledger.held_by(id);
        let Some(&ended) = held.choose(&mut self.rng) else {
            return;
        };
        self.ledger.unsubscribe(id, ended);
        let request = ending_request(ended);
        let ids = vec![ended];
        Frame::Unsubscribe(Unsubscribe { request, ids }).encode(bytes);
    }

    fn subject(&mut self) -> &'static str {
        ["a.b", "a.c", "b.b", "b.c", "b.c.d", "c"]
            .choose(&mut self.rng)
            .expect("some")
    }

    fn publish(&mut self, id: ClientId, bytes: &mut Vec<u8>) {
        let subject = self.subject();
        let request = self
            .rng
            .random_ratio(1, 2)
            .then(|| RequestId(self.number(id)));
        let message = self.ledger.publish(id, subject, request, 1, false);
        let payload = message.to_le_bytes();
        Frame::Publish(Publish {
            request,
            ..publish(subject, &payload)
        })
        .encode(bytes);
    }

    fn publish_large(&mut self, id: ClientId, bytes: &mut Vec<u8>) {
        let subject = self.subject();
        let parts = self.rng.random_range(2..5_u32);
        let number = self.number(id);
        let request = self.rng.random_ratio(1, 2).then_some(RequestId(number));
        let message = self.ledger.publish(id, subject, request, parts, false);
        let payload = message.to_le_bytes().repeat(100 * parts as usize);
        let mut frames = fragments(number.into(), subject, &payload, 800);
        if let Some(last) = frames.last_mut() {
            last.request = request;
        }
        for frame in frames {
            Frame::Publish(frame).encode(bytes);
        }
    }

    fn request(&mut self, id: ClientId, bytes: &mut Vec<u8>) {
        let subject = self.subject();
        let number = self.number(id);
        let Some(live) = self.clients.get(&id) else {
            return;
        };
        let reply = format!("{}.{number}", live.peer.welcome().inbox);
        let message = self.ledger.publish(id, subject, None, 1, true);
        let payload = message.to_le_bytes();
        let frame = Publish {
            message: Message {
                reply: Some(&reply),
                ..publish(subject, &payload).message
            },
            ..publish(subject, &payload)
        };
        Frame::Publish(frame).encode(bytes);
    }

    async fn answer(&mut self, asked: Asked) {
        let request = Some(RequestId(self.number(asked.client)));
        let message = self
            .ledger
            .publish(asked.client, &asked.reply, request, 1, false);
        let payload = message.to_le_bytes();
        let frame = Frame::Publish(Publish {
            request,
            ..publish(&asked.reply, &payload)
        });
        self.send(asked.client, &frame.to_vec()).await;
    }

    /// Listens to all clients; whether anything was said.
    async fn listen(&mut self, length: Duration) -> Result<bool, String> {
        let listening = self
            .clients
            .iter_mut()
            .map(async |(id, live)| (*id, live.peer.listen(length).await));
        let mut asked = Vec::new();
        let mut heard = false;
        for (id, said) in join_all(listening).await {
            for said in said {
                heard = true;
                asked.extend(self.ledger.hear(id, said)?);
            }
        }
        // Who is over has let the time pass at once.
        tokio::time::sleep(length.min(millis(1))).await;
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
            if !self.listen(QUIET).await? {
                return Ok(());
            }
        }
        Err("the clients are never quiet".to_owned())
    }
}
