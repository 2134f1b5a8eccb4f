//! Several brokers in one process, linked through names in a hub: clusters without faults of the
//! network.

use std::sync::Arc;
use std::time::Duration;

use dialtone_broker::auth::open::Open;
use dialtone_broker::cluster::status::{MemberState, Status};
use dialtone_broker::cluster::{self, Trust};
use dialtone_broker::{Broker, Config, Handle, Listen};
use dialtone_protocol::frame::Credentials;
use dialtone_transport::memory::{Hub, pair};
use dialtone_transport::{DialOptions, ListenOptions};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::peer::Peer;
use crate::world::patient;

/// How often is looked whether the cluster has come to rest.
const LOOK: Duration = Duration::from_millis(20);

/// Bytes that a pipe to a client holds.
const PIPE_LEN: usize = 256 << 10;

/// After so many looks it never will.
const LOOKS_MAX: usize = 30_000;

/// Several brokers that reach each other by name.
#[derive(Debug, Default)]
pub struct Fleet {
    hub: Hub,
    nodes: Vec<Node>,
    runs: u64,
}

/// One of them.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// The broker.
    pub broker: Handle,
    /// Ends it in good order.
    pub stop: CancellationToken,
    /// What runs for it; empty once it has ended.
    pub running: TaskTracker,
}

/// What a node of a cluster is set up with, beside what the fleet knows: its cluster is `cluster`,
/// and it is reached at `memory:<name>`.
///
/// # Panics
/// When a name is none of an endpoint.
pub fn member(hub: &Hub, cluster: &str, name: &str, seeds: &[&str]) -> Config {
    let options = ListenOptions {
        hub: Some(hub.clone()),
        ..ListenOptions::default()
    };
    let named = |name: &str| {
        format!("memory:{name}")
            .parse()
            .expect("the name of a node is the name of an endpoint")
    };
    let mut config = cluster::Config::new(cluster, Trust::Anyone);
    config.listen = vec![Listen {
        endpoint: named(name),
        options,
    }];
    config.seeds = seeds.iter().map(|seed| named(seed)).collect();
    config.dial = DialOptions {
        hub: Some(hub.clone()),
        ..DialOptions::default()
    };
    Config {
        node: Some(name.to_owned()),
        cluster: Some(config),
        advertise: vec![format!("memory:clients-of-{name}")],
        ..patient()
    }
}

impl Fleet {
    /// A cluster `c` of nodes `n1`, `n2`, …, each of which knows the first, come to rest.
    pub async fn new(count: usize) -> Self {
        let mut fleet = Self::default();
        for index in 1..=count {
            fleet.start("c", &format!("n{index}"), &["n1"]).await;
        }
        fleet.rest().await;
        fleet
    }

    /// Where the names are.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Starts a node.
    pub async fn start(&mut self, cluster: &str, name: &str, seeds: &[&str]) {
        let config = member(&self.hub, cluster, name, seeds);
        self.start_with(config).await;
    }

    /// Starts a node with a configuration of its own.
    ///
    /// # Panics
    /// When the configuration is not valid, which is the test's mistake.
    pub async fn start_with(&mut self, mut config: Config) {
        // The clock of the machine, which nodes count their runs by, may say the same to two runs here: simulated time
        // passes in no time.
        self.runs += 1;
        if let Some(part) = &mut config.cluster {
            part.incarnation.get_or_insert(self.runs);
        }
        let broker = Broker::bind(config, Arc::new(Open::new()))
            .await
            .expect("the test's configuration is valid");
        let (handle, stop, running) = (
            broker.handle(),
            CancellationToken::new(),
            TaskTracker::new(),
        );
        running.spawn(broker.run(stop.clone()));
        running.close();
        self.nodes.push(Node {
            name: handle.node().to_owned(),
            broker: handle,
            stop,
            running,
        });
        tokio::task::yield_now().await;
    }

    /// A node by its name.
    ///
    /// # Panics
    /// When there is none.
    pub fn node(&self, name: &str) -> &Node {
        self.nodes
            .iter()
            .find(|node| node.name == name)
            .expect("the test has started it")
    }

    /// A peer without credentials at a node.
    ///
    /// # Panics
    /// When it is not welcome.
    pub async fn peer(&self, name: &str) -> Peer {
        let (here, there) = pair(PIPE_LEN);
        self.node(name).broker.serve(there);
        Peer::hello(here, Credentials::None)
            .await
            .expect("the broker is open")
    }

    /// Stops a node in good order, and waits for its end.
    ///
    /// # Panics
    /// When there is none of this name.
    pub async fn stop(&mut self, name: &str) {
        let at = self.nodes.iter().position(|node| node.name == name);
        let node = self.nodes.remove(at.expect("the test has started it"));
        node.stop.cancel();
        node.running.wait().await;
    }

    /// Waits until every node is linked with all others of its cluster, and all views of interest
    /// are equal to the truth.
    ///
    /// # Panics
    /// When that does not come about.
    pub async fn rest(&self) {
        for _ in 0..LOOKS_MAX {
            if self.is_at_rest() {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
        let views: Vec<Status> = self.views().collect();
        panic!("the cluster does not come to rest: {views:#?}");
    }

    fn views(&self) -> impl Iterator<Item = Status> + '_ {
        let clusters = self.nodes.iter().filter_map(|node| node.broker.cluster());
        clusters.map(|cluster| cluster.status())
    }

    fn is_at_rest(&self) -> bool {
        let views: Vec<Status> = self.views().collect();
        views.iter().all(|view| {
            let same = |other: &&Status| other.cluster == view.cluster && other.node != view.node;
            let others = views.iter().filter(same).filter(|other| is_active(other));
            let mut agrees = others.clone().map(|other| agree(view, other));
            let linked = view.links.iter().filter(|link| link.gateway.is_none());
            !is_active(view) || (agrees.all(|agrees| agrees) && linked.count() == others.count())
        })
    }
}

fn is_active(view: &Status) -> bool {
    let own = view.members.iter().find(|member| member.node == view.node);
    own.is_some_and(|own| own.state == MemberState::Own)
}

/// Whether a node knows the interest of another.
fn agree(view: &Status, other: &Status) -> bool {
    let link = view
        .links
        .iter()
        .find(|link| link.node == other.node && link.gateway.is_none());
    link.is_some_and(|link| link.interest == other.interest)
}
