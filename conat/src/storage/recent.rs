//! What was written through this process a moment ago, for change feeds.
//!
//! The service tells of the records that there are. Existing clients expect to be told of every write, also of one
//! whose record is overwritten or deleted by the time of the telling. So writes are kept here until all feeds of the
//! stream have passed them, and feeds fill the gaps in what the service tells.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use dialtone_client::persist::wire::StoredRecord;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Most records of a stream that are kept.
const RECORDS_MAX: usize = 4_096;

/// Most bytes of a stream that are kept: a feed that does not keep up is not waited for.
const LEN_MAX: usize = 1 << 20;

/// What a record takes beside its payload, in bytes.
const RECORD_COST: usize = 200;

/// The streams that are open here.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: Mutex<HashMap<String, Weak<Recent>>>,
}

/// One stream that is open here.
#[derive(Debug)]
pub(super) struct Recent {
    streams: Arc<Streams>,
    path: String,
    state: Mutex<State>,
    written: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// How far each feed has told.
    feeds: BTreeMap<u64, u64>,
    records: BTreeMap<u64, StoredRecord>,
    len: usize,
    /// Writes that have begun and whose outcome is not known.
    writing: BTreeSet<u64>,
    /// The number of the next write or feed.
    next: u64,
}

impl Streams {
    /// A stream; its path names its owner as well.
    pub(super) fn open(self: &Arc<Self>, path: &str) -> Arc<Recent> {
        let mut open = self.open.lock();
        if let Some(recent) = open.get(path).and_then(Weak::upgrade) {
            return recent;
        }
        let recent = Arc::new(Recent {
            streams: Arc::clone(self),
            path: path.to_owned(),
            state: Mutex::default(),
            written: Notify::new(),
        });
        open.insert(path.to_owned(), Arc::downgrade(&recent));
        recent
    }
}

impl Drop for Recent {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock();
        // It may have been opened anew meanwhile.
        if open
            .get(&self.path)
            .is_some_and(|other| other.strong_count() == 0)
        {
            open.remove(&self.path);
        }
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Forgets what all feeds have told, and what is too much.
    fn trim(&mut self) {
        let told = self.feeds.values().min().copied().unwrap_or(u64::MAX);
        while let Some((first, _)) = self.records.first_key_value() {
            let is_too_much = self.len > LEN_MAX || self.records.len() > RECORDS_MAX;
            if *first > told && !is_too_much {
                return;
            }
            if let Some((_, record)) = self.records.pop_first() {
                self.len -= cost(&record);
            }
        }
    }
}

fn cost(record: &StoredRecord) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let headers = record.headers.as_ref().map_or(0, |headers| headers.len());
    RECORD_COST + record.payload.len() + headers + text(&record.key) + text(&record.id)
}

/// A write whose outcome is not known.
#[derive(Debug)]
pub(super) struct Writing {
    recent: Arc<Recent>,
    number: u64,
}

/// A feed that fills gaps.
#[derive(Debug)]
pub(super) struct Follower {
    recent: Arc<Recent>,
    number: u64,
}

impl Recent {
    /// A write begins; it has ended when what is returned is dropped.
    pub(super) fn write(self: &Arc<Self>) -> Writing {
        let mut state = self.state.lock();
        let number = state.number();
        state.writing.insert(number);
        Writing {
            recent: Arc::clone(self),
            number,
        }
    }

    /// A feed begins.
    pub(super) fn follow(self: &Arc<Self>) -> Follower {
        let mut state = self.state.lock();
        let number = state.number();
        let told = state.records.last_key_value().map_or(0, |(seq, _)| *seq);
        state.feeds.insert(number, told);
        Follower {
            recent: Arc::clone(self),
            number,
        }
    }
}

impl Writing {
    /// Whether anybody wants to know what was written.
    pub(super) fn is_wanted(&self) -> bool {
        !self.recent.state.lock().feeds.is_empty()
    }

    /// This was written.
    pub(super) fn wrote(&self, record: StoredRecord) {
        let mut state = self.recent.state.lock();
        if state.feeds.is_empty() {
            return;
        }
        state.len += cost(&record);
        if let Some(same) = state.records.insert(record.seq, record) {
            state.len -= cost(&same);
        }
        state.trim();
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.recent.state.lock().writing.remove(&self.number);
        self.recent.written.notify_waiters();
    }
}

impl Follower {
    /// How far this feed has told.
    pub(super) fn told(&self) -> u64 {
        let state = self.recent.state.lock();
        state.feeds.get(&self.number).copied().unwrap_or_default()
    }

    /// This feed has told everything up to a number.
    pub(super) fn tell(&self, seq: u64) {
        let mut state = self.recent.state.lock();
        if let Some(told) = state.feeds.get_mut(&self.number) {
            *told = seq.max(*told);
        }
        state.trim();
    }

    /// What was written between what was told and a number, and is known here. What may be one of these is waited for.
    pub(super) async fn missing(&self, below: u64) -> Vec<StoredRecord> {
        let from = self.told() + 1;
        if from >= below {
            return Vec::new();
        }
        let newest = self.recent.state.lock().next;
        loop {
            let written = self.recent.written.notified();
            tokio::pin!(written);
            // From here on no end of a write is missed.
            written.as_mut().enable();
            {
                let state = self.recent.state.lock();
                let all = state.records.range(from..below).count() as u64 == below - from;
                let settled = state.writing.first().is_none_or(|oldest| *oldest > newest);
                if all || settled {
                    let found = state.records.range(from..below);
                    return found.map(|(_, record)| record.clone()).collect();
                }
            }
            written.await;
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut state = self.recent.state.lock();
        state.feeds.remove(&self.number);
        state.trim();
    }
}

#[cfg(test)]
mod tests {
    use dialtone_client::persist::wire::Blob;

    use super::*;

    fn record(seq: u64, len: usize) -> StoredRecord {
        StoredRecord {
            seq,
            time: 0,
            revision: seq,
            key: None,
            encoding: 0,
            headers: None,
            ttl: None,
            id: None,
            payload: Blob::from(vec![0; len]),
        }
    }

    fn seqs(records: &[StoredRecord]) -> Vec<u64> {
        records.iter().map(|record| record.seq).collect()
    }

    #[tokio::test]
    async fn gaps_are_filled_until_all_feeds_have_passed_them() {
        let streams = Arc::new(Streams::default());
        let recent = streams.open("hub/a");
        recent.write().wrote(record(1, 1));
        let (one, other) = (recent.follow(), recent.follow());
        for seq in [2, 3, 5] {
            recent.write().wrote(record(seq, 1));
        }
        assert_eq!(seqs(&one.missing(5).await), [2, 3]);
        one.tell(5);
        assert_eq!(seqs(&one.missing(9).await), [0_u64; 0]);
        assert_eq!(seqs(&other.missing(9).await), [2, 3, 5]);
        other.tell(3);
        assert_eq!(seqs(&other.missing(9).await), [5]);
        drop(other);
        assert!(recent.state.lock().records.is_empty());
        drop((one, recent));
        assert!(streams.open.lock().is_empty());
    }

    #[tokio::test]
    async fn a_write_that_may_fill_the_gap_is_waited_for() {
        let recent = Arc::new(Streams::default()).open("hub/a");
        let feed = recent.follow();
        let writing = recent.write();
        let mut missing = Box::pin(feed.missing(2));
        assert!(futures_util::poll!(&mut missing).is_pending());
        let later = recent.write();
        writing.wrote(record(1, 1));
        drop(writing);
        assert_eq!(seqs(&missing.await), [1]);
        drop(later);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let recent = Arc::new(Streams::default()).open("hub/a");
        let feed = recent.follow();
        for seq in 1..10_000 {
            recent.write().wrote(record(seq, 10));
        }
        assert_eq!(recent.state.lock().records.len(), RECORDS_MAX);
        for seq in 10_000..10_010 {
            recent.write().wrote(record(seq, LEN_MAX / 4));
        }
        assert!(recent.state.lock().len <= LEN_MAX);
        drop(feed);
        assert_eq!(recent.state.lock().len, 0);
    }
}
