//! Both sides under the same load in turn, cell by cell and round by round.

use std::io::{self, Write};

use serde::Serialize;

use crate::cell::{Bound, Cell, Metric, ratio};
use crate::error::LoadError;
use crate::report::Report;
use crate::scenario::{Pace, Scenario, reopen, run};
use crate::server::{Cluster, Programs, Server, describe};
use crate::target::Scheme;

/// A round in which others used more cores than this does not count as quiet.
const OTHER_CORES_MAX: f64 = 0.3;

/// How a comparison is made.
#[derive(Debug, Clone)]
pub struct Config {
    /// What is compared.
    pub cells: Vec<Cell>,
    /// Nodes of each server; more than one are a cluster.
    pub nodes: usize,
    /// How often each cell is run against each side.
    pub rounds: usize,
    /// How long each run takes.
    pub pace: Pace,
    /// The servers.
    pub programs: Programs,
}

/// What was found in one cell.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The name of the cell.
    pub cell: &'static str,
    /// What was spoken to the broker.
    pub ours: Scheme,
    /// What was spoken to the other side, or what it was.
    pub theirs: &'static str,
    /// The figures of the cell.
    pub figures: Vec<Figure>,
    /// All runs against the broker.
    pub our_rounds: Vec<Round>,
    /// All runs against the other side.
    pub their_rounds: Vec<Round>,
}

/// One run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Round {
    /// It ended with figures.
    Done(Box<Report>),
    /// It failed, for this reason.
    Failed(String),
}

/// A figure of both sides: medians over the quiet rounds, or over all when none was quiet.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Figure {
    /// Which figure.
    pub metric: Metric,
    /// The broker's.
    pub ours: Option<f64>,
    /// The other side's.
    pub theirs: Option<f64>,
    /// Ours as a multiple of theirs.
    pub ratio: Option<f64>,
    /// What is expected.
    pub bound: Bound,
    /// Whether that is met.
    pub met: Option<bool>,
}

/// Runs all cells. A run that fails is recorded and the others go on.
///
/// # Errors
/// When progress cannot be written.
pub fn compare(config: &Config, progress: &mut dyn Write) -> Result<Vec<Row>, LoadError> {
    let mut rows = Vec::with_capacity(config.cells.len());
    for cell in &config.cells {
        let (mut our_rounds, mut their_rounds) = (Vec::new(), Vec::new());
        for round in 1..=config.rounds {
            for (side, rounds) in [
                (cell.ours.name(), &mut our_rounds),
                (cell.beside(), &mut their_rounds),
            ] {
                let result = if side == cell.ours.name() {
                    one(config, cell, cell.ours)
                } else {
                    let beside = cell.scenario.run_beside(config.pace);
                    beside.unwrap_or_else(|| one(config, cell, cell.theirs))
                };
                say(progress, cell, side, round, &result)
                    .map_err(LoadError::io("write progress"))?;
                rounds.push(match result {
                    Ok(report) => Round::Done(Box::new(report)),
                    Err(error) => Round::Failed(describe(&error)),
                });
            }
        }
        let figures = cell
            .goals
            .iter()
            .map(|&goal| figure(goal, &our_rounds, &their_rounds))
            .collect();
        rows.push(Row {
            cell: cell.name,
            ours: cell.ours,
            theirs: cell.beside(),
            figures,
            our_rounds,
            their_rounds,
        });
    }
    Ok(rows)
}

/// Every run has a fresh server, so that none begins with the memory of another.
fn one(config: &Config, cell: &Cell, scheme: Scheme) -> Result<Report, LoadError> {
    if config.nodes > 1 {
        let cluster = Cluster::start(&config.programs, scheme, cell.links, config.nodes)?;
        return run(&cluster.nodes(), &cell.scenario, config.pace);
    }
    let mut server = Server::start(&config.programs, scheme, cell.scenario.keeping())?;
    if let Scenario::Reopen(scenario) = &cell.scenario {
        return reopen::run(&mut server, *scenario);
    }
    run(&server.target().clone().into(), &cell.scenario, config.pace)
}

fn say(
    progress: &mut dyn Write,
    cell: &Cell,
    side: &str,
    round: usize,
    result: &Result<Report, LoadError>,
) -> io::Result<()> {
    write!(progress, "{} {round} {side}: ", cell.name)?;
    match result {
        Ok(report) => {
            for &(metric, _) in &cell.goals {
                if let Some(value) = metric.of(report) {
                    write!(
                        progress,
                        "{} {}, ",
                        crate::table::number(value),
                        metric.name()
                    )?;
                }
            }
            let usage = report.usage;
            writeln!(
                progress,
                "client {:.2} and others {:.2} cores",
                usage.client_cores, usage.other_cores
            )
        }
        Err(error) => writeln!(progress, "failed: {}", describe(error)),
    }
}

fn figure((metric, bound): (Metric, Bound), ours: &[Round], theirs: &[Round]) -> Figure {
    let (ours, theirs) = (value(metric, ours), value(metric, theirs));
    Figure {
        metric,
        ours,
        theirs,
        ratio: ratio(ours, theirs),
        bound,
        met: bound.met(ours, theirs),
    }
}

fn value(metric: Metric, rounds: &[Round]) -> Option<f64> {
    let reports = || {
        rounds.iter().filter_map(|round| match round {
            Round::Done(report) => Some(&**report),
            Round::Failed(_) => None,
        })
    };
    let quiet = reports()
        .filter(|report| !is_noisy(report))
        .filter_map(|report| metric.of(report));
    median(quiet.collect())
        .or_else(|| median(reports().filter_map(|report| metric.of(report)).collect()))
}

/// Whether so much else ran on the machine that wall figures mean little.
pub fn is_noisy(report: &Report) -> bool {
    report.usage.other_cores > OTHER_CORES_MAX
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *values.get(values.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

impl Row {
    /// Why runs failed, each reason once.
    pub fn failures(&self) -> Vec<&str> {
        let rounds = self.our_rounds.iter().chain(&self.their_rounds);
        let mut reasons: Vec<_> = rounds
            .filter_map(|round| match round {
                Round::Done(_) => None,
                Round::Failed(reason) => Some(reason.as_str()),
            })
            .collect();
        reasons.dedup();
        reasons
    }

    /// How many of the runs were noisy, and how many there are.
    pub fn noise(&self) -> (usize, usize) {
        let rounds = || self.our_rounds.iter().chain(&self.their_rounds);
        let noisy =
            rounds().filter(|round| matches!(round, Round::Done(report) if is_noisy(report)));
        (noisy.count(), rounds().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::Usage;

    fn round(count: u64, other_cores: f64) -> Round {
        let usage = Usage {
            secs: 1.0,
            other_cores,
            ..Usage::default()
        };
        Round::Done(Box::new(Report::new("deliveries", count, usage)))
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }

    #[test]
    fn noisy_rounds_count_only_when_there_are_no_others() {
        let rounds = [
            round(10, 0.0),
            round(1, 1.0),
            round(20, 0.1),
            Round::Failed("x".to_owned()),
        ];
        assert_eq!(value(Metric::PerSecond, &rounds), Some(15.0));
        assert_eq!(
            value(Metric::PerSecond, rounds.get(1..2).unwrap()),
            Some(1.0)
        );
        let figure = figure(
            (Metric::PerSecond, Bound::TimesAtLeast(2.0)),
            &rounds,
            &[round(5, 0.0)],
        );
        assert_eq!((figure.ratio, figure.met), (Some(3.0), Some(true)));
    }
}
