//! What a run found.

use serde::Serialize;

use crate::latency::Percentiles;
use crate::meter::Usage;

/// The figures of one run of one scenario against one server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was counted: deliveries, requests, connections, …
    pub unit: &'static str,
    /// How many.
    pub count: u64,
    /// How many per second of wall time.
    pub per_sec: f64,
    /// How many per second of server CPU.
    pub per_cpu_sec: Option<f64>,
    /// Server CPU for each, in microseconds.
    pub cpu_us_each: Option<f64>,
    /// CPU, memory and context switches while counting.
    pub usage: Usage,
    /// Latencies under the scenario's load.
    pub latency: Option<Percentiles>,
    /// Latencies of the same flow before the load began.
    pub unloaded: Option<Percentiles>,
    /// Rate under the disturbance as a share of the rate before it.
    pub kept: Option<f64>,
    /// Resident server memory for each, in bytes.
    pub bytes_each: Option<f64>,
    /// Bytes that the server had written to disk for each byte that it was given to keep.
    pub written_per_byte: Option<f64>,
    /// Bytes per second of the bulk flow beside what was counted.
    pub bulk_bytes_per_sec: Option<f64>,
    /// Bytes of records that were read per second.
    pub read_bytes_per_sec: Option<f64>,
    /// From the start of a server until it answered, in milliseconds.
    pub open_ms: Option<f64>,
    /// Connections that the server cut for reading too slowly.
    pub cut: u64,
    /// Rate per second in each tenth of a second, where the scenario has a story to tell.
    pub timeline: Vec<f64>,
}

impl Report {
    /// With what follows from a count and the use of resources.
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of a run are far below 2^53"
    )]
    pub fn new(unit: &'static str, count: u64, usage: Usage) -> Self {
        let cpu = usage
            .server
            .map(|server| server.cpu_secs)
            .filter(|&secs| secs > 0.0 && count > 0);
        Self {
            unit,
            count,
            per_sec: count as f64 / usage.secs,
            per_cpu_sec: cpu.map(|secs| count as f64 / secs),
            cpu_us_each: cpu.map(|secs| secs * 1e6 / count as f64),
            usage,
            latency: None,
            unloaded: None,
            kept: None,
            bytes_each: None,
            written_per_byte: None,
            bulk_bytes_per_sec: None,
            read_bytes_per_sec: None,
            open_ms: None,
            cut: 0,
            timeline: Vec::new(),
        }
    }

    /// Adds what was written to disk, where each of what was counted is `size` bytes to keep.
    #[expect(
        clippy::cast_precision_loss,
        reason = "bytes of a run are far below 2^53"
    )]
    #[must_use]
    pub fn with_written(mut self, size: usize) -> Self {
        let kept = self.count as f64 * size as f64;
        let written = self.usage.server.map(|server| server.disk_bytes as f64);
        self.written_per_byte = written
            .map(|written| written / kept)
            .filter(|times| times.is_finite() && *times > 0.0);
        self
    }

    /// Adds the memory for each, from the growth while they were made.
    #[expect(
        clippy::cast_precision_loss,
        reason = "memory and counts are far below 2^53"
    )]
    #[must_use]
    pub fn with_memory(mut self, growth_kib: Option<i64>) -> Self {
        if self.count > 0 {
            self.bytes_each = growth_kib.map(|kib| kib as f64 * 1024.0 / self.count as f64);
        }
        self
    }

    /// How the 99th percentile grew under load.
    pub fn p99_growth(&self) -> Option<f64> {
        Some(self.latency?.p99_us / self.unloaded?.p99_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::ServerUse;

    #[test]
    fn figures_follow_from_counts() {
        let server = ServerUse {
            cpu_secs: 0.5,
            ..ServerUse::default()
        };
        let usage = Usage {
            secs: 2.0,
            server: Some(server),
            ..Usage::default()
        };
        let report = Report::new("deliveries", 1_000, usage).with_memory(Some(100));
        assert_eq!(
            (report.per_sec, report.per_cpu_sec, report.cpu_us_each),
            (500.0, Some(2_000.0), Some(500.0))
        );
        assert_eq!(report.bytes_each, Some(102.4));
        let nothing = Report::new("deliveries", 0, usage).with_memory(Some(100));
        assert_eq!((nothing.per_cpu_sec, nothing.bytes_each), (None, None));
    }
}
