//! How long to wait before trying again: exponential, bounded and jittered. Pure; the random value is an argument.

use std::time::Duration;

/// How a lost connection is made again.
#[derive(Debug, Clone)]
pub struct Reconnect {
    /// The first delay at its longest; it doubles with every failed attempt. 100 ms by default.
    pub delay_min: Duration,
    /// The longest delay. A connection that lived at least this long starts over at `delay_min`. 15 s by default.
    pub delay_max: Duration,
    /// After how many failed attempts in a row the client gives up for good; an attempt is one try of every known
    /// address. `None`, the default, never gives up.
    pub attempts_max: Option<u32>,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            delay_min: Duration::from_millis(100),
            delay_max: Duration::from_secs(15),
            attempts_max: None,
        }
    }
}

impl Reconnect {
    /// How long to wait before attempt `attempt`, counted from 0. `random` is spread evenly over 0 to 1; the delay lies
    /// between half of the exponential one and all of it, so that clients that lost the same broker come back apart.
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let doubled = self
            .delay_min
            .saturating_mul(2_u32.saturating_pow(attempt.min(31)));
        let whole = doubled.min(self.delay_max);
        whole.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    /// Whether attempt `attempt`, counted from 0, may still be made.
    pub fn allows(&self, attempt: u32) -> bool {
        self.attempts_max.is_none_or(|max| attempt < max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn delays_double_up_to_the_bound() {
        let reconnect = Reconnect::default();
        let whole: Vec<u128> = (0..10)
            .map(|attempt| reconnect.delay(attempt, 1.0).as_millis())
            .collect();
        assert_eq!(
            whole,
            [
                100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 15_000, 15_000
            ]
        );
        assert_eq!(reconnect.delay(0, 0.0), Duration::from_millis(50));
        assert_eq!(reconnect.delay(u32::MAX, 1.0), reconnect.delay_max);
    }

    #[test]
    fn attempts_end_at_the_bound() {
        assert!(Reconnect::default().allows(u32::MAX));
        let reconnect = Reconnect {
            attempts_max: Some(2),
            ..Reconnect::default()
        };
        assert_eq!(
            [0, 1, 2].map(|attempt| reconnect.allows(attempt)),
            [true, true, false]
        );
    }

    proptest! {
        #[test]
        fn a_delay_is_never_beyond_its_bounds(attempt: u32, random in 0.0..=1.0_f64) {
            let reconnect = Reconnect::default();
            let delay = reconnect.delay(attempt, random);
            prop_assert!(delay >= reconnect.delay_min / 2 && delay <= reconnect.delay_max);
        }
    }
}
