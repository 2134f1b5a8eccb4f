//! Counters of the broker. The hot path adds to them once per read turn, not once per message.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, amount: u64) {
        if amount > 0 {
            self.0.fetch_add(amount, Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What is counted over all connections, also those that have ended.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) accepted: Counter,
    pub(crate) handshake_failures: Counter,
    pub(crate) auth_failures: Counter,
    pub(crate) limit_refusals: Counter,
    pub(crate) denied: Counter,
    pub(crate) slow_consumers: Counter,
    pub(crate) violations: Counter,
    pub(crate) stalls: Counter,
    pub(crate) throttles: Counter,
    pub(crate) messages_in: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) messages_out: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) unrouted: Counter,
    pub(crate) dropped: Counter,
}
