//! What can be asked of a stream.

use serde::{Deserialize, Serialize};

use super::config::{Config, ConfigPatch, Durability};
use super::consumer::{Ack, ConsumerCreate, ConsumerDelete, ConsumerList, ConsumerShow, Fetch};
use super::record::{Expect, Record, StoredRecord};

/// A request: the name of the operation with its arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Answered by [`Appended`](super::Appended).
    Append(Append),
    /// Answered by [`Found`](super::Found).
    Get(Get),
    /// Answered by [`Page`](super::Page).
    Read(Read),
    /// Answered by [`KeyPage`](super::KeyPage).
    Keys(KeyList),
    /// Answered by [`Removed`](super::Removed).
    Remove(Remove),
    /// Answered by [`Watched`](super::Watched).
    Watch(Watch),
    /// Answered by [`Created`](super::Created).
    Create(Create),
    /// Answered by [`StreamInfo`](super::StreamInfo).
    Update(Update),
    /// Answered by [`StreamInfo`](super::StreamInfo).
    Info(Info),
    /// Answered by [`Deleted`](super::Deleted).
    Delete(Delete),
    /// Answered by [`StreamList`](super::StreamList).
    List(List),
    /// Answered by [`Restored`](super::Restored).
    Restore(Restore),
    /// Answered by [`Verified`](super::Verified).
    Verify(Verify),
    /// Answered by [`Nodes`](super::Nodes). Of the scope `hub` alone.
    Nodes,
    /// Answered by [`NodeInfo`](super::NodeInfo) of the node that receives it. Of the scope `hub` alone.
    Status,
    /// Answered by [`ConsumerInfo`](super::ConsumerInfo).
    ConsumerCreate(ConsumerCreate),
    /// Answered by [`ConsumerInfo`](super::ConsumerInfo).
    ConsumerInfo(ConsumerShow),
    /// Answered by [`ConsumerNames`](super::ConsumerNames).
    ConsumerList(ConsumerList),
    /// Answered by [`Deleted`](super::Deleted).
    ConsumerDelete(ConsumerDelete),
    /// Answered by [`Fetched`](super::Fetched).
    Fetch(Fetch),
    /// Answered by [`Acked`](super::Acked).
    Ack(Ack),
}

/// Writes records at the end of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Append {
    /// The name of the stream.
    pub stream: String,
    /// 1 to [`APPEND_RECORDS_MAX`](super::APPEND_RECORDS_MAX) records, in order.
    pub records: Vec<Record>,
    /// All or nothing: the first record that is refused refuses the request. Otherwise each record has its own outcome.
    #[serde(skip_serializing_if = "is_false")]
    pub atomic: bool,
    /// What the acknowledgement is to mean; the stream's own level where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// Fails with `wrong_epoch` unless the stream has this epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}

/// Reads one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Get {
    /// The name of the stream.
    pub stream: String,
    /// Which record.
    pub select: Select,
}

/// One record of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// By its number.
    Seq(u64),
    /// The newest of a key.
    Key(String),
    /// The newest of the stream.
    Last,
}

/// Reads records in the order of their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Read {
    /// The name of the stream.
    pub stream: String,
    /// The first number; 0 and 1 are the beginning.
    pub from: u64,
    /// The last number; up to the end where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Only records that were accepted at this time or later, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Only records whose key begins like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The answer ends when its records have this many bytes; one record always fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u32>,
    /// The answer ends after this many records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_msgs: Option<u32>,
}

/// Lists keys in the order of their bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyList {
    /// The name of the stream.
    pub stream: String,
    /// Only keys that begin like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Only keys behind this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Most keys of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Takes records out of a stream. What is not there is not removed, and that is no error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remove {
    /// The name of the stream.
    pub stream: String,
    /// Which records.
    pub what: What,
    /// Removes only if this holds; `key_seq` goes with `what: key` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// What the acknowledgement is to mean; the stream's own level where this is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
}

/// Several records of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// These numbers, at most [`APPEND_RECORDS_MAX`](super::APPEND_RECORDS_MAX).
    Seqs(Vec<u64>),
    /// Everything up to and with this number.
    UpTo(u64),
    /// From the first to the last number, both included.
    Range(u64, u64),
    /// Every record.
    All,
    /// Every record of a key.
    Key(String),
    /// Every record whose key begins like this.
    Prefix(String),
}

/// Follows what happens to a stream. It is answered at once when there is something after the cursor, and else as soon
/// as there is, or empty after `wait`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The name of the stream.
    pub stream: String,
    /// From where on.
    pub cursor: Cursor,
    /// Only changes of keys that begin like this; changes of the configuration are told in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The answer ends when its changes have this many bytes; one change always fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u32>,
    /// How long to wait for a change, in milliseconds; at most [`WAIT_MS_MAX`](super::WAIT_MS_MAX).
    #[serde(default)]
    pub wait: u32,
}

/// A place in the history of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cursor {
    /// Changes from now on.
    Now,
    /// What the stream holds from this number on, and then every change.
    Seq(u64),
    /// What the stream holds of this time or later, in milliseconds since 1970, and then every change.
    Time(u64),
    /// Where an answer said to go on.
    After(Position),
}

/// Where a watch goes on; given by an answer, and good on any node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The stream's epoch.
    pub epoch: u64,
    /// Every change up to this revision is known.
    pub revision: u64,
    /// While what the stream held at `revision` is still being told: the next number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

/// Makes a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Create {
    /// The name of the stream.
    pub stream: String,
    /// Its configuration.
    pub config: Config,
    /// A stream that is there already is no error, provided that `ephemeral` and `durability` are the same. Its other
    /// settings stay as they are.
    pub exist_ok: bool,
}

/// Changes the configuration of a stream. Limits hold at once, for what is there too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Update {
    /// The name of the stream.
    pub stream: String,
    /// What is to change.
    pub config: ConfigPatch,
}

/// Describes a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Info {
    /// The name of the stream.
    pub stream: String,
}

/// Deletes a stream with everything in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Delete {
    /// The name of the stream.
    pub stream: String,
}

/// Lists the streams of the owner that asks, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct List {
    /// Only streams whose name begins like this.
    pub prefix: String,
    /// Only streams behind this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Most streams of the answer; 1,000 where it is missing, at most 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only what the node that answers keeps by itself: nodes ask each other so.
    #[serde(skip_serializing_if = "is_false")]
    pub local: bool,
}

/// Fills an empty stream with the records of another, which keep their numbers and times.
///
/// The first request opens the restoring, during which everything but reading and further `restore` is refused; `done`
/// ends it. Numbers must grow. Limits are enforced at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Restore {
    /// The name of the stream, which exists and was never written to.
    pub stream: String,
    /// 0 to [`APPEND_RECORDS_MAX`](super::APPEND_RECORDS_MAX) records; revisions are given anew.
    pub records: Vec<StoredRecord>,
    /// With `done`: the last number that the original gave, so that numbers of deleted records are not given again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seq: Option<u64>,
    /// There is nothing more to restore.
    pub done: bool,
}

/// Reads everything that is kept of a stream and compares the checksums.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Verify {
    /// The name of the stream.
    pub stream: String,
    /// The first number; 0 and 1 are the beginning. A long stream takes several requests.
    pub from: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}
