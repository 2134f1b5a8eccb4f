//! What can be set, as plain data. Every bound of the broker has its name here or in
//! [`Limits`].

use std::time::Duration;

use dialtone_protocol::Limits;
use dialtone_protocol::session::Timing;
use dialtone_transport::{Endpoint, ListenOptions};
use tokio::runtime::Handle;

/// How a broker is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name: letters, digits, `-` and `_`, at most 64 bytes. `None` makes one at random.
    pub node: Option<String>,
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// What a connection is granted unless its principal has limits of its own.
    pub limits: Limits,
    /// Most connections.
    pub connections_max: u32,
    /// Most connections of one principal, unless it has a limit of its own.
    pub connections_per_identity_max: u32,
    /// Most handshakes in progress on each listener; further peers wait in the kernel's queue.
    pub handshakes_max: u32,
    /// Most interest queries that wait, over all connections.
    pub interest_waiting_max: u32,
    /// How long what may take.
    pub timing: Timing,
    /// What may wait for a receiver.
    pub outbox: OutboxConfig,
    /// How long a draining node gives its clients to move.
    pub drain_grace: Duration,
    /// Addresses that clients are told, when they differ from where the broker listens.
    pub advertise: Vec<String>,
    /// The cluster that the node belongs to, if any.
    pub cluster: Option<crate::cluster::Config>,
    /// Runtimes that connections are spread over, each of one thread; empty takes the current one.
    pub shards: Vec<Handle>,
}

/// A place to listen.
#[derive(Debug, Clone)]
pub struct Listen {
    /// Transport, address and port; port 0 takes any.
    pub endpoint: Endpoint,
    /// Certificates and bounds of the transport.
    pub options: ListenOptions,
}

/// What may wait for a receiver, and what happens when it does not read.
#[derive(Debug, Clone)]
pub struct OutboxConfig {
    /// Above this many waiting bytes, publishers that add to it are stalled.
    pub high_bytes: usize,
    /// Stalled publishers go on when fewer bytes than this wait.
    pub low_bytes: usize,
    /// A receiver with more waiting bytes than this is closed as a slow consumer.
    pub max_bytes: usize,
    /// Longest stall of a publisher after one read.
    pub stall_max: Duration,
    /// Publishers are not stalled for a receiver that has taken nothing for this long: waiting
    /// would not help it and would harm its neighbours. Twenty times as long for who sends a message
    /// in fragments.
    pub stall_progress: Duration,
    /// A receiver above the high-water mark that has taken nothing for this long is closed.
    pub slow_max: Duration,
    /// Most datagrams that wait; further ones are dropped, as unreliable messages may be.
    pub datagrams_max: usize,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self {
            high_bytes: 2 << 20,
            low_bytes: 1 << 20,
            max_bytes: 32 << 20,
            stall_max: Duration::from_millis(100),
            stall_progress: Duration::from_millis(50),
            slow_max: Duration::from_secs(10),
            datagrams_max: 256,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: None,
            listen: Vec::new(),
            limits: Limits::default(),
            connections_max: 100_000,
            connections_per_identity_max: 100_000,
            handshakes_max: 1_024,
            interest_waiting_max: 100_000,
            timing: Timing::default(),
            outbox: OutboxConfig::default(),
            drain_grace: Duration::from_secs(30),
            advertise: Vec::new(),
            cluster: None,
            shards: Vec::new(),
        }
    }
}
