//! Cells about existing Conat clients: the same load over Socket.IO and over our own protocol, on WebSocket both times.

use super::{Bound, Cell, Metric, Sizes, cell};
use crate::scenario::{Idle, PubSub, Request, Scenario};
use crate::target::Scheme;

/// Small messages for each second of server CPU. The predecessor passes on 2,000 to 4,000 in a second of which it has
/// all the CPU, and this is thirty times that.
const PER_CPU_SECOND: f64 = 120_000.0;

/// The most connections: the predecessor's own limit is 10,000 for a broker.
const CONNECTIONS_MAX: usize = 5_000;

/// What an idle client may take, in bytes.
const IDLE_LEN_MAX: f64 = 32_768.0;

pub(super) fn all(sizes: Sizes) -> Vec<Cell> {
    [throughput(), others(sizes)].concat()
}

fn throughput() -> Vec<Cell> {
    let pubsub = |name, scenario| {
        let goals = vec![
            (Metric::PerCpuSecond, Bound::AtLeast(PER_CPU_SECOND)),
            (Metric::CpuEach, Bound::Shown),
            (Metric::PerSecond, Bound::Shown),
        ];
        cell(name, Scenario::PubSub(scenario), Scheme::SocketIo, goals)
    };
    let one = PubSub::default;
    vec![
        pubsub("socketio-1to1-16", PubSub { size: 16, ..one() }),
        pubsub("socketio-1to1-128", one()),
        pubsub(
            "socketio-1to1-1k",
            PubSub {
                size: 1024,
                ..one()
            },
        ),
        pubsub(
            "socketio-fan10",
            PubSub {
                subscribers: 10,
                ..one()
            },
        ),
        pubsub(
            "socketio-fan100",
            PubSub {
                subscribers: 100,
                ..one()
            },
        ),
        pubsub(
            "socketio-fan100-1k",
            PubSub {
                subscribers: 100,
                size: 1024,
                ..one()
            },
        ),
        pubsub(
            "socketio-fanin8",
            PubSub {
                publishers: 8,
                ..one()
            },
        ),
    ]
}

fn others(sizes: Sizes) -> Vec<Cell> {
    let request = |name, in_flight| {
        let goals = vec![
            (Metric::P50, Bound::Shown),
            (Metric::P99, Bound::Shown),
            (Metric::CpuEach, Bound::Shown),
            (Metric::PerSecond, Bound::Shown),
        ];
        let scenario = Request {
            in_flight,
            size: 128,
        };
        cell(name, Scenario::Request(scenario), Scheme::SocketIo, goals)
    };
    let idle = Idle {
        connections: sizes.connections.min(CONNECTIONS_MAX),
        watched: sizes.watched,
    };
    vec![
        request("socketio-req-1", 1),
        request("socketio-req-64", 64),
        cell(
            "socketio-idle",
            Scenario::Idle(idle),
            Scheme::SocketIo,
            vec![
                (Metric::BytesEach, Bound::AtMost(IDLE_LEN_MAX)),
                (Metric::Cores, Bound::Shown),
            ],
        ),
    ]
}
