//! The kinds of load, and how one is run. Every run is bounded in time and ends by itself.

use std::time::Duration;

use crate::error::LoadError;
use crate::nodes::Nodes;
use crate::report::Report;
use crate::server::Keeping;

pub mod pubsub;
pub use pubsub::PubSub;

pub mod request;
pub use request::Request;

pub mod paced;
pub use paced::Paced;

pub mod overload;
pub use overload::Overload;

pub mod bulk;
pub use bulk::{Bulk, Direction};

pub mod large;
pub use large::Large;

pub mod connect;
pub use connect::Connect;

pub mod idle;
pub use idle::Idle;

pub mod subscriptions;
pub use subscriptions::Subscriptions;

pub mod propagation;
pub use propagation::Propagation;

pub mod append;
pub use append::{Append, Beside};

mod ask;

mod sqlite;

pub mod read;
pub use read::ReadAll;

pub mod reopen;
pub use reopen::Reopen;

mod settle;

mod shared;

/// How long a run takes.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Load that is not measured comes first.
    pub warm: Duration,
    /// What is measured; scenarios with two phases take this for each.
    pub measured: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            warm: Duration::from_millis(500),
            measured: Duration::from_secs(2),
        }
    }
}

/// One kind of load with its parameters.
#[derive(Debug, Clone)]
pub enum Scenario {
    /// Publishers at full speed and subscribers.
    PubSub(PubSub),
    /// Requests and their answers.
    Request(Request),
    /// One-way latency at a steady rate.
    Paced(Paced),
    /// One-way latency while another subject is overloaded.
    Overload(Overload),
    /// Requests beside a bulk transfer on the same connection.
    Bulk(Bulk),
    /// One large message.
    Large(Large),
    /// Connecting and closing.
    Connect(Connect),
    /// Many connections that do nothing.
    Idle(Idle),
    /// Many subscriptions.
    Subscriptions(Subscriptions),
    /// Subscriptions on one node until another one knows of them.
    Propagation(Propagation),
    /// Appends to a stream and their acknowledgements.
    Append(Append),
    /// A whole stream, read to its end.
    ReadAll(ReadAll),
    /// A server with many streams that is started again.
    Reopen(Reopen),
}

impl Scenario {
    /// What the server must keep.
    pub const fn keeping(&self) -> Keeping {
        match self {
            Self::Append(Append {
                beside: Beside::JetStreamSynced,
                ..
            }) => Keeping::SyncedStreams,
            Self::Append(_) | Self::ReadAll(_) | Self::Reopen(_) => Keeping::Streams,
            Self::PubSub(_)
            | Self::Request(_)
            | Self::Paced(_)
            | Self::Overload(_)
            | Self::Bulk(_)
            | Self::Large(_)
            | Self::Connect(_)
            | Self::Idle(_)
            | Self::Subscriptions(_)
            | Self::Propagation(_) => Keeping::Nothing,
        }
    }

    /// Runs what stands on the other side without a server, if that is so.
    pub fn run_beside(&self, pace: Pace) -> Option<Result<Report, LoadError>> {
        if let Self::Append(scenario) = self
            && scenario.beside.is_sqlite()
        {
            return Some(sqlite::run(*scenario, pace));
        }
        None
    }
}

/// Runs a scenario once against a server that is there. Publishers and requesters connect to its
/// first node, their receivers to others where there are any; scenarios about a single connection
/// or about one node's memory know the first node only.
///
/// # Errors
/// When the server cannot be reached, refuses something, or cannot do what the scenario needs.
pub fn run(nodes: &Nodes, scenario: &Scenario, pace: Pace) -> Result<Report, LoadError> {
    let target = nodes.first();
    match scenario {
        Scenario::PubSub(scenario) => pubsub::run(nodes, scenario, pace),
        Scenario::Request(scenario) => request::run(nodes, scenario, pace),
        Scenario::Paced(scenario) => paced::run(nodes, scenario, pace),
        Scenario::Overload(scenario) => overload::run(target, scenario, pace),
        Scenario::Bulk(scenario) => bulk::run(target, scenario, pace),
        Scenario::Large(scenario) => large::run(target, *scenario),
        Scenario::Connect(scenario) => connect::run(target, *scenario, pace),
        Scenario::Idle(scenario) => idle::run(target, scenario),
        Scenario::Subscriptions(scenario) => subscriptions::run(target, scenario),
        Scenario::Propagation(scenario) => propagation::run(nodes, *scenario, pace),
        Scenario::Append(scenario) => append::run(target, *scenario, pace),
        Scenario::ReadAll(scenario) => read::run(target, *scenario),
        Scenario::Reopen(_) => Err(LoadError::Unsupported(
            "this load starts its server again, which `dialtone bench compare` alone can do"
                .to_owned(),
        )),
    }
}
