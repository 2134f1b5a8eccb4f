//! What a store does: it keeps what the core decided, gives it back, and knows nothing of what it means.
//!
//! Every implementation passes the same suite, `persist/tests/conformance`.

use std::sync::Arc;

use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::{Durability, StoredRecord, VerifyProblem};
use futures_util::future::BoxFuture;

use crate::core::commit::{Commit, Meta, Remove, Totals};
use crate::core::records::Records;

pub mod log;
pub mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;

/// A stream within its backend; a number is never given to a second stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Called once, on any thread, when a commit is as durable as it asks to be, or has failed. It is quick and never
/// blocks.
pub type Done = Box<dyn FnOnce(Result<Durability, Error>) + Send>;

/// A store for streams.
///
/// Callers keep to this: there is at most one commit of a stream at a time (the next one follows the call of `Done`),
/// and none while the stream is being loaded or deleted. Reads happen at any time.
pub trait Backend: Send + Sync + std::fmt::Debug + 'static {
    /// A short name for people: `log`, `memory`, `postgres`.
    fn name(&self) -> &'static str;

    /// Whether other nodes have the same streams in it.
    fn is_shared(&self) -> bool {
        false
    }

    /// Why it accepts nothing more, if so. It is asked for often.
    fn failure(&self) -> Option<String> {
        None
    }

    /// Makes an empty stream; it is durable when this returns.
    ///
    /// # Errors
    /// [`Error::Exists`] when there is one of this name.
    fn create<'a>(
        &'a self,
        stream: &'a StreamName,
        meta: &'a Meta,
    ) -> BoxFuture<'a, Result<StreamId, Error>>;

    /// Everything that the core needs to go on with a stream; `None` when there is none of this name. `now` is the
    /// time, in milliseconds since 1970: message ids older than the stream's window need not be among it.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn load<'a>(
        &'a self,
        stream: &'a StreamName,
        now: u64,
    ) -> BoxFuture<'a, Result<Option<Loaded>, Error>>;

    /// Before a stream is loaded by a node that took it over with the fencing number `fence`: from now on, no commit with
    /// a lower one is accepted, and what was accepted before is loaded. Without a stream of this name nothing happens.
    /// A backend that is not shared has nothing to do.
    ///
    /// # Errors
    /// [`Error::Fenced`] when a higher number was seen.
    fn claim<'a>(
        &'a self,
        _stream: &'a StreamName,
        _fence: u64,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Streams that are not loaded and of which something is over at `now`, or may be, at most `limit` of them. What was
    /// told need not be told again, since whoever asks loads them. A backend that outlives nothing has none.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn due(&self, _now: u64, _limit: usize) -> BoxFuture<'_, Result<Vec<StreamName>, Error>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// A stream will not be used for a while: what was kept in memory for it may go. It never fails.
    fn unload(&self, stream: StreamId);

    /// Stores a commit, and calls `done`. It does not block: what takes time happens elsewhere. Commits that wait for
    /// the same disk are stored together.
    ///
    /// After a failure nothing of the commit is there when the stream is loaded again, except that with
    /// [`Error::Failed`] nobody knows: then the backend accepts nothing more.
    fn commit(&self, stream: StreamId, commit: Commit, done: Done);

    /// Reads records with numbers in `ranges` (both ends included, ascending, apart), in order. Records that are gone
    /// are skipped. `bytes` is about how many bytes of records are wanted at most; it may be exceeded by a record, and
    /// fewer may come, but at least one as long as there is one.
    ///
    /// # Errors
    /// When the store cannot be read. A damaged record is no error but ends the batch.
    fn read<'a>(
        &'a self,
        stream: StreamId,
        ranges: &'a [(u64, u64)],
        bytes: u64,
    ) -> BoxFuture<'a, Result<Batch, Error>>;

    /// Deletes a stream; it is durable when this returns. Its space is freed later.
    ///
    /// # Errors
    /// When that cannot be stored.
    fn delete(&self, stream: StreamId) -> BoxFuture<'_, Result<(), Error>>;

    /// Streams in the order of their names, without loading them.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>, Error>>;

    /// How many streams have this prefix, with their totals.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn sum<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Sum, Error>>;

    /// Reads what is kept of a stream from this number on and compares the checksums, for about `bytes` bytes.
    ///
    /// # Errors
    /// When the store cannot be read at all.
    fn verify(
        &self,
        stream: StreamId,
        from: u64,
        bytes: u64,
    ) -> BoxFuture<'_, Result<Verified, Error>>;

    /// The backend in numbers.
    fn status(&self) -> Status;

    /// Finishes what waits, makes everything durable that was acknowledged at any level, and ends. Later calls fail.
    ///
    /// # Errors
    /// When that cannot be done.
    fn close(&self) -> BoxFuture<'_, Result<(), Error>>;
}

/// A stream as it was committed last.
#[derive(Debug)]
pub struct Loaded {
    /// Its number.
    pub id: StreamId,
    /// Its description.
    pub meta: Meta,
    /// Its totals.
    pub totals: Totals,
    /// Its records.
    pub records: Records,
    /// From where on `log` is complete: the revision, and the last number that was given by then. At least the horizon
    /// of the last commit, or revision 0 with number 0.
    pub horizon: (u64, u64),
    /// What was not an append since then, oldest first.
    pub log: Vec<Logged>,
    /// Message ids within the stream's window, oldest first, whether or not their records are still there.
    pub ids: Vec<MessageId>,
    /// Per consumer its last snapshot and the deltas since, in order.
    pub consumers: Vec<(Arc<str>, Vec<bytes::Bytes>)>,
}

/// A change that was not an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Its revision.
    pub revision: u64,
    /// The last number that was given before it.
    pub last_seq: u64,
    /// What was removed; `None` for a change of the description.
    pub remove: Option<Remove>,
}

/// A message id that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageId {
    /// The id.
    pub id: Arc<str>,
    /// The number of its record.
    pub seq: u64,
    /// When it was accepted, in milliseconds since 1970.
    pub time: u64,
    /// The revision that it made.
    pub revision: u64,
}

/// Records that were read.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order of their numbers.
    pub records: Vec<StoredRecord>,
    /// The record at which reading ended, because it is damaged.
    pub damaged: Option<Damaged>,
    /// The number from which to read on, where not everything in the ranges was read.
    pub next: Option<u64>,
}

/// A record that cannot be given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Its number.
    pub seq: u64,
    /// What is wrong, with file and offset.
    pub text: String,
}

/// A stream of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: StreamName,
    /// Its description.
    pub meta: Meta,
    /// Its totals.
    pub totals: Totals,
}

/// Several streams in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// How many there are.
    pub streams: u64,
    /// How many records they have.
    pub messages: u64,
    /// What these count for.
    pub bytes: u64,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// How many records were read.
    pub records: u64,
    /// How many bytes.
    pub bytes: u64,
    /// What is wrong.
    pub problems: Vec<VerifyProblem>,
    /// From where to verify on; `None` when everything was read.
    pub next: Option<u64>,
}

/// A backend in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Why it accepts nothing more, if so.
    pub failure: Option<String>,
    /// Its streams.
    pub sum: Sum,
    /// What it takes on disk, in bytes; 0 where nobody knows.
    pub disk_bytes: u64,
    /// Counters since the start, by name: snake case, unit at the end.
    pub counters: Vec<(&'static str, u64)>,
}

/// Why a backend did not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is a stream of this name.
    #[error("there is a stream of this name already")]
    Exists,
    /// There is no such stream (any more).
    #[error("there is no such stream")]
    NotFound,
    /// Another node writes the stream now.
    #[error("another node writes this stream now")]
    Fenced,
    /// There is no room; nothing was stored, and later commits may succeed.
    #[error("the store is full: {0}")]
    Full(String),
    /// The store cannot be reached at the moment; nothing was stored.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Something that was stored is damaged.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// The store failed and accepts nothing more, because nobody knows what of the last commits is durable.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The backend was closed.
    #[error("the store is closed")]
    Closed,
}
