//! What can be set about the cluster, as plain data. Every bound of the cluster has its name here.

use std::fmt;
use std::time::Duration;

use dialtone_transport::{DialOptions, Endpoint};

use crate::config::{Listen, OutboxConfig};

/// The UDP port on which nodes listen for each other where none is given.
pub const PORT: u16 = 4_434;

/// Longest name of a cluster, in bytes: it is a label of a host name in certificates.
pub const NAME_LEN_MAX: usize = 63;

/// Shortest shared secret, in bytes: who joins can try secrets without asking us.
pub const SECRET_LEN_MIN: usize = 16;

/// The host name that is in every node's certificate of a cluster, whatever its address. Diallers
/// ask for it, and so a certificate of one cluster is no certificate of another one.
pub fn server_name(cluster: &str) -> String {
    dialtone_transport::tls::authority::host_name(cluster)
}

/// How a node belongs to a cluster.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster's name: letters, digits, `-` and `_`, at most [`NAME_LEN_MAX`] bytes.
    pub name: String,
    /// Where other nodes reach this one; port 0 takes any. With [`Trust::Certificates`] each needs
    /// `tls` with a client CA.
    pub listen: Vec<Listen>,
    /// Addresses that other nodes are told, when they differ from where the node listens. A host of
    /// all zeros is replaced by the address that the other node sees.
    pub advertise: Vec<Endpoint>,
    /// Names this run of the node; higher than that of every earlier run. `None` is the time of day.
    pub incarnation: Option<u64>,
    /// Nodes to begin with. [`Handle::set_seeds`](super::Handle::set_seeds) changes them.
    pub seeds: Vec<Endpoint>,
    /// How to reach other nodes: with [`Trust::Certificates`], `tls` trusts the cluster's CA and
    /// shows the node's certificate. The server name is set by the broker.
    pub dial: DialOptions,
    /// How nodes know each other.
    pub trust: Trust,
    /// Other clusters that messages are exchanged with.
    pub gateways: Vec<Gateway>,
    /// How long what may take.
    pub timing: Timing,
    /// Most members that are remembered; further ones are not linked with.
    pub members_max: usize,
    /// Most seeds that are kept.
    pub seeds_max: usize,
    /// Most links of nodes whose handshake is in progress, per listener.
    pub handshakes_max: u32,
    /// Most acknowledged publishes that wait for counts of other nodes; further ones are answered
    /// with what is known at once.
    pub counts_max: usize,
    /// Most recent changes of interest that are kept for links that lag; one that lags more gets a
    /// snapshot.
    pub changes_max: usize,
    /// Most patterns that another node may be interested in.
    pub patterns_max: usize,
    /// Most fragmented messages in flight on a link, over all publishers of the other node.
    pub fragmented_max: usize,
    /// Longest frame that is read from another node, in bytes. Not smaller than what clients are
    /// granted.
    pub frame_len_max: u32,
    /// What may wait for a link.
    pub outbox: OutboxConfig,
}

/// How nodes know each other.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Each end shows a certificate of the cluster's CA, with the cluster's name as organisation
    /// (O), the node's name as common name (CN), and [`server_name`] among its alternative names.
    Certificates,
    /// Both ends know a secret and prove it to each other; it never travels.
    Secret(Secret),
    /// Anybody who gets here. For tests: only `memory:` endpoints may be used with it.
    Anyone,
}

/// A secret that all nodes of a cluster know.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

/// A secret is too short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cluster's secret has at least {SECRET_LEN_MIN} bytes, not {0}")]
pub struct SecretTooShort(pub usize);

impl Secret {
    /// From its bytes.
    ///
    /// # Errors
    /// When there are fewer than [`SECRET_LEN_MIN`].
    pub fn new(bytes: &[u8]) -> Result<Self, SecretTooShort> {
        if bytes.len() < SECRET_LEN_MIN {
            return Err(SecretTooShort(bytes.len()));
        }
        Ok(Self(bytes.into()))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    /// Leaves the secret out, since configurations are logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Another cluster that messages are exchanged with.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// The other cluster's name.
    pub name: String,
    /// Where its nodes can be reached, tried in turn. Without any, the other cluster's links are
    /// accepted, and none is made.
    pub urls: Vec<Endpoint>,
    /// How to reach it, and how to know it, when that differs from the own cluster.
    pub dial: Option<DialOptions>,
    /// The secret shared with the other cluster; with certificates, its CA must be in the files of
    /// the listeners and of `dial`.
    pub secret: Option<Secret>,
}

/// How long what may take between nodes.
#[derive(Debug, Clone)]
pub struct Timing {
    /// From a link's first byte to the end of its handshake.
    pub handshake_max: Duration,
    /// How often each end asks whether the other one is there, which also measures the round trip.
    pub ping_interval: Duration,
    /// How long the answer may take before the link is lost.
    pub pong_max: Duration,
    /// Wait before a node is dialled again; doubles with each failure, and is jittered.
    pub redial_min: Duration,
    /// Longest such wait.
    pub redial_max: Duration,
    /// How long a node that cannot be reached is remembered and dialled.
    pub forget_after: Duration,
    /// How often members are told to all links again, beside changes, which are told at once.
    pub gossip_interval: Duration,
    /// How often each link's view of the interest is compared.
    pub check_interval: Duration,
    /// How long changes in the number of a queue group's members are gathered.
    pub members_delay: Duration,
    /// How long a publisher's acknowledgement waits for another node's count.
    pub count_max: Duration,
    /// Longest pause of a link's messages for a receiver that is full.
    pub stall_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            handshake_max: Duration::from_secs(10),
            ping_interval: Duration::from_secs(2),
            pong_max: Duration::from_secs(5),
            redial_min: Duration::from_millis(250),
            redial_max: Duration::from_secs(15),
            forget_after: Duration::from_mins(30),
            gossip_interval: Duration::from_secs(30),
            check_interval: Duration::from_secs(10),
            members_delay: Duration::from_millis(250),
            count_max: Duration::from_secs(5),
            stall_max: Duration::from_millis(20),
        }
    }
}

impl Config {
    /// Defaults for a cluster of this name: no listener, no seeds.
    pub fn new(name: impl Into<String>, trust: Trust) -> Self {
        Self {
            name: name.into(),
            listen: Vec::new(),
            advertise: Vec::new(),
            incarnation: None,
            seeds: Vec::new(),
            dial: DialOptions::default(),
            trust,
            gateways: Vec::new(),
            timing: Timing::default(),
            members_max: 256,
            seeds_max: 256,
            handshakes_max: 64,
            counts_max: 1 << 20,
            changes_max: 1 << 17,
            patterns_max: 10_000_000,
            fragmented_max: 16_384,
            frame_len_max: 4 << 20,
            outbox: OutboxConfig {
                high_bytes: 8 << 20,
                low_bytes: 4 << 20,
                max_bytes: 128 << 20,
                ..OutboxConfig::default()
            },
        }
    }

    /// Until when the certificate that is shown to other nodes is valid, in seconds since 1970.
    pub(crate) fn certificate_ends(&self) -> Option<u64> {
        if !matches!(self.trust, Trust::Certificates) {
            return None;
        }
        crate::report::first_end(&self.listen)
    }
}
