//! The cells of a comparison of clusters: clients on different nodes.

use super::{Bound, Cell, Metric, Scheme, Sizes};
use crate::scenario::{Paced, Propagation, PubSub, Request, Scenario};
use crate::server::Links;

/// All cells, in the order in which they are run. Those whose names begin with `enc-` have
/// encrypted links on both sides, the others on ours alone; clients speak plain WebSocket and NATS.
pub fn cluster(sizes: Sizes) -> Vec<Cell> {
    [flows(), requests(), interest(sizes)].concat()
}

fn cell(name: &'static str, links: Links, scenario: Scenario, goals: Vec<(Metric, Bound)>) -> Cell {
    Cell {
        links,
        ..super::cell(name, scenario, Scheme::Ws, goals)
    }
}

fn flow(name: &'static str, links: Links, scenario: PubSub) -> Cell {
    let goals = vec![
        (Metric::PerCpuSecond, Bound::TimesAtLeast(1.0)),
        (Metric::PerSecond, Bound::Shown),
        (Metric::PeakMemory, Bound::Shown),
    ];
    cell(name, links, Scenario::PubSub(scenario), goals)
}

fn flows() -> Vec<Cell> {
    let of = |size| PubSub {
        size,
        ..PubSub::default()
    };
    let fan = |subscribers| PubSub {
        subscribers,
        ..PubSub::default()
    };
    let group = PubSub {
        group: true,
        ..fan(8)
    };
    let subjects = PubSub {
        subjects: 10_000,
        ..PubSub::default()
    };
    vec![
        flow("cross-16", Links::Plain, of(16)),
        flow("cross-128", Links::Plain, of(128)),
        flow("cross-1k", Links::Plain, of(1024)),
        flow("cross-64k", Links::Plain, of(64 << 10)),
        flow("all-fan9", Links::Plain, fan(9)),
        flow("all-fan90", Links::Plain, fan(90)),
        flow("cross-group8", Links::Plain, group),
        flow("cross-subjects-10k", Links::Plain, subjects),
        flow("enc-cross-16", Links::Encrypted, of(16)),
        flow("enc-cross-128", Links::Encrypted, of(128)),
        flow("enc-cross-1k", Links::Encrypted, of(1024)),
        flow("enc-cross-64k", Links::Encrypted, of(64 << 10)),
        flow("enc-all-fan9", Links::Encrypted, fan(9)),
    ]
}

fn requests() -> Vec<Cell> {
    let request = |name, links, in_flight| {
        let scenario = Scenario::Request(Request {
            in_flight,
            size: 128,
        });
        let goals = vec![
            (Metric::P50, Bound::TimesAtMost(1.0)),
            (Metric::P99, Bound::TimesAtMost(1.0)),
            (Metric::PerCpuSecond, Bound::TimesAtLeast(1.0)),
            (Metric::PerSecond, Bound::Shown),
        ];
        cell(name, links, scenario, goals)
    };
    let paced = |name, links| {
        let goals = vec![
            (Metric::P50, Bound::Shown),
            (Metric::P99, Bound::TimesAtMost(1.0)),
            (Metric::CpuEach, Bound::TimesAtMost(1.0)),
        ];
        cell(name, links, Scenario::Paced(Paced::default()), goals)
    };
    vec![
        request("cross-req-1", Links::Plain, 1),
        request("cross-req-64", Links::Plain, 64),
        paced("cross-paced-1k", Links::Plain),
        request("enc-cross-req-1", Links::Encrypted, 1),
        request("enc-cross-req-64", Links::Encrypted, 64),
        paced("enc-cross-paced-1k", Links::Encrypted),
    ]
}

fn interest(sizes: Sizes) -> Vec<Cell> {
    let propagation = |name, links, count| {
        let goals = vec![
            (Metric::P50, Bound::TimesAtMost(1.0)),
            (Metric::P99, Bound::TimesAtMost(1.0)),
            (Metric::CpuEach, Bound::TimesAtMost(1.0)),
            (Metric::BytesEach, Bound::Shown),
        ];
        let goals = match count {
            // The memory of one cannot be told from that of probing.
            1 => goals.into_iter().take(3).collect(),
            _ => goals,
        };
        let scenario = Scenario::Propagation(Propagation { count });
        cell(name, links, scenario, goals)
    };
    vec![
        propagation("interest-1", Links::Plain, 1),
        propagation("interest-100k", Links::Plain, sizes.subscriptions),
        propagation("enc-interest-1", Links::Encrypted, 1),
        propagation("enc-interest-100k", Links::Encrypted, sizes.subscriptions),
    ]
}
