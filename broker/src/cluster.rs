//! Brokers that act as one: links between nodes, who is a member, and who is interested in what.
//!
//! ```text
//!   router ──what is asked for here──▶ interest ──▶ link ══════▶ link ──▶ mirror ──▶ router
//!   client ──▶ router: who? ──▶ outbox of a link ─────▶ link ══════▶ link ──▶ receivers there
//!                                    membership ──whom to dial──▶ manager ──▶ handshake ──▶ link
//! ```
//!
//! Reading order: [`config`] is what can be set and [`status`] what can be seen. [`membership`],
//! [`election`], [`interest`], [`mirror`] and [`sets`] are pure: time and chance are arguments, so
//! that they run under a simulator. `handshake` makes a connection a link, `link` is its task,
//! `end` what others hold of it, `manager` dials and listens.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use dialtone_protocol::frame::link::NodeInfo;
use dialtone_transport::Endpoint;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub mod config;
pub use config::{Config, Gateway, PORT, Secret, Timing, Trust, server_name};

pub mod status;

pub mod handle;
pub use handle::{ForgetError, Handle};

pub mod backoff;
pub mod election;
pub mod interest;
pub mod membership;
pub mod mirror;
pub mod sets;

mod check;
pub(crate) use check::check;

mod claims;
mod counts;
pub(crate) use counts::Asker;

mod end;
pub(crate) use end::End;

mod handshake;
mod link;
mod manager;
pub(crate) use manager::run;

mod proof;
mod report;

use backoff::Waits;
use claims::{Claim, Claims};
use counts::Counts;
use interest::Announced;
use membership::{Bounds, Membership};
use report::Refusals;

use crate::broker::Shared;
use crate::chance::RandomState;
use crate::peer::Peer;
use crate::registry::Inbox;
use crate::router::Scope;

/// A node's cluster: what all its links share.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) config: Config,
    listeners: RwLock<Vec<Endpoint>>,
    membership: Mutex<Membership>,
    /// Wakes the task that dials and tells.
    changed: Notify,
    /// By the name of the node, or of the other cluster where it is a gateway to that.
    links: RwLock<Links>,
    /// Nodes that were dialled and have answered.
    pub(crate) claims: Claims,
    /// Held while a link takes its place.
    joining: tokio::sync::Mutex<()>,
    /// What members are told.
    announced: Mutex<Announced>,
    /// What other clusters are told; `None` where no gateway is configured.
    announced_to_gateways: Option<Mutex<Announced>>,
    pub(crate) counts: Counts,
    refusals: Mutex<Refusals>,
    links_total: crate::metrics::Counter,
    links_overflowed_total: crate::metrics::Counter,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

/// The links that there are.
#[derive(Debug, Default)]
struct Links {
    members: HashMap<Box<str>, Arc<Peer>, RandomState>,
    gateways_to: HashMap<Box<str>, Arc<Peer>, RandomState>,
    /// Any number of each cluster's nodes.
    gateways_from: Vec<Arc<Peer>>,
}

impl Cluster {
    pub(crate) fn new(
        config: Config,
        node: &str,
        listeners: Vec<Endpoint>,
        client_addresses: Vec<String>,
    ) -> Self {
        let told = if config.advertise.is_empty() {
            &listeners
        } else {
            &config.advertise
        };
        let own = NodeInfo {
            name: node.to_owned(),
            incarnation: config.incarnation.unwrap_or_else(time_of_day),
            revision: 0,
            left: false,
            addresses: told.iter().map(ToString::to_string).collect(),
            client_addresses,
        };
        let timing = &config.timing;
        let bounds = Bounds {
            members_max: config.members_max,
            seeds_max: config.seeds_max,
            forget_after: timing.forget_after,
            gossip_interval: timing.gossip_interval,
            redial: Waits {
                min: timing.redial_min,
                max: timing.redial_max,
            },
        };
        let mut membership = Membership::new(own, bounds, now());
        membership.set_seeds(config.seeds.clone(), now());
        let announced = || Mutex::new(Announced::new(config.changes_max));
        Self {
            announced: announced(),
            announced_to_gateways: (!config.gateways.is_empty()).then(announced),
            config,
            listeners: RwLock::new(listeners),
            membership: Mutex::new(membership),
            changed: Notify::new(),
            links: RwLock::default(),
            claims: Claims::default(),
            joining: tokio::sync::Mutex::new(()),
            counts: Counts::default(),
            refusals: Mutex::default(),
            links_total: crate::metrics::Counter::default(),
            links_overflowed_total: crate::metrics::Counter::default(),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    fn own_info(&self) -> NodeInfo {
        self.membership.lock().own().clone()
    }

    fn set_seeds(&self, seeds: Vec<Endpoint>) {
        self.membership.lock().set_seeds(seeds, now());
        self.changed.notify_one();
    }

    fn join(&self, endpoint: Endpoint) {
        let time = self.config.incarnation.unwrap_or_else(time_of_day);
        self.membership.lock().join(endpoint, time, now());
        self.changed.notify_one();
    }

    fn leave(&self) {
        self.membership.lock().leave();
        self.changed.notify_one();
    }

    fn forget(&self, node: &str) -> Result<(), ForgetError> {
        let forgotten = self.membership.lock().forget(node, now());
        self.changed.notify_one();
        forgotten
    }

    /// Clients reach the node elsewhere, or not at all because it drains.
    pub(crate) fn set_client_addresses(&self, client_addresses: Vec<String>) {
        let mut membership = self.membership.lock();
        let addresses = membership.own().addresses.clone();
        membership.set_own_addresses(addresses, client_addresses);
        drop(membership);
        self.changed.notify_one();
    }

    /// Where clients reach the other nodes.
    pub(crate) fn client_addresses(&self) -> Vec<String> {
        self.membership.lock().client_addresses()
    }

    /// The right to make a link with a node that has answered; `None` when there is one or is about
    /// to be. A later run of a node is another matter.
    pub(crate) fn claim(&self, node: &NodeInfo) -> Option<Claim> {
        let links = self.links.read();
        let current = links.members.get(node.name.as_str());
        let is_linked = current
            .and_then(|peer| peer.link.as_ref())
            .is_some_and(|end| {
                end.candidate.incarnation >= node.incarnation && !end.ended.is_cancelled()
            });
        if is_linked {
            return None;
        }
        self.claims.claim(&node.name)
    }

    fn on_members(&self, told: Vec<NodeInfo>) {
        self.membership.lock().on_members(told, now());
        self.changed.notify_one();
    }

    fn on_leave(&self, node: &str) {
        tracing::info!(node, "a node leaves the cluster");
        self.membership.lock().on_leave(node);
        self.changed.notify_one();
    }

    /// Somebody here has begun or ended a subscription: members and other clusters are told if that
    /// makes a difference to them.
    pub(crate) fn changed_here(&self, shared: &Shared, pattern: &str) {
        let now_told = self.update(&self.announced, shared, pattern, Scope::Node);
        self.changed_elsewhere(shared, pattern);
        if now_told {
            let links = self.links.read();
            for peer in links.members.values() {
                peer.outbox.wake_owner();
            }
        }
    }

    /// A member's interest in a pattern has changed, which other clusters may have to be told.
    fn changed_elsewhere(&self, shared: &Shared, pattern: &str) {
        let Some(announced) = &self.announced_to_gateways else {
            return;
        };
        if self.update(announced, shared, pattern, Scope::Cluster) {
            for peer in &self.links.read().gateways_from {
                peer.outbox.wake_owner();
            }
        }
    }

    /// Whether links must be told at once. The table is looked at while the lock is held, so that
    /// of two changes at the same time the later one is told last.
    fn update(
        &self,
        announced: &Mutex<Announced>,
        shared: &Shared,
        pattern: &str,
        scope: Scope,
    ) -> bool {
        let mut announced = announced.lock();
        let was_outdated = announced.is_outdated();
        let told = announced.update(shared.router.interest(pattern, scope));
        if !was_outdated && announced.is_outdated() {
            self.changed.notify_one();
        }
        told
    }

    /// A node as inboxes name it.
    pub(crate) fn inbox_node(&self, node: &str) -> Arc<str> {
        format!("{node}@{}", self.config.name).into()
    }

    /// Where the inboxes of another node lie.
    pub(crate) fn find_inbox(&self, node: &[u8]) -> Inbox {
        let Some((node, cluster)) = std::str::from_utf8(node)
            .ok()
            .and_then(|node| node.split_once('@'))
        else {
            return Inbox::No;
        };
        let links = self.links.read();
        let found = if cluster == self.config.name {
            links.members.get(node)
        } else {
            links.gateways_to.get(cluster)
        };
        found.map_or(Inbox::Gone, |peer| Inbox::Elsewhere(Arc::clone(peer)))
    }

    /// Whether one more acknowledgement may wait for counts.
    pub(crate) fn may_ask(&self) -> bool {
        self.counts.len() < self.config.counts_max
    }

    /// Until when nodes may answer what they are asked now.
    pub(crate) fn count_deadline(&self) -> Instant {
        now() + self.config.timing.count_max
    }
}

impl Links {
    fn all(&self) -> impl Iterator<Item = &Arc<Peer>> {
        let dialled = self.members.values().chain(self.gateways_to.values());
        dialled.chain(&self.gateways_from)
    }
}

/// Where other nodes are listened for.
pub(crate) fn listens(config: &crate::Config) -> Vec<crate::Listen> {
    let cluster = config.cluster.as_ref();
    let mut listens = cluster.map_or_else(Vec::new, |cluster| cluster.listen.clone());
    for listen in &mut listens {
        listen.options.quic.control_lane = true;
    }
    listens
}

/// Milliseconds since 1970: a run that begins later has a higher number.
fn time_of_day() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// The time, as the runtime has it: tests may stop it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
