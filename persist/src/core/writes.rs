//! Appending: all checks come before any effect.

use std::collections::HashMap;
use std::sync::Arc;

use dialtone_client::persist::wire::{Durability, Fault, FaultKind, Outcome, Record, Written};

use super::commit::{Append, Change};
use super::ids::Used;
use super::records::RecordMeta;
use super::state::{State, headers, shared};
use super::verdict::{Ahead, Verdict};

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
    pub(super) fn place(&mut self, append: &mut Append) {
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
}
