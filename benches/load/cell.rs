//! The cells of a comparison: a load, what is spoken to each side, and what is expected.

use std::time::Duration;

use serde::Serialize;

use crate::report::Report;
use crate::scenario::{
    Bulk, Connect, Direction, Idle, Large, Overload, Paced, PubSub, Request, Scenario,
    Subscriptions,
};
use crate::server::Links;
use crate::target::Scheme;

pub mod cluster;
pub use cluster::cluster;

mod socketio;
mod streams;

/// A figure that two servers are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// How many per second of server CPU.
    PerCpuSecond,
    /// Server CPU for each, in microseconds.
    CpuEach,
    /// Median latency in microseconds.
    P50,
    /// 99th percentile of latency in microseconds.
    P99,
    /// 99th percentile under load as a multiple of the one without.
    P99Growth,
    /// Rate under a disturbance as a share of the rate before.
    Kept,
    /// Server memory for each, in bytes.
    BytesEach,
    /// Server CPU in cores.
    Cores,
    /// Largest memory of the server, in bytes.
    PeakMemory,
    /// How many per second of wall time.
    PerSecond,
    /// Bytes per second of the flow beside.
    BulkRate,
    /// Bytes written to disk for each byte that is kept.
    WrittenPerByte,
}

impl Metric {
    /// As it stands in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PerCpuSecond => "per CPU-s",
            Self::CpuEach => "CPU µs each",
            Self::P50 => "p50 µs",
            Self::P99 => "p99 µs",
            Self::P99Growth => "p99 growth",
            Self::Kept => "rate kept",
            Self::BytesEach => "bytes each",
            Self::Cores => "cores",
            Self::PeakMemory => "peak bytes",
            Self::PerSecond => "per s",
            Self::BulkRate => "bulk bytes/s",
            Self::WrittenPerByte => "written/byte",
        }
    }

    /// The figure in a report, if the report has it.
    #[expect(clippy::cast_precision_loss, reason = "memory is far below 2^53 bytes")]
    pub fn of(self, report: &Report) -> Option<f64> {
        match self {
            Self::PerCpuSecond => report.per_cpu_sec,
            Self::CpuEach => report.cpu_us_each,
            Self::P50 => report.latency.map(|latency| latency.p50_us),
            Self::P99 => report.latency.map(|latency| latency.p99_us),
            Self::P99Growth => report.p99_growth(),
            Self::Kept => report.kept,
            Self::BytesEach => report.bytes_each,
            Self::Cores => report
                .usage
                .server
                .map(|server| server.cpu_secs / report.usage.secs),
            Self::PeakMemory => report
                .usage
                .server
                .map(|server| server.rss_peak_kib as f64 * 1024.0),
            Self::PerSecond => Some(report.per_sec),
            Self::BulkRate => report.bulk_bytes_per_sec,
            Self::WrittenPerByte => report.written_per_byte,
        }
    }
}

/// What a figure of the broker should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// At least this many times the other side's.
    TimesAtLeast(f64),
    /// At most this many times the other side's.
    TimesAtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Only shown.
    Shown,
}

impl Bound {
    /// Whether it is kept; `None` when that cannot be told.
    pub fn met(self, ours: Option<f64>, theirs: Option<f64>) -> Option<bool> {
        let ratio = ratio(ours, theirs);
        match self {
            Self::TimesAtLeast(bound) => ratio.map(|ratio| ratio >= bound),
            Self::TimesAtMost(bound) => ratio.map(|ratio| ratio <= bound),
            Self::AtLeast(bound) => ours.map(|ours| ours >= bound),
            Self::AtMost(bound) => ours.map(|ours| ours <= bound),
            Self::Shown => None,
        }
    }
}

/// Ours as a multiple of theirs.
pub fn ratio(ours: Option<f64>, theirs: Option<f64>) -> Option<f64> {
    let ratio = ours? / theirs?;
    ratio.is_finite().then_some(ratio)
}

/// One load that both sides get.
#[derive(Debug, Clone)]
pub struct Cell {
    /// What it is selected by.
    pub name: &'static str,
    /// The load.
    pub scenario: Scenario,
    /// What is spoken to the broker.
    pub ours: Scheme,
    /// What is spoken to the other side: a NATS server, or the broker on another transport.
    pub theirs: Scheme,
    /// What nodes of a cluster speak to each other.
    pub links: Links,
    /// The figures, with what is expected of them.
    pub goals: Vec<(Metric, Bound)>,
}

/// Sizes of cells that depend on the machine or on one's patience.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Idle connections; each takes a file descriptor at both ends.
    pub connections: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// How long idle connections are watched.
    pub watched: Duration,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            connections: 10_000,
            subscriptions: 100_000,
            watched: Duration::from_secs(10),
        }
    }
}

/// All cells, in the order in which they are run.
pub fn all(sizes: Sizes) -> Vec<Cell> {
    [
        throughput(),
        encrypted(),
        fans(),
        requests(),
        disturbances(),
        memory(sizes),
        bulk(),
        socketio::all(sizes),
        streams::appends(),
    ]
    .concat()
}

const fn cell(
    name: &'static str,
    scenario: Scenario,
    ours: Scheme,
    goals: Vec<(Metric, Bound)>,
) -> Cell {
    let theirs = match ours {
        Scheme::Wss | Scheme::Quic | Scheme::NatsTls => Scheme::NatsTls,
        Scheme::Ws | Scheme::Nats => Scheme::Nats,
        Scheme::SocketIo => Scheme::Ws,
    };
    Cell {
        name,
        scenario,
        ours,
        theirs,
        links: Links::Plain,
        goals,
    }
}

fn pubsub(name: &'static str, ours: Scheme, bound: Bound, scenario: PubSub) -> Cell {
    cell(
        name,
        Scenario::PubSub(scenario),
        ours,
        vec![
            (Metric::PerCpuSecond, bound),
            (Metric::PerSecond, Bound::Shown),
        ],
    )
}

fn throughput() -> Vec<Cell> {
    let one = |name, size, times| {
        pubsub(
            name,
            Scheme::Ws,
            Bound::TimesAtLeast(times),
            PubSub {
                size,
                ..PubSub::default()
            },
        )
    };
    vec![
        one("1to1-16", 16, 2.5),
        one("1to1-128", 128, 2.5),
        one("1to1-1k", 1024, 2.5),
        one("1to1-64k", 64 << 10, 2.0),
    ]
}

fn encrypted() -> Vec<Cell> {
    let ten = PubSub {
        subscribers: 10,
        ..PubSub::default()
    };
    vec![
        pubsub(
            "wss-1to1-128",
            Scheme::Wss,
            Bound::TimesAtLeast(3.0),
            PubSub::default(),
        ),
        pubsub(
            "quic-1to1-128",
            Scheme::Quic,
            Bound::TimesAtLeast(2.5),
            PubSub::default(),
        ),
        pubsub("quic-fan10", Scheme::Quic, Bound::AtLeast(3e6), ten),
    ]
}

fn fans() -> Vec<Cell> {
    let plain =
        |name, times, scenario| pubsub(name, Scheme::Ws, Bound::TimesAtLeast(times), scenario);
    let one = PubSub::default;
    vec![
        plain(
            "fan10",
            3.0,
            PubSub {
                subscribers: 10,
                ..one()
            },
        ),
        plain(
            "fan100",
            3.0,
            PubSub {
                subscribers: 100,
                ..one()
            },
        ),
        plain(
            "fanin8",
            2.5,
            PubSub {
                publishers: 8,
                ..one()
            },
        ),
        plain(
            "group8",
            2.5,
            PubSub {
                subscribers: 8,
                group: true,
                ..one()
            },
        ),
        plain(
            "subjects-100k",
            8.0,
            PubSub {
                subjects: 100_000,
                ..one()
            },
        ),
        plain(
            "subjects-100k-wild",
            3.0,
            PubSub {
                subjects: 100_000,
                wildcard: true,
                ..one()
            },
        ),
        pubsub(
            "churn",
            Scheme::Ws,
            Bound::Shown,
            PubSub {
                churn: 10_000,
                ..one()
            },
        ),
    ]
}

fn requests() -> Vec<Cell> {
    let of = |in_flight| {
        Scenario::Request(Request {
            in_flight,
            size: 128,
        })
    };
    let latency = |times| {
        vec![
            (Metric::P50, Bound::TimesAtMost(times)),
            (Metric::P99, Bound::TimesAtMost(times)),
        ]
    };
    let single = [
        latency(0.9),
        vec![(Metric::CpuEach, Bound::TimesAtMost(0.7))],
    ]
    .concat();
    let many = vec![
        (Metric::PerCpuSecond, Bound::TimesAtLeast(2.0)),
        (Metric::PerSecond, Bound::Shown),
    ];
    let paced = vec![
        (Metric::P50, Bound::Shown),
        (Metric::P99, Bound::Shown),
        (Metric::CpuEach, Bound::Shown),
    ];
    vec![
        cell("req-1", of(1), Scheme::Ws, single),
        cell("req-64", of(64), Scheme::Ws, many),
        cell(
            "paced-1k",
            Scenario::Paced(Paced::default()),
            Scheme::Ws,
            paced,
        ),
    ]
}

fn disturbances() -> Vec<Cell> {
    let stalled = PubSub {
        subscribers: 2,
        stalled: 1,
        ..PubSub::default()
    };
    let latency = vec![
        (Metric::P99Growth, Bound::AtMost(2.0)),
        (Metric::P99, Bound::Shown),
        (Metric::PeakMemory, Bound::Shown),
    ];
    let full = Overload {
        rate: 0,
        ..Overload::default()
    };
    let shown = latency
        .iter()
        .map(|&(metric, _)| (metric, Bound::Shown))
        .collect();
    vec![
        cell(
            "stalled",
            Scenario::PubSub(stalled),
            Scheme::Ws,
            vec![
                (Metric::Kept, Bound::AtLeast(0.95)),
                (Metric::PerSecond, Bound::Shown),
                (Metric::PeakMemory, Bound::Shown),
            ],
        ),
        cell(
            "overload-latency",
            Scenario::Overload(Overload::default()),
            Scheme::Ws,
            latency,
        ),
        cell(
            "overload-latency-full",
            Scenario::Overload(full),
            Scheme::Ws,
            shown,
        ),
    ]
}

fn memory(sizes: Sizes) -> Vec<Cell> {
    let idle = Scenario::Idle(Idle {
        connections: sizes.connections,
        watched: sizes.watched,
    });
    let goals = |bytes| {
        vec![
            (Metric::BytesEach, Bound::AtMost(bytes)),
            (Metric::Cores, Bound::AtMost(0.005)),
        ]
    };
    let subscriptions = Subscriptions {
        count: sizes.subscriptions,
        ..Subscriptions::default()
    };
    let connect = |name, scheme| {
        let goals = vec![
            (Metric::CpuEach, Bound::TimesAtMost(0.5)),
            (Metric::PerSecond, Bound::Shown),
        ];
        cell(name, Scenario::Connect(Connect::default()), scheme, goals)
    };
    vec![
        connect("connect", Scheme::Ws),
        cell("idle", idle.clone(), Scheme::Ws, goals(4096.0)),
        cell("idle-quic", idle, Scheme::Quic, goals(32_768.0)),
        cell(
            "subs-1m",
            Scenario::Subscriptions(subscriptions),
            Scheme::Ws,
            vec![
                (Metric::BytesEach, Bound::AtMost(250.0)),
                (Metric::CpuEach, Bound::Shown),
            ],
        ),
    ]
}

fn bulk() -> Vec<Cell> {
    let goals = vec![
        (Metric::P99, Bound::TimesAtMost(1.0)),
        (Metric::P99Growth, Bound::Shown),
        (Metric::BulkRate, Bound::Shown),
    ];
    let beside = |name, direction| Cell {
        name,
        scenario: Scenario::Bulk(Bulk {
            direction,
            ..Bulk::default()
        }),
        ours: Scheme::Quic,
        theirs: Scheme::Ws,
        links: Links::Plain,
        goals: goals.clone(),
    };
    let large = vec![
        (Metric::PerSecond, Bound::Shown),
        (Metric::PeakMemory, Bound::Shown),
    ];
    vec![
        beside("quic-bulk", Direction::Up),
        beside("quic-bulk-down", Direction::Down),
        cell(
            "large",
            Scenario::Large(Large::default()),
            Scheme::Ws,
            large.clone(),
        ),
        cell(
            "quic-large",
            Scenario::Large(Large::default()),
            Scheme::Quic,
            large,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_judged_by_ratio_or_by_value() {
        assert_eq!(
            Bound::TimesAtLeast(2.0).met(Some(4.0), Some(2.0)),
            Some(true)
        );
        assert_eq!(Bound::TimesAtLeast(2.0).met(Some(4.0), None), None);
        assert_eq!(
            Bound::TimesAtMost(0.5).met(Some(4.0), Some(2.0)),
            Some(false)
        );
        assert_eq!(Bound::AtLeast(3.0).met(Some(3.0), None), Some(true));
        assert_eq!(Bound::AtMost(3.0).met(Some(3.5), Some(9.0)), Some(false));
        assert_eq!(Bound::Shown.met(Some(1.0), Some(1.0)), None);
        assert_eq!(ratio(Some(1.0), Some(0.0)), None);
    }

    #[test]
    fn names_are_unique() {
        let cells = [all(Sizes::default()), cluster(Sizes::default())].concat();
        let mut names: Vec<_> = cells.iter().map(|cell| cell.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cells.len());
    }
}
