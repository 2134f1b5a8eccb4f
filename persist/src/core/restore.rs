//! Taking in the records of another stream, which keep their numbers and times.

use dialtone_client::persist::wire::{Fault, FaultKind, Record, StoredRecord};

use super::check;
use super::commit::{Append, Change};
use super::state::{State, headers, shared};

impl State {
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
