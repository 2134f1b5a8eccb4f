//! The interest of a node, as its links are told: versioned, with the latest changes for links that
//! keep up and snapshots for those that do not. Pure.
//!
//! Every change has a version. A link has a [`Cursor`]; what it is told next follows from it alone,
//! so that the cost of a change is one part of a frame for each link, and none for those who ask
//! for what is asked for already.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use dialtone_protocol::frame::link::{
    Check, GroupInterest, InterestChanges, LINK_BATCH_MAX, Link, PatternInterest, SnapshotPart,
};
use hashbrown::HashMap;

use super::status::InterestStatus;
use crate::chance::RandomState;
use crate::router::hash::stable_hash;

/// About how long a frame of interest becomes, in bytes: short enough to be taken between others.
pub const PART_LEN: usize = 32 << 10;

/// What a node's subscribers ask for.
#[derive(Debug)]
pub struct Announced {
    records: HashMap<Arc<str>, Record, RandomState>,
    /// Which pattern changed at which version: the last has the current one, and they have no gaps.
    changes: VecDeque<Arc<str>>,
    changes_max: usize,
    version: u64,
    hash: u64,
    /// Patterns of which only the numbers of members have changed.
    outdated: BTreeSet<Arc<str>>,
}

#[derive(Debug)]
struct Record {
    plain: bool,
    tap: bool,
    groups: Box<[GroupInterest]>,
    hash: u64,
    changed_at: u64,
}

/// How far a link has been told.
#[derive(Debug, Default)]
pub enum Cursor {
    /// Nothing.
    #[default]
    Start,
    /// A part of a snapshot.
    Snapshot(Snapshot),
    /// All changes up to this version.
    At(u64),
}

/// A snapshot that is being told.
#[derive(Debug)]
pub struct Snapshot {
    /// From here on, changes are told.
    version: u64,
    left: Vec<Arc<str>>,
    index: u32,
}

/// What is summed up over all patterns and compared (docs/protocol.md §12.3).
pub fn hash_of(interest: &PatternInterest) -> u64 {
    stable_hash(&[&interest.to_bytes()])
}

impl Announced {
    /// Of nobody yet. `changes_max` is how many changes are kept for links that lag.
    pub fn new(changes_max: usize) -> Self {
        Self {
            records: HashMap::default(),
            changes: VecDeque::new(),
            changes_max,
            version: 0,
            hash: 0,
            outdated: BTreeSet::new(),
        }
    }

    /// What is asked for in a pattern now; whether links must be told at once. Where only numbers
    /// of members differ, that is left to [`catch_up`](Self::catch_up).
    pub fn update(&mut self, interest: PatternInterest) -> bool {
        match self.records.get_key_value(interest.pattern.as_str()) {
            None if interest.is_none() => false,
            Some((_, record)) if record.equals(&interest) => {
                self.outdated.remove(interest.pattern.as_str());
                false
            }
            Some((pattern, record)) if record.differs_in_members_only(&interest) => {
                self.outdated.insert(Arc::clone(pattern));
                false
            }
            Some(_) | None => {
                self.outdated.remove(interest.pattern.as_str());
                self.set(interest);
                true
            }
        }
    }

    /// Whether numbers of members have changed that links have not been told.
    pub fn is_outdated(&self) -> bool {
        !self.outdated.is_empty()
    }

    /// Tells the numbers of members that have changed; `current` knows them.
    pub fn catch_up(&mut self, current: impl Fn(&str) -> PatternInterest) {
        for pattern in std::mem::take(&mut self.outdated) {
            let interest = current(&pattern);
            let known = self.records.get(&*pattern);
            if known.is_none_or(|record| !record.equals(&interest)) {
                self.set(interest);
            }
        }
    }

    fn set(&mut self, interest: PatternInterest) {
        self.version += 1;
        let (pattern, removed) = match self.records.remove_entry(interest.pattern.as_str()) {
            Some((pattern, record)) => (pattern, record.hash),
            None => (Arc::from(interest.pattern.as_str()), 0),
        };
        self.hash = self.hash.wrapping_sub(removed);
        if !interest.is_none() {
            let hash = hash_of(&interest);
            self.hash = self.hash.wrapping_add(hash);
            let record = Record {
                plain: interest.plain,
                tap: interest.tap,
                groups: interest.groups.into_boxed_slice(),
                hash,
                changed_at: self.version,
            };
            self.records.insert(Arc::clone(&pattern), record);
        }
        self.changes.push_back(pattern);
        if self.changes.len() > self.changes_max {
            self.changes.pop_front();
        }
    }

    /// Whether a link knows everything.
    pub fn knows_all(&self, cursor: &Cursor) -> bool {
        matches!(cursor, Cursor::At(version) if *version == self.version)
    }

    /// What a link is to be told next; `None` when it knows everything.
    pub fn next(&self, cursor: &mut Cursor) -> Option<Link> {
        match cursor {
            Cursor::At(version) if *version == self.version => None,
            Cursor::At(version) if self.reaches_back_to(*version) => {
                let changes = self.changes_since(*version);
                *version = changes.version;
                Some(Link::Interest(changes))
            }
            Cursor::Start | Cursor::At(_) => {
                let mut snapshot = Snapshot {
                    version: self.version,
                    left: self.records.keys().map(Arc::clone).collect(),
                    index: 0,
                };
                // From the end, where taking is cheap.
                snapshot.left.sort_unstable_by(|one, other| other.cmp(one));
                *cursor = Cursor::Snapshot(snapshot);
                self.next(cursor)
            }
            Cursor::Snapshot(snapshot) => {
                let part = self.part(snapshot);
                if part.last {
                    *cursor = Cursor::At(part.version);
                }
                Some(Link::Snapshot(part))
            }
        }
    }

    fn reaches_back_to(&self, version: u64) -> bool {
        let behind = self.version.saturating_sub(version);
        behind <= self.changes.len() as u64
    }

    fn changes_since(&self, since: u64) -> InterestChanges {
        let (mut version, mut len) = (since, 0);
        let mut changes = Vec::new();
        let known = self.changes.len() - usize::try_from(self.version - since).unwrap_or(0);
        for pattern in self.changes.iter().skip(known) {
            if len > PART_LEN || changes.len() >= LINK_BATCH_MAX {
                break;
            }
            version += 1;
            let interest = match self.records.get(pattern) {
                // It has changed again since, and is told then.
                Some(record) if record.changed_at != version => continue,
                Some(record) => record.told(pattern),
                None => PatternInterest::none(&**pattern),
            };
            len += interest.wire_len_max();
            changes.push(interest);
        }
        InterestChanges {
            since,
            version,
            changes,
        }
    }

    fn part(&self, snapshot: &mut Snapshot) -> SnapshotPart {
        let (mut patterns, mut len) = (Vec::new(), 0);
        while len <= PART_LEN
            && patterns.len() < LINK_BATCH_MAX
            && let Some(pattern) = snapshot.left.pop()
        {
            // What is gone by now is told as a change.
            if let Some(record) = self.records.get(&pattern) {
                let interest = record.told(&pattern);
                len += interest.wire_len_max();
                patterns.push(interest);
            }
        }
        let index = snapshot.index;
        snapshot.index += 1;
        SnapshotPart {
            index,
            version: snapshot.version,
            last: snapshot.left.is_empty(),
            patterns,
        }
    }

    /// What a link that knows everything is asked to compare.
    pub fn check(&self) -> Check {
        Check {
            version: self.version,
            hash: self.hash,
            patterns: self.records.len() as u64,
        }
    }

    /// For people.
    pub fn status(&self) -> InterestStatus {
        let Check {
            version,
            hash,
            patterns,
        } = self.check();
        InterestStatus {
            patterns,
            version,
            hash,
        }
    }
}

impl Record {
    fn told(&self, pattern: &str) -> PatternInterest {
        PatternInterest {
            pattern: pattern.to_owned(),
            plain: self.plain,
            tap: self.tap,
            groups: self.groups.to_vec(),
        }
    }

    fn equals(&self, interest: &PatternInterest) -> bool {
        (self.plain, self.tap) == (interest.plain, interest.tap) && *self.groups == *interest.groups
    }

    fn differs_in_members_only(&self, interest: &PatternInterest) -> bool {
        let same = |(one, other): (&GroupInterest, &GroupInterest)| {
            one.name == other.name && one.pick == other.pick && one.number == other.number
        };
        !interest.is_none()
            && (self.plain, self.tap) == (interest.plain, interest.tap)
            && self.groups.len() == interest.groups.len()
            && self.groups.iter().zip(&interest.groups).all(same)
    }
}
