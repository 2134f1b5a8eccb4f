//! What leaves a stream by itself: what is too old, what is over, what makes room.

use dialtone_client::persist::wire::RemovalCause;

use super::commit::Meta;
use super::records::Records;
use super::state::State;

/// How many records are looked for at once.
const STEP: usize = 10_000;

impl State {
    /// Takes out what is over at `now`, by `max_age` and by the records' own lifetimes.
    pub fn expire(&mut self, now: u64) {
        if self.meta.restoring {
            return;
        }
        self.expire_lifetimes(now);
        self.expire_age(now);
    }

    fn expire_lifetimes(&mut self, now: u64) {
        if !self.meta.config.allow_ttl {
            return;
        }
        while self.records.next_expiry().is_some_and(|due| due <= now) {
            let mut over = self.records.expired(now, STEP);
            over.sort_unstable();
            self.remove_all(now, RemovalCause::Expiry, &over, false);
        }
    }

    fn expire_age(&mut self, now: u64) {
        let max_age = self.meta.config.max_age;
        // Before the first `max_age` milliseconds of 1970 have passed, nothing can be too old.
        let Some(limit) = now.checked_sub(max_age).filter(|_| max_age > 0) else {
            return;
        };
        if now < self.age_due {
            return;
        }
        loop {
            let old = self.records.older_than(limit, STEP);
            if old.is_empty() {
                break;
            }
            self.remove_all(now, RemovalCause::Limit, &old, false);
        }
        // It must be in the future, or the timers would look at the stream again at once, and again.
        let oldest = self.records.find_oldest_time().unwrap_or(now);
        self.age_due = oldest + max_age;
    }

    /// When [`expire`](Self::expire) has something to do next, in milliseconds since 1970; possibly a little early.
    pub fn next_due(&self) -> Option<u64> {
        let known = Some(self.age_due).filter(|due| *due > 0);
        next_due(&self.meta, &self.records, known)
    }

    /// Takes out the oldest records until `max_msgs` and `max_bytes` hold, whatever the policy.
    pub(super) fn make_room(&mut self, now: u64) {
        if self.meta.restoring {
            return;
        }
        let msgs_max = match self.meta.config.max_msgs {
            0 => u64::MAX,
            max => max,
        };
        let bytes_max = self.bytes_max();
        let (mut msgs, mut bytes) = (self.records.messages(), self.records.bytes());
        if msgs <= msgs_max && bytes <= bytes_max {
            return;
        }
        let mut evicted = Vec::new();
        for (seq, size, _) in self.records.iter_from(0) {
            if msgs <= msgs_max && bytes <= bytes_max {
                break;
            }
            evicted.push(seq);
            msgs -= 1;
            bytes -= u64::from(size);
        }
        self.remove_all(now, RemovalCause::Limit, &evicted, true);
    }

    /// Takes out the oldest records of each key beyond `max_msgs_per_key`.
    pub(super) fn enforce_per_key(&mut self, now: u64) {
        let kept = self.meta.config.max_msgs_per_key as usize;
        let keys = self.records.keys("", None);
        let mut over: Vec<u64> = keys
            .flat_map(|(_, seqs)| &seqs[..seqs.len().saturating_sub(kept)])
            .copied()
            .collect();
        over.sort_unstable();
        self.remove_all(now, RemovalCause::Limit, &over, false);
    }
}

/// When something of a stream with these records is over next, in milliseconds since 1970; possibly a little early.
pub fn due(meta: &Meta, records: &Records) -> Option<u64> {
    next_due(meta, records, None)
}

/// The same where it may be known when `max_age` takes something out next.
fn next_due(meta: &Meta, records: &Records, known: Option<u64>) -> Option<u64> {
    let config = &meta.config;
    if meta.restoring {
        return None;
    }
    let lifetime = records.next_expiry().filter(|_| config.allow_ttl);
    let has_age = config.max_age > 0 && records.messages() > 0;
    let age = has_age.then(|| {
        let oldest = || {
            records
                .oldest_time()
                .unwrap_or(0)
                .saturating_add(config.max_age)
        };
        known.unwrap_or_else(oldest)
    });
    lifetime.into_iter().chain(age).min()
}
