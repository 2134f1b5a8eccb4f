//! The kinds of load, and how one is run. Every run is bounded in time and ends by itself.

use std::time::Duration;

use crate::error::LoadError;
use crate::nodes::Nodes;
use crate::report::Report;

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
pub use append::Append;

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
}

impl Scenario {
    /// Whether the server must keep streams.
    pub const fn needs_streams(&self) -> bool {
        matches!(self, Self::Append(_))
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
    }
}
