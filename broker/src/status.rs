//! What a running broker says about itself: plain data for monitoring.

use serde::Serialize;

/// The broker as a whole. Counters are since the start and never decrease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// Name and version of the software.
    pub server: String,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Whether connections are accepted.
    pub ready: bool,
    /// Whether the node is draining.
    pub draining: bool,
    /// Where it listens, as URLs.
    pub listeners: Vec<String>,
    /// Until when the certificate of the listeners is valid, in seconds since 1970: the first that ends. Clients refuse
    /// it from then on.
    pub certificate_ends: Option<u64>,
    /// Open connections.
    pub connections: u64,
    /// Subscriptions of all connections.
    pub subscriptions: u64,
    /// Distinct patterns in the table: of these subscriptions, and of what other nodes are interested
    /// in.
    pub patterns: u64,
    /// Questions that wait for somebody to subscribe.
    pub interest_waiting: u64,
    /// Bytes that wait in outboxes.
    pub outbox_bytes: u64,
    /// Connections accepted.
    pub accepted_total: u64,
    /// Connections whose transport or protocol handshake failed.
    pub handshake_failures_total: u64,
    /// Connections whose credentials were refused.
    pub auth_failures_total: u64,
    /// Connections refused because of a limit.
    pub limit_refusals_total: u64,
    /// Publishes, subscriptions and queries that were not permitted.
    pub denied_total: u64,
    /// Connections closed as slow consumers.
    pub slow_consumers_total: u64,
    /// Connections closed because the peer broke the protocol.
    pub violations_total: u64,
    /// Times a publisher was stalled.
    pub stalls_total: u64,
    /// Times a connection was read more slowly because it was ahead of its rates.
    pub throttles_total: u64,
    /// Messages received from publishers (fragments count one each); those of other nodes not
    /// included.
    pub messages_in_total: u64,
    /// Their sections' bytes.
    pub bytes_in_total: u64,
    /// Deliveries put into outboxes, those for other nodes included.
    pub messages_out_total: u64,
    /// Their bytes.
    pub bytes_out_total: u64,
    /// Messages that nobody subscribed to.
    pub unrouted_total: u64,
    /// Deliveries dropped for drop-oldest subscriptions.
    pub dropped_total: u64,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectionStatus {
    /// Its number.
    pub id: u64,
    /// The principal's name.
    pub identity: String,
    /// The client's software.
    pub client: String,
    /// `quic`, `websocket` or `memory`.
    pub transport: &'static str,
    /// Whether the transport encrypts.
    pub encrypted: bool,
    /// The peer's address, where there is one.
    pub remote: Option<String>,
    /// Seconds since it was accepted.
    pub age_s: u64,
    /// Its subscriptions.
    pub subscriptions: u64,
    /// Messages received from it.
    pub messages_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Deliveries put into its outbox.
    pub messages_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Bytes that wait in its outbox.
    pub pending_bytes: u64,
    /// Deliveries dropped for its drop-oldest subscriptions.
    pub dropped: u64,
    /// Whether its outbox is above the high-water mark.
    pub slow: bool,
}

/// One subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SubscriptionStatus {
    /// Of which connection.
    pub connection: u64,
    /// The connection's number for it.
    pub id: u32,
    /// What is asked for.
    pub pattern: String,
    /// The queue group.
    pub group: Option<String>,
    /// Whether it is a tap.
    pub tap: bool,
}
