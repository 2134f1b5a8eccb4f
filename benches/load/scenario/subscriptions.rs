//! Many subscriptions: what each keeps in memory, and what beginning it costs.

use super::shared::subject;
use crate::error::LoadError;
use crate::meter::Meter;
use crate::reactor::Reactor;
use crate::report::Report;
use crate::target::Target;

/// Distinct subscriptions with subjects of 20 bytes.
#[derive(Debug, Clone, Copy)]
pub struct Subscriptions {
    /// How many.
    pub count: usize,
    /// Connections that they are spread over.
    pub connections: usize,
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self {
            count: 100_000,
            connections: 100,
        }
    }
}

pub(super) fn run(target: &Target, scenario: &Subscriptions) -> Result<Report, LoadError> {
    let mut reactor = Reactor::connect(target, scenario.connections.max(1))?;
    let each = scenario.count.div_ceil(reactor.len());
    let meter = Meter::start(target.pid.as_slice())?;
    for index in 0..reactor.len() {
        let first = (index * each).min(scenario.count);
        let last = (first + each).min(scenario.count);
        reactor.subscribe(index, (first..last).map(subject), None)?;
    }
    let usage = meter.read()?;
    reactor.close();
    let growth = usage.server.map(|server| server.rss_growth_kib);
    Ok(Report::new("subscriptions", scenario.count as u64, usage).with_memory(growth))
}
