//! What a node says about its cluster: plain data for `/routez`, `sys.cluster.*` and metrics.

use serde::Serialize;

/// The cluster as this node sees it. Counters are since the start and never decrease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The cluster's name.
    pub cluster: String,
    /// The node's name.
    pub node: String,
    /// Names this run of the node: higher than that of every earlier run.
    pub incarnation: u64,
    /// Where it listens for other nodes, as URLs.
    pub listeners: Vec<String>,
    /// Until when the node's certificate is valid, in seconds since 1970; `None` without certificates.
    pub certificate_ends: Option<u64>,
    /// The fingerprint (SHA-256) of the interest that the node announces, and its version.
    pub interest: InterestStatus,
    /// All nodes of the cluster that are known, this one included, by name.
    pub members: Vec<MemberStatus>,
    /// The seeds, as they were given.
    pub seeds: Vec<SeedStatus>,
    /// All links, to nodes of this cluster and of others, by name.
    pub links: Vec<LinkStatus>,
    /// Acknowledged publishes that wait for counts of other nodes.
    pub counts_waiting: u64,
    /// Links that were established.
    pub links_total: u64,
    /// Links that this node closed because the other one did not take what waited for it.
    pub links_overflowed_total: u64,
    /// Nodes that were refused, or refused us.
    pub refusals_total: u64,
    /// Acknowledgements that were sent without the count of some node.
    pub counts_missed_total: u64,
    /// The latest refusals, newest last.
    pub refusals: Vec<RefusalStatus>,
}

/// Interest that a node announces or has been told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct InterestStatus {
    /// Patterns.
    pub patterns: u64,
    /// Counts changes.
    pub version: u64,
    /// What is compared: equal on both ends of a link when they agree.
    pub hash: u64,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberStatus {
    /// Its name.
    pub node: String,
    /// Its run.
    pub incarnation: u64,
    /// What this node knows of it.
    pub state: MemberState,
    /// Where other nodes reach it, as URLs.
    pub addresses: Vec<String>,
    /// Where clients reach it, as URLs; none while it drains.
    pub client_addresses: Vec<String>,
    /// Seconds since its state changed.
    pub since_s: u64,
    /// Why the last link ended or could not be made, for people.
    pub error: Option<String>,
}

/// An address at which a node is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SeedStatus {
    /// The URL.
    pub url: String,
    /// Who answered there last.
    pub node: Option<String>,
    /// Why nobody is reached there, for people.
    pub error: Option<String>,
}

/// What a node knows of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    /// This node itself.
    Own,
    /// There is a link.
    Linked,
    /// There is none, and one is being made.
    Unlinked,
    /// It left on purpose or was removed, and is not dialled.
    Left,
}

/// A link to another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkStatus {
    /// The node at the other end.
    pub node: String,
    /// Its cluster, when that is another one: the link is a gateway.
    pub gateway: Option<String>,
    /// `dialled` or `accepted`.
    pub direction: &'static str,
    /// `quic`, `websocket` or `memory`.
    pub transport: &'static str,
    /// Whether the transport encrypts.
    pub encrypted: bool,
    /// The other node's address, where there is one.
    pub remote: Option<String>,
    /// The other node's software.
    pub server: String,
    /// Seconds since it was established.
    pub age_s: u64,
    /// The last round trip, in microseconds; `None` before the first.
    pub round_trip_us: Option<u64>,
    /// Bytes that wait to be sent.
    pub pending_bytes: u64,
    /// Messages sent, fragments counted one each.
    pub messages_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Messages received.
    pub messages_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Bytes of interest, members and other control frames sent.
    pub control_bytes_out: u64,
    /// Bytes of interest, members and other control frames received.
    pub control_bytes_in: u64,
    /// The other node's interest as it is known here.
    pub interest: InterestStatus,
    /// The version of our interest that was sent last.
    pub announced_version: u64,
    /// Times the other end's interest was asked for again because it differed.
    pub resyncs: u64,
    /// Snapshots of our interest that were sent.
    pub snapshots: u64,
    /// Messages that came over the link and could not be delivered: malformed, or fragments beyond
    /// a bound.
    pub dropped_in: u64,
}

/// A link that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusalStatus {
    /// Seconds ago.
    pub ago_s: u64,
    /// The other node's name, where it was told.
    pub node: Option<String>,
    /// Its address or the address that was dialled.
    pub remote: Option<String>,
    /// `refused` by this node or `refused-us`.
    pub direction: &'static str,
    /// A stable code.
    pub code: u16,
    /// Why, for people.
    pub text: String,
}
