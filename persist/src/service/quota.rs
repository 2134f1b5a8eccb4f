//! What each owner has, and what it may have.
//!
//! Streams and bytes count over all nodes: what is on this node, or in a store that all share, is counted exactly as it
//! changes here; what changes on other nodes is asked for when a stream is made and every [`RECOUNT_INTERVAL`] while the
//! owner writes, so that an owner that writes on several nodes at once can be over by what it writes meanwhile. Rates
//! hold on each node by itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use dialtone_client::persist::Owner;
use dialtone_client::persist::wire::{Fault, FaultKind};
use parking_lot::{Mutex, RwLock};

use super::list;
use super::shared::Shared;
use crate::config::{Quota, Quotas};
use crate::core::rate::Rate;

/// How often it is asked what an owner that writes has elsewhere.
pub(crate) const RECOUNT_INTERVAL: Duration = Duration::from_secs(5);

/// How much something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Count {
    pub(crate) streams: u64,
    pub(crate) bytes: u64,
}

/// What one owner has.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    quota: RwLock<Quota>,
    /// On this node, or in the store that all share. Below zero for a moment where others delete.
    streams: AtomicI64,
    bytes: AtomicI64,
    /// On other nodes, when they were asked last.
    streams_elsewhere: AtomicU64,
    bytes_elsewhere: AtomicU64,
    /// Something was written since then.
    written: AtomicBool,
    rate: Mutex<Rate>,
    /// Watches and fetches that wait.
    pub(crate) waiting: AtomicUsize,
}

impl Usage {
    /// What an owner has that was not counted before.
    fn new(quota: Quota, count: Count) -> Self {
        let usage = Self {
            quota: RwLock::new(quota),
            ..Self::default()
        };
        usage.set(count);
        usage
    }

    /// What the owner may have.
    fn quota(&self) -> Quota {
        *self.quota.read()
    }

    /// The owner may have something else from now on. What it has elsewhere is asked for soon, since nobody has wanted
    /// to know it as long as there was no quota.
    fn set_quota(&self, quota: Quota) {
        let before = std::mem::replace(&mut *self.quota.write(), quota);
        if before != quota {
            self.written.store(true, Ordering::Relaxed);
        }
    }

    fn set(&self, count: Count) {
        self.streams
            .store(count.streams.cast_signed(), Ordering::Relaxed);
        self.bytes
            .store(count.bytes.cast_signed(), Ordering::Relaxed);
    }

    fn set_elsewhere(&self, count: Count) {
        self.streams_elsewhere
            .store(count.streams, Ordering::Relaxed);
        self.bytes_elsewhere.store(count.bytes, Ordering::Relaxed);
    }

    /// Counts bytes that came or went.
    pub(crate) fn bytes_changed(&self, before: u64, after: u64) {
        self.bytes.fetch_add(
            after.cast_signed().wrapping_sub(before.cast_signed()),
            Ordering::Relaxed,
        );
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

    /// What the owner has, as far as it is known.
    fn count(&self) -> Count {
        let here = |count: &AtomicI64| {
            let count = count.load(Ordering::Relaxed);
            count.max(0).cast_unsigned()
        };
        Count {
            streams: here(&self.streams) + self.streams_elsewhere.load(Ordering::Relaxed),
            bytes: here(&self.bytes) + self.bytes_elsewhere.load(Ordering::Relaxed),
        }
    }

    /// Whether another stream may be made.
    ///
    /// # Errors
    /// `quota`.
    pub(crate) fn check_stream(&self) -> Result<(), Fault> {
        let (have, max) = (self.count().streams, self.quota().streams_max);
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
        let quota = self.quota();
        if quota.bytes_max > 0 {
            self.written.store(true, Ordering::Relaxed);
            let have = self.count().bytes;
            if have.saturating_add(bytes) > quota.bytes_max {
                let max = quota.bytes_max;
                return Err(over(format!("the owner has {have} bytes of at most {max}")));
            }
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
    quotas: RwLock<Quotas>,
    by_owner: Mutex<HashMap<Owner, Arc<Usage>, ahash::RandomState>>,
}

impl Usages {
    pub(crate) fn new(quotas: Quotas) -> Self {
        Self {
            quotas: RwLock::new(quotas),
            by_owner: Mutex::default(),
        }
    }

    /// Other quotas hold from now on, also for owners that were heard of before.
    #[expect(
        clippy::iter_over_hash_type,
        reason = "every owner is told, in whatever order"
    )]
    pub(crate) fn set_quotas(&self, quotas: Quotas) {
        let by_owner = self.by_owner.lock();
        for (owner, usage) in &*by_owner {
            usage.set_quota(quotas.of(owner));
        }
        *self.quotas.write() = quotas;
    }

    /// Counts an owner for the first time, unless somebody was faster.
    pub(crate) fn begin(&self, owner: Owner, count: Count) -> Arc<Usage> {
        // Looked up under the lock, so that none keeps a quota that was replaced meanwhile.
        let mut by_owner = self.by_owner.lock();
        let quota = self.quotas.read().of(&owner);
        let usage = || Arc::new(Usage::new(quota, count));
        Arc::clone(by_owner.entry(owner).or_insert_with(usage))
    }

    /// The usage of an owner, if it was counted.
    pub(crate) fn get(&self, owner: &Owner) -> Option<Arc<Usage>> {
        self.by_owner.lock().get(owner).cloned()
    }

    /// The owners that have written something since this was asked last.
    fn take_written(&self) -> Vec<Owner> {
        let by_owner = self.by_owner.lock();
        let written = by_owner
            .iter()
            .filter(|(_, usage)| usage.written.swap(false, Ordering::Relaxed));
        written.map(|(owner, _)| owner.clone()).collect()
    }
}

/// Asks what an owner has on other nodes, where there are any.
///
/// # Errors
/// What a store says that all share.
pub(crate) async fn recount(
    shared: &Arc<Shared>,
    owner: &Owner,
    usage: &Usage,
) -> Result<(), Fault> {
    let quota = usage.quota();
    if quota.streams_max == 0 && quota.bytes_max == 0 {
        return Ok(());
    }
    if shared.store.is_shared() {
        usage.set(list::count_here(shared, owner).await?);
    }
    usage.set_elsewhere(list::count_elsewhere(shared, owner).await);
    Ok(())
}

/// Recounts the owners that write, until the service stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(RECOUNT_INTERVAL) => {}
            () = shared.stopping.cancelled() => return,
        }
        for owner in shared.usages.take_written() {
            if shared.stopping.is_cancelled() {
                return;
            }
            let Some(usage) = shared.usages.get(&owner) else {
                continue;
            };
            if let Err(fault) = recount(&shared, &owner, &usage).await {
                tracing::debug!(owner = owner.scope(), error = %fault.text, "an owner is not counted again");
            }
        }
    }
}
