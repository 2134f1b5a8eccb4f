//! Which records a stream has: their sizes, times, keys and lifetimes, without their payloads.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

/// Most records of a block.
const BLOCK_LEN: usize = 256;

/// What the core knows of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMeta {
    /// Its number.
    pub seq: u64,
    /// When it was accepted, in milliseconds since 1970.
    pub time: u64,
    /// What it counts for, in bytes.
    pub size: u32,
    /// Its key.
    pub key: Option<Arc<str>>,
    /// When its lifetime is over, in milliseconds since 1970, if it has one.
    pub expires: Option<u64>,
}

/// The records of a stream by number, key, age and lifetime. About 16 bytes a record, and 150 a key.
#[derive(Debug, Clone, Default)]
pub struct Records {
    blocks: VecDeque<Block>,
    messages: u64,
    bytes: u64,
    /// Per key the numbers of its records, ascending.
    keys: BTreeMap<Arc<str>, KeySeqs>,
    keyed: HashMap<u64, Arc<str>, ahash::RandomState>,
    expiries: BTreeSet<(u64, u64)>,
    lifetimes: HashMap<u64, u64, ahash::RandomState>,
}

/// The numbers of a key's records; nearly always there is one.
#[derive(Debug, Clone)]
enum KeySeqs {
    One(u64),
    Many(Vec<u64>),
}

/// Records with numbers close to each other.
#[derive(Debug, Clone)]
struct Block {
    /// The number of the first entry there ever was.
    base: u64,
    /// No entry is older.
    time_min: u64,
    /// No entry is newer.
    time_max: u64,
    /// Entries by distance from `base`, ascending.
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: u32,
    size: u32,
    time: u64,
}

impl Records {
    /// Without any record.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many records there are.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// What they count for, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many keys there are.
    pub fn keys_len(&self) -> usize {
        self.keys.len()
    }

    /// Adds a record whose number is greater than that of every record that was ever added. Older records of its key
    /// stay; see [`remove`](Self::remove).
    pub fn push(&mut self, meta: RecordMeta) {
        self.messages += 1;
        self.bytes += u64::from(meta.size);
        match self.blocks.back_mut() {
            Some(block) if block.has_room_for(meta.seq) => block.push(&meta),
            _ => self.blocks.push_back(Block::new(&meta)),
        }
        if let Some(expires) = meta.expires {
            self.expiries.insert((expires, meta.seq));
            self.lifetimes.insert(meta.seq, expires);
        }
        if let Some(key) = meta.key {
            self.keyed.insert(meta.seq, Arc::clone(&key));
            self.keys
                .entry(key)
                .and_modify(|seqs| seqs.push(meta.seq))
                .or_insert(KeySeqs::One(meta.seq));
        }
    }

    /// Takes a record out, if it is there.
    pub fn remove(&mut self, seq: u64) -> Option<RecordMeta> {
        let at = self.block_of(seq)?;
        let block = &mut self.blocks[at];
        let index = block.find(seq)?;
        let entry = block.entries.remove(index);
        if block.entries.is_empty() {
            self.blocks.remove(at);
        }
        self.messages -= 1;
        self.bytes -= u64::from(entry.size);
        let expires = self.lifetimes.remove(&seq);
        if let Some(expires) = expires {
            self.expiries.remove(&(expires, seq));
        }
        let key = self.keyed.remove(&seq);
        if let Some(key) = &key {
            self.forget_key(key, seq);
        }
        Some(RecordMeta {
            seq,
            time: entry.time,
            size: entry.size,
            key,
            expires,
        })
    }

    fn forget_key(&mut self, key: &Arc<str>, seq: u64) {
        let gone = match self.keys.get_mut(key) {
            Some(seqs) => seqs.remove(seq),
            None => false,
        };
        if gone {
            self.keys.remove(key);
        }
    }

    /// Whether a record is there.
    pub fn contains(&self, seq: u64) -> bool {
        self.block_of(seq)
            .is_some_and(|at| self.blocks[at].find(seq).is_some())
    }

    /// What is known of a record.
    pub fn get(&self, seq: u64) -> Option<RecordMeta> {
        let block = &self.blocks[self.block_of(seq)?];
        let entry = block.entries[block.find(seq)?];
        Some(RecordMeta {
            seq,
            time: entry.time,
            size: entry.size,
            key: self.keyed.get(&seq).cloned(),
            expires: self.lifetimes.get(&seq).copied(),
        })
    }

    /// The number of the oldest record.
    pub fn first_seq(&self) -> Option<u64> {
        let block = self.blocks.front()?;
        block.entries.first().map(|entry| block.seq(*entry))
    }

    /// The number of the newest record.
    pub fn last_seq(&self) -> Option<u64> {
        let block = self.blocks.back()?;
        block.entries.last().map(|entry| block.seq(*entry))
    }

    /// The key of a record, if it has one.
    pub fn key_of(&self, seq: u64) -> Option<&Arc<str>> {
        self.keyed.get(&seq)
    }

    /// The numbers of a key's records, ascending.
    pub fn seqs_of(&self, key: &str) -> &[u64] {
        self.keys.get(key).map_or(&[], KeySeqs::as_slice)
    }

    /// The keys that begin with `prefix` and stand behind `after`, in the order of their bytes, each with the numbers
    /// of its records.
    pub fn keys<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a [u64])> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.keys
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, seqs)| (key, seqs.as_slice()))
    }

    /// The records with numbers of at least `from`, ascending: number, size and time.
    pub fn iter_from(&self, from: u64) -> impl Iterator<Item = (u64, u32, u64)> {
        let start = self.blocks.partition_point(|block| block.last() < from);
        self.blocks.range(start..).flat_map(move |block| {
            let skipped = block
                .entries
                .partition_point(|entry| block.seq(*entry) < from);
            block.entries[skipped..]
                .iter()
                .map(|entry| (block.seq(*entry), entry.size, entry.time))
        })
    }

    /// How many records have numbers of at least `from`.
    pub fn count_from(&self, from: u64) -> u64 {
        let start = self.blocks.partition_point(|block| block.last() < from);
        let mut count = 0;
        for block in self.blocks.range(start..) {
            count += block.entries.len();
        }
        if let Some(block) = self.blocks.get(start) {
            count -= block
                .entries
                .partition_point(|entry| block.seq(*entry) < from);
        }
        count as u64
    }

    /// The first record from `from` on that was accepted at `time` or later.
    pub fn first_since(&self, from: u64, time: u64) -> Option<u64> {
        let start = self.blocks.partition_point(|block| block.last() < from);
        let mut blocks = self
            .blocks
            .range(start..)
            .filter(|block| block.time_max >= time);
        blocks.find_map(|block| {
            let mut entries = block.entries.iter().map(|entry| (block.seq(*entry), entry));
            entries
                .find(|(seq, entry)| *seq >= from && entry.time >= time)
                .map(|(seq, _)| seq)
        })
    }

    /// The numbers of the records that were accepted at `time` or before, ascending, at most `limit`.
    pub fn older_than(&self, time: u64, limit: usize) -> Vec<u64> {
        let blocks = self.blocks.iter().filter(|block| block.time_min <= time);
        let old = blocks.flat_map(|block| {
            let entries = block.entries.iter().filter(move |entry| entry.time <= time);
            entries.map(|entry| block.seq(*entry))
        });
        old.take(limit).collect()
    }

    /// When the oldest record was accepted, or a little before.
    pub fn oldest_time(&self) -> Option<u64> {
        self.blocks.iter().map(|block| block.time_min).min()
    }

    /// When the oldest record was accepted. Blocks that have lost theirs learn which one is oldest now.
    pub fn find_oldest_time(&mut self) -> Option<u64> {
        loop {
            let block = self.blocks.iter_mut().min_by_key(|block| block.time_min)?;
            let oldest = block.entries.iter().map(|entry| entry.time).min()?;
            if oldest == block.time_min {
                return Some(oldest);
            }
            block.time_min = oldest;
        }
    }

    /// The numbers of the records whose lifetime was over at `now`, in the order in which it ended, at most `limit`.
    pub fn expired(&self, now: u64, limit: usize) -> Vec<u64> {
        let over = self
            .expiries
            .iter()
            .take_while(|(expires, _)| *expires <= now);
        over.map(|(_, seq)| *seq).take(limit).collect()
    }

    /// When the next lifetime is over.
    pub fn next_expiry(&self) -> Option<u64> {
        self.expiries.first().map(|(expires, _)| *expires)
    }

    fn block_of(&self, seq: u64) -> Option<usize> {
        let at = self.blocks.partition_point(|block| block.last() < seq);
        (at < self.blocks.len()).then_some(at)
    }
}

impl KeySeqs {
    fn push(&mut self, seq: u64) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, seq]),
            Self::Many(seqs) => seqs.push(seq),
        }
    }

    /// Whether none is left.
    fn remove(&mut self, seq: u64) -> bool {
        match self {
            Self::One(first) => *first == seq,
            Self::Many(seqs) => {
                seqs.retain(|kept| *kept != seq);
                if let [only] = seqs[..] {
                    *self = Self::One(only);
                }
                false
            }
        }
    }

    fn as_slice(&self) -> &[u64] {
        match self {
            Self::One(seq) => std::slice::from_ref(seq),
            Self::Many(seqs) => seqs,
        }
    }
}

impl Block {
    fn new(meta: &RecordMeta) -> Self {
        let mut block = Self {
            base: meta.seq,
            time_min: meta.time,
            time_max: meta.time,
            entries: Vec::new(),
        };
        block.push(meta);
        block
    }

    fn has_room_for(&self, seq: u64) -> bool {
        self.entries.len() < BLOCK_LEN && u32::try_from(seq - self.base).is_ok()
    }

    fn push(&mut self, meta: &RecordMeta) {
        self.time_min = self.time_min.min(meta.time);
        self.time_max = self.time_max.max(meta.time);
        let offset = u32::try_from(meta.seq - self.base).expect("the block has room for it");
        self.entries.push(Entry {
            offset,
            size: meta.size,
            time: meta.time,
        });
    }

    fn seq(&self, entry: Entry) -> u64 {
        self.base + u64::from(entry.offset)
    }

    /// The last number; a block is never empty.
    fn last(&self) -> u64 {
        self.entries
            .last()
            .map_or(self.base, |entry| self.seq(*entry))
    }

    fn find(&self, seq: u64) -> Option<usize> {
        let offset = u32::try_from(seq.checked_sub(self.base)?).ok()?;
        self.entries
            .binary_search_by_key(&offset, |entry| entry.offset)
            .ok()
    }
}
