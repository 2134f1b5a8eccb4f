//! `dialtone admin migrations`

use std::io::Write as _;

use dialtone_hub::store::{Config, Store, background, migrate};
use serde_json::json;

use super::super::records::table;
use super::{failure, when};
use crate::args::Migrations;
use crate::exit::Outcome;
use crate::print::{Output, harmless, note};

/// How many failures of each migration are shown.
const FAILURES_MAX: i64 = 20;

pub(super) async fn run(command: Migrations, config: Config, as_json: bool) -> Outcome {
    match command {
        Migrations::Status => status(&Store::attach(config).await.map_err(failure)?, as_json).await,
        Migrations::Run => {
            let store = Store::open(config).await.map_err(failure)?;
            note(format_args!(
                "the tables in {} are up to date",
                store.location()
            ));
            status(&store, as_json).await
        }
        Migrations::Data => data(&Store::open(config).await.map_err(failure)?, as_json).await,
    }
}

async fn status(store: &Store, as_json: bool) -> Outcome {
    let mut on = store.read().await.map_err(failure)?;
    let status = migrate::status(&mut on).await.map_err(failure)?;
    let mut out = Output::stdout();
    if as_json {
        for one in &status {
            out.json(&json!({
                "version": one.version,
                "name": one.name,
                "applied_at": one.applied_at,
            }))?;
        }
    } else {
        let rows: Vec<_> = status
            .iter()
            .map(|one| [one.name.clone(), when(one.applied_at)])
            .collect();
        table(&mut out, ["MIGRATION", "APPLIED"], &rows)?;
    }
    Ok(out.flush()?)
}

async fn data(store: &Store, as_json: bool) -> Outcome {
    let mut on = store.read().await.map_err(failure)?;
    let all = background::all(&mut on).await.map_err(failure)?;
    let mut out = Output::stdout();
    let mut rows = Vec::new();
    for one in &all {
        let failures = background::failures(&mut on, &one.name, FAILURES_MAX).await;
        let failures = failures.map_err(failure)?;
        if as_json {
            let failures: Vec<_> = failures
                .iter()
                .map(|one| json!({"key": one.key, "error": one.error, "attempts": one.attempts, "time": one.time}))
                .collect();
            out.json(&json!({
                "name": one.name,
                "finished": one.finished,
                "done": one.done,
                "failed": one.failed,
                "last_error": one.last_error,
                "started_at": one.started_at,
                "finished_at": one.finished_at,
                "failures": failures,
            }))?;
            continue;
        }
        let state = if one.finished { "finished" } else { "running" };
        rows.push([
            one.name.clone(),
            state.to_owned(),
            one.done.to_string(),
            one.failed.to_string(),
            harmless(one.last_error.as_deref().unwrap_or("-")),
        ]);
        for failed in failures {
            rows.push([
                format!("  {}", harmless(&failed.key)),
                "failed".to_owned(),
                String::new(),
                failed.attempts.to_string(),
                harmless(&failed.error),
            ]);
        }
    }
    if !as_json {
        table(
            &mut out,
            ["MIGRATION", "STATE", "DONE", "FAILED", "LAST ERROR"],
            &rows,
        )?;
    }
    Ok(out.flush()?)
}
