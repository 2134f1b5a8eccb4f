//! The requests and answers of the persist service as data.
//!
//! A request is one map with one entry, the operation: `{"append": {"stream": "notes", "records": […]}}`. It is written
//! as `MessagePack` (encoding 0) or as JSON (encoding 1), and answered in the same encoding. Unknown fields are skipped
//! and missing ones have their default, so that either side may be newer. Numbers stay below 2⁵³. Times are
//! milliseconds since 1970; durations are milliseconds.

mod answer;
mod blob;
mod config;
mod consumer;
mod fault;
mod record;
mod request;

pub use answer::{
    Appended, Change, Created, Deleted, Found, KeyEntry, KeyPage, NodeInfo, Nodes, Outcome, Page,
    Removal, RemovalCause, Removed, RemovedKey, Restored, StreamEntry, StreamInfo, StreamList,
    Verified, VerifyProblem, Watched, Written,
};
pub use blob::{Blob, decode, encode};
pub use config::{Config, ConfigPatch, Discard, Durability};
pub use consumer::{
    Ack, AckKind, Acked, ConsumerConfig, ConsumerCreate, ConsumerDelete, ConsumerInfo,
    ConsumerList, ConsumerNames, ConsumerShow, Delivery, Fetch, Fetched, StartAt,
};
pub use fault::{Fault, FaultKind};
pub use record::{Expect, Record, StoredRecord};
pub use request::{
    Append, Create, Cursor, Delete, Get, Info, KeyList, List, Position, Read, Remove, Request,
    Restore, Select, Update, Verify, Watch, What,
};

/// Longest key, in bytes.
pub const KEY_LEN_MAX: usize = 4_096;

/// Longest message id, in bytes.
pub const MESSAGE_ID_LEN_MAX: usize = 256;

/// Longest headers of a record, in bytes.
pub const RECORD_HEADERS_LEN_MAX: usize = 100_000;

/// Longest payload of a record, in bytes.
pub const PAYLOAD_LEN_MAX: usize = 32 << 20;

/// Most records in one append or restore.
pub const APPEND_RECORDS_MAX: usize = 10_000;

/// Longest request, in bytes.
pub const REQUEST_LEN_MAX: usize = 64 << 20;

/// Longest description of a stream or consumer, in bytes.
pub const DESCRIPTION_LEN_MAX: usize = 4_096;

/// Most bytes of records in one answer, and what is meant where a request says nothing or more.
pub const ANSWER_BYTES_MAX: u32 = 8 << 20;

/// Bytes of records in one answer where a request says nothing.
pub const ANSWER_BYTES_DEFAULT: u32 = 1 << 20;

/// Most entries (records, changes, keys, streams) in one answer.
pub const ANSWER_ENTRIES_MAX: u32 = 65_536;

/// Longest wait of a watch or fetch, in milliseconds.
pub const WAIT_MS_MAX: u32 = 60_000;

/// Longest name of a consumer, in bytes; letters, digits, `-`, `_` and `.`.
pub const CONSUMER_NAME_LEN_MAX: usize = 128;
