//! `dialtone bench`, from arguments to printed figures.

use std::ffi::OsString;
use std::io::Write;

pub use crate::args::BenchArgs;
use crate::args::{BenchCommand, CompareArgs, RunArgs};
use crate::cell::{self, Cell, Sizes};
use crate::compare::{self, Row};
use crate::error::LoadError;
use crate::nodes::Nodes;
use crate::scenario::{self, Scenario};
use crate::server::{Programs, raise_file_limit};
use crate::table;
use crate::target::Target;

/// Does what the arguments say: results go to `out`, progress to `progress`.
///
/// # Errors
/// When nothing could be measured, or a run of a comparison failed; what was measured is printed
/// before.
pub fn main(
    args: &BenchArgs,
    out: &mut dyn Write,
    progress: &mut dyn Write,
) -> Result<(), LoadError> {
    raise_file_limit()?;
    match &args.command {
        BenchCommand::Run(args) => run(args, out),
        BenchCommand::Compare(args) => compare(args, out, progress),
        BenchCommand::Cells => list(out),
    }
}

fn run(args: &RunArgs, out: &mut dyn Write) -> Result<(), LoadError> {
    let scenario = match args.scenario.scenario() {
        Ok(scenario) => scenario,
        Err(name) => named(name)?,
    };
    let report = scenario::run(&nodes(args)?, &scenario, args.pace.into())?;
    if args.json {
        return json(out, &report);
    }
    table::report(out, &report).map_err(LoadError::io("print"))
}

/// The nodes under load, each with its process where that was told.
fn nodes(args: &RunArgs) -> Result<Nodes, LoadError> {
    let mut pids = args.pid.iter().copied();
    let mut target = |url: &String| Target::new(url, pids.next(), args.ca.as_deref());
    let (first, others) = args.url.split_first().ok_or_else(|| {
        LoadError::Unsupported(
            "no URL was given, so that there is nothing to put load on".to_owned(),
        )
    })?;
    let first = target(first)?;
    let others = others.iter().map(target).collect::<Result<_, _>>()?;
    Ok(Nodes::new(first, others))
}

fn named(name: &str) -> Result<Scenario, LoadError> {
    let cells = [cell::all(Sizes::default()), cell::cluster(Sizes::default())].concat();
    let cells = select(cells, &[name.to_owned()])?;
    let cell = cells.into_iter().next().ok_or_else(|| unknown(name))?;
    Ok(cell.scenario)
}

fn compare(
    args: &CompareArgs,
    out: &mut dyn Write,
    progress: &mut dyn Write,
) -> Result<(), LoadError> {
    let sizes = Sizes {
        connections: args.connections,
        subscriptions: args.subscriptions,
        ..Sizes::default()
    };
    let program: OsString = match &args.broker {
        Some(program) => program.into(),
        None => std::env::current_exe()
            .map_err(LoadError::io("find this program"))?
            .into(),
    };
    let cells = match args.cluster {
        Some(_) => cell::cluster(sizes),
        None => cell::all(sizes),
    };
    let config = compare::Config {
        cells: select(cells, &args.cells)?,
        nodes: args.cluster.unwrap_or(1),
        rounds: args.rounds,
        pace: args.pace.into(),
        programs: Programs {
            nats_server: args.nats_server.clone(),
            broker: vec![program.clone(), "broker".into()],
            node: vec![program, "up".into(), "--no-hub".into()],
        },
    };
    let rows = compare::compare(&config, progress)?;
    if args.json {
        json(out, &rows)?;
    } else {
        table::comparison(out, &rows).map_err(LoadError::io("print"))?;
    }
    let failed = rows
        .iter()
        .filter(|row: &&Row| !row.failures().is_empty())
        .count();
    if failed > 0 {
        return Err(LoadError::Unsupported(format!(
            "runs of {failed} of {} cells failed",
            rows.len()
        )));
    }
    Ok(())
}

fn list(out: &mut dyn Write) -> Result<(), LoadError> {
    let single = cell::all(Sizes::default());
    let clusters = cell::cluster(Sizes::default());
    let lines = single
        .iter()
        .map(|cell| (cell, ""))
        .chain(clusters.iter().map(|cell| (cell, "  with --cluster 3")));
    for (cell, note) in lines {
        let (ours, theirs) = (cell.ours.name(), cell.theirs.name());
        writeln!(out, "{:<22} {ours} / {theirs}{note}", cell.name)
            .map_err(LoadError::io("print"))?;
    }
    Ok(())
}

/// The cells with these names, in the order of the names; all without names.
fn select(cells: Vec<Cell>, names: &[String]) -> Result<Vec<Cell>, LoadError> {
    if names.is_empty() {
        return Ok(cells);
    }
    names
        .iter()
        .map(|name| {
            cells
                .iter()
                .find(|cell| cell.name == name)
                .cloned()
                .ok_or_else(|| unknown(name))
        })
        .collect()
}

fn unknown(name: &str) -> LoadError {
    LoadError::Unsupported(format!(
        "there is no cell {name:?}; `dialtone bench cells` lists them"
    ))
}

fn json(out: &mut dyn Write, value: &impl serde::Serialize) -> Result<(), LoadError> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(|error| LoadError::Io {
        what: "print",
        source: error.into(),
    })?;
    writeln!(out).map_err(LoadError::io("print"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_selected_by_name() {
        let cells = || cell::all(Sizes::default());
        let names = |cells: Vec<Cell>| cells.into_iter().map(|cell| cell.name).collect::<Vec<_>>();
        assert_eq!(
            names(select(cells(), &["fan10".into(), "1to1-16".into()]).unwrap()),
            ["fan10", "1to1-16"]
        );
        assert_eq!(select(cells(), &[]).unwrap().len(), cells().len());
        assert!(
            select(cells(), &["fan11".into()])
                .unwrap_err()
                .to_string()
                .contains("fan11")
        );
    }
}
