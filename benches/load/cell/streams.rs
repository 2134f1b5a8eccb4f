//! Cells about streams: acknowledged appends, beside `JetStream` with its defaults.

use super::{Bound, Cell, Metric, cell};
use crate::scenario::{Append, Scenario};
use crate::target::Scheme;

/// A NATS server acknowledges what is not synced, which it does every two minutes. Cells whose names end with `os` ask
/// persist for the same; in the others an acknowledgement says that the record is on disk. Names are the writers, the
/// size, and the streams where these are many.
pub(super) fn appends() -> Vec<Cell> {
    let to = |name, streams, writers, size, synced, bound| {
        let scenario = Scenario::Append(Append {
            writers,
            streams,
            size,
            synced,
        });
        let goals = vec![
            (Metric::PerSecond, bound),
            (Metric::CpuEach, Bound::Shown),
            (Metric::P50, Bound::Shown),
            (Metric::P99, Bound::Shown),
            (Metric::WrittenPerByte, Bound::Shown),
        ];
        cell(name, scenario, Scheme::Ws, goals)
    };
    let of = |name, writers, size, synced, bound| to(name, 1, writers, size, synced, bound);
    let shown = Bound::Shown;
    vec![
        of("append-1-256", 1, 256, true, shown),
        of("append-64-256", 64, 256, true, shown),
        of("append-1k-256", 1_000, 256, true, Bound::TimesAtLeast(1.0)),
        of("append-1-256-os", 1, 256, false, shown),
        of("append-64-256-os", 64, 256, false, shown),
        of("append-1k-256-os", 1_000, 256, false, shown),
        of("append-1-16k", 1, 16 << 10, true, shown),
        of("append-64-16k", 64, 16 << 10, true, shown),
        of("append-1k-16k", 1_000, 16 << 10, true, shown),
        of("append-64-16k-os", 64, 16 << 10, false, shown),
        to("append-64-256-1k", 1_000, 64, 256, true, shown),
        to("append-1k-256-1k", 1_000, 1_000, 256, true, shown),
        to("append-1k-16k-1k", 1_000, 1_000, 16 << 10, true, shown),
    ]
}
