//! A bound on how much may happen a second.

use std::time::{Duration, Instant};

/// A bucket that holds one second's worth and fills continuously.
#[derive(Debug, Clone)]
pub struct Bucket {
    per_second: u64,
    left: u64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket; `per_second` 0 is without a limit.
    pub fn new(per_second: u64, now: Instant) -> Self {
        Self {
            per_second,
            left: per_second,
            filled: now,
        }
    }

    /// Takes `amount`, or says `false` and takes nothing when so much is not there.
    #[inline]
    pub fn take(&mut self, amount: u64, now: Instant) -> bool {
        if self.per_second == 0 {
            return true;
        }
        if self.left < amount {
            self.fill(now);
        }
        let enough = self.left >= amount;
        if enough {
            self.left -= amount;
        }
        enough
    }

    /// Puts back what was taken for something that did not happen.
    pub fn give_back(&mut self, amount: u64) {
        self.left = self.left.saturating_add(amount).min(self.per_second);
    }

    fn fill(&mut self, now: Instant) {
        const SECOND: u128 = 1_000_000_000;
        let rate = u128::from(self.per_second);
        let elapsed = now.saturating_duration_since(self.filled);
        let gained = elapsed.as_nanos().saturating_mul(rate) / SECOND;
        let left = gained.saturating_add(self.left.into());
        if left >= rate {
            self.left = self.per_second;
            self.filled = now;
            return;
        }
        self.left = u64::try_from(left).unwrap_or(self.per_second);
        // Time that was not worth a whole unit counts for the next one: rounded up, since a bucket
        // may give a nanosecond late but never early.
        let worth = u64::try_from((gained * SECOND).div_ceil(rate)).unwrap_or(u64::MAX);
        self.filled += Duration::from_nanos(worth).min(elapsed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_second_and_fills_again() {
        let start = Instant::now_for_tests();
        let mut bucket = Bucket::new(10, start);
        assert!((0..10).all(|_| bucket.take(1, start)));
        assert!(!bucket.take(1, start));
        assert!(!bucket.take(1, start + Duration::from_millis(99)));
        assert!(bucket.take(1, start + Duration::from_millis(100)));
        assert!(!bucket.take(11, start + Duration::from_mins(1)));
        assert!(bucket.take(10, start + Duration::from_mins(1)));
    }

    #[test]
    fn a_peer_at_its_rate_never_finds_the_bucket_empty() {
        let start = Instant::now_for_tests();
        let mut bucket = Bucket::new(10, start);
        assert!(bucket.take(10, start));
        // Every 199 ms one unit is gained and 99 ms are left over, which must not be lost.
        let granted = (1..=100_u32)
            .filter(|i| bucket.take(1, start + Duration::from_millis(199) * *i))
            .count();
        assert_eq!(granted, 100);
        assert!(bucket.take(9, start + Duration::from_millis(19_900)));
    }

    #[test]
    fn zero_is_without_a_limit() {
        let start = Instant::now_for_tests();
        assert!(Bucket::new(0, start).take(u64::MAX, start));
    }

    trait NowForTests {
        fn now_for_tests() -> Instant;
    }

    impl NowForTests for Instant {
        #[expect(clippy::disallowed_methods, reason = "a test may begin at any time")]
        fn now_for_tests() -> Instant {
            Self::now()
        }
    }
}
