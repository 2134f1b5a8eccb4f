//! The streams of the log: what is kept of each in memory, little while nobody uses it.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::Config;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use super::position::Position;
use super::positions::Positions;
use super::queue::Placed;
use crate::backend::{Entry, StreamId, Sum};
use crate::core::commit::{Meta, Totals};

/// All streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    table: RwLock<Table>,
    /// By what is written of them.
    configs: Mutex<HashMap<Vec<u8>, Arc<Config>, ahash::RandomState>>,
}

#[derive(Debug, Default)]
struct Table {
    names: BTreeSet<ByName>,
    ids: HashSet<ById, ahash::RandomState>,
    /// The next number that a stream gets.
    next: u64,
}

/// A stream that is found by its name, which it has itself: a node may have many streams, and tables of pointers alone
/// are half as large.
#[derive(Debug)]
struct ByName(Arc<Stream>);

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        self.0.name.as_str()
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.name.cmp(&other.0.name)
    }
}

/// A stream that is found by its number.
#[derive(Debug)]
struct ById(Arc<Stream>);

impl Borrow<StreamId> for ById {
    fn borrow(&self) -> &StreamId {
        &self.0.id
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) name: StreamName,
    pub(crate) state: Mutex<State>,
}

/// Frames that take no memory of their own: most streams of a node that has many were made, written to once or a few
/// times, and then left, so that they consist of a snapshot and what followed.
const FRAMES_INLINE: usize = 2;

/// What changes of a stream.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) meta: SharedMeta,
    pub(crate) totals: Totals,
    pub(crate) fence: u64,
    /// The parts of the latest snapshot, then what was written of the stream since.
    pub(crate) frames: SmallVec<[Placed; FRAMES_INLINE]>,
    /// How many of the frames are the snapshot.
    pub(crate) parts: u32,
    /// Counts up when frames are taken away or records move, so that who has read the stream
    /// meanwhile notices.
    pub(crate) generation: u32,
    /// When something of it is over next, or before that.
    pub(crate) due: Option<u64>,
    /// Somebody uses the stream, so that `positions` stay.
    pub(crate) used: bool,
    pub(crate) deleted: bool,
    /// Where the records are, while that is known.
    pub(crate) positions: Option<Box<Positions>>,
}

/// A description whose configuration is shared with other streams.
#[derive(Debug, Clone)]
pub(crate) struct SharedMeta {
    pub(crate) epoch: u64,
    pub(crate) created: u64,
    pub(crate) restoring: bool,
    pub(crate) config: Arc<Config>,
}

impl SharedMeta {
    pub(crate) fn to_meta(&self) -> Meta {
        Meta {
            epoch: self.epoch,
            created: self.created,
            restoring: self.restoring,
            config: Config::clone(&self.config),
        }
    }
}

impl State {
    /// A stream of which nothing was written but this frame.
    pub(crate) fn new(meta: SharedMeta, frames: &[Placed]) -> Self {
        Self {
            meta,
            totals: Totals::default(),
            fence: 0,
            frames: SmallVec::from_slice(frames),
            parts: 0,
            generation: 0,
            due: None,
            used: false,
            deleted: false,
            positions: None,
        }
    }

    /// What was written since the snapshot.
    pub(crate) fn tail(&self) -> &[Placed] {
        self.frames.get(self.parts as usize..).unwrap_or_default()
    }

    /// The parts of the snapshot.
    pub(crate) fn snapshot(&self) -> &[Placed] {
        self.frames.get(..self.parts as usize).unwrap_or_default()
    }

    /// A snapshot is on disk in which everything before `cut` is. Returns what is not needed for
    /// it any more.
    pub(crate) fn snapshotted(&mut self, parts: &[Placed], cut: Position) -> Vec<Placed> {
        let is_old = |placed: &Placed| placed.position < cut && !parts.contains(placed);
        let old: Vec<Placed> = self.frames.iter().copied().filter(is_old).collect();
        let tail: Vec<Placed> = self
            .tail()
            .iter()
            .copied()
            .filter(|placed| placed.position >= cut && !parts.contains(placed))
            .collect();
        self.frames = SmallVec::from_slice(&[parts, &tail].concat());
        self.parts = u32::try_from(parts.len()).expect("a snapshot has few parts");
        self.generation += 1;
        old
    }
}

impl Streams {
    /// A description with the configuration that others have as well.
    pub(crate) fn share(&self, meta: &Meta) -> SharedMeta {
        let bytes = super::head::config_bytes(&meta.config);
        let mut configs = self.configs.lock();
        // Those that no stream has any more go when the table would grow.
        if configs.len() == configs.capacity() {
            configs.retain(|_, config| Arc::strong_count(config) > 1);
        }
        let config = configs
            .entry(bytes)
            .or_insert_with(|| Arc::new(meta.config.clone()));
        let config = Arc::clone(config);
        drop(configs);
        SharedMeta {
            epoch: meta.epoch,
            created: meta.created,
            restoring: meta.restoring,
            config,
        }
    }

    pub(crate) fn by_name(&self, name: &StreamName) -> Option<Arc<Stream>> {
        let table = self.table.read();
        let found = table.names.get(name.as_str());
        found.map(|stream| Arc::clone(&stream.0))
    }

    pub(crate) fn by_id(&self, id: StreamId) -> Option<Arc<Stream>> {
        let table = self.table.read();
        table.ids.get(&id).map(|stream| Arc::clone(&stream.0))
    }

    /// All streams by number.
    pub(crate) fn all(&self) -> Vec<Arc<Stream>> {
        let table = self.table.read();
        let mut all: Vec<_> = table.ids.iter().map(|id| Arc::clone(&id.0)).collect();
        drop(table);
        all.sort_unstable_by_key(|stream| stream.id);
        all
    }

    /// The next number that a stream gets.
    pub(crate) fn next_id(&self) -> u64 {
        self.table.read().next.max(1)
    }

    /// Numbers below are not given again.
    pub(crate) fn reserve_ids(&self, next: u64) {
        let mut table = self.table.write();
        table.next = table.next.max(next);
    }

    /// A number for a new stream.
    pub(crate) fn new_id(&self) -> StreamId {
        let mut table = self.table.write();
        let id = table.next.max(1);
        table.next = id + 1;
        StreamId(id)
    }

    /// Adds a stream, unless there is one of its name.
    pub(crate) fn add(&self, stream: Stream) -> Result<Arc<Stream>, Box<Stream>> {
        let mut table = self.table.write();
        if table.names.contains(stream.name.as_str()) {
            return Err(Box::new(stream));
        }
        let stream = Arc::new(stream);
        table.names.insert(ByName(Arc::clone(&stream)));
        table.ids.insert(ById(Arc::clone(&stream)));
        table.next = table.next.max(stream.id.0 + 1);
        Ok(stream)
    }

    pub(crate) fn remove(&self, stream: &Stream) {
        let mut table = self.table.write();
        table.ids.remove(&stream.id);
        if table
            .names
            .get(stream.name.as_str())
            .is_some_and(|other| other.0.id == stream.id)
        {
            table.names.remove(stream.name.as_str());
        }
    }

    /// Streams in the order of their names.
    pub(crate) fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<Entry> {
        let from = match after {
            Some(after) if after >= prefix => std::ops::Bound::Excluded(after),
            _ => std::ops::Bound::Included(prefix),
        };
        let table = self.table.read();
        let streams = table
            .names
            .range::<str, _>((from, std::ops::Bound::Unbounded));
        let streams = streams.map(|ByName(stream)| stream);
        let streams = streams.take_while(|stream| stream.name.as_str().starts_with(prefix));
        let entry = |stream: &Arc<Stream>| {
            let state = stream.state.lock();
            Entry {
                name: stream.name.clone(),
                meta: state.meta.to_meta(),
                totals: state.totals,
            }
        };
        streams.map(entry).take(limit).collect()
    }

    /// The streams whose names have a prefix in numbers.
    pub(crate) fn sum(&self, prefix: &str) -> Sum {
        let table = self.table.read();
        let from = std::ops::Bound::Included(prefix);
        let streams = table
            .names
            .range::<str, _>((from, std::ops::Bound::Unbounded));
        let mut sum = Sum::default();
        let streams = streams.map(|ByName(stream)| stream);
        for stream in streams.take_while(|stream| stream.name.as_str().starts_with(prefix)) {
            let state = stream.state.lock();
            sum.streams += 1;
            sum.messages += state.totals.messages;
            sum.bytes += state.totals.bytes;
        }
        sum
    }
}
