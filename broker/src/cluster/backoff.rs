//! When to dial again: at once at first, then after waits that double, jittered. Pure.

use std::time::{Duration, Instant};

/// The dialling of one target.
#[derive(Debug, Clone)]
pub struct Backoff {
    attempt: u32,
    due: Instant,
    busy: bool,
}

/// Waits beyond which none doubles.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// The first wait.
    pub min: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Backoff {
    /// Due at `due` for the first time.
    pub fn new(due: Instant) -> Self {
        Self {
            attempt: 0,
            due,
            busy: false,
        }
    }

    /// When to dial; `None` while that is being done.
    pub fn due(&self) -> Option<Instant> {
        (!self.busy).then_some(self.due)
    }

    /// Dialling begins, if it is due.
    pub fn begin(&mut self, now: Instant) -> bool {
        let begins = !self.busy && self.due <= now;
        self.busy |= begins;
        begins
    }

    /// It has failed. `jitter` is from 0 to 1 and takes up to half of the wait away.
    pub fn failed(&mut self, now: Instant, waits: Waits, jitter: f64) {
        let doubled = waits.min.saturating_mul(1 << self.attempt.min(20));
        let wait = doubled
            .min(waits.max)
            .mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0));
        self.attempt = self.attempt.saturating_add(1);
        self.due = now + wait;
        self.busy = false;
    }

    /// It has succeeded: the next time, no earlier than `due`, it is tried at once.
    pub fn succeeded(&mut self, due: Instant) {
        *self = Self::new(due);
    }

    /// Somebody wants it now.
    pub fn hurry(&mut self, now: Instant) {
        self.attempt = 0;
        self.due = self.due.min(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound_and_begin_again_after_a_success() {
        let start = Instant::now();
        let waits = Waits {
            min: Duration::from_secs(1),
            max: Duration::from_secs(5),
        };
        let mut backoff = Backoff::new(start);
        let mut seen = Vec::new();
        let mut now = start;
        for _ in 0..5 {
            assert!(backoff.begin(now));
            assert!(!backoff.begin(now), "one at a time");
            assert_eq!(backoff.due(), None);
            backoff.failed(now, waits, 0.0);
            let due = backoff.due().unwrap();
            seen.push((due - now).as_secs());
            assert!(!backoff.begin(now));
            now = due;
        }
        assert_eq!(seen, [1, 2, 4, 5, 5]);
        assert!(backoff.begin(now));
        backoff.failed(now, waits, 1.0);
        assert_eq!(backoff.due().unwrap() - now, Duration::from_millis(2_500));
        backoff.succeeded(now);
        assert!(backoff.begin(now));
        backoff.failed(now, waits, 0.0);
        assert_eq!(backoff.due().unwrap() - now, waits.min);
    }
}
