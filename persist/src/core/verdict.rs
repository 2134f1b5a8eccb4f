//! Whether a record may be written, and why not: every check, and no effect.

use std::collections::HashMap;

use dialtone_client::persist::wire::{Discard, Expect, Fault, FaultKind, Record, Written};

use super::check;
use super::state::State;

/// What is to happen with a record that may be written.
pub(super) enum Verdict {
    Write,
    /// It was written before, or earlier in the batch, where the answer is that of the record with this index.
    Duplicate(Written),
    SameAs(usize),
}

/// What the earlier records of an atomic batch will have changed.
#[derive(Default)]
pub(super) struct Ahead {
    /// Records that will be written.
    pub(super) written: u64,
    /// Records and bytes that count for the rates.
    pub(super) bytes: u64,
    /// What the stream will have more, less what is replaced.
    pub(super) msgs_more: i64,
    pub(super) bytes_more: i64,
    /// Per key the numbers and sizes that it will have; `None` in a batch of one.
    pub(super) keys: Option<HashMap<String, Vec<(u64, u64)>>>,
    pub(super) ids: HashMap<String, usize>,
}

impl State {
    /// What is to become of a record, and why not; changes nothing that anybody could see.
    pub(super) fn verdict(
        &mut self,
        now: u64,
        record: &Record,
        ahead: &Ahead,
    ) -> Result<Verdict, Fault> {
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

    pub(super) fn key_seq(&self, key: &str, ahead: &Ahead) -> u64 {
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
    pub(super) fn superseded(&self, len: usize) -> usize {
        len.saturating_sub(self.meta.config.max_msgs_per_key as usize)
    }

    /// The numbers and sizes of a key's records.
    fn present(&self, key: &str) -> Vec<(u64, u64)> {
        let size = |seq| self.records.get(seq).map_or(0, |meta| u64::from(meta.size));
        let seqs = self.records.seqs_of(key).iter();
        seqs.map(|seq| (*seq, size(*seq))).collect()
    }

    pub(super) fn look_ahead(&self, ahead: &mut Ahead, record: &Record, index: usize) {
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
}

pub(super) fn expect(expected: u64, actual: u64, what: &str) -> Result<(), Fault> {
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
