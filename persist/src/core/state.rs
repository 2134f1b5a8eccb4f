//! One stream: what it holds, and what was decided since the last commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dialtone_client::persist::wire::{
    Config, ConfigPatch, Durability, Fault, FaultKind, RemovalCause,
};

use super::check;
use super::commit::{Change, Commit, ConsumerChange, Meta, Remove, Totals};
use super::consumer::Consumer;
use super::history::History;
use super::ids::Ids;
use super::rate::Rate;
use super::records::Records;
use crate::backend::{Loaded, Logged};

/// Most ranges and keys of one removal; more become several, so that every change fits into an answer.
pub const REMOVE_ENTRIES_MAX: usize = 4_096;

/// A stream. Everything is decided here, in the order of the calls; [`take_commit`](Self::take_commit) gives what is to
/// be stored. Times are milliseconds since 1970.
#[derive(Debug, Clone)]
pub struct State {
    pub(super) meta: Meta,
    pub(super) records: Records,
    pub(super) history: History,
    pub(super) ids: Ids,
    pub(super) rate: Rate,
    pub(super) consumers: BTreeMap<Arc<str>, Consumer>,
    pub(super) last_seq: u64,
    pub(super) last_time: u64,
    pub(super) revision: u64,
    pub(super) open: Open,
    /// No record is over before this time by `max_age`.
    pub(super) age_due: u64,
}

/// What was decided and not taken yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Open {
    pub(super) changes: Vec<Change>,
    pub(super) consumers: Vec<ConsumerChange>,
    pub(super) durability: Option<Durability>,
    pub(super) bytes: u64,
}

impl State {
    /// A stream without any record.
    pub fn new(meta: Meta) -> Self {
        Self {
            meta,
            records: Records::new(),
            history: History::default(),
            ids: Ids::default(),
            rate: Rate::default(),
            consumers: BTreeMap::new(),
            last_seq: 0,
            last_time: 0,
            revision: 0,
            open: Open::default(),
            age_due: 0,
        }
    }

    /// A stream as a store has kept it.
    ///
    /// # Errors
    /// `corrupt` when the state of a consumer cannot be read.
    pub fn load(loaded: Loaded) -> Result<Self, Fault> {
        let mut state = Self::new(loaded.meta);
        state.records = loaded.records;
        state.history = History::load(loaded.horizon, loaded.log);
        state.history.trim(state.meta.config.removals_kept);
        state.ids = Ids::load(loaded.ids);
        state.last_seq = loaded.totals.last_seq;
        state.last_time = loaded.totals.last_time;
        state.revision = loaded.totals.revision;
        for (name, parts) in loaded.consumers {
            let consumer = Consumer::load(&parts).map_err(|error| {
                Fault::new(
                    FaultKind::Corrupt,
                    format!("the state of consumer {name} cannot be read: {error}"),
                )
            })?;
            state.consumers.insert(name, consumer);
        }
        Ok(state)
    }

    /// Its description.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.meta.config
    }

    /// Its records.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// The last number that was given; 0 for none.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// The revision of the last change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// A watch can go on from this revision or a later one.
    pub fn horizon(&self) -> u64 {
        self.history.horizon()
    }

    /// The horizon, and what was not an append after a revision, oldest first.
    pub fn changes_since(&self, revision: u64) -> (u64, Vec<Logged>) {
        let changes = self.history.after(revision).cloned();
        (self.history.horizon(), changes.collect())
    }

    /// The message ids that count at `now`, with the numbers of their records.
    pub fn known_ids(&self, now: u64) -> BTreeMap<Arc<str>, u64> {
        self.ids.known(now, self.meta.config.duplicate_window)
    }

    /// Its totals.
    pub fn totals(&self) -> Totals {
        Totals {
            messages: self.records.messages(),
            bytes: self.records.bytes(),
            last_seq: self.last_seq,
            last_time: self.last_time,
            revision: self.revision,
        }
    }

    /// The limit on its bytes; `u64::MAX` for none.
    pub fn bytes_max(&self) -> u64 {
        let config = &self.meta.config;
        let own = if config.max_bytes == 0 {
            u64::MAX
        } else {
            config.max_bytes
        };
        if config.ephemeral {
            own.min(check::EPHEMERAL_BYTES_MAX)
        } else {
            own
        }
    }

    /// Changes the configuration. Its limits hold at once.
    ///
    /// # Errors
    /// `bad-request` when the new configuration is not valid.
    pub fn update(&mut self, now: u64, patch: ConfigPatch) -> Result<(), Fault> {
        let config = patch.apply(&self.meta.config);
        check::config(&config)?;
        self.expire(now);
        if config == self.meta.config {
            return Ok(());
        }
        self.meta.config = config;
        self.push_meta();
        self.history.trim(self.meta.config.removals_kept);
        self.age_due = 0;
        self.expire(now);
        self.enforce_per_key(now);
        self.make_room(now);
        Ok(())
    }

    pub(super) fn push_meta(&mut self) {
        let change = Change::Meta(Box::new(self.meta.clone()));
        self.push_logged(None, change);
    }

    /// Takes records out of the stream, with as many changes as it takes. `seqs` are ascending and there; numbers
    /// between two of them belong to nobody if `is_dense`.
    pub(super) fn remove_all(
        &mut self,
        now: u64,
        cause: RemovalCause,
        seqs: &[u64],
        is_dense: bool,
    ) -> Vec<(u64, u64)> {
        let mut all = Vec::new();
        let mut remove = empty(now, cause);
        for (index, seq) in seqs.iter().copied().enumerate() {
            let Some(meta) = self.records.remove(seq) else {
                continue;
            };
            match remove.ranges.last_mut() {
                Some(range) if range.1 + 1 == seq || (is_dense && index > 0) => range.1 = seq,
                _ => remove.ranges.push((seq, seq)),
            }
            if let Some(key) = meta.key {
                remove.keys.push((seq, key));
            }
            if remove.ranges.len() + remove.keys.len() >= REMOVE_ENTRIES_MAX {
                let full = std::mem::replace(&mut remove, empty(now, cause));
                all.extend_from_slice(&full.ranges);
                self.push_remove(full);
            }
        }
        if !remove.ranges.is_empty() {
            all.extend_from_slice(&remove.ranges);
            self.push_remove(remove);
        }
        all
    }

    fn push_remove(&mut self, remove: Remove) {
        self.push_logged(Some(remove.clone()), Change::Remove(remove));
    }

    fn push_logged(&mut self, remove: Option<Remove>, change: Change) {
        self.revision += 1;
        let logged = Logged {
            revision: self.revision,
            last_seq: self.last_seq,
            remove,
        };
        self.history.push(logged, self.meta.config.removals_kept);
        self.open.changes.push(change);
    }

    pub(super) fn change_consumer(&mut self, change: ConsumerChange, durability: Durability) {
        self.open.consumers.push(change);
        self.wish(durability);
    }

    /// The next commit is to be at least this durable.
    pub fn wish(&mut self, durability: Durability) {
        let wished = self.open.durability.unwrap_or(Durability::Memory);
        self.open.durability = Some(wished.max(durability));
    }

    /// Whether something was decided that was not taken yet.
    pub fn has_commit(&self) -> bool {
        !self.open.changes.is_empty() || !self.open.consumers.is_empty()
    }

    /// About how many bytes [`take_commit`](Self::take_commit) has, and how many changes.
    pub fn open_len(&self) -> (u64, usize) {
        (self.open.bytes, self.open.changes.len())
    }

    /// What was decided since the last call, if anything. What nobody wished a level for is as durable as the stream.
    pub fn take_commit(&mut self, now: u64, fence: u64) -> Option<Commit> {
        if !self.has_commit() {
            return None;
        }
        let open = std::mem::take(&mut self.open);
        Some(Commit {
            revision: self.revision + 1 - open.changes.len() as u64,
            changes: open.changes,
            consumers: open.consumers,
            horizon: self.history.horizon(),
            totals: self.totals(),
            durability: open.durability.unwrap_or(self.meta.config.durability),
            fence,
            time: now,
            due: self.next_due(),
        })
    }
}

fn empty(time: u64, cause: RemovalCause) -> Remove {
    Remove {
        time,
        cause,
        ranges: Vec::new(),
        keys: Vec::new(),
    }
}

/// The bytes of a key or id, shared.
pub(super) fn shared(text: Option<String>) -> Option<Arc<str>> {
    text.map(Into::into)
}

/// The bytes of headers; empty ones are none.
pub(super) fn headers(blob: Option<dialtone_client::persist::wire::Blob>) -> Option<Bytes> {
    blob.map(|blob| blob.0).filter(|bytes| !bytes.is_empty())
}
