//! A bound on how much may happen a second.

use std::time::Instant;

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
        Self { per_second, left: per_second, filled: now }
    }

    /// Takes `amount`, or says `false` and takes nothing when so much is not there.
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

    fn fill(&mut self, now: Instant) {
        let nanos = now.saturating_duration_since(self.filled).as_nanos();
        let gained = nanos * u128::from(self.per_second) / 1_000_000_000;
        if gained == 0 {
            // The time is kept until it is worth a whole unit, or slow buckets would never fill.
            return;
        }
        let left = u128::from(self.left) + gained;
        self.left = u64::try_from(left.min(self.per_second.into())).unwrap_or(self.per_second);
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_gives_its_second_and_fills_again() {
        let start = Instant::now_for_tests();
        let mut bucket = Bucket::new(10, start);
        assert!((0..10).all(|_| bucket.take(1, start)));
        assert!(!bucket.take(1, start));
        assert!(!bucket.take(1, start + Duration::from_millis(99)));
        assert!(bucket.take(1, start + Duration::from_millis(100)));
        assert!(!bucket.take(11, start + Duration::from_secs(60)));
        assert!(bucket.take(10, start + Duration::from_secs(60)));
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
