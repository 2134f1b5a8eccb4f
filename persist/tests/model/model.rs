//! A stream that is obviously right: a list, looked through from end to end.

use dialtone_client::persist::wire::{
    Config, ConfigPatch, Discard, Expect, FaultKind, Record, What,
};
use dialtone_persist::core::commit::Totals;

/// A fault's kind, and the number that it tells.
pub(crate) type Result<T> = std::result::Result<T, (FaultKind, Option<u64>)>;

/// A record that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) seq: u64,
    pub(crate) time: u64,
    pub(crate) size: u64,
    pub(crate) key: Option<String>,
    pub(crate) expires: Option<u64>,
}

/// Where a record was written: number, time, revision, and whether that was before.
type Written = (u64, u64, u64, bool);

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    config: Config,
    pub(crate) records: Vec<Held>,
    pub(crate) last_seq: u64,
    pub(crate) revision: u64,
    last_time: u64,
    ids: Vec<(String, Written)>,
    /// Time and size of everything that was written.
    writes: Vec<(u64, u64)>,
}

impl Model {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            records: Vec::new(),
            last_seq: 0,
            revision: 0,
            last_time: 0,
            ids: Vec::new(),
            writes: Vec::new(),
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals {
            messages: self.records.len() as u64,
            bytes: self.bytes(),
            last_seq: self.last_seq,
            last_time: self.last_time,
            revision: self.revision,
        }
    }

    fn bytes(&self) -> u64 {
        self.records.iter().map(|held| held.size).sum()
    }

    pub(crate) fn keys(&self) -> usize {
        let mut keys: Vec<&String> = self
            .records
            .iter()
            .filter_map(|held| held.key.as_ref())
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys.len()
    }

    pub(crate) fn key_seq(&self, key: &str) -> u64 {
        let newest = self
            .records
            .iter()
            .rfind(|held| held.key.as_deref() == Some(key));
        newest.map_or(0, |held| held.seq)
    }

    /// Takes out what is not wanted; that is one change if there is any.
    fn retain(&mut self, wanted: impl Fn(&Held) -> bool) -> u64 {
        let before = self.records.len();
        self.records.retain(wanted);
        let gone = (before - self.records.len()) as u64;
        self.revision += u64::from(gone > 0);
        gone
    }

    pub(crate) fn expire(&mut self, now: u64) {
        if self.config.allow_ttl {
            self.retain(|held| held.expires.is_none_or(|expires| expires > now));
        }
        let max_age = self.config.max_age;
        if max_age > 0 {
            self.retain(|held| held.time + max_age > now);
        }
    }

    fn make_room(&mut self) {
        let (msgs_max, bytes_max) = (self.config.max_msgs, self.config.max_bytes);
        let mut first = 0;
        let fits = |records: &[Held]| {
            let bytes: u64 = records.iter().map(|held| held.size).sum();
            (msgs_max == 0 || records.len() as u64 <= msgs_max)
                && (bytes_max == 0 || bytes <= bytes_max)
        };
        while !fits(&self.records[first..]) {
            first += 1;
        }
        if let Some(kept) = self.records.get(first).map(|held| held.seq) {
            self.retain(|held| held.seq >= kept);
        } else {
            self.retain(|_| false);
        }
    }

    /// The records of a key beyond those that are kept.
    fn superseded(&self, key: &str) -> Vec<u64> {
        let of_key = self
            .records
            .iter()
            .filter(|held| held.key.as_deref() == Some(key));
        let seqs: Vec<u64> = of_key.map(|held| held.seq).collect();
        let kept = self.config.max_msgs_per_key as usize;
        seqs[..seqs.len().saturating_sub(kept)].to_vec()
    }

    pub(crate) fn update(&mut self, now: u64, patch: ConfigPatch) {
        self.expire(now);
        let config = patch.apply(&self.config);
        if config == self.config {
            return;
        }
        self.config = config;
        self.revision += 1;
        self.expire(now);
        let keys: Vec<String> = self
            .records
            .iter()
            .filter_map(|held| held.key.clone())
            .collect();
        let over: Vec<u64> = keys.iter().flat_map(|key| self.superseded(key)).collect();
        self.retain(|held| !over.contains(&held.seq));
        self.make_room();
    }

    pub(crate) fn append(
        &mut self,
        now: u64,
        records: &[Record],
        atomic: bool,
    ) -> Result<Vec<Result<Written>>> {
        self.expire(now);
        let window = self.config.duplicate_window;
        self.ids.retain(|(_, written)| written.1 + window > now);
        // What was written later than now was so before the clock was set back.
        self.writes
            .retain(|(time, _)| *time <= now && now - time < 1_000);
        if !atomic {
            let each = records.iter().map(|record| {
                let written = self.one(now, record)?;
                self.make_room();
                Ok(written)
            });
            return Ok(each.collect());
        }
        // All or nothing: on a copy, which is thrown away when one is refused.
        let mut copy = self.clone();
        let mut all = Vec::new();
        for record in records {
            all.push(Ok(copy.one(now, record)?));
        }
        copy.make_room();
        *self = copy;
        Ok(all)
    }

    fn one(&mut self, now: u64, record: &Record) -> Result<Written> {
        if let Some(id) = &record.id
            && let Some((_, written)) = self.ids.iter().find(|(known, _)| known == id)
        {
            return Ok((written.0, written.1, written.2, true));
        }
        let (expected, actual) = match record.expect {
            None => (0, 0),
            Some(Expect::LastSeq(seq)) => (seq, self.last_seq),
            Some(Expect::KeySeq(seq)) => (seq, self.key_seq(record.key.as_deref().unwrap())),
        };
        if expected != actual {
            return Err((FaultKind::WrongLastSequence, Some(actual)));
        }
        let size = record.size();
        let is_over = |value: u64, max: u64| max > 0 && value > max;
        let config = &self.config;
        if is_over(size, config.max_msg_size) || is_over(size, config.max_bytes) {
            return Err((FaultKind::Reject, None));
        }
        let recent: Vec<u64> = self.writes.iter().map(|(_, size)| *size).collect();
        if is_over(recent.len() as u64 + 1, config.max_msgs_per_second)
            || is_over(
                recent.iter().sum::<u64>() + size,
                config.max_bytes_per_second,
            )
        {
            return Err((FaultKind::Reject, None));
        }
        let mut after = self.clone();
        after.last_seq += 1;
        after.revision += 1;
        after.last_time = now;
        after.records.push(Held {
            seq: after.last_seq,
            time: now,
            size,
            key: record.key.clone(),
            expires: record.ttl.map(|ttl| now + ttl),
        });
        if let Some(key) = &record.key {
            let over = after.superseded(key);
            after.records.retain(|held| !over.contains(&held.seq));
        }
        if self.config.discard == Discard::New {
            let more_msgs = after.records.len() > self.records.len();
            let more_bytes = after.bytes() > self.bytes();
            if (more_msgs && is_over(after.records.len() as u64, self.config.max_msgs))
                || (more_bytes && is_over(after.bytes(), self.config.max_bytes))
            {
                return Err((FaultKind::Reject, None));
            }
        }
        *self = after;
        self.writes.push((now, size));
        let written = (self.last_seq, now, self.revision, false);
        if let Some(id) = &record.id
            && self.config.duplicate_window > 0
        {
            self.ids.push((id.clone(), written));
        }
        Ok(written)
    }

    pub(crate) fn remove(&mut self, now: u64, what: &What, expect: Option<Expect>) -> Result<u64> {
        self.expire(now);
        let (expected, actual) = match (expect, what) {
            (Some(Expect::LastSeq(seq)), _) => (seq, self.last_seq),
            (Some(Expect::KeySeq(seq)), What::Key(key)) => (seq, self.key_seq(key)),
            _ => (0, 0),
        };
        if expected != actual {
            return Err((FaultKind::WrongLastSequence, Some(actual)));
        }
        Ok(self.retain(|held| !is_meant(held, what)))
    }
}

fn is_meant(held: &Held, what: &What) -> bool {
    match what {
        What::Seqs(seqs) => seqs.contains(&held.seq),
        What::UpTo(to) => held.seq <= *to,
        What::Range(from, to) => (*from..=*to).contains(&held.seq),
        What::All => true,
        What::Key(key) => held.key.as_ref() == Some(key),
        What::Prefix(prefix) => {
            let key = held.key.as_ref();
            key.is_some_and(|key| key.starts_with(prefix))
        }
    }
}
