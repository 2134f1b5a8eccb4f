//! Appending and removing: all checks come before any effect.

use std::collections::HashMap;
use std::sync::Arc;

use dialtone_client::persist::wire::{
    Discard, Durability, Expect, Fault, FaultKind, Outcome, Record, RemovalCause, StoredRecord,
    What, Written,
};

use super::check;
use super::commit::{Append, Change};
use super::ids::Used;
use super::records::RecordMeta;
use super::state::{State, headers, shared};

/// What is to happen with a record that may be written.
enum Verdict {
    Write,
    /// It was written before, or earlier in the batch, where the answer is that of the record with this index.
    Duplicate(Written),
    SameAs(usize),
}

/// What the earlier records of an atomic batch will have changed.
#[derive(Default)]
struct Ahead {
    /// Records that will be written.
    written: u64,
    /// Records and bytes that count for the rates.
    bytes: u64,
    /// What the stream will have more, less what is replaced.
    msgs_more: i64,
    bytes_more: i64,
    /// Per key the numbers and sizes that it will have; `None` in a batch of one.
    keys: Option<HashMap<String, Vec<(u64, u64)>>>,
    ids: HashMap<String, usize>,
}

impl State {
    /// Appends records, each by itself or all or nothing.
    ///
    /// An atomic batch is one step: its expectations see its own earlier records, and old records make room once, after
    /// the last of them.
    ///
    /// # Errors
    /// With `atomic`, the fault of the first record that is refused; and `restoring` in any case.
    pub fn append(
        &mut self,
        now: u64,
        records: Vec<Record>,
        atomic: bool,
        durability: Option<Durability>,
    ) -> Result<Vec<Outcome>, Fault> {
        self.writable()?;
        self.expire(now);
        self.ids.expire(now, self.meta.config.duplicate_window);
        self.rate.at(now);
        let before = self.revision;
        let outcomes = if atomic {
            let written = self.append_step(now, records).map_err(|(index, fault)| {
                let text = format!("record {index} of the batch: {}", fault.text);
                Fault { text, ..fault }
            })?;
            written.into_iter().map(Outcome::Written).collect()
        } else {
            let each = records.into_iter();
            each.map(|record| self.append_one(now, record)).collect()
        };
        if self.revision > before {
            self.wish(durability.unwrap_or(self.meta.config.durability));
        }
        Ok(outcomes)
    }

    /// # Errors
    /// `restoring` while the stream is being restored.
    pub fn writable(&self) -> Result<(), Fault> {
        if self.meta.restoring {
            return Err(Fault::new(
                FaultKind::Restoring,
                "the stream is being restored and cannot be changed until that is done",
            ));
        }
        Ok(())
    }

    fn append_one(&mut self, now: u64, record: Record) -> Outcome {
        match self.verdict(now, &record, &Ahead::default()) {
            Ok(Verdict::Duplicate(written)) => Outcome::Written(written),
            Ok(Verdict::Write | Verdict::SameAs(_)) => {
                let written = self.write(now, record);
                self.make_room(now);
                Outcome::Written(written)
            }
            Err(fault) => Outcome::Refused(fault),
        }
    }

    fn append_step(
        &mut self,
        now: u64,
        records: Vec<Record>,
    ) -> Result<Vec<Written>, (usize, Fault)> {
        let mut ahead = Ahead {
            keys: Some(HashMap::new()),
            ..Ahead::default()
        };
        let mut verdicts = Vec::with_capacity(records.len());
        for (index, record) in records.iter().enumerate() {
            let verdict = self
                .verdict(now, record, &ahead)
                .map_err(|fault| (index, fault))?;
            if matches!(verdict, Verdict::Write) {
                self.look_ahead(&mut ahead, record, index);
            }
            verdicts.push(verdict);
        }
        let mut results: Vec<Written> = Vec::with_capacity(records.len());
        for (record, verdict) in records.into_iter().zip(verdicts) {
            let written = match verdict {
                Verdict::Write => self.write(now, record),
                Verdict::Duplicate(written) => written,
                Verdict::SameAs(index) => Written {
                    duplicate: true,
                    ..results[index]
                },
            };
            results.push(written);
        }
        self.make_room(now);
        Ok(results)
    }

    /// What is to become of a record, and why not; changes nothing that anybody could see.
    fn verdict(&mut self, now: u64, record: &Record, ahead: &Ahead) -> Result<Verdict, Fault> {
        check::record(record)?;
        if let Some(id) = &record.id {
            if let Some(index) = ahead.ids.get(id) {
                return Ok(Verdict::SameAs(*index));
            }
            if let Some(used) = self.ids.get(id) {
                return Ok(Verdict::Duplicate(Written {
                    seq: used.seq,
                    time: used.time,
                    revision: used.revision,
                    duplicate: true,
                }));
            }
        }
        self.check_expectation(record, ahead)?;
        self.check_size(record)?;
        self.check_rate(now, record, ahead)?;
        self.check_room(record, ahead)?;
        Ok(Verdict::Write)
    }

    fn check_expectation(&self, record: &Record, ahead: &Ahead) -> Result<(), Fault> {
        let (expected, actual, what) = match record.expect {
            None => return Ok(()),
            Some(Expect::LastSeq(seq)) => (seq, self.last_seq + ahead.written, "the stream's last"),
            Some(Expect::KeySeq(seq)) => {
                let key = record.key.as_deref().unwrap_or_default();
                (seq, self.key_seq(key, ahead), "the key's")
            }
        };
        expect(expected, actual, what)
    }

    fn key_seq(&self, key: &str, ahead: &Ahead) -> u64 {
        let coming = ahead.keys.as_ref().and_then(|keys| keys.get(key));
        match coming {
            Some(seqs) => seqs.last().map_or(0, |(seq, _)| *seq),
            None => self.records.seqs_of(key).last().copied().unwrap_or(0),
        }
    }

    fn check_size(&self, record: &Record) -> Result<(), Fault> {
        let (size, max) = (record.size(), self.meta.config.max_msg_size);
        if max > 0 && size > max {
            return Err(reject(format!(
                "the record has {size} bytes, and max_msg_size is {max}"
            )));
        }
        let max = self.bytes_max();
        if size > max {
            return Err(reject(format!(
                "the record has {size} bytes, and max_bytes is {max}"
            )));
        }
        Ok(())
    }

    fn check_rate(&mut self, now: u64, record: &Record, ahead: &Ahead) -> Result<(), Fault> {
        let config = &self.meta.config;
        let (msgs_max, bytes_max) = (config.max_msgs_per_second, config.max_bytes_per_second);
        if msgs_max == 0 && bytes_max == 0 {
            return Ok(());
        }
        let (msgs, bytes) = self.rate.at(now);
        let wait = self.rate.wait(now);
        if msgs_max > 0 && msgs + ahead.written + 1 > msgs_max {
            let text = format!("max_msgs_per_second is {msgs_max}");
            return Err(reject(text).retry_after(wait));
        }
        if bytes_max > 0 && bytes + ahead.bytes + record.size() > bytes_max {
            let text = format!("max_bytes_per_second is {bytes_max}");
            return Err(reject(text).retry_after(wait));
        }
        Ok(())
    }

    /// Whether there is room, where old records do not make it.
    fn check_room(&self, record: &Record, ahead: &Ahead) -> Result<(), Fault> {
        if self.meta.config.discard == Discard::Old {
            return Ok(());
        }
        let (more_msgs, more_bytes) = self.growth(record, ahead);
        let total = |now: u64, ahead: i64, more: i64| now.saturating_add_signed(ahead + more);
        let msgs = total(self.records.messages(), ahead.msgs_more, more_msgs);
        let max = self.meta.config.max_msgs;
        // What takes no more room than what it replaces is let in, even if there is too much already.
        if max > 0 && msgs > max && more_msgs > 0 {
            return Err(reject(format!("the stream is full: max_msgs is {max}")));
        }
        let bytes = total(self.records.bytes(), ahead.bytes_more, more_bytes);
        let max = self.bytes_max();
        if bytes > max && more_bytes > 0 {
            return Err(reject(format!("the stream is full: max_bytes is {max}")));
        }
        Ok(())
    }

    /// How many records and bytes more there will be because of a record.
    fn growth(&self, record: &Record, ahead: &Ahead) -> (i64, i64) {
        let (mut msgs, mut bytes) = (1, signed(record.size()));
        if let Some(key) = &record.key {
            let coming = ahead.keys.as_ref().and_then(|keys| keys.get(key));
            let own;
            let present = match coming {
                Some(present) => present,
                None => {
                    own = self.present(key);
                    &own
                }
            };
            for (_, size) in &present[..self.superseded(present.len() + 1)] {
                msgs -= 1;
                bytes -= signed(*size);
            }
        }
        (msgs, bytes)
    }

    /// How many of a key's records are gone when there would be `len` of them.
    fn superseded(&self, len: usize) -> usize {
        len.saturating_sub(self.meta.config.max_msgs_per_key as usize)
    }

    /// The numbers and sizes of a key's records.
    fn present(&self, key: &str) -> Vec<(u64, u64)> {
        let size = |seq| self.records.get(seq).map_or(0, |meta| u64::from(meta.size));
        let seqs = self.records.seqs_of(key).iter();
        seqs.map(|seq| (*seq, size(*seq))).collect()
    }

    fn look_ahead(&self, ahead: &mut Ahead, record: &Record, index: usize) {
        let (msgs, bytes) = self.growth(record, ahead);
        ahead.written += 1;
        ahead.bytes += record.size();
        ahead.msgs_more += msgs;
        ahead.bytes_more += bytes;
        if let Some(id) = &record.id
            && self.meta.config.duplicate_window > 0
        {
            ahead.ids.insert(id.clone(), index);
        }
        if let (Some(key), Some(keys)) = (&record.key, &mut ahead.keys) {
            let present = keys.entry(key.clone()).or_insert_with(|| self.present(key));
            present.push((self.last_seq + ahead.written, record.size()));
            present.drain(..self.superseded(present.len()));
        }
    }

    fn write(&mut self, now: u64, record: Record) -> Written {
        let size = record.size();
        self.last_seq += 1;
        self.last_time = now;
        self.revision += 1;
        let written = Written {
            seq: self.last_seq,
            time: now,
            revision: self.revision,
            duplicate: false,
        };
        self.rate.add(now, 1, size);
        let mut append = Append {
            seq: written.seq,
            time: now,
            key: shared(record.key),
            encoding: record.encoding,
            headers: headers(record.headers),
            ttl: record.ttl,
            id: shared(record.id),
            payload: record.payload.0,
            replaced: Vec::new(),
        };
        self.place(&mut append);
        self.open.bytes += size;
        self.open.changes.push(Change::Append(append));
        written
    }

    /// Puts a record among the others, in the place of older ones of its key.
    fn place(&mut self, append: &mut Append) {
        if let Some(key) = &append.key {
            let seqs = self.records.seqs_of(key);
            let gone = self.superseded(seqs.len() + 1);
            append.replaced = seqs[..gone].to_vec();
        }
        for seq in &append.replaced {
            self.records.remove(*seq);
        }
        // When the clock was set back, a newer record is over sooner than an older one.
        let over = append.time.saturating_add(self.meta.config.max_age);
        self.age_due = self.age_due.min(over);
        self.records.push(RecordMeta {
            seq: append.seq,
            time: append.time,
            size: u32::try_from(append.size()).unwrap_or(u32::MAX),
            key: append.key.clone(),
            expires: append.ttl.map(|ttl| append.time.saturating_add(ttl)),
        });
        if let Some(id) = &append.id
            && self.meta.config.duplicate_window > 0
        {
            let used = Used {
                seq: append.seq,
                time: append.time,
                revision: self.revision,
            };
            self.ids.insert(Arc::clone(id), used);
        }
    }

    /// Takes records out; returns how many, and their ranges.
    ///
    /// # Errors
    /// `wrong-last-sequence`, `bad-request`, `restoring`.
    pub fn remove(
        &mut self,
        now: u64,
        what: &What,
        expected: Option<Expect>,
        durability: Option<Durability>,
    ) -> Result<(u64, Vec<(u64, u64)>), Fault> {
        self.writable()?;
        self.expire(now);
        match (expected, what) {
            (None, _) => {}
            (Some(Expect::LastSeq(seq)), _) => expect(seq, self.last_seq, "the stream's last")?,
            (Some(Expect::KeySeq(seq)), What::Key(key)) => {
                expect(seq, self.key_seq(key, &Ahead::default()), "the key's")?;
            }
            (Some(Expect::KeySeq(_)), _) => {
                return Err(Fault::new(
                    FaultKind::BadRequest,
                    "an expectation of a key's number goes with the removal of a key",
                ));
            }
        }
        let (seqs, is_dense) = self.selected(what);
        if seqs.is_empty() {
            return Ok((0, Vec::new()));
        }
        let ranges = self.remove_all(now, RemovalCause::Request, &seqs, is_dense);
        self.wish(durability.unwrap_or(self.meta.config.durability));
        Ok((seqs.len() as u64, ranges))
    }

    /// The numbers that are meant and there, ascending, and whether there is none between them that is not meant.
    fn selected(&self, what: &What) -> (Vec<u64>, bool) {
        let between = |from: u64, to: u64| {
            let all = self.records.iter_from(from).map(|(seq, ..)| seq);
            all.take_while(|seq| *seq <= to).collect::<Vec<u64>>()
        };
        match what {
            What::Seqs(seqs) => {
                let mut seqs = seqs.clone();
                seqs.retain(|seq| self.records.contains(*seq));
                seqs.sort_unstable();
                seqs.dedup();
                (seqs, false)
            }
            What::UpTo(to) => (between(0, *to), true),
            What::Range(from, to) => (between(*from, *to), true),
            What::All => (between(0, u64::MAX), true),
            What::Key(key) => (self.records.seqs_of(key).to_vec(), false),
            What::Prefix(prefix) => {
                let keys = self.records.keys(prefix, None);
                let mut seqs: Vec<u64> = keys.flat_map(|(_, seqs)| seqs).copied().collect();
                seqs.sort_unstable();
                (seqs, false)
            }
        }
    }

    /// Takes in records of another stream, with their numbers and times.
    ///
    /// # Errors
    /// `exists` when the stream was written to; `bad-request` when the numbers do not grow.
    pub fn restore(
        &mut self,
        records: Vec<StoredRecord>,
        last_seq: Option<u64>,
        done: bool,
        now: u64,
    ) -> Result<(), Fault> {
        self.check_restore(&records, last_seq)?;
        if !self.meta.restoring {
            self.meta.restoring = true;
            self.push_meta();
        }
        for record in records {
            self.restore_one(record);
        }
        if done {
            self.last_seq = self.last_seq.max(last_seq.unwrap_or(0));
            self.meta.restoring = false;
            self.push_meta();
            self.age_due = 0;
            self.expire(now);
            self.enforce_per_key(now);
            self.make_room(now);
        }
        // The numbers had gaps, so that revisions do not follow from them.
        self.history.restart(self.revision, self.last_seq);
        self.wish(self.meta.config.durability);
        Ok(())
    }

    fn check_restore(&self, records: &[StoredRecord], last_seq: Option<u64>) -> Result<(), Fault> {
        if !self.meta.restoring && self.last_seq > 0 {
            return Err(Fault::new(
                FaultKind::Exists,
                "the stream was written to, and only an empty one can be restored",
            ));
        }
        let mut last = self.last_seq;
        for record in records {
            if record.seq <= last || record.seq > check::NUMBER_MAX {
                return Err(Fault::new(
                    FaultKind::BadRequest,
                    format!("record {} does not follow record {last}", record.seq),
                ));
            }
            last = record.seq;
            check::record(&Record {
                key: record.key.clone(),
                payload: record.payload.clone(),
                headers: record.headers.clone(),
                ttl: record.ttl,
                id: record.id.clone(),
                ..Record::default()
            })?;
        }
        if last_seq.is_some_and(|seq| seq > check::NUMBER_MAX) {
            return Err(Fault::new(FaultKind::BadRequest, "last_seq is too large"));
        }
        Ok(())
    }

    fn restore_one(&mut self, record: StoredRecord) {
        self.last_seq = record.seq;
        self.last_time = record.time;
        self.revision += 1;
        let mut append = Append {
            seq: record.seq,
            time: record.time,
            key: shared(record.key),
            encoding: record.encoding,
            headers: headers(record.headers),
            ttl: record.ttl,
            id: shared(record.id),
            payload: record.payload.0,
            replaced: Vec::new(),
        };
        self.place(&mut append);
        self.open.bytes += append.size();
        self.open.changes.push(Change::Append(append));
    }
}

fn expect(expected: u64, actual: u64, what: &str) -> Result<(), Fault> {
    if expected == actual {
        return Ok(());
    }
    Err(Fault::new(
        FaultKind::WrongLastSequence,
        format!("{what} number is {actual}, and not {expected} as expected"),
    )
    .seq(actual))
}

fn reject(text: String) -> Fault {
    Fault::new(FaultKind::Reject, text)
}

fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
