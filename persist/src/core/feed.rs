//! What a read or a watch is to give: which records, which changes, and where to go on.

use std::sync::Arc;

use dialtone_client::persist::wire::{Cursor, Position, Read, RemovalCause};

use super::state::State;
use crate::backend::Logged;

/// Most records that one request looks at, so that a rare prefix cannot hold up a stream.
const SCAN_MAX: usize = 65_536;

/// What a record costs in an answer beside its size, in bytes.
const RECORD_OVERHEAD: u64 = 40;

/// What a request may have.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Bytes of records and changes.
    pub bytes: u64,
    /// Records and changes.
    pub entries: usize,
}

/// The records of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Their numbers, ascending.
    pub seqs: Vec<u64>,
    /// From where to read on, if there is more.
    pub next: Option<u64>,
}

/// The changes of an answer to a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// In the order of their revisions.
    pub items: Vec<Item>,
    /// Where to go on.
    pub position: Position,
    /// There is more already.
    pub more: bool,
    /// The cursor is of another epoch, or too old.
    pub resync: bool,
}

/// One change of an answer to a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A record was appended.
    Append {
        /// Its number.
        seq: u64,
        /// Records of its key below this number are gone; `None`: all before it are.
        kept_from: Option<u64>,
    },
    /// Records are gone.
    Remove {
        /// The revision that this made.
        revision: u64,
        /// When, in milliseconds since 1970.
        time: u64,
        /// Why.
        cause: RemovalCause,
        /// Their numbers, both ends included.
        ranges: Vec<(u64, u64)>,
        /// Those that had a key.
        keys: Vec<RemovedKey>,
    },
    /// The configuration is another; this is the revision.
    Config(u64),
}

/// A removed record that had a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedKey {
    /// Its number.
    pub seq: u64,
    /// The key.
    pub key: Arc<str>,
    /// Records of the key below this number are gone; `None`: all are.
    pub kept_from: Option<u64>,
}

/// Counts what an answer has already.
struct Meter {
    budget: Budget,
    bytes: u64,
    entries: usize,
    scanned: usize,
}

impl Meter {
    fn new(budget: Budget) -> Self {
        Self {
            budget,
            bytes: 0,
            entries: 0,
            scanned: 0,
        }
    }

    /// Whether another record was looked at in vain.
    fn may_scan(&mut self) -> bool {
        self.scanned += 1;
        self.scanned <= SCAN_MAX
    }

    /// Whether there is room for one of `bytes` more; the first one always has.
    fn take(&mut self, bytes: u64) -> bool {
        let bytes = bytes + RECORD_OVERHEAD;
        let has_room = self.entries < self.budget.entries.max(1)
            && (self.entries == 0 || self.bytes + bytes <= self.budget.bytes);
        if has_room {
            self.entries += 1;
            self.bytes += bytes;
        }
        has_room
    }
}

impl State {
    /// The records of a page of a read.
    pub fn plan(&self, read: &Read, budget: Budget) -> Plan {
        let mut plan = Plan::default();
        let mut meter = Meter::new(budget);
        let to = read.to.unwrap_or(u64::MAX);
        let from = match read.since {
            Some(time) => match self.records.first_since(read.from, time) {
                Some(first) => first,
                None => return plan,
            },
            None => read.from,
        };
        let since = read.since.unwrap_or(0);
        let prefix = read.prefix.as_deref();
        for (seq, size, time) in self.records.iter_from(from) {
            if seq > to {
                break;
            }
            let is_wanted = time >= since && self.has_prefix(seq, prefix);
            if !meter.may_scan() || (is_wanted && !meter.take(u64::from(size))) {
                plan.next = Some(seq);
                break;
            }
            if is_wanted {
                plan.seqs.push(seq);
            }
        }
        plan
    }

    fn has_prefix(&self, seq: u64, prefix: Option<&str>) -> bool {
        prefix.is_none_or(|prefix| {
            self.records
                .key_of(seq)
                .is_some_and(|key| key.starts_with(prefix))
        })
    }

    /// The stream as it is now, as a place to go on.
    pub fn position(&self) -> Position {
        Position {
            epoch: self.meta.epoch,
            revision: self.revision,
            seq: None,
        }
    }

    /// What there is after a cursor.
    pub fn feed(&self, cursor: Cursor, prefix: Option<&str>, budget: Budget) -> Feed {
        let position = match cursor {
            Cursor::Now => self.position(),
            Cursor::Seq(seq) => self.snapshot_from(seq),
            Cursor::Time(time) => {
                let first = self.records.first_since(0, time);
                self.snapshot_from(first.unwrap_or(self.last_seq + 1))
            }
            Cursor::After(position) => position,
        };
        if self.is_lost(position) {
            return Feed {
                items: Vec::new(),
                position: self.position(),
                more: false,
                resync: true,
            };
        }
        let mut meter = Meter::new(budget);
        match position.seq {
            Some(seq) => self.snapshot(position, seq, prefix, &mut meter),
            None => self.changes(position, prefix, &mut meter),
        }
    }

    fn snapshot_from(&self, seq: u64) -> Position {
        Position {
            seq: Some(seq.max(1)),
            ..self.position()
        }
    }

    fn is_lost(&self, position: Position) -> bool {
        position.epoch != self.meta.epoch
            || position.revision > self.revision
            || position.revision < self.history.horizon()
    }

    /// What the stream held at a revision, as far as it still does, from a number on.
    fn snapshot(&self, at: Position, from: u64, prefix: Option<&str>, meter: &mut Meter) -> Feed {
        let end = self.history.seq_at(at.revision).unwrap_or(0);
        let (items, next) = self.appends(from, end, prefix, meter);
        let position = Position { seq: next, ..at };
        Feed {
            items,
            position,
            more: next.is_some() || self.revision > at.revision,
            resync: false,
        }
    }

    /// The records with numbers from `from` to `to`, and the first one that has no room.
    fn appends(
        &self,
        from: u64,
        to: u64,
        prefix: Option<&str>,
        meter: &mut Meter,
    ) -> (Vec<Item>, Option<u64>) {
        let mut items = Vec::new();
        for (seq, size, _) in self.records.iter_from(from) {
            if seq > to {
                break;
            }
            let is_wanted = self.has_prefix(seq, prefix);
            if !meter.may_scan() || (is_wanted && !meter.take(u64::from(size))) {
                return (items, Some(seq));
            }
            if is_wanted {
                items.push(self.append_item(seq));
            }
        }
        (items, None)
    }

    fn changes(&self, at: Position, prefix: Option<&str>, meter: &mut Meter) -> Feed {
        let mut feed = Feed {
            items: Vec::new(),
            position: self.position(),
            more: false,
            resync: false,
        };
        let mut last = self.history.seq_at(at.revision).unwrap_or(self.last_seq);
        for logged in self.history.after(at.revision) {
            let (items, next) = self.appends(last + 1, logged.last_seq, prefix, meter);
            feed.items.extend(items);
            if let Some(seq) = next {
                return self.stopped_before(feed, seq);
            }
            last = logged.last_seq;
            let Some((item, weight)) = self.item(logged, prefix) else {
                continue;
            };
            if !meter.take(weight) {
                feed.position.revision = logged.revision - 1;
                feed.more = true;
                return feed;
            }
            feed.items.push(item);
        }
        let (items, next) = self.appends(last + 1, self.last_seq, prefix, meter);
        feed.items.extend(items);
        match next {
            Some(seq) => self.stopped_before(feed, seq),
            None => feed,
        }
    }

    fn stopped_before(&self, mut feed: Feed, seq: u64) -> Feed {
        let revision = self.history.revision_of(seq).unwrap_or(self.revision + 1);
        feed.position.revision = revision - 1;
        feed.more = true;
        feed
    }

    /// What is gone is told as it is now, which is later than the change: numbers never come back. So a reader learns
    /// that a record was replaced, also where the record that replaced it is gone by now.
    fn kept_from(&self, key: &str) -> Option<u64> {
        self.records.seqs_of(key).first().copied()
    }

    fn append_item(&self, seq: u64) -> Item {
        let key = self.records.key_of(seq);
        let first = key.and_then(|key| self.kept_from(key));
        Item::Append {
            seq,
            kept_from: first.filter(|first| *first < seq),
        }
    }

    /// A change as it is told to those who want a prefix, and about how many bytes it takes.
    fn item(&self, logged: &Logged, prefix: Option<&str>) -> Option<(Item, u64)> {
        let Some(remove) = &logged.remove else {
            return Some((Item::Config(logged.revision), 1_024));
        };
        let is_wanted = |key: &str| prefix.is_none_or(|prefix| key.starts_with(prefix));
        let keys = remove.keys.iter().filter(|(_, key)| is_wanted(key));
        let keys: Vec<RemovedKey> = keys
            .map(|(seq, key)| RemovedKey {
                seq: *seq,
                key: Arc::clone(key),
                kept_from: self.kept_from(key),
            })
            .collect();
        let ranges = match prefix {
            None => remove.ranges.clone(),
            Some(_) => keys.iter().map(|key| (key.seq, key.seq)).collect(),
        };
        if ranges.is_empty() {
            return None;
        }
        let key_bytes: usize = keys.iter().map(|key| key.key.len() + 40).sum();
        let weight = (ranges.len() * 18 + key_bytes) as u64;
        let item = Item::Remove {
            revision: logged.revision,
            time: remove.time,
            cause: remove.cause,
            ranges,
            keys,
        };
        Some((item, weight))
    }
}
