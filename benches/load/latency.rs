//! Latencies: a histogram, and the few figures of it that are reported.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency that is told apart, in nanoseconds; longer ones count as this.
const NANOS_MAX: u64 = 60_000_000_000;

/// Collects latencies in nanoseconds with three significant digits.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

/// What is reported of latencies, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// Half were shorter.
    pub p50_us: f64,
    /// 99 of 100 were shorter.
    pub p99_us: f64,
    /// 999 of 1,000 were shorter.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Latencies {
    /// None yet.
    #[expect(clippy::missing_panics_doc, reason = "the bounds are constants")]
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, NANOS_MAX, 3);
        Self(histogram.expect("the bounds are in order and three digits are supported"))
    }

    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        self.0
            .saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(NANOS_MAX));
    }

    /// Forgets all, as after a warm-up.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The figures; `None` without measurements.
    pub fn percentiles(&self) -> Option<Percentiles> {
        if self.is_empty() {
            return None;
        }
        Some(Percentiles {
            count: self.len(),
            p50_us: micros(self.0.value_at_quantile(0.5)),
            p99_us: micros(self.0.value_at_quantile(0.99)),
            p999_us: micros(self.0.value_at_quantile(0.999)),
            max_us: micros(self.0.max()),
        })
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "values are at most a minute in nanoseconds"
)]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.percentiles(), None);
        (1..=1000).for_each(|micros| latencies.record(Duration::from_micros(micros)));
        let figures = latencies.percentiles().unwrap();
        let near = |value: f64, expected: f64| (value / expected - 1.0).abs() < 0.002;
        assert!(
            near(figures.p50_us, 500.0) && near(figures.p99_us, 990.0),
            "{figures:?}"
        );
        assert!(
            near(figures.p999_us, 999.0) && near(figures.max_us, 1000.0),
            "{figures:?}"
        );
        latencies.record(Duration::from_hours(1));
        assert!(near(latencies.percentiles().unwrap().max_us, 60e6));
    }
}
