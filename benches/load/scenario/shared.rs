//! What the threads of a run share: the phase it is in, and what was counted.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::Pace;
use crate::error::LoadError;
use crate::meter::{Meter, Usage};

/// How often a thread that has nothing to do looks at the phase.
pub(super) const IDLE_TURN: Duration = Duration::from_millis(10);
/// The grain of timelines.
const STEP: Duration = Duration::from_millis(100);

/// Where a run stands; threads that keep latencies forget them at each change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Warm = 0,
    Measured = 1,
    /// Only for scenarios with two phases.
    Disturbed = 2,
    Over = 3,
}

/// One counter on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counter(AtomicU64);

/// Shared by reference between scoped threads.
#[derive(Debug)]
pub(super) struct Shared {
    phase: AtomicU8,
    counters: Vec<Counter>,
}

impl Shared {
    pub(super) fn new(counters: usize) -> Self {
        Self {
            phase: AtomicU8::new(0),
            counters: (0..counters).map(|_| Counter::default()).collect(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Warm,
            1 => Phase::Measured,
            2 => Phase::Disturbed,
            _ => Phase::Over,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase() == Phase::Over
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub(super) fn set(&self, index: usize, count: u64) {
        if let Some(counter) = self.counters.get(index) {
            counter.0.store(count, Ordering::Relaxed);
        }
    }

    pub(super) fn add(&self, index: usize, count: u64) {
        if let Some(counter) = self.counters.get(index) {
            counter.0.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(super) fn get(&self, index: usize) -> u64 {
        self.counters
            .get(index)
            .map_or(0, |counter| counter.0.load(Ordering::Relaxed))
    }

    /// The sum of the counters.
    pub(super) fn total(&self) -> u64 {
        self.counters
            .iter()
            .map(|counter| counter.0.load(Ordering::Relaxed))
            .sum()
    }

    /// The smallest counter.
    pub(super) fn floor(&self) -> u64 {
        self.counters
            .iter()
            .map(|counter| counter.0.load(Ordering::Relaxed))
            .min()
            .unwrap_or(0)
    }
}

/// What was seen during one phase.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) count: u64,
    pub(super) usage: Usage,
    pub(super) timeline: Vec<f64>,
}

/// Enters a phase, watches the total of the counters for `length`, and returns what it saw.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a run are far below 2^53"
)]
pub(super) fn watch(
    shared: &Shared,
    phase: Phase,
    length: Duration,
    pids: &[u32],
) -> Result<Seen, LoadError> {
    shared.enter(phase);
    let meter = Meter::start(pids)?;
    let (began, first) = (Instant::now(), shared.total());
    let (mut timeline, mut last, mut last_at) = (Vec::new(), first, began);
    while began.elapsed() < length {
        thread::sleep(STEP.min(length.saturating_sub(began.elapsed())));
        let (count, at) = (shared.total(), Instant::now());
        timeline.push((count - last) as f64 / (at - last_at).as_secs_f64());
        (last, last_at) = (count, at);
    }
    let usage = meter.read()?;
    Ok(Seen {
        count: shared.total() - first,
        usage,
        timeline,
    })
}

/// Warms up, then watches the measured phase.
pub(super) fn warm_and_watch(shared: &Shared, pace: Pace, pids: &[u32]) -> Result<Seen, LoadError> {
    thread::sleep(pace.warm);
    watch(shared, Phase::Measured, pace.measured, pids)
}

/// The result of a thread; a panic is an error like any other.
pub(super) fn join<T>(worker: ScopedJoinHandle<'_, Result<T, LoadError>>) -> Result<T, LoadError> {
    worker.join().unwrap_or(Err(LoadError::Worker))
}

/// Ends the phase when dropped, so that no thread is left behind by an early return.
pub(super) struct Finish<'s>(pub(super) &'s Shared);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.enter(Phase::Over);
    }
}

/// Bytes that no compression makes fewer, the same in each run: a store that compresses is not to look faster than the
/// disk is.
pub(super) fn incompressible(len: usize) -> Vec<u8> {
    // xorshift64* with any odd beginning.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The subjects of scenarios with many: 20 bytes each.
pub(super) fn subject(index: usize) -> String {
    format!("bench.sub.{index:010}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_a_sum_and_a_floor() {
        let shared = Shared::new(2);
        shared.set(0, 7);
        shared.add(1, 2);
        assert_eq!(
            (shared.total(), shared.floor(), shared.get(1), shared.get(9)),
            (9, 2, 2, 0)
        );
        assert_eq!(Shared::new(0).floor(), 0);
    }

    #[test]
    fn no_byte_is_much_more_frequent_than_another() {
        let bytes = incompressible(100_001);
        assert_eq!(bytes.len(), 100_001);
        let mut counts = [0; 256];
        for byte in bytes {
            counts[usize::from(byte)] += 1;
        }
        assert!(
            counts.iter().all(|count| (250..550).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_run_is_over_when_its_owner_leaves() {
        let shared = Shared::new(0);
        assert_eq!(shared.phase(), Phase::Warm);
        drop(Finish(&shared));
        assert!(shared.is_over());
    }

    #[test]
    fn subjects_have_twenty_bytes() {
        assert_eq!(subject(99_999).len(), 20);
        assert_ne!(subject(1), subject(2));
    }
}
