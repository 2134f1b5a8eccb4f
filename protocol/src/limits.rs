//! Every bound of the protocol, with its unit in the name.
//!
//! Constants are the same for every peer for ever; [`Limits`] is what a broker grants a connection
//! and says in its welcome.

use serde::{Deserialize, Serialize};

/// Longest subject or pattern, in bytes. Paths travel base64-encoded inside subjects and may have
/// 4,000 characters, which take 5,336 bytes.
pub const SUBJECT_LEN_MAX: usize = 8_192;

/// Most segments of a subject or pattern; bounds the depth of every walk over it.
pub const SEGMENTS_MAX: usize = 64;

/// Longest name of a queue group, in bytes.
pub const GROUP_LEN_MAX: usize = 256;

/// Longest headers of a message, in bytes. Clients of the predecessor reserve 100,000.
pub const HEADERS_LEN_MAX: usize = 100_000;

/// Longest token, user name or password in a hello, in bytes.
pub const CREDENTIAL_LEN_MAX: usize = 16_384;

/// Longest text in an error, close or name field, in bytes.
pub const TEXT_LEN_MAX: usize = 1_024;

/// Longest hello frame, in bytes: nothing longer is read from a peer that nobody knows yet.
pub const HELLO_LEN_MAX: u32 = 65_536;

/// Most entries in one subscribe or unsubscribe frame.
pub const SUBSCRIBE_BATCH_MAX: usize = 1_000;

/// Room that the head of a publish or deliver frame may take beyond subjects and headers, in bytes.
pub const HEAD_LEN_MAX: u32 = 64;

/// Longest wait of an interest query, in milliseconds.
pub const INTEREST_WAIT_MS_MAX: u32 = 90_000;

/// What a broker grants a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[expect(
    clippy::struct_field_names,
    reason = "every one is a maximum, and names end with their qualifier"
)]
pub struct Limits {
    /// Longest frame that the broker reads, in bytes after the length field.
    pub frame_len_max: u32,
    /// Longest payload of a whole message, in bytes.
    pub message_len_max: u64,
    /// Longest payload that is sent unfragmented, and longest payload of a fragment, in bytes.
    pub fragment_len_max: u32,
    /// Most fragmented messages that a connection may have in flight.
    pub fragmented_max: u16,
    /// Most subscriptions of a connection.
    pub subscriptions_max: u32,
    /// Most answers that a connection may be waiting for (acknowledged publishes excluded).
    pub requests_max: u32,
    /// Messages that a connection may publish a second; 0 is without a limit.
    pub messages_per_second_max: u32,
    /// Bytes that a connection may send a second; 0 is without a limit.
    pub bytes_per_second_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_len_max: 1 << 20,
            message_len_max: 256 << 20,
            fragment_len_max: 128 << 10,
            fragmented_max: 64,
            subscriptions_max: 1_000_000,
            requests_max: 10_000,
            messages_per_second_max: 0,
            bytes_per_second_max: 0,
        }
    }
}
