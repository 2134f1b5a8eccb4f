//! Nodes of clusters on simulated links: the ways between any two of them can be slow, held in one direction or both,
//! and cut, and a node can be lost with or without a word, and come back empty and elsewhere.
//!
//! Each run of a node has an address of its own, `memory:<name>.<run>`, beside `memory:<name>`, where gateways reach
//! whichever run there is. Each node dials in a hub of its own, in which the addresses of all others lead to a [`Link`], whose far end is joined with the node that listens there:
//!
//! ```text
//!   n1 ── dials memory:n2.5 in its own hub ── relay ── Link ── relay ── dialled in the hub of n2 ── n2
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dialtone_broker::auth::open::Open;
use dialtone_broker::cluster::status::{MemberState, Status};
use dialtone_broker::cluster::{self, Gateway, Trust};
use dialtone_broker::{Broker, Config, Handle, Listen, chance};
use dialtone_protocol::frame::Credentials;
use dialtone_transport::memory::Hub;
use dialtone_transport::{Connection, DialOptions, Endpoint, ListenOptions, Listener, dial};
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::link::{Link, Manner};
use crate::peer::Peer;
use crate::relay;
use crate::world::patient;

/// How often is looked whether the nodes have come to rest.
const LOOK: Duration = Duration::from_millis(100);

/// Incarnations of runs are so far apart that a node may leave and join again in between.
const RUN_STEP: u64 = 1_000;

/// The clocks of some nodes are set back by so many runs at most when they start.
const SET_BACK_MAX: u64 = 3;

/// So many links are kept without looking which of them are over.
const WIRES_MIN: usize = 64;

/// How new ways between nodes behave: a manner for what the dialler sends, and one for what the other sends.
pub type Ways = fn(seed: u64) -> (Manner, Manner);

/// See the module.
#[derive(Debug)]
pub struct Mesh {
    net: Arc<Net>,
    nodes: BTreeMap<String, Node>,
    runs: u64,
    /// What each node's configuration is made of, beside its name and address.
    config: fn(seed: u64) -> Config,
    /// The other cluster that nodes of one hold gateways to, with the names of its nodes.
    gateways: BTreeMap<String, (String, Vec<String>)>,
}

/// A living node.
#[derive(Debug)]
struct Node {
    cluster: String,
    address: Endpoint,
    hub: Hub,
    broker: Handle,
    stop: CancellationToken,
    running: TaskTracker,
    /// What lets others reach it, by the name of the other.
    doors: BTreeMap<String, [AbortHandle; 2]>,
}

#[derive(Debug)]
struct Net {
    seed: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ways: Ways,
    made: u64,
    wires: Vec<Wire>,
    /// When so many wires there are, those that are over are taken out.
    tidy_at: usize,
    /// From whom nothing arrives at whom.
    held: BTreeMap<String, BTreeSet<String>>,
}

/// A link that one run of a node has dialled to another.
#[derive(Debug)]
struct Wire {
    from: String,
    to: String,
    link: Link,
}

/// How a node is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Its process has ended: connections are reset.
    Killed,
    /// Its machine is gone: nothing is heard of it any more.
    Vanished,
}

/// Ways that lose, delay and cut up nothing.
pub fn ideal(_seed: u64) -> (Manner, Manner) {
    (Manner::ideal(), Manner::ideal())
}

/// What [`patient`] clients need, and a cluster with its defaults.
fn defaults(_seed: u64) -> Config {
    Config {
        cluster: Some(cluster::Config::new("c", Trust::Anyone)),
        ..patient()
    }
}

impl Mesh {
    /// Without nodes. All that happens follows from the seed, as far as it happens on this thread.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, defaults)
    }

    /// As [`new`](Self::new), where nodes are configured by a function of a seed; their names, clusters and addresses
    /// are set here.
    pub fn with(seed: u64, config: fn(seed: u64) -> Config) -> Self {
        chance::fix(seed);
        let state = State {
            ways: ideal,
            made: 0,
            wires: Vec::new(),
            tidy_at: WIRES_MIN,
            held: BTreeMap::new(),
        };
        Self {
            net: Arc::new(Net {
                seed,
                state: Mutex::new(state),
            }),
            nodes: BTreeMap::new(),
            runs: 0,
            config,
            gateways: BTreeMap::new(),
        }
    }

    /// All nodes of a cluster that are started from here on hold gateways to another one, whose nodes will have these
    /// names.
    pub fn join_by_gateways(&mut self, cluster: &str, other: &str, names: &[String]) {
        let other = (other.to_owned(), names.to_vec());
        self.gateways.insert(cluster.to_owned(), other);
    }

    /// How ways behave that are made from here on.
    pub fn set_ways(&self, ways: Ways) {
        self.net.state.lock().ways = ways;
    }

    /// The names of the nodes that live.
    pub fn names(&self) -> Vec<String> {
        self.nodes.keys().cloned().collect()
    }

    /// Whether a node lives.
    pub fn lives(&self, name: &str) -> bool {
        self.nodes.contains_key(name)
    }

    /// The cluster of a node.
    ///
    /// # Panics
    /// When it does not live.
    pub fn cluster_of(&self, name: &str) -> &str {
        &self.node(name).cluster
    }

    /// A node's broker.
    ///
    /// # Panics
    /// When it does not live.
    pub fn broker(&self, name: &str) -> &Handle {
        &self.node(name).broker
    }

    /// A node's view of its cluster.
    ///
    /// # Panics
    /// When it does not live.
    pub fn status(&self, name: &str) -> Status {
        let cluster = self.node(name).broker.cluster();
        cluster.expect("every node has a cluster").status()
    }

    fn node(&self, name: &str) -> &Node {
        self.nodes.get(name).expect("the test asks for who lives")
    }

    /// Starts a node, empty and at an address where nobody was before. Its seeds are a few of the nodes of its cluster
    /// that live.
    ///
    /// # Panics
    /// When one of this name lives, or the configuration is not valid: the test's mistakes.
    pub async fn start(&mut self, cluster: &str, name: &str) {
        assert!(!self.lives(name), "{name} lives already");
        self.runs += 1;
        let hub = Hub::new();
        let address = endpoint(&format!("{name}.{}", self.runs));
        let config = self.configure(cluster, name, &hub, &address);
        let broker = Broker::bind(config, Arc::new(Open::new()))
            .await
            .expect("the test's configuration is valid");
        let mut node = Node {
            cluster: cluster.to_owned(),
            address,
            hub,
            broker: broker.handle(),
            stop: CancellationToken::new(),
            running: TaskTracker::new(),
            doors: BTreeMap::new(),
        };
        for (other_name, other) in &mut self.nodes {
            let door = open(&self.net, (other_name, &other.hub), (name, &node)).await;
            node.doors.insert(other_name.clone(), door);
            let door = open(&self.net, (name, &node.hub), (other_name, other)).await;
            other.doors.insert(name.to_owned(), door);
        }
        node.running.spawn(broker.run(node.stop.clone()));
        node.running.close();
        self.nodes.insert(name.to_owned(), node);
        tokio::task::yield_now().await;
    }

    fn configure(&self, cluster: &str, name: &str, hub: &Hub, address: &Endpoint) -> Config {
        let options = ListenOptions {
            hub: Some(hub.clone()),
            ..ListenOptions::default()
        };
        let mut config = (self.config)(self.net.seed);
        config.node = Some(name.to_owned());
        let part = config.cluster.as_mut().expect("the test makes a cluster");
        cluster.clone_into(&mut part.name);
        part.incarnation = Some(self.incarnation());
        part.listen = vec![Listen {
            endpoint: address.clone(),
            options,
        }];
        part.dial = DialOptions {
            hub: Some(hub.clone()),
            ..DialOptions::default()
        };
        let near = self.nodes.values().filter(|node| node.cluster == cluster);
        part.seeds = near.map(|node| node.address.clone()).take(3).collect();
        if let Some((other, names)) = self.gateways.get(cluster) {
            part.gateways.push(Gateway {
                name: other.clone(),
                urls: names.iter().map(|name| endpoint(name)).collect(),
                dial: None,
                secret: None,
            });
        }
        config
    }

    /// The time of day at the start of a run, in runs: later than that of most runs before, and never the same.
    fn incarnation(&self) -> u64 {
        let back = match self.net.next_seed() {
            odd if odd % 2 == 1 => (odd / 2) % (SET_BACK_MAX + 1),
            _ => 0,
        };
        let time = self.runs.saturating_sub(back) * (SET_BACK_MAX + 1) + back;
        (time + 1) * RUN_STEP
    }

    /// A node ends in good order: it tells the others, and its clients.
    ///
    /// # Panics
    /// When it does not live.
    pub async fn stop(&mut self, name: &str) {
        let node = self.nodes.remove(name).expect("the test stops who lives");
        node.stop.cancel();
        node.running.wait().await;
        self.forget_doors(name, &node);
    }

    /// A node is lost.
    ///
    /// # Panics
    /// When it does not live.
    pub fn lose(&mut self, name: &str, loss: Loss) {
        let node = self.nodes.remove(name).expect("the test loses who lives");
        self.forget_doors(name, &node);
        let mut state = self.net.state.lock();
        let (lost, kept): (Vec<Wire>, _) = std::mem::take(&mut state.wires)
            .into_iter()
            .partition(|wire: &Wire| wire.from == name || wire.to == name);
        state.wires = kept;
        drop(state);
        for wire in lost {
            match loss {
                Loss::Killed => wire.link.cut(),
                Loss::Vanished => wire.link.hold(true, true),
            }
        }
        // What is left of it talks to nobody.
        node.stop.cancel();
    }

    fn forget_doors(&mut self, name: &str, gone: &Node) {
        for door in gone.doors.values().flatten() {
            door.abort();
        }
        for other in self.nodes.values_mut() {
            for door in other.doors.remove(name).into_iter().flatten() {
                door.abort();
            }
        }
    }

    /// Every node is told the addresses of all others of its cluster, as by a look-up of names, and is in its cluster
    /// again if it had left it.
    ///
    /// # Panics
    /// When a node is in no cluster.
    pub fn discover(&self) {
        for (name, node) in &self.nodes {
            let others = self
                .nodes
                .iter()
                .filter(|(other_name, other)| *other_name != name && other.cluster == node.cluster);
            let addresses: Vec<Endpoint> = others.map(|(_, other)| other.address.clone()).collect();
            let cluster = node.broker.cluster().expect("every node has a cluster");
            cluster.set_seeds(addresses.clone());
            if let Some(address) = addresses.into_iter().next() {
                cluster.join(address);
            }
        }
    }

    /// From here on nothing that `from` sends arrives at `to`, whoever has dialled; or it does again.
    pub fn hold(&self, from: &str, to: &str, held: bool) {
        let mut state = self.net.state.lock();
        let from_there = state.held.entry(from.to_owned()).or_default();
        if held {
            from_there.insert(to.to_owned());
        } else {
            from_there.remove(to);
        }
        let is_it = |wire: &&Wire| {
            (wire.from == from && wire.to == to) || (wire.from == to && wire.to == from)
        };
        state
            .wires
            .iter()
            .filter(is_it)
            .for_each(|wire| state.hold_as_told(wire));
    }

    /// Everything arrives again.
    pub fn heal(&self) {
        let mut state = self.net.state.lock();
        state.held.clear();
        state.hold_all_as_told();
    }

    /// Cuts all connections between two nodes, which may make new ones.
    pub fn cut(&self, one: &str, other: &str) {
        let state = self.net.state.lock();
        let between = |wire: &&Wire| {
            (wire.from == one && wire.to == other) || (wire.from == other && wire.to == one)
        };
        for wire in state.wires.iter().filter(between) {
            wire.link.cut();
        }
    }

    /// Bytes that nodes have written to each other on the links that there are.
    pub fn written(&self) -> u64 {
        let state = self.net.state.lock();
        let both = state.wires.iter().map(|wire| wire.link.written());
        both.map(|(there, back)| there + back).sum()
    }

    /// A connection to a node that nobody has said hello on, and the hand on its link.
    ///
    /// # Panics
    /// When the node does not live.
    pub fn connect(&self, name: &str, manner: &Manner) -> (Connection, Link) {
        let (here, there, link) = Link::new(manner, self.net.next_seed());
        self.node(name).broker.serve(there);
        (here, link)
    }

    /// A peer at a node over an ideal link.
    ///
    /// # Panics
    /// When the node does not live, or does not welcome it.
    pub async fn peer(&self, name: &str) -> Peer {
        let (connection, _) = self.connect(name, &Manner::ideal());
        let welcome = Peer::hello(connection, Credentials::None).await;
        welcome.expect("the broker is open")
    }

    /// Waits until every node is linked with all others of its cluster and knows exactly their interest, and no count
    /// is waited for; returns how long that took.
    ///
    /// # Errors
    /// When it takes longer than `patience`: what is wrong then.
    pub async fn rest(&self, patience: Duration) -> Result<Duration, String> {
        let began = Instant::now();
        loop {
            let Some(wrong) = self.unrest() else {
                return Ok(began.elapsed());
            };
            if began.elapsed() > patience {
                return Err(wrong);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What is not as it should be in the end.
    pub fn unrest(&self) -> Option<String> {
        let views: Vec<Status> = self.nodes.keys().map(|name| self.status(name)).collect();
        views.iter().find_map(|view| {
            let same = |other: &&Status| other.cluster == view.cluster && other.node != view.node;
            let others: Vec<&Status> = views.iter().filter(same).collect();
            let gateways = usize::from(self.gateways.contains_key(&view.cluster));
            disagreement(view, &others, gateways)
        })
    }
}

fn disagreement(view: &Status, others: &[&Status], gateways: usize) -> Option<String> {
    let node = &view.node;
    for other in others {
        let mut links = view.links.iter();
        let is_it =
            |link: &&cluster::status::LinkStatus| link.node == other.node && link.gateway.is_none();
        let Some(link) = links.by_ref().find(is_it) else {
            return Some(format!(
                "{node} has no link to {}: {:?}",
                other.node, view.members
            ));
        };
        if link.interest != other.interest {
            let (known, truth) = (link.interest, other.interest);
            return Some(format!(
                "{node} knows {known:?} of {}, which is {truth:?}",
                other.node
            ));
        }
    }
    let members = view.links.iter().filter(|link| link.gateway.is_none());
    if members.count() != others.len() {
        return Some(format!("{node} has links too many: {:?}", view.links));
    }
    let linked = |member: &&cluster::status::MemberStatus| member.state == MemberState::Linked;
    if view.members.iter().filter(linked).count() != others.len() {
        return Some(format!(
            "{node} counts members too many: {:?}",
            view.members
        ));
    }
    let is_to =
        |link: &&cluster::status::LinkStatus| link.gateway.is_some() && link.direction == "dialled";
    if view.links.iter().filter(is_to).count() != gateways {
        return Some(format!("{node} has no gateway: {:?}", view.links));
    }
    (view.counts_waiting > 0).then(|| format!("{node} waits for {} counts", view.counts_waiting))
}

fn endpoint(name: &str) -> Endpoint {
    let url = format!("memory:{name}");
    url.parse().expect("names of nodes are names of endpoints")
}

/// Lets a node be reached from another one's hub, by the address of its run and by its name.
async fn open(net: &Arc<Net>, from: (&str, &Hub), to: (&str, &Node)) -> [AbortHandle; 2] {
    let by_run = open_at(&to.1.address, net, from, to).await;
    [by_run, open_at(&endpoint(to.0), net, from, to).await]
}

async fn open_at(
    at: &Endpoint,
    net: &Arc<Net>,
    (from, hub): (&str, &Hub),
    (to, node): (&str, &Node),
) -> AbortHandle {
    let options = ListenOptions {
        hub: Some(hub.clone()),
        ..ListenOptions::default()
    };
    let listener = loop {
        if let Ok(listener) = Listener::bind(at, &options).await {
            break listener;
        }
        // The door to the run before is closing.
        tokio::task::yield_now().await;
    };
    let (net, from, to) = (Arc::clone(net), from.to_owned(), to.to_owned());
    let (address, hub) = (node.address.clone(), node.hub.clone());
    let passing = async move {
        while let Ok(incoming) = listener.accept().await {
            let Ok(near) = incoming.establish().await else {
                continue;
            };
            let options = DialOptions {
                hub: Some(hub.clone()),
                ..DialOptions::default()
            };
            let Ok(far) = dial(&address, &options).await else {
                continue;
            };
            let (here, there) = net.wire(&from, &to);
            spawn(relay::join(near, here));
            spawn(relay::join(there, far));
        }
    };
    spawn(passing).abort_handle()
}

/// Tasks of a simulation end with its runtime.
#[expect(
    clippy::disallowed_methods,
    reason = "a door is aborted by its handle, and what passes through ends with both of its ends"
)]
fn spawn<F: Future<Output = ()> + Send + 'static>(task: F) -> tokio::task::JoinHandle<()> {
    tokio::spawn(task)
}

impl Net {
    fn next_seed(&self) -> u64 {
        self.state.lock().next_seed(self.seed)
    }

    /// A link from one node to another, as the network is now.
    fn wire(&self, from: &str, to: &str) -> (Connection, Connection) {
        let mut state = self.state.lock();
        let seed = state.next_seed(self.seed);
        let (there, back) = (state.ways)(seed);
        let (near, far, link) = Link::with_ways(&there, &back, seed);
        state.push(Wire {
            from: from.to_owned(),
            to: to.to_owned(),
            link,
        });
        (near, far)
    }
}

impl State {
    fn next_seed(&mut self, seed: u64) -> u64 {
        self.made += 1;
        seed.wrapping_mul(1_000_003).wrapping_add(self.made)
    }

    /// Puts in a new wire. Those that are over are looked for only when there are twice as many as after the last time:
    /// dozens of nodes that dial each other make thousands.
    fn push(&mut self, wire: Wire) {
        if self.wires.len() >= self.tidy_at {
            self.wires.retain(|wire| !wire.link.is_over());
            self.tidy_at = (2 * self.wires.len()).max(WIRES_MIN);
        }
        self.hold_as_told(&wire);
        self.wires.push(wire);
    }

    fn hold_all_as_told(&self) {
        for wire in &self.wires {
            self.hold_as_told(wire);
        }
    }

    fn hold_as_told(&self, wire: &Wire) {
        let is_held =
            |from: &str, to: &str| self.held.get(from).is_some_and(|all| all.contains(to));
        wire.link
            .hold(is_held(&wire.from, &wire.to), is_held(&wire.to, &wire.from));
    }
}
