//! What the model of the service keeps, and what each request does to it.

use std::collections::BTreeMap;

use dialtone_client::Encoding;
use dialtone_client::persist::Owner;
use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::{
    Append, Appended, Change, Config, Create, Created, Cursor, Deleted, Discard, Expect, Fault,
    FaultKind, List, Outcome, Position, Record, Removal, RemovalCause, Remove, Removed, RemovedKey,
    Request, Restore, Restored, StoredRecord, StreamEntry, StreamInfo, StreamList, Verified, Watch,
    Watched, What, Written,
};

use super::consumers::Consumer;
use super::reading::matches;
use super::written;

/// All streams.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) streams: BTreeMap<String, Stream>,
    epochs: u64,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) config: Config,
    pub(super) epoch: u64,
    created: u64,
    pub(super) last_seq: u64,
    pub(super) revision: u64,
    pub(super) records: BTreeMap<u64, StoredRecord>,
    /// What happened, by revision.
    pub(super) log: Vec<(u64, Change)>,
    /// Changes up to this revision are not known any more.
    pub(super) horizon: u64,
    ids: BTreeMap<String, Written>,
    pub(super) consumers: BTreeMap<String, Consumer>,
    restoring: bool,
}

pub(super) fn fault<T>(kind: FaultKind, text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::new(kind, text))
}

impl State {
    pub(super) fn compact(&mut self) {
        for stream in self.streams.values_mut() {
            stream.horizon = stream.revision;
            stream.log.clear();
        }
    }

    pub(super) fn values(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        let mut values = BTreeMap::new();
        let records = self.streams.get(name).map(|stream| &stream.records);
        for record in records.into_iter().flat_map(BTreeMap::values) {
            if let Some(key) = &record.key {
                values.insert(key.clone(), record);
            }
        }
        values
            .into_iter()
            .filter(|(_, record)| !record.is_tombstone())
            .map(|(key, record)| (key, record.payload.to_vec()))
            .collect()
    }

    pub(super) fn payloads(&self, name: &str) -> Vec<Vec<u8>> {
        let records = self.streams.get(name).map(|stream| &stream.records);
        let records = records.into_iter().flat_map(BTreeMap::values);
        records.map(|record| record.payload.to_vec()).collect()
    }

    pub(super) fn stream(&mut self, name: &str, now: u64) -> Result<&mut Stream, Fault> {
        let Some(stream) = self.streams.get_mut(name) else {
            return fault(FaultKind::NotFound, format!("there is no stream {name}"));
        };
        stream.expire(now);
        Ok(stream)
    }

    /// Every request that is answered at once.
    pub(super) fn simple(
        &mut self,
        request: Request,
        scope: &Owner,
        now: u64,
        encoding: Encoding,
    ) -> Result<Vec<u8>, Fault> {
        match request {
            Request::Create(create) => written(&self.create(create, scope, now)?, encoding),
            Request::Append(append) => {
                let stream = self.stream(&append.stream, now)?;
                written(&stream.append(append, now)?, encoding)
            }
            Request::Get(get) => {
                written(&self.stream(&get.stream, now)?.get(&get.select), encoding)
            }
            Request::Read(read) => written(&self.stream(&read.stream, now)?.read(&read), encoding),
            Request::Keys(keys) => written(&self.stream(&keys.stream, now)?.keys(&keys), encoding),
            Request::Remove(remove) => {
                let stream = self.stream(&remove.stream, now)?;
                written(&stream.remove(&remove, now)?, encoding)
            }
            Request::Update(update) => {
                let stream = self.stream(&update.stream, now)?;
                let config = update.config.apply(&stream.config);
                stream.config = config.clone();
                stream.revision += 1;
                let revision = stream.revision;
                let config = Box::new(config);
                stream
                    .log
                    .push((revision, Change::Config { revision, config }));
                written(&stream.info(&update.stream), encoding)
            }
            Request::Info(info) => {
                let stream = self.stream(&info.stream, now)?;
                written(&stream.info(&info.stream), encoding)
            }
            Request::Delete(delete) => {
                let deleted = self.streams.remove(&delete.stream).is_some();
                written(&Deleted { deleted }, encoding)
            }
            Request::List(list) => written(&self.list(&list), encoding),
            Request::Restore(restore) => {
                let stream = self.stream(&restore.stream, now)?;
                written(&stream.restore(restore)?, encoding)
            }
            Request::Verify(verify) => {
                let stream = self.stream(&verify.stream, now)?;
                let verified = Verified {
                    records: stream.records.len() as u64,
                    bytes: stream.bytes(),
                    problems: Vec::new(),
                    next: None,
                };
                written(&verified, encoding)
            }
            Request::ConsumerCreate(_)
            | Request::ConsumerInfo(_)
            | Request::ConsumerList(_)
            | Request::ConsumerDelete(_)
            | Request::Ack(_) => self.consumer(request, now, encoding),
            Request::Nodes | Request::Status | Request::Watch(_) | Request::Fetch(_) => {
                fault(FaultKind::BadRequest, "the model does not answer this")
            }
        }
    }

    fn create(&mut self, create: Create, scope: &Owner, now: u64) -> Result<Created, Fault> {
        let name = StreamName::new(create.stream.as_str())
            .map_err(|error| Fault::new(FaultKind::BadRequest, error.to_string()))?;
        if !scope.may_use(&name) {
            return fault(FaultKind::Denied, "not a stream of this scope");
        }
        if let Some(stream) = self.streams.get(name.as_str()) {
            let same = stream.config.ephemeral == create.config.ephemeral
                && stream.config.durability == create.config.durability;
            if !create.exist_ok || !same {
                return fault(FaultKind::Exists, format!("stream {name} exists"));
            }
            let info = stream.info(name.as_str());
            return Ok(Created {
                created: false,
                info,
            });
        }
        self.epochs += 1;
        let stream = Stream {
            config: create.config,
            epoch: self.epochs,
            created: now,
            last_seq: 0,
            revision: 0,
            records: BTreeMap::new(),
            log: Vec::new(),
            horizon: 0,
            ids: BTreeMap::new(),
            consumers: BTreeMap::new(),
            restoring: false,
        };
        let info = stream.info(name.as_str());
        self.streams.insert(name.to_string(), stream);
        Ok(Created {
            created: true,
            info,
        })
    }

    fn list(&self, list: &List) -> StreamList {
        let after = list.after.as_deref().unwrap_or("");
        let mut names: Vec<&String> = self
            .streams
            .keys()
            .filter(|name| name.starts_with(&list.prefix) && name.as_str() > after)
            .collect();
        let limit = list.limit.unwrap_or(1_000) as usize;
        let more = names.len() > limit;
        names.truncate(limit);
        let entry = |name: &String| {
            let info = self.streams[name].info(name);
            StreamEntry {
                stream: name.clone(),
                created: info.created,
                description: info.config.description,
                ephemeral: info.config.ephemeral,
                messages: info.messages,
                bytes: info.bytes,
                last_seq: info.last_seq,
                last_time: info.last_time,
            }
        };
        let streams: Vec<StreamEntry> = names.into_iter().map(entry).collect();
        StreamList {
            more,
            total_streams: self.streams.len() as u64,
            total_messages: streams.iter().map(|entry| entry.messages).sum(),
            total_bytes: streams.iter().map(|entry| entry.bytes).sum(),
            missing: Vec::new(),
            streams,
        }
    }

    pub(super) fn watch(
        &mut self,
        watch: &Watch,
        at: Option<Position>,
        now: u64,
    ) -> Result<Watched, Fault> {
        let stream = self.stream(&watch.stream, now)?;
        let whole = |seq| Position {
            epoch: stream.epoch,
            revision: stream.revision,
            seq: Some(seq),
        };
        let cursor = at.unwrap_or_else(|| match watch.cursor {
            Cursor::Now => Position {
                seq: None,
                ..whole(0)
            },
            Cursor::Seq(seq) => whole(seq),
            Cursor::Time(time) => {
                let first = stream.records.values().find(|record| record.time >= time);
                whole(first.map_or(stream.last_seq + 1, |record| record.seq))
            }
            Cursor::After(position) => position,
        });
        Ok(stream.watched(cursor, watch))
    }
}

impl Stream {
    fn info(&self, name: &str) -> StreamInfo {
        StreamInfo {
            stream: name.to_owned(),
            epoch: self.epoch,
            created: self.created,
            config: self.config.clone(),
            messages: self.records.len() as u64,
            bytes: self.bytes(),
            keys: self.newest().len() as u64,
            first_seq: self
                .records
                .keys()
                .next()
                .copied()
                .unwrap_or(self.last_seq + 1),
            last_seq: self.last_seq,
            last_time: self.records.values().last().map_or(0, |record| record.time),
            revision: self.revision,
            horizon: self.horizon,
            consumers: self.consumers.len() as u64,
            restoring: self.restoring,
            node: "p1".to_owned(),
        }
    }

    fn bytes(&self) -> u64 {
        self.records.values().map(StoredRecord::size).sum()
    }

    /// The newest number of each key.
    pub(super) fn newest(&self) -> BTreeMap<&str, u64> {
        let keyed = self.records.values();
        keyed
            .filter_map(|record| Some((record.key.as_deref()?, record.seq)))
            .collect()
    }

    fn expire(&mut self, now: u64) {
        let max_age = self.config.max_age;
        let is_over = |record: &&StoredRecord| {
            let life = match (record.ttl, max_age) {
                (Some(ttl), 0) => ttl,
                (Some(ttl), age) => ttl.min(age),
                (None, 0) => return false,
                (None, age) => age,
            };
            record.time + life <= now
        };
        let over: Vec<u64> = self
            .records
            .values()
            .filter(is_over)
            .map(|record| record.seq)
            .collect();
        self.take_out(&over, RemovalCause::Expiry, now);
    }

    fn take_out(&mut self, seqs: &[u64], cause: RemovalCause, now: u64) {
        if seqs.is_empty() {
            return;
        }
        self.revision += 1;
        let mut removal = Removal {
            revision: self.revision,
            time: now,
            cause,
            ranges: Vec::new(),
            keys: Vec::new(),
        };
        for seq in seqs {
            removal.ranges.push((*seq, *seq));
            if let Some(record) = self.records.remove(seq)
                && let Some(key) = record.key
            {
                removal.keys.push(RemovedKey {
                    key,
                    seq: *seq,
                    kept_from: None,
                });
            }
        }
        self.log.push((self.revision, Change::Remove(removal)));
    }

    fn restore(&mut self, restore: Restore) -> Result<Restored, Fault> {
        if !self.restoring && self.last_seq > 0 {
            return fault(FaultKind::Exists, "the stream is not empty");
        }
        for mut record in restore.records {
            self.revision += 1;
            record.revision = self.revision;
            self.last_seq = record.seq;
            self.records.insert(record.seq, record);
        }
        self.last_seq = self.last_seq.max(restore.last_seq.unwrap_or(0));
        self.restoring = !restore.done;
        Ok(Restored {
            last_seq: self.last_seq,
            messages: self.records.len() as u64,
        })
    }

    fn append(&mut self, append: Append, now: u64) -> Result<Appended, Fault> {
        let (durability, epoch) = (
            append.durability.unwrap_or(self.config.durability),
            self.epoch,
        );
        if append.atomic {
            for record in &append.records {
                self.check(record)?;
            }
        }
        let results = append.records.into_iter().map(|record| {
            if let Some(first) = record.id.as_ref().and_then(|id| self.ids.get(id)) {
                return Outcome::Written(Written {
                    duplicate: true,
                    ..*first
                });
            }
            match self.check(&record) {
                Ok(()) => Outcome::Written(self.write(record, now)),
                Err(fault) => Outcome::Refused(fault),
            }
        });
        Ok(Appended {
            results: results.collect(),
            durability,
            epoch,
        })
    }

    fn check(&self, record: &Record) -> Result<(), Fault> {
        let actual = match (&record.expect, &record.key) {
            (Some(Expect::LastSeq(seq)), _) if *seq != self.last_seq => self.last_seq,
            (Some(Expect::KeySeq(seq)), Some(key)) => {
                let actual = self.newest().get(key.as_str()).copied().unwrap_or(0);
                if actual == *seq {
                    return self.check_room(record);
                }
                actual
            }
            (None | Some(Expect::LastSeq(_)), _) => return self.check_room(record),
            (Some(Expect::KeySeq(_)), None) => {
                return fault(FaultKind::BadRequest, "key_seq without a key");
            }
        };
        let text = format!("the last sequence is {actual}");
        Err(Fault::new(FaultKind::WrongLastSequence, text).seq(actual))
    }

    fn check_room(&self, record: &Record) -> Result<(), Fault> {
        if self.config.max_msg_size > 0 && record.size() > self.config.max_msg_size {
            return fault(FaultKind::Reject, "larger than max_msg_size");
        }
        let full = self.config.max_msgs > 0 && self.records.len() as u64 >= self.config.max_msgs;
        if full && self.config.discard == Discard::New {
            return fault(FaultKind::Reject, "the stream is full");
        }
        Ok(())
    }

    fn write(&mut self, record: Record, now: u64) -> Written {
        self.last_seq += 1;
        self.revision += 1;
        let written = Written {
            seq: self.last_seq,
            time: now,
            revision: self.revision,
            duplicate: false,
        };
        if let Some(id) = &record.id {
            self.ids.insert(id.clone(), written);
        }
        let stored = StoredRecord {
            seq: self.last_seq,
            time: now,
            revision: self.revision,
            key: record.key,
            encoding: record.encoding,
            headers: record.headers,
            ttl: record.ttl,
            id: record.id,
            payload: record.payload,
        };
        let of_key = |old: &&StoredRecord| old.key.is_some() && old.key == stored.key;
        let older: Vec<u64> = self
            .records
            .values()
            .filter(of_key)
            .map(|old| old.seq)
            .collect();
        let keep = self.config.max_msgs_per_key as usize - 1;
        for seq in &older[..older.len().saturating_sub(keep)] {
            self.records.remove(seq);
        }
        self.log
            .push((self.revision, Change::Append(stored.clone())));
        self.records.insert(stored.seq, stored);
        let over = (self.records.len() as u64).saturating_sub(self.config.max_msgs);
        if self.config.max_msgs > 0 && over > 0 {
            let oldest = self.records.keys().take(usize::try_from(over).unwrap_or(0));
            let oldest: Vec<u64> = oldest.copied().collect();
            self.take_out(&oldest, RemovalCause::Limit, now);
        }
        written
    }

    fn remove(&mut self, remove: &Remove, now: u64) -> Result<Removed, Fault> {
        if let (Some(Expect::KeySeq(seq)), What::Key(key)) = (&remove.expect, &remove.what) {
            let actual = self.newest().get(key.as_str()).copied().unwrap_or(0);
            if actual != *seq {
                return Err(Fault::new(FaultKind::WrongLastSequence, "changed").seq(actual));
            }
        }
        let is_meant = |record: &&StoredRecord| match &remove.what {
            What::Seqs(seqs) => seqs.contains(&record.seq),
            What::UpTo(seq) => record.seq <= *seq,
            What::Range(from, to) => (*from..=*to).contains(&record.seq),
            What::All => true,
            What::Key(key) => record.key.as_ref() == Some(key),
            What::Prefix(prefix) => matches(record.key.as_deref(), Some(prefix)),
        };
        let meant = self.records.values().filter(is_meant);
        let seqs: Vec<u64> = meant.map(|record| record.seq).collect();
        self.take_out(&seqs, RemovalCause::Request, now);
        Ok(Removed {
            count: seqs.len() as u64,
            ranges: seqs.iter().map(|seq| (*seq, *seq)).collect(),
            revision: self.revision,
            durability: self.config.durability,
        })
    }
}
