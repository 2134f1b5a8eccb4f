//! How long something takes, counted in buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets, in microseconds: from a write to the page cache to a disk that hangs.
const BOUNDS_US: [u64; 16] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000,
];

/// Counts how long something takes.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    buckets: [AtomicU64; BOUNDS_US.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

/// What was counted since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latencies {
    /// Upper bounds, and how often it took more than the bound before and at most this one.
    pub buckets: Vec<(Duration, u64)>,
    /// How often it was counted; what took longer than the last bound is only here.
    pub count: u64,
    /// All of it together.
    pub sum: Duration,
}

impl Latency {
    /// Counts one that took so long.
    pub(crate) fn add(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub(crate) fn get(&self) -> Latencies {
        let buckets = BOUNDS_US.iter().zip(&self.buckets);
        Latencies {
            buckets: buckets
                .map(|(bound, count)| {
                    (Duration::from_micros(*bound), count.load(Ordering::Relaxed))
                })
                .collect(),
            count: self.count.load(Ordering::Relaxed),
            sum: Duration::from_micros(self.sum_us.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_at_the_first_bound_that_it_keeps() {
        let latency = Latency::default();
        for us in [0, 50, 51, 1_000, 10_000_001] {
            latency.add(Duration::from_micros(us));
        }
        let counted = latency.get();
        let at = |us| {
            let bound = Duration::from_micros(us);
            let found = counted.buckets.iter().find(|(kept, _)| *kept == bound);
            found.map(|(_, count)| *count)
        };
        assert_eq!(
            (at(50), at(100), at(1_000), at(10_000_000)),
            (Some(2), Some(1), Some(1), Some(0))
        );
        assert_eq!(counted.count, 5);
        assert_eq!(counted.sum, Duration::from_micros(10_001_102));
    }
}
