//! Brokers that act as one: links between nodes, who is a member, and who is interested in what.
//!
//! Reading order: [`config`] is what can be set and [`status`] what can be seen.
//! [`membership`] says which nodes there are and whom to dial. All of it is pure; what does I/O is
//! not.

use std::time::{Instant, SystemTime};

use dialtone_protocol::frame::link::NodeInfo;
use dialtone_transport::Endpoint;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

pub mod config;
pub use config::{Config, Gateway, PORT, Secret, Timing, Trust, server_name};

pub mod status;

pub mod handle;
pub use handle::{ForgetError, Handle};

pub mod backoff;
pub mod membership;

use backoff::Waits;
use membership::{Bounds, Membership};
use status::Status;

/// A node's cluster: what all its links share.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) config: Config,
    listeners: RwLock<Vec<Endpoint>>,
    membership: Mutex<Membership>,
    /// Wakes the task that dials.
    changed: Notify,
}

impl Cluster {
    pub(crate) fn new(config: Config, node: &str, listeners: Vec<Endpoint>) -> Self {
        let told = if config.advertise.is_empty() {
            &listeners
        } else {
            &config.advertise
        };
        let own = NodeInfo {
            name: node.to_owned(),
            incarnation: time_of_day(),
            revision: 0,
            left: false,
            addresses: told.iter().map(ToString::to_string).collect(),
            client_addresses: Vec::new(),
        };
        let bounds = Bounds {
            members_max: config.members_max,
            seeds_max: config.seeds_max,
            forget_after: config.timing.forget_after,
            gossip_interval: config.timing.gossip_interval,
            redial: Waits {
                min: config.timing.redial_min,
                max: config.timing.redial_max,
            },
        };
        let mut membership = Membership::new(own, bounds, now());
        membership.set_seeds(config.seeds.clone(), now());
        Self {
            config,
            listeners: RwLock::new(listeners),
            membership: Mutex::new(membership),
            changed: Notify::new(),
        }
    }

    fn set_seeds(&self, seeds: Vec<Endpoint>) {
        self.membership.lock().set_seeds(seeds, now());
        self.changed.notify_one();
    }

    fn join(&self, endpoint: Endpoint) {
        self.membership.lock().join(endpoint, time_of_day(), now());
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

    fn status(&self) -> Status {
        let membership = self.membership.lock();
        let own = membership.own();
        Status {
            cluster: self.config.name.clone(),
            node: own.name.clone(),
            incarnation: own.incarnation,
            listeners: self
                .listeners
                .read()
                .iter()
                .map(ToString::to_string)
                .collect(),
            certificate_ends: self.config.certificate_ends(),
            members: membership.status(now()),
            ..Status::default()
        }
    }
}

/// Where other nodes are listened for.
pub(crate) fn listens(config: &crate::Config) -> &[crate::Listen] {
    let cluster = config.cluster.as_ref();
    cluster.map_or(&[], |cluster| &cluster.listen)
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
