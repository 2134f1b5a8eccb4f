//! The replica of a key-value store, without I/O: what the service has, what is not saved yet, and how the two meet.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::{Cause, KvEvent};
use crate::persist::wire::{Fault, FaultKind, RemovalCause};

/// Most records of one save.
const SAVE_RECORDS_MAX: usize = 1_000;

/// Decides what a key is to be when it was changed here and elsewhere: from the value that both began with, ours, and
/// theirs, each `None` where there is none.
pub(super) type Merge<T> =
    dyn Fn(&str, Option<&T>, Option<&T>, Option<&T>) -> Option<T> + Send + Sync;

/// What the service has for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Confirmed<T> {
    pub(super) seq: u64,
    pub(super) time: u64,
    /// `None` for a tombstone, and for what cannot be read.
    pub(super) value: Option<T>,
}

/// A change of the service, as far as it concerns keys.
#[derive(Debug, Clone)]
pub(super) enum Remote<T> {
    Put {
        key: String,
        id: Option<String>,
        revision: u64,
        entry: Confirmed<T>,
    },
    Gone {
        key: String,
        seq: u64,
        cause: RemovalCause,
    },
}

/// A write that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::persist) struct Write<T> {
    pub(in crate::persist) key: String,
    /// `None` deletes.
    pub(in crate::persist) value: Option<T>,
    pub(in crate::persist) ttl: Option<u64>,
    pub(in crate::persist) id: String,
    /// The number that the key must have, where concurrent changes are merged.
    pub(in crate::persist) expect: Option<u64>,
}

/// What became of a write.
#[derive(Debug, Clone)]
pub(in crate::persist) enum Saved {
    Written {
        seq: u64,
        revision: u64,
    },
    Refused(Fault),
    /// Nobody knows: it is to be sent again, with the same id.
    Unknown,
}

/// A change that is not known to be in the service's view yet.
#[derive(Debug, Clone)]
struct Local<T> {
    value: Option<T>,
    ttl: Option<u64>,
    /// What the service had when the value was made, and its number.
    base: Option<T>,
    base_seq: u64,
    /// The revision that the base made, where the feed has not told it yet.
    base_revision: u64,
    /// The value is newer than what was sent.
    dirty: bool,
    sent: Option<Sent<T>>,
    /// It is written, and seen once the feed has come to this revision.
    written: Option<u64>,
    /// The service has another number than expected; the feed will bring it.
    blocked: bool,
}

#[derive(Debug, Clone)]
struct Sent<T> {
    write: Write<T>,
    /// It is to be sent again.
    lost: bool,
    /// The feed has told something about the key since.
    touched: bool,
}

impl<T> Local<T> {
    fn unblock(&mut self) {
        self.blocked = false;
        if let Some(sent) = &mut self.sent {
            sent.touched = true;
        }
    }
}

/// See the module.
pub(super) struct Replica<T> {
    confirmed: BTreeMap<String, Confirmed<T>>,
    /// What the service has, while all of it is being told again.
    loading: Option<BTreeMap<String, Confirmed<T>>>,
    local: BTreeMap<String, Local<T>>,
    /// The feed has told everything up to this revision.
    reached: u64,
    /// The service keeps several records of a key, so that the removal of one may bring back another.
    keeps_history: bool,
    merge: Option<Arc<Merge<T>>>,
}

impl<T: Clone + PartialEq> Replica<T> {
    pub(super) fn new(merge: Option<Arc<Merge<T>>>, keeps_history: bool) -> Self {
        Self {
            confirmed: BTreeMap::new(),
            loading: Some(BTreeMap::new()),
            local: BTreeMap::new(),
            reached: 0,
            keeps_history,
            merge,
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&T> {
        match self.local.get(key) {
            Some(local) => local.value.as_ref(),
            None => self.confirmed.get(key)?.value.as_ref(),
        }
    }

    pub(super) fn confirmed(&self, key: &str) -> Option<&Confirmed<T>> {
        self.confirmed.get(key)
    }

    /// The keys that have a value, in the order of their bytes.
    pub(super) fn keys(&self) -> Vec<String> {
        let confirmed = self
            .confirmed
            .keys()
            .filter(|key| !self.local.contains_key(*key));
        let mut keys: Vec<String> = confirmed
            .chain(self.local.keys())
            .filter(|key| self.get(key).is_some())
            .cloned()
            .collect();
        keys.sort_unstable();
        keys
    }

    pub(super) fn set(&mut self, key: &str, value: Option<T>, ttl: Option<u64>) {
        if let Some(local) = self.local.get_mut(key) {
            local.value = value;
            local.ttl = ttl;
            local.dirty = true;
            local.written = None;
            return;
        }
        let confirmed = self.confirmed.get(key);
        let base = confirmed.and_then(|confirmed| confirmed.value.clone());
        if value.is_none() && base.is_none() {
            return;
        }
        let local = Local {
            value,
            ttl,
            base,
            base_seq: confirmed.map_or(0, |confirmed| confirmed.seq),
            base_revision: 0,
            dirty: true,
            sent: None,
            written: None,
            blocked: false,
        };
        self.local.insert(key.to_owned(), local);
    }

    /// Whether everything is written at the service.
    pub(super) fn is_saved(&self) -> bool {
        self.local
            .values()
            .all(|local| !local.dirty && local.sent.is_none())
    }

    pub(super) fn unsaved(&self) -> Vec<String> {
        let unsaved = self
            .local
            .iter()
            .filter(|(_, local)| local.dirty || local.sent.is_some());
        unsaved.map(|(key, _)| key.clone()).collect()
    }

    /// Whether there is something to send now.
    pub(super) fn has_outgoing(&self) -> bool {
        self.local.values().any(|local| match &local.sent {
            Some(sent) => sent.lost,
            None => local.dirty && !local.blocked,
        })
    }

    /// What is to be sent now. Each of it is to be [`settled`](Self::settle).
    pub(super) fn outgoing(&mut self, mut next_id: impl FnMut() -> String) -> Vec<Write<T>> {
        let expects = self.merge.is_some();
        let mut writes = Vec::new();
        for (key, local) in &mut self.local {
            if writes.len() == SAVE_RECORDS_MAX {
                break;
            }
            if let Some(sent) = &mut local.sent {
                if std::mem::take(&mut sent.lost) {
                    writes.push(sent.write.clone());
                }
                continue;
            }
            if !local.dirty || local.blocked {
                continue;
            }
            let write = Write {
                key: key.clone(),
                value: local.value.clone(),
                ttl: local.ttl,
                id: next_id(),
                expect: expects.then_some(local.base_seq),
            };
            local.dirty = false;
            local.sent = Some(Sent {
                write: write.clone(),
                lost: false,
                touched: false,
            });
            writes.push(write);
        }
        writes
    }

    /// Takes the answer to a write.
    pub(super) fn settle(
        &mut self,
        key: &str,
        id: &str,
        saved: Saved,
        events: &mut Vec<KvEvent<T>>,
    ) {
        let Some(local) = self.local.get_mut(key) else {
            return;
        };
        // The feed may have told already.
        let Some(sent) = local.sent.take_if(|sent| sent.write.id == id) else {
            return;
        };
        match saved {
            Saved::Unknown => {
                local.sent = Some(Sent { lost: true, ..sent });
            }
            Saved::Written { seq, revision } => self.written(key, sent, seq, revision),
            Saved::Refused(fault)
                if fault.kind == FaultKind::WrongLastSequence && self.merge.is_some() =>
            {
                local.dirty = true;
                // What was in the way may have been told already; otherwise the feed will bring it.
                local.blocked = !sent.touched;
                self.meet(key);
            }
            Saved::Refused(fault) => {
                if !local.dirty {
                    self.local.remove(key);
                }
                events.push(KvEvent::Rejected {
                    key: key.to_owned(),
                    value: sent.write.value,
                    fault,
                });
            }
        }
    }

    fn written(&mut self, key: &str, sent: Sent<T>, seq: u64, revision: u64) {
        let Some(local) = self.local.get_mut(key) else {
            return;
        };
        local.base = sent.write.value;
        local.base_seq = seq;
        local.base_revision = revision;
        if local.dirty {
            self.meet(key);
            return;
        }
        local.written = Some(revision);
        if self.reached >= revision {
            self.local.remove(key);
        }
    }

    /// Lets a value that is not saved meet what the service has, if that is another than it was made from.
    fn meet(&mut self, key: &str) {
        let (seq, remote) = match self.confirmed.get(key) {
            Some(confirmed) => (confirmed.seq, confirmed.value.clone()),
            None => (0, None),
        };
        let Some(local) = self.local.get_mut(key) else {
            return;
        };
        let is_behind = seq < local.base_seq && self.reached < local.base_revision;
        if !local.dirty || local.sent.is_some() || seq == local.base_seq || is_behind {
            return;
        }
        local.blocked = false;
        let merged = match &self.merge {
            _ if local.value == remote => remote.clone(),
            Some(merge) => {
                let (base, ours) = (local.base.as_ref(), local.value.as_ref());
                merge(key, base, ours, remote.as_ref())
            }
            None => local.value.clone(),
        };
        if merged == remote {
            self.local.remove(key);
            return;
        }
        if merged != local.value {
            local.value = merged;
        }
        local.base = remote;
        local.base_seq = seq;
        local.base_revision = 0;
    }

    /// Everything that the service has follows. Numbers and revisions of another epoch mean nothing in a new one.
    pub(super) fn resync(&mut self, is_new_epoch: bool) {
        self.loading = Some(BTreeMap::new());
        if !is_new_epoch {
            return;
        }
        self.reached = 0;
        self.local.retain(|_, local| local.written.is_none());
        for local in self.local.values_mut() {
            local.base_seq = 0;
            local.base_revision = 0;
        }
    }

    /// Takes a change. Whether all must be told again, because the change does not say what there is now.
    pub(super) fn apply(&mut self, change: Remote<T>, events: &mut Vec<KvEvent<T>>) -> bool {
        match change {
            Remote::Put {
                key,
                id,
                revision,
                entry,
            } => {
                self.echo(&key, id.as_deref(), entry.seq, revision);
                self.unblock(&key);
                if let Some(loading) = &mut self.loading {
                    loading.insert(key, entry);
                    return false;
                }
                self.put(key, entry, Cause::Write, events);
                false
            }
            Remote::Gone { key, seq, cause } => {
                self.unblock(&key);
                let view = self.loading.as_ref().unwrap_or(&self.confirmed);
                // What is newer than our newest, and gone, had taken the place of ours.
                if view.get(&key).is_none_or(|entry| entry.seq > seq) {
                    return false;
                }
                if self.keeps_history {
                    return true;
                }
                match &mut self.loading {
                    Some(loading) => drop(loading.remove(&key)),
                    None => self.gone(&key, Cause::Removed(cause), events),
                }
                false
            }
        }
    }

    /// What the key was refused for may be this, even if it is gone again.
    fn unblock(&mut self, key: &str) {
        if let Some(local) = self.local.get_mut(key) {
            local.unblock();
        }
    }

    /// The feed tells of a write of ours.
    fn echo(&mut self, key: &str, id: Option<&str>, seq: u64, revision: u64) {
        let sent = self.local.get_mut(key).and_then(|local| {
            local
                .sent
                .take_if(|sent| id == Some(sent.write.id.as_str()))
        });
        if let Some(sent) = sent {
            self.written(key, sent, seq, revision);
        }
    }

    fn put(
        &mut self,
        key: String,
        entry: Confirmed<T>,
        cause: Cause,
        events: &mut Vec<KvEvent<T>>,
    ) {
        let (seq, value) = (entry.seq, entry.value.clone());
        let prev = self
            .confirmed
            .insert(key.clone(), entry)
            .and_then(|old| old.value);
        self.meet(&key);
        if value.is_some() || prev.is_some() {
            events.push(KvEvent::Changed {
                key,
                value,
                prev,
                seq,
                cause,
            });
        }
    }

    fn gone(&mut self, key: &str, cause: Cause, events: &mut Vec<KvEvent<T>>) {
        let prev = self.confirmed.remove(key).and_then(|old| old.value);
        self.meet(key);
        if prev.is_some() {
            events.push(KvEvent::Changed {
                key: key.to_owned(),
                value: None,
                prev,
                seq: 0,
                cause,
            });
        }
    }

    /// The feed has told everything up to a revision, and what the service held at its beginning, if `whole`.
    pub(super) fn reach(&mut self, revision: u64, whole: bool, events: &mut Vec<KvEvent<T>>) {
        if whole && let Some(loaded) = self.loading.take() {
            self.replace(loaded, events);
        }
        if self.loading.is_some() {
            return;
        }
        self.reached = revision;
        self.local
            .retain(|_, local| local.written.is_none_or(|written| written > revision));
        self.meet_all();
    }

    fn meet_all(&mut self) {
        let dirty = self.local.iter().filter(|(_, local)| local.dirty);
        let dirty: Vec<String> = dirty.map(|(key, _)| key.clone()).collect();
        for key in dirty {
            self.meet(&key);
        }
    }

    /// What changed while away is told as if it had been seen.
    fn replace(&mut self, loaded: BTreeMap<String, Confirmed<T>>, events: &mut Vec<KvEvent<T>>) {
        self.local.values_mut().for_each(Local::unblock);
        let missing: Vec<String> = self
            .confirmed
            .keys()
            .filter(|key| !loaded.contains_key(*key))
            .cloned()
            .collect();
        for key in missing {
            self.gone(&key, Cause::Resync, events);
        }
        for (key, entry) in loaded {
            let known = self.confirmed.get(&key);
            if known.is_some_and(|known| known.seq == entry.seq) {
                continue;
            }
            self.put(key, entry, Cause::Resync, events);
        }
    }

    /// Whether the service's view is known.
    pub(super) fn is_loaded(&self) -> bool {
        self.loading.is_none()
    }
}

#[cfg(test)]
mod tests;
