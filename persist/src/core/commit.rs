//! What the core decided and a backend stores, as one unit.

use std::sync::Arc;

use bytes::Bytes;
use dialtone_client::persist::wire::{Config, Durability, RemovalCause};

/// Changes of one stream that are stored together: all of them or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The revision of the first change; the others follow without gaps. It is one more than that of the last change
    /// committed before, and a backend refuses anything else. With no changes it is what the next change will have.
    pub revision: u64,
    /// What happens, in order.
    pub changes: Vec<Change>,
    /// What happens to consumers.
    pub consumers: Vec<ConsumerChange>,
    /// Removals and configurations up to this revision need not be loaded any more.
    pub horizon: u64,
    /// The stream after this commit.
    pub totals: Totals,
    /// When it is done.
    pub durability: Durability,
    /// The fencing number of the lease under which it was decided; a backend refuses a lower one than
    /// it has seen for the stream. 0 where a stream has one possible writer.
    pub fence: u64,
    /// When it was decided, in milliseconds since 1970.
    pub time: u64,
    /// When something of the stream is over next by its lifetime, or a little before.
    pub due: Option<u64>,
}

impl Commit {
    /// The revision of the last change; `revision − 1` with no changes.
    pub fn last_revision(&self) -> u64 {
        self.revision + self.changes.len() as u64 - 1
    }

    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.consumers.is_empty()
    }
}

/// One change, one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A record is there.
    Append(Append),
    /// Records are gone.
    Remove(Remove),
    /// The description of the stream is another.
    Meta(Box<Meta>),
}

/// A record on its way to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Its number, greater than every one before.
    pub seq: u64,
    /// When it was accepted, in milliseconds since 1970. Clocks jump: it may be less than that of an older record.
    pub time: u64,
    /// Its key.
    pub key: Option<Arc<str>>,
    /// How the payload is to be read.
    pub encoding: u8,
    /// One JSON object as text.
    pub headers: Option<Bytes>,
    /// The lifetime that was asked for, in milliseconds.
    pub ttl: Option<u64>,
    /// The message id; to be loaded again while it is within the stream's window, whatever becomes of the record.
    pub id: Option<Arc<str>>,
    /// The payload.
    pub payload: Bytes,
    /// Older records of the key that are gone thereby, lowest first; mostly none or one.
    pub replaced: Vec<u64>,
}

impl Append {
    /// What the record counts for in the limits: its payload, headers and key, in bytes.
    pub fn size(&self) -> u64 {
        let headers = self.headers.as_ref().map_or(0, Bytes::len);
        let key = self.key.as_ref().map_or(0, |key| key.len());
        (self.payload.len() + headers + key) as u64
    }
}

/// Records that are gone, and that those who were away will ask for until the horizon has passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remove {
    /// When, in milliseconds since 1970.
    pub time: u64,
    /// Why.
    pub cause: RemovalCause,
    /// Numbers, both ends included, ascending and apart; numbers inside that were gone before may be among them.
    pub ranges: Vec<(u64, u64)>,
    /// The keys of those that had one, ascending by number.
    pub keys: Vec<(u64, Arc<str>)>,
}

/// What describes a stream beside its records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Another one each time that a stream of this name is made.
    pub epoch: u64,
    /// When it was made, in milliseconds since 1970.
    pub created: u64,
    /// It is being restored.
    pub restoring: bool,
    /// Its configuration.
    pub config: Config,
}

/// A stream in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Records that are there.
    pub messages: u64,
    /// What they count for.
    pub bytes: u64,
    /// The last number that was given; it may be beyond that of any record ever appended here, after a restoring.
    pub last_seq: u64,
    /// When the last record was accepted, in milliseconds since 1970; 0 for never.
    pub last_time: u64,
    /// The revision of the last change.
    pub revision: u64,
}

/// Something that happens to the state of a consumer, in bytes that only the core reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerChange {
    /// The name of the consumer.
    pub name: Arc<str>,
    /// What happens.
    pub what: ConsumerWhat,
}

/// See [`ConsumerChange`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerWhat {
    /// The whole state; what was stored of the consumer before is not needed any more.
    Snapshot(Bytes),
    /// To be loaded behind the last snapshot and the deltas since; the core makes a snapshot before they are many.
    Delta(Bytes),
    /// The consumer is gone.
    Delete,
}
