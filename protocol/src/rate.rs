//! A bound on how much may happen a second.

use std::time::{Duration, Instant};

const SECOND: u128 = 1_000_000_000;

/// A bucket that holds one second's worth and fills continuously. Who takes more than is there gets
/// into debt, which is paid before the bucket fills again.
#[derive(Debug, Clone)]
pub struct Bucket {
    per_second: u64,
    left: u64,
    debt: u64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket; `per_second` 0 is without a limit.
    pub fn new(per_second: u64, now: Instant) -> Self {
        Self {
            per_second,
            left: per_second,
            debt: 0,
            filled: now,
        }
    }

    /// Takes `amount`; returns how far ahead of its rate that makes the taker: how long the debt
    /// takes to be paid, zero where there is none.
    #[inline]
    pub fn take(&mut self, amount: u64, now: Instant) -> Duration {
        if self.per_second == 0 {
            return Duration::ZERO;
        }
        if self.left < amount {
            self.fill(now);
        }
        let missing = amount.saturating_sub(self.left);
        self.left -= amount - missing;
        self.debt = self.debt.saturating_add(missing);
        if self.debt == 0 {
            return Duration::ZERO;
        }
        self.until_paid()
            .saturating_sub(now.saturating_duration_since(self.filled))
    }

    /// When the debt is paid; `None` where there is none.
    pub fn paid_at(&self) -> Option<Instant> {
        (self.debt > 0)
            .then(|| self.until_paid())
            .and_then(|wait| self.filled.checked_add(wait))
    }

    /// Puts back what was taken for something that did not happen.
    pub fn give_back(&mut self, amount: u64) {
        let paid = self.debt.min(amount);
        self.debt -= paid;
        self.left = self.left.saturating_add(amount - paid).min(self.per_second);
    }

    /// From the last filling on; rounded up.
    fn until_paid(&self) -> Duration {
        let (seconds, rest) = (self.debt / self.per_second, self.debt % self.per_second);
        let nanos = (u128::from(rest) * SECOND).div_ceil(self.per_second.into());
        Duration::from_secs(seconds)
            + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn fill(&mut self, now: Instant) {
        let rate = u128::from(self.per_second);
        let elapsed = now.saturating_duration_since(self.filled);
        let gained = elapsed.as_nanos().saturating_mul(rate) / SECOND;
        let debt = u128::from(self.debt);
        let left = gained.saturating_add(self.left.into()).saturating_sub(debt);
        self.debt = u64::try_from(debt.saturating_sub(gained)).unwrap_or(u64::MAX);
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
        let after = |millis| start + Duration::from_millis(millis);
        let ahead = Duration::from_millis;
        assert!((0..10).all(|_| bucket.take(1, start).is_zero()));
        assert_eq!(bucket.paid_at(), None);
        assert_eq!(bucket.take(1, start), ahead(100));
        assert_eq!(bucket.paid_at(), Some(after(100)));
        assert_eq!(bucket.take(1, after(99)), ahead(101));
        assert_eq!(bucket.take(0, after(200)), ahead(0));
        assert_eq!(bucket.take(1, after(300)), ahead(0));
        assert_eq!(bucket.take(11, after(60_000)), ahead(100));
        bucket.give_back(2);
        assert_eq!(bucket.paid_at(), None);
        assert_eq!(bucket.take(1, after(60_000)), ahead(0));
        assert_eq!(bucket.take(1, after(60_000)), ahead(100));
        assert_eq!(bucket.take(0, after(61_000)), ahead(0));
        assert_eq!(bucket.take(100, after(62_000)), Duration::from_secs(9));
    }

    proptest::proptest! {
        /// However it is taken, nobody is granted more than his rate and one bucket in all. What a
        /// full bucket gains may count until it is next filled, because it is filled only when
        /// it has too little; so the debt lies between those of two exact buckets, one that
        /// never overflows and one that overflows at once.
        #[test]
        fn the_debt_is_what_was_taken_beyond_the_rate(
            rate in 1..2_000_u64,
            takes in proptest::collection::vec((0..5_000_u64, 0..3_000_000_u32), 1..50),
        ) {
            let start = Instant::now_for_tests();
            let mut bucket = Bucket::new(rate, start);
            // In billionths of a unit: what is there, below 0 what is owed.
            let full = i128::from(rate) * 1_000_000_000;
            let (mut least, mut most, mut now) = (full, full, start);
            let owed = |level: i128| level.min(0).unsigned_abs().div_ceil(rate.into());
            // The bucket deals in whole units.
            let unit = u128::from(1_000_000_000 / rate) + 2;
            for (amount, micros) in takes {
                now += Duration::from_micros(micros.into());
                let gained = i128::from(micros) * 1_000 * i128::from(rate);
                let taken = i128::from(amount) * 1_000_000_000;
                least = full.min(least + gained) - taken;
                most += gained - taken;
                let ahead = bucket.take(amount, now).as_nanos();
                proptest::prop_assert!(
                    owed(most) <= ahead + unit && ahead <= owed(least) + unit,
                    "{ahead} ns, exactly {} to {} ns", owed(most), owed(least)
                );
            }
        }
    }

    #[test]
    fn a_peer_at_its_rate_never_finds_the_bucket_empty() {
        let start = Instant::now_for_tests();
        let mut bucket = Bucket::new(10, start);
        assert!(bucket.take(10, start).is_zero());
        // Every 199 ms one unit is gained and 99 ms are left over, which must not be lost.
        for i in 1..=100_u32 {
            let ahead = bucket.take(1, start + Duration::from_millis(199) * i);
            assert!(ahead.is_zero(), "{i}: {ahead:?}");
        }
        assert!(
            bucket
                .take(9, start + Duration::from_millis(19_900))
                .is_zero()
        );
    }

    #[test]
    fn zero_is_without_a_limit() {
        let start = Instant::now_for_tests();
        assert!(Bucket::new(0, start).take(u64::MAX, start).is_zero());
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
