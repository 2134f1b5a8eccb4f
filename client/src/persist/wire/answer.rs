//! What is answered.

use serde::{Deserialize, Serialize};

use super::config::{Config, Durability};
use super::fault::Fault;
use super::record::StoredRecord;
use super::request::Position;

/// The answer to an append, when it is as durable as was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appended {
    /// One outcome per record, in order.
    pub results: Vec<Outcome>,
    /// The durability obtained, which is at least what was asked for.
    pub durability: Durability,
    /// The stream's epoch.
    pub epoch: u64,
}

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is in the stream.
    Written(Written),
    /// It is not, and nothing has changed because of it.
    Refused(Fault),
}

/// Where a record is in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Its number.
    pub seq: u64,
    /// When it was accepted.
    pub time: u64,
    /// The revision that it made.
    pub revision: u64,
    /// It had been written before, under the same message id.
    #[serde(default, skip_serializing_if = "is_false")]
    pub duplicate: bool,
}

/// The answer to a get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The record, if there is one.
    pub record: Option<StoredRecord>,
    /// The last number that the stream gave; 0 for none.
    pub last_seq: u64,
}

/// The answer to a read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Records in the order of their numbers.
    pub records: Vec<StoredRecord>,
    /// From where to read on; missing when there is nothing more in the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// The last number that the stream gave.
    pub last_seq: u64,
    /// The stream's epoch.
    pub epoch: u64,
    /// The stream's revision; a watch after it misses nothing.
    pub revision: u64,
}

/// A key with the number of its newest record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEntry {
    /// The key.
    pub key: String,
    /// The number of its newest record.
    pub seq: u64,
}

/// The answer to a list of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPage {
    /// Keys in the order of their bytes.
    pub keys: Vec<KeyEntry>,
    /// There are more behind the last of these.
    pub more: bool,
    /// The revision of the stream.
    pub revision: u64,
}

/// The answer to a removal, when it is as durable as was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// How many records are gone.
    pub count: u64,
    /// Their numbers as ranges, both ends included: at most 10,000 ranges, the first ones.
    pub ranges: Vec<(u64, u64)>,
    /// The revision of the stream afterwards.
    pub revision: u64,
    /// The durability obtained.
    pub durability: Durability,
}

/// The answer to a watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Changes in the order of their revisions.
    pub changes: Vec<Change>,
    /// Where to go on.
    pub position: Position,
    /// There is more already.
    pub more: bool,
    /// Appended records of keys that have older records too, where `max_msgs_per_key` is more than 1: their numbers,
    /// each with the number below which records of the key are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept_from: Vec<(u64, u64)>,
    /// The changes after the cursor are not known any more, or are of another epoch: what the reader holds is worth
    /// nothing. It begins anew with the cursor `seq: 1`; `position` is the stream as it is now.
    #[serde(default, skip_serializing_if = "is_false")]
    pub resync: bool,
}

/// Something that happened to a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A record was appended. Older records of its key are gone thereby, unless [`Watched::kept_from`] says otherwise.
    Append(StoredRecord),
    /// Records are gone.
    Remove(Removal),
    /// A record was appended and can no longer be read: its store is damaged.
    Damaged {
        /// Its number.
        seq: u64,
        /// What is wrong, and where.
        error: String,
    },
    /// The configuration is another.
    Config {
        /// The revision that this made.
        revision: u64,
        /// As it is now.
        config: Box<Config>,
    },
}

/// Records that are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// The revision that this made.
    pub revision: u64,
    /// When.
    pub time: u64,
    /// Why.
    pub cause: RemovalCause,
    /// Their numbers as ranges, both ends included; numbers inside that were gone before may be among them.
    pub ranges: Vec<(u64, u64)>,
    /// The keys of those that had one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<RemovedKey>,
}

/// A removed record that had a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedKey {
    /// The key.
    pub key: String,
    /// The number of the record.
    pub seq: u64,
    /// Records of the key below this number are gone too, though nobody may have said so; missing: all of them are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_from: Option<u64>,
}

/// Why records are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RemovalCause {
    /// Somebody removed them.
    Request,
    /// They made room for others, or were too old.
    Limit,
    /// Their own lifetime was over.
    Expiry,
}

/// The answer to a create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// Whether this request made it; otherwise it was there.
    pub created: bool,
    /// The stream.
    pub info: StreamInfo,
}

/// A stream as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamInfo {
    /// Its name.
    pub stream: String,
    /// Another one each time that the stream is made or restored.
    pub epoch: u64,
    /// When it was made.
    pub created: u64,
    /// Its configuration.
    pub config: Config,
    /// How many records it has.
    pub messages: u64,
    /// What they count for in `max_bytes`.
    pub bytes: u64,
    /// How many keys it has.
    pub keys: u64,
    /// The number of the oldest record; `last_seq + 1` when there is none.
    pub first_seq: u64,
    /// The last number that was given; 0 for none.
    pub last_seq: u64,
    /// When the last record was accepted; 0 for never.
    pub last_time: u64,
    /// The number of changes so far.
    pub revision: u64,
    /// A watch can go on from this revision or a later one.
    pub horizon: u64,
    /// How many consumers it has.
    pub consumers: u64,
    /// It is being restored.
    #[serde(default, skip_serializing_if = "is_false")]
    pub restoring: bool,
    /// The node that has it.
    pub node: String,
}

/// One stream of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEntry {
    /// Its name.
    pub stream: String,
    /// When it was made.
    pub created: u64,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Kept in memory alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ephemeral: bool,
    /// How many records it has.
    pub messages: u64,
    /// What they count for.
    pub bytes: u64,
    /// The last number that was given.
    pub last_seq: u64,
    /// When the last record was accepted.
    pub last_time: u64,
}

/// The answer to a list of streams.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamList {
    /// Streams in the order of their names.
    pub streams: Vec<StreamEntry>,
    /// There are more behind the last of these.
    pub more: bool,
    /// How many streams the prefix has on the nodes that were asked.
    pub total_streams: u64,
    /// How many records they have.
    pub total_messages: u64,
    /// What these count for.
    pub total_bytes: u64,
    /// Nodes that did not answer, so that what they alone keep is not among these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// The answer to a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// Whether there was anything to delete.
    pub deleted: bool,
}

/// The answer to a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// The last number so far.
    pub last_seq: u64,
    /// How many records the stream has.
    pub messages: u64,
}

/// The answer to a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// How many records were read.
    pub records: u64,
    /// How many bytes.
    pub bytes: u64,
    /// What is wrong, at most 1,000 entries.
    pub problems: Vec<VerifyProblem>,
    /// From where to verify on; missing when everything was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// Something wrong with what is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyProblem {
    /// The number of the record concerned, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// What is wrong, and where: file and offset.
    pub text: String,
}

/// The answer about the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nodes {
    /// Every node that is known.
    pub nodes: Vec<NodeInfo>,
}

/// One node in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeInfo {
    /// Its name.
    pub node: String,
    /// Its software.
    pub version: String,
    /// Whether it answers; a node that does not has nothing but its name here.
    pub alive: bool,
    /// The view of the nodes that it acts on, where nodes come and go; 0 otherwise.
    pub view: u64,
    /// How long its lease lasts yet, in milliseconds, where it needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<u64>,
    /// The store behind it: `log`, `postgres`.
    pub backend: String,
    /// Why it accepts no writes, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How long it has been running, in milliseconds.
    pub uptime: u64,
    /// How many streams it keeps.
    pub streams: u64,
    /// How many of them are loaded.
    pub streams_open: u64,
    /// How many records it keeps.
    pub messages: u64,
    /// What they count for.
    pub bytes: u64,
    /// What the store takes on disk, in bytes.
    pub disk_bytes: u64,
    /// How many watches and fetches wait.
    pub waiting: u64,
    /// Counters since the start, by name.
    pub counters: std::collections::BTreeMap<String, u64>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}
