//! Cells about streams: acknowledged appends beside `JetStream` and `SQLite`, reading, and opening many.

use super::{Bound, Cell, Metric, Sizes, cell};
use crate::scenario::{Append, Beside, ReadAll, Reopen, Scenario};
use crate::target::Scheme;

/// A NATS server acknowledges what is not synced, which it does every two minutes. Cells whose names end with `os` ask
/// persist for the same; in the others an acknowledgement says that the record is on disk. Names are the writers, the
/// size, and the streams where these are many.
pub(super) fn appends() -> Vec<Cell> {
    let to = |name, streams, writers, size, synced, bound| {
        let scenario = Append {
            writers,
            streams,
            size,
            synced,
            ..Append::default()
        };
        append(name, scenario, bound)
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
        to("append-64-16k-1k", 1_000, 64, 16 << 10, true, shown),
        to("append-1k-16k-1k", 1_000, 1_000, 16 << 10, true, shown),
    ]
}

fn append(name: &'static str, scenario: Append, bound: Bound) -> Cell {
    let goals = vec![
        (Metric::PerSecond, bound),
        (Metric::CpuEach, Bound::Shown),
        (Metric::P50, Bound::Shown),
        (Metric::P99, Bound::Shown),
        (Metric::WrittenPerByte, Bound::Shown),
    ];
    cell(name, Scenario::Append(scenario), Scheme::Ws, goals)
}

/// The other side syncs as well (`always`, for which a NATS server of 2.10 or later is needed), or is what the
/// predecessor does: a `SQLite` file for each stream, not synced (`sqlite`) or synced (`sqlite-full`).
pub(super) fn beside_stores() -> Vec<Cell> {
    let of = |name, streams, writers, size, beside, bound| {
        let scenario = Append {
            writers,
            streams,
            size,
            beside,
            ..Append::default()
        };
        append(name, scenario, bound)
    };
    let shown = Bound::Shown;
    let tenfold = Bound::TimesAtLeast(10.0);
    let (synced, sqlite, full) = (
        Beside::JetStreamSynced,
        Beside::Sqlite,
        Beside::SqliteSynced,
    );
    vec![
        of("append-1-256-always", 1, 1, 256, synced, shown),
        of("append-64-256-always", 1, 64, 256, synced, tenfold),
        of("append-1k-256-always", 1, 1_000, 256, synced, shown),
        of("append-1-16k-always", 1, 1, 16 << 10, synced, shown),
        of("append-64-16k-always", 1, 64, 16 << 10, synced, shown),
        of("append-1k-16k-always", 1, 1_000, 16 << 10, synced, shown),
        of("append-64-256-1k-always", 1_000, 64, 256, synced, shown),
        of("append-1k-256-1k-always", 1_000, 1_000, 256, synced, shown),
        of(
            "append-64-16k-1k-always",
            1_000,
            64,
            16 << 10,
            synced,
            shown,
        ),
        of("append-1-256-sqlite", 1, 1, 256, sqlite, shown),
        of("append-64-256-sqlite", 1, 64, 256, sqlite, shown),
        of("append-1k-256-sqlite", 1, 1_000, 256, sqlite, shown),
        of("append-64-256-1k-sqlite", 1_000, 64, 256, sqlite, shown),
        of("append-64-16k-sqlite", 1, 64, 16 << 10, sqlite, shown),
        of("append-1-256-sqlite-full", 1, 1, 256, full, shown),
        of("append-64-256-sqlite-full", 1, 64, 256, full, shown),
        of("append-64-256-1k-sqlite-full", 1_000, 64, 256, full, shown),
    ]
}

/// One reader, and four that each read the whole stream.
pub(super) fn reads() -> Vec<Cell> {
    let of = |name, records, size, readers| {
        let scenario = ReadAll {
            records,
            size,
            readers,
        };
        let goals = vec![
            (Metric::ReadRate, Bound::AtLeast(1e9)),
            (Metric::CpuEach, Bound::Shown),
        ];
        cell(name, Scenario::ReadAll(scenario), Scheme::Ws, goals)
    };
    vec![
        of("read-256", 400_000, 256, 1),
        of("read-256-4", 400_000, 256, 4),
        of("read-16k", 32_000, 16 << 10, 1),
        of("read-16k-4", 32_000, 16 << 10, 4),
    ]
}

/// How long a server with many streams takes until it answers, and what each of them costs it.
pub(super) fn opening(sizes: Sizes) -> Vec<Cell> {
    let of = |name, streams| {
        let goals = vec![
            (Metric::OpenTime, Bound::Shown),
            (Metric::BytesEach, Bound::Shown),
        ];
        cell(
            name,
            Scenario::Reopen(Reopen { streams }),
            Scheme::Ws,
            goals,
        )
    };
    vec![of("open-10k", 10_000), of("open-100k", sizes.streams)]
}
