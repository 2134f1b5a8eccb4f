//! What each owner has, and what it may have.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dialtone_client::persist::Owner;
use dialtone_client::persist::wire::{Fault, FaultKind};
use parking_lot::Mutex;

use crate::config::{Config, Quota};
use crate::core::rate::Rate;

/// What one owner has on this node.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    quota: Quota,
    streams: AtomicU64,
    bytes: AtomicU64,
    rate: Mutex<Rate>,
    /// Watches and fetches that wait.
    pub(crate) waiting: AtomicUsize,
}

impl Usage {
    /// What an owner has that was not counted before.
    pub(crate) fn new(quota: Quota, streams: u64, bytes: u64) -> Self {
        Self {
            quota,
            streams: AtomicU64::new(streams),
            bytes: AtomicU64::new(bytes),
            ..Self::default()
        }
    }

    /// Counts bytes that came or went.
    pub(crate) fn bytes_changed(&self, before: u64, after: u64) {
        // Two's complement: a difference below zero is added just as well.
        self.bytes
            .fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Counts a stream that was made.
    pub(crate) fn stream_made(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a stream that was deleted with what it had.
    pub(crate) fn stream_gone(&self, bytes: u64) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
        self.bytes_changed(bytes, 0);
    }

    /// Whether another stream may be made.
    ///
    /// # Errors
    /// `quota`.
    pub(crate) fn check_stream(&self) -> Result<(), Fault> {
        let (have, max) = (self.streams.load(Ordering::Relaxed), self.quota.streams_max);
        if max > 0 && have >= max {
            return Err(over(format!(
                "the owner has {have} streams of at most {max}"
            )));
        }
        Ok(())
    }

    /// Counts a write, if there may be one.
    ///
    /// # Errors
    /// `quota`.
    pub(crate) fn check_write(&self, now: u64, msgs: u64, bytes: u64) -> Result<(), Fault> {
        let quota = &self.quota;
        let have = self.bytes.load(Ordering::Relaxed);
        if quota.bytes_max > 0 && have.saturating_add(bytes) > quota.bytes_max {
            let max = quota.bytes_max;
            return Err(over(format!("the owner has {have} bytes of at most {max}")));
        }
        if quota.msgs_per_second_max == 0 && quota.bytes_per_second_max == 0 {
            return Ok(());
        }
        let mut rate = self.rate.lock();
        let (had_msgs, had_bytes) = rate.at(now);
        let is_over = |had: u64, more: u64, max: u64| max > 0 && had + more > max;
        if is_over(had_msgs, msgs, quota.msgs_per_second_max)
            || is_over(had_bytes, bytes, quota.bytes_per_second_max)
        {
            let text = format!(
                "the owner may write {} records and {} bytes a second (0 is no limit)",
                quota.msgs_per_second_max, quota.bytes_per_second_max
            );
            return Err(over(text).retry_after(rate.wait(now)));
        }
        rate.add(now, msgs, bytes);
        drop(rate);
        Ok(())
    }
}

fn over(text: String) -> Fault {
    Fault::new(FaultKind::Quota, text)
}

/// The usage of every owner that has been heard of.
#[derive(Debug, Default)]
pub(crate) struct Usages {
    by_owner: Mutex<HashMap<Owner, Arc<Usage>, ahash::RandomState>>,
}

impl Usages {
    /// The usage of an owner, if it was counted.
    pub(crate) fn get(&self, owner: &Owner) -> Option<Arc<Usage>> {
        self.by_owner.lock().get(owner).cloned()
    }

    /// Remembers what was counted, unless somebody was faster.
    pub(crate) fn insert(&self, owner: Owner, usage: Usage) -> Arc<Usage> {
        let mut by_owner = self.by_owner.lock();
        Arc::clone(by_owner.entry(owner).or_insert_with(|| Arc::new(usage)))
    }
}

/// What an owner may have.
pub(crate) fn quota_of(config: &Config, owner: &Owner) -> Quota {
    match owner {
        Owner::Hub => Quota::default(),
        Owner::Account(_) | Owner::Project(_) => config
            .quotas
            .get(&owner.scope())
            .copied()
            .unwrap_or(config.quota),
    }
}
