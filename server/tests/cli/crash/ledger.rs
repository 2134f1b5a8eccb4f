//! What writers know of two streams, and whether the streams agree.

use std::collections::{BTreeMap, BTreeSet};

use dialtone_client::persist::wire::StoredRecord;

/// What was asked for and what was acknowledged. The payload of each record is its message id.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    /// All ids that were ever sent.
    pub(super) sent: BTreeSet<String>,
    /// By their numbers, the ids that were acknowledged in the log.
    pub(super) acked: BTreeMap<u64, String>,
    /// Ids whose write was refused.
    pub(super) refused: BTreeSet<String>,
    /// Ids of which nobody knows, since their writer gave up.
    pub(super) unknown: BTreeSet<String>,
    /// Answers that told of an earlier attempt.
    pub(super) duplicates: u64,
    /// Numbers that were asked to be removed, and those for which that was acknowledged.
    pub(super) going: BTreeSet<u64>,
    pub(super) gone: BTreeSet<u64>,
    /// The ids of each batch.
    pub(super) batches: Vec<Vec<String>>,
    /// By their numbers, the ids that were delivered to workers.
    pub(super) delivered: BTreeMap<u64, String>,
    /// Numbers of which workers were told that their acknowledgement is known.
    pub(super) worked: BTreeSet<u64>,
    /// Deliveries that were not the first one.
    pub(super) redeliveries: u64,
    /// By their numbers, the keyed writes that were acknowledged.
    pub(super) keyed: BTreeMap<u64, Keyed>,
}

/// A write under a key.
#[derive(Debug, Clone)]
pub(super) struct Keyed {
    pub(super) key: String,
    pub(super) id: String,
    /// The number that the record of the key was to have before.
    pub(super) expected: u64,
}

impl Ledger {
    /// Panics unless the streams, which were read between two states of the ledger, agree with both.
    pub(super) fn check(&self, later: &Self, log: &[StoredRecord], keyed: &[StoredRecord]) {
        later.check_identity(log);
        later.check_identity(keyed);
        check_writers(log);
        let by_seq: BTreeMap<u64, &StoredRecord> = log.iter().map(|r| (r.seq, r)).collect();
        for (seq, id) in &self.acked {
            match by_seq.get(seq) {
                Some(record) => assert_eq!(record.id.as_ref(), Some(id), "record {seq}"),
                None => assert!(later.going.contains(seq), "record {seq}, {id}, is lost"),
            }
        }
        for seq in &self.gone {
            assert!(!by_seq.contains_key(seq), "record {seq} has come back");
        }
        later.check_delivered();
        later.check_batches(log);
        later.check_chains();
        self.check_values(later, keyed);
    }

    /// Each record is what was sent, once, and was not refused.
    fn check_identity(&self, records: &[StoredRecord]) {
        let (mut ids, mut last) = (BTreeSet::new(), 0);
        for record in records {
            assert!(record.seq > last, "{} after {last}", record.seq);
            last = record.seq;
            let id = record.id.as_ref().expect("every write has an id");
            assert_eq!(&*record.payload, id.as_bytes(), "record {}", record.seq);
            assert!(self.sent.contains(id), "nobody sent {id}");
            assert!(ids.insert(id), "{id} is there twice");
            assert!(!self.refused.contains(id), "{id} was refused and is there");
        }
    }

    /// What was delivered is what was acknowledged to its writer.
    fn check_delivered(&self) {
        for (seq, id) in &self.delivered {
            let acked = self.acked.get(seq);
            assert!(acked.is_none_or(|acked| acked == id), "record {seq}");
            assert!(!self.refused.contains(id), "{id} was refused and delivered");
        }
    }

    /// Panics unless everything that was in the log when the writers had ended was delivered.
    pub(super) fn check_worked(&self, log: &[StoredRecord]) {
        for record in log {
            let was_delivered = self.delivered.contains_key(&record.seq);
            assert!(was_delivered, "record {} was never delivered", record.seq);
        }
    }

    /// Each batch is there in one piece, or not at all.
    fn check_batches(&self, log: &[StoredRecord]) {
        let seqs: BTreeMap<&str, u64> = log
            .iter()
            .filter_map(|record| Some((record.id.as_deref()?, record.seq)))
            .collect();
        for batch in &self.batches {
            let found: Vec<u64> = batch
                .iter()
                .filter_map(|id| seqs.get(id.as_str()).copied())
                .collect();
            if let Some(first) = found.first() {
                let whole: Vec<u64> = (*first..).take(batch.len()).collect();
                assert_eq!(found, whole, "the batch {batch:?} is not whole");
            }
        }
    }

    /// Of the writes of a key, each expected at least what the acknowledged one before it made.
    fn check_chains(&self) {
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for (seq, write) in &self.keyed {
            let before = last.insert(&write.key, *seq).unwrap_or(0);
            assert!(
                (before..*seq).contains(&write.expected),
                "{write:?} became {seq} though {before} had been written"
            );
        }
    }

    /// The value of each key is the one that was acknowledged last, or a later one.
    fn check_values(&self, later: &Self, keyed: &[StoredRecord]) {
        let values: BTreeMap<&str, &StoredRecord> = keyed
            .iter()
            .filter_map(|record| Some((record.key.as_deref()?, record)))
            .collect();
        assert_eq!(values.len(), keyed.len(), "one record for each key");
        for (seq, write) in &self.keyed {
            let value = values.get(write.key.as_str());
            let value = value.unwrap_or_else(|| panic!("{write:?}, record {seq}, is lost"));
            assert!(value.seq >= *seq, "{write:?} was {seq}, now {}", value.seq);
        }
        for (key, value) in values {
            if let Some(write) = later.keyed.get(&value.seq) {
                assert_eq!(
                    (key, value.id.as_ref()),
                    (&*write.key, Some(&write.id)),
                    "{value:?}"
                );
            }
        }
    }

    /// What was done, for people.
    pub(super) fn summary(&self) -> String {
        format!(
            "{} acknowledged in the log, {} of them removed, {} batches, {} keyed, {} refused, {} unknown, {} repeated, \
             {} worked on, {} delivered again",
            self.acked.len(),
            self.gone.len(),
            self.batches.len(),
            self.keyed.len(),
            self.refused.len(),
            self.unknown.len(),
            self.duplicates,
            self.worked.len(),
            self.redeliveries
        )
    }

    /// Panics if a kind of write never happened, so that nothing was shown of it.
    pub(super) fn assert_worth_it(&self) {
        let counts = [
            self.acked.len(),
            self.gone.len(),
            self.batches.len(),
            self.keyed.len(),
            self.refused.len(),
            self.worked.len(),
        ];
        assert!(counts.iter().all(|count| *count > 0), "{}", self.summary());
    }
}

/// What one writer wrote is in the order in which it wrote. Ids are the writer, its number, and more for batches.
fn check_writers(log: &[StoredRecord]) {
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for id in log.iter().filter_map(|record| record.id.as_deref()) {
        let mut parts = id.split('.');
        let writer = parts.next().expect("a writer");
        let number: u64 = parts.next().expect("a number").parse().unwrap();
        let before = last.insert(writer, number).unwrap_or(0);
        assert!(number >= before, "{id} after {before}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64, id: &str, key: Option<&str>) -> StoredRecord {
        StoredRecord {
            seq,
            time: 0,
            revision: seq,
            key: key.map(str::to_owned),
            encoding: 0,
            headers: None,
            ttl: None,
            id: Some(id.to_owned()),
            payload: id.into(),
        }
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        let sent = ["a.1", "a.2", "b.1.0", "b.1.1", "k.1", "k.2"];
        ledger.sent.extend(sent.map(str::to_owned));
        ledger.acked.insert(1, "a.1".to_owned());
        ledger
            .batches
            .push(vec!["b.1.0".to_owned(), "b.1.1".to_owned()]);
        for (seq, id, expected) in [(1, "k.1", 0), (2, "k.2", 1)] {
            let (key, id) = ("k".to_owned(), id.to_owned());
            let write = Keyed { key, id, expected };
            ledger.keyed.insert(seq, write);
        }
        ledger
    }

    fn is_accepted(ledger: &Ledger, log: &[(u64, &str)], keyed: (u64, &str)) -> bool {
        let log: Vec<_> = log.iter().map(|(seq, id)| record(*seq, id, None)).collect();
        let keyed = [record(keyed.0, keyed.1, Some("k"))];
        std::panic::catch_unwind(|| ledger.check(ledger, &log, &keyed)).is_ok()
    }

    #[test]
    fn every_kind_of_loss_is_noticed() {
        let (ledger, newest) = (ledger(), (2, "k.2"));
        let whole = [(1, "a.1"), (2, "b.1.0"), (3, "b.1.1")];
        assert!(is_accepted(&ledger, &whole, newest));
        assert!(is_accepted(&ledger, &whole[..1], newest), "no batch");
        assert!(!is_accepted(&ledger, &whole[..2], newest), "half a batch");
        assert!(!is_accepted(&ledger, &whole[1..], newest), "lost");
        assert!(!is_accepted(&ledger, &[(2, "a.1")], newest), "moved");
        let twice = [(1, "a.1"), (2, "a.1")];
        assert!(!is_accepted(&ledger, &twice, newest), "twice");
        assert!(!is_accepted(&ledger, &whole, (1, "k.1")), "older value");
        let mut refused = ledger.clone();
        refused.refused.insert("a.1".to_owned());
        assert!(!is_accepted(&refused, &whole, newest), "refused");
        let mut gone = ledger.clone();
        gone.going.insert(1);
        gone.gone.insert(1);
        assert!(is_accepted(&gone, &whole[1..], newest), "removed");
        assert!(!is_accepted(&gone, &whole, newest), "come back");
        let mut fork = ledger;
        fork.keyed.get_mut(&2).unwrap().expected = 0;
        assert!(!is_accepted(&fork, &whole, newest), "two successors");
    }
}
