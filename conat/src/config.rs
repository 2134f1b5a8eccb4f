//! What can be set, as plain data. Every bound of the Socket.IO side has its name here.

use std::time::Duration;

/// How Socket.IO clients are served.
#[derive(Debug, Clone)]
pub struct Config {
    /// What comes before `/conat/` in the path: empty, or `/base` without a slash at its end.
    pub base_path: String,
    /// Longest WebSocket message that is read, in bytes. Clients are told, and cut longer payloads into chunks that are
    /// 100,000 bytes shorter.
    pub max_payload: usize,
    /// How often a client is asked whether it is there.
    pub ping_interval: Duration,
    /// How long its answer may take.
    pub ping_timeout: Duration,
    /// How long a client may take until it asks for the namespace.
    pub connect_timeout: Duration,
    /// How long a client may take to acknowledge that it was told who it is, before it is told again.
    pub info_timeout: Duration,
    /// For how long in all it is told again.
    pub info_retry_max: Duration,
    /// How long a refused client is given to read why.
    pub refusal_delay: Duration,
    /// Most subscriptions of a connection.
    pub subscriptions_max: usize,
    /// Most subscriptions of a connection of a hub.
    pub hub_subscriptions_max: usize,
    /// Most answers that a connection may be waiting for; beyond that it is not read from.
    pub answers_max: usize,
    /// Most messages of a connection that have begun to arrive in chunks.
    pub partial_max: usize,
    /// Most bytes of such messages, for each connection.
    pub partial_len_max: usize,
    /// How long the next chunk of a message may take.
    pub partial_idle_max: Duration,
    /// With more than this to be written to a client, in bytes, nothing more is read for it or from it.
    pub output_high: usize,
    /// Web pages (`https://example.org`) whose scripts may connect with cookies, besides those of the same host.
    pub allowed_origins: Vec<String>,
    /// Most connections whose handshake is under way; further ones wait in the kernel's queue.
    pub handshakes_max: usize,
    /// How long TLS and the request of a client may take.
    pub handshake_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            base_path: String::new(),
            max_payload: 8_000_000,
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(45),
            info_timeout: Duration::from_millis(7_500),
            info_retry_max: Duration::from_mins(2),
            refusal_delay: Duration::from_millis(25),
            subscriptions_max: 500,
            hub_subscriptions_max: 15_000,
            answers_max: 10_000,
            partial_max: 64,
            partial_len_max: 256 << 20,
            partial_idle_max: Duration::from_mins(2),
            output_high: 1 << 20,
            allowed_origins: Vec::new(),
            handshakes_max: 1_024,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// Room that a chunk leaves for its text, in bytes; clients reckon with the same.
const CHUNK_RESERVE: usize = 100_000;

/// The shortest chunk, whatever the limit of a message, in bytes.
const CHUNK_LEN_MIN: usize = 1_000;

impl Config {
    /// The longest payload that is sent in one piece, in bytes.
    pub fn chunk_len_max(&self) -> usize {
        self.max_payload
            .saturating_sub(CHUNK_RESERVE)
            .max(CHUNK_LEN_MIN)
    }

    /// Where Socket.IO is served, without the slash at its end.
    pub fn path(&self) -> String {
        format!("{}/conat", self.base_path)
    }
}
