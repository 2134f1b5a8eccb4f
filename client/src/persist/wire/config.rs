//! How a stream is kept: its limits, its durability, what may change later.

use serde::{Deserialize, Serialize};

/// What an acknowledgement means.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The service has it in its memory; the end of the process loses it.
    Memory,
    /// The operating system has it; the end of the machine loses it.
    Os,
    /// It is on disk, or committed by a database that keeps such a promise.
    #[default]
    Fsync,
}

/// What happens to a write for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discard {
    /// The oldest records make room.
    #[default]
    Old,
    /// The write is refused.
    New,
}

/// The configuration of a stream. In every limit 0 is *no limit*.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// For people; at most [`DESCRIPTION_LEN_MAX`](super::DESCRIPTION_LEN_MAX) bytes.
    pub description: String,
    /// Kept in memory alone and lost with the process; such a stream holds at most 64,000,000 bytes. Fixed for ever.
    pub ephemeral: bool,
    /// What an acknowledgement means where a write does not say. Fixed for ever.
    pub durability: Durability,
    /// Most records.
    pub max_msgs: u64,
    /// Most bytes; a record counts its payload, headers and key.
    pub max_bytes: u64,
    /// Longest life of a record, in milliseconds.
    pub max_age: u64,
    /// Largest record, in bytes, counted as in `max_bytes`.
    pub max_msg_size: u64,
    /// Most records within any second.
    pub max_msgs_per_second: u64,
    /// Most bytes within any second.
    pub max_bytes_per_second: u64,
    /// How many records of one key are kept; the newest is the key's value. At least 1, at most 64.
    pub max_msgs_per_key: u32,
    /// What happens to a write for which `max_msgs` or `max_bytes` has no room.
    pub discard: Discard,
    /// Whether the lifetimes that records ask for are honoured.
    pub allow_ttl: bool,
    /// For how long a message id is remembered, in milliseconds; 0 is not at all, the most is 7 days.
    pub duplicate_window: u64,
    /// How many deletions are remembered for those who were away; 16,384 by default, at most 1,000,000.
    pub removals_kept: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            description: String::new(),
            ephemeral: false,
            durability: Durability::Fsync,
            max_msgs: 0,
            max_bytes: 0,
            max_age: 0,
            max_msg_size: 0,
            max_msgs_per_second: 0,
            max_bytes_per_second: 0,
            max_msgs_per_key: 1,
            discard: Discard::Old,
            allow_ttl: true,
            duplicate_window: 120_000,
            removals_kept: 16_384,
        }
    }
}

/// What is to change in a configuration; what is missing stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    missing_docs,
    reason = "each is the field of `Config` of the same name"
)]
pub struct ConfigPatch {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_msgs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_msg_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_msgs_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_msgs_per_key: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discard: Option<Discard>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_ttl: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_window: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removals_kept: Option<u64>,
}

impl ConfigPatch {
    /// The configuration with what is to change.
    pub fn apply(self, config: &Config) -> Config {
        Config {
            description: self
                .description
                .unwrap_or_else(|| config.description.clone()),
            ephemeral: config.ephemeral,
            durability: config.durability,
            max_msgs: self.max_msgs.unwrap_or(config.max_msgs),
            max_bytes: self.max_bytes.unwrap_or(config.max_bytes),
            max_age: self.max_age.unwrap_or(config.max_age),
            max_msg_size: self.max_msg_size.unwrap_or(config.max_msg_size),
            max_msgs_per_second: self
                .max_msgs_per_second
                .unwrap_or(config.max_msgs_per_second),
            max_bytes_per_second: self
                .max_bytes_per_second
                .unwrap_or(config.max_bytes_per_second),
            max_msgs_per_key: self.max_msgs_per_key.unwrap_or(config.max_msgs_per_key),
            discard: self.discard.unwrap_or(config.discard),
            allow_ttl: self.allow_ttl.unwrap_or(config.allow_ttl),
            duplicate_window: self.duplicate_window.unwrap_or(config.duplicate_window),
            removals_kept: self.removals_kept.unwrap_or(config.removals_kept),
        }
    }
}
