//! Reading a stream of the model, and following it.

use dialtone_client::persist::wire::{
    Change, Found, KeyEntry, KeyList, KeyPage, Page, Position, Read, Select, StoredRecord, Watch,
    Watched,
};

use super::state::Stream;

/// Most bytes of records in one answer of the model; small, so that paging is used.
const PAGE_BYTES: u64 = 64 << 10;

impl Stream {
    pub(super) fn get(&self, select: &Select) -> Found {
        let record = match select {
            Select::Seq(seq) => self.records.get(seq),
            Select::Last => self.records.values().last(),
            Select::Key(key) => self
                .newest()
                .get(key.as_str())
                .and_then(|seq| self.records.get(seq)),
        };
        Found {
            record: record.cloned(),
            last_seq: self.last_seq,
        }
    }

    pub(super) fn read(&self, read: &Read) -> Page {
        let prefix = read.prefix.as_deref();
        let to = read.to.unwrap_or(u64::MAX).max(read.from);
        let wanted = self.records.range(read.from..=to).map(|(_, record)| record);
        let mut wanted = wanted
            .filter(|record| matches(record.key.as_deref(), prefix))
            .filter(|record| record.time >= read.since.unwrap_or(0));
        let most = u64::from(read.max_bytes.unwrap_or(u32::MAX)).min(PAGE_BYTES);
        let (mut records, mut bytes, mut next): (Vec<StoredRecord>, _, _) = (Vec::new(), 0, None);
        for record in wanted.by_ref() {
            let full = bytes + record.size() > most
                || read
                    .max_msgs
                    .is_some_and(|max| records.len() >= max as usize);
            if full && !records.is_empty() {
                next = Some(record.seq);
                break;
            }
            bytes += record.size();
            records.push(record.clone());
        }
        Page {
            records,
            next,
            last_seq: self.last_seq,
            epoch: self.epoch,
            revision: self.revision,
        }
    }

    pub(super) fn keys(&self, list: &KeyList) -> KeyPage {
        let after = list.after.as_deref();
        let newest = self.newest();
        let mut keys: Vec<KeyEntry> = newest
            .into_iter()
            .filter(|(key, _)| matches(Some(key), list.prefix.as_deref()))
            .filter(|(key, _)| after.is_none_or(|after| *key > after))
            .map(|(key, seq)| KeyEntry {
                key: key.to_owned(),
                seq,
            })
            .collect();
        let limit = list.limit.unwrap_or(1_000) as usize;
        let more = keys.len() > limit;
        keys.truncate(limit);
        KeyPage {
            keys,
            more,
            revision: self.revision,
        }
    }

    pub(super) fn watched(&self, cursor: Position, watch: &Watch) -> Watched {
        let now = Position {
            epoch: self.epoch,
            revision: self.revision,
            seq: None,
        };
        if cursor.epoch != self.epoch || cursor.revision < self.horizon {
            return Watched {
                changes: Vec::new(),
                position: now,
                more: false,
                resync: true,
                kept_from: Vec::new(),
            };
        }
        let prefix = watch.prefix.as_deref();
        let most = u64::from(watch.max_bytes.unwrap_or(u32::MAX)).min(PAGE_BYTES);
        let (mut changes, mut bytes, mut position) = (Vec::new(), 0, cursor);
        let held = cursor
            .seq
            .into_iter()
            .flat_map(|seq| self.records.range(seq..));
        for (seq, record) in held {
            if record.revision > cursor.revision || !matches(record.key.as_deref(), prefix) {
                continue;
            }
            if bytes > most {
                position.seq = Some(*seq);
                return watched(changes, position);
            }
            bytes += record.size();
            changes.push(Change::Append(record.clone()));
        }
        position.seq = None;
        for (revision, change) in &self.log {
            if *revision <= cursor.revision {
                continue;
            }
            if bytes > most {
                return watched(changes, position);
            }
            position.revision = *revision;
            let Some(change) = self.told(change, prefix) else {
                continue;
            };
            bytes += 100;
            changes.push(change);
        }
        Watched {
            more: false,
            position: now,
            ..watched(changes, now)
        }
    }

    /// A change as it is told, if it is.
    fn told(&self, change: &Change, prefix: Option<&str>) -> Option<Change> {
        match change {
            Change::Append(record) => {
                let told = self.records.contains_key(&record.seq)
                    && matches(record.key.as_deref(), prefix);
                told.then(|| change.clone())
            }
            Change::Remove(removal) => {
                let mut removal = removal.clone();
                removal
                    .keys
                    .retain(|entry| matches(Some(&entry.key), prefix));
                let told = prefix.is_none() || !removal.keys.is_empty();
                told.then_some(Change::Remove(removal))
            }
            Change::Damaged { .. } | Change::Config { .. } => Some(change.clone()),
        }
    }
}

fn watched(changes: Vec<Change>, position: Position) -> Watched {
    Watched {
        changes,
        position,
        more: true,
        resync: false,
        kept_from: Vec::new(),
    }
}

pub(super) fn matches(key: Option<&str>, prefix: Option<&str>) -> bool {
    prefix.is_none_or(|prefix| key.is_some_and(|key| key.starts_with(prefix)))
}
