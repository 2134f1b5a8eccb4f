//! `dialtone admin db`

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use dialtone_hub::copy::{self, Copied, Error};
use dialtone_hub::store::{Config, Location, Store};
use serde_json::json;

use super::super::progress;
use super::super::records::table;
use super::{Site, failure};
use crate::args::Db;
use crate::exit::{Failure, Outcome};
use crate::print::{Output, note};

pub(super) async fn run(site: &Site<'_>, command: Db) -> Outcome {
    let Db::Copy {
        target,
        target_password_file,
    } = command;
    let config = target_config(&target, target_password_file)?;
    let target = Store::open(config).await.map_err(failure)?;
    let copied = copy(site, &target).await;
    target.close().await;
    let copied = copied?;
    print(site, &copied)?;
    note(format_args!(
        "the site is in {} now; start hubs with --database-url, and keep {} until you are sure",
        target.location(),
        site.store.location()
    ));
    Ok(())
}

fn target_config(target: &str, password_file: Option<PathBuf>) -> Result<Config, Failure> {
    let mut location: Location = target.parse().map_err(Failure::usage)?;
    if let (Location::Postgres { password, .. }, Some(path)) = (&mut location, password_file) {
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        *password = Some(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    Ok(Config::new(location))
}

async fn copy(site: &Site<'_>, target: &Store) -> Result<Vec<Copied>, Failure> {
    let mut bar: Option<(String, indicatif::ProgressBar)> = None;
    let copied = copy::run(site.store, target, |at| {
        if bar.as_ref().is_none_or(|(table, _)| table != at.table) {
            bar = Some((at.table.to_owned(), progress::records(at.table, at.of)));
        }
        if let Some((_, bar)) = &bar {
            bar.set_position(at.rows);
        }
    });
    let copied = copied.await;
    copied.map_err(|error| match error {
        Error::Kind { .. } => Failure::usage(error),
        Error::NotEmpty(_) => Failure::from(anyhow::Error::from(error))
            .hint("give it a new database: CREATE DATABASE … in PostgreSQL"),
        Error::Running(_) => Failure::from(anyhow::Error::from(error))
            .hint("a hub that was killed is forgotten within a minute"),
        Error::Different { .. } | Error::Source(_) | Error::Target { .. } => {
            Failure::from(anyhow::Error::from(error)).hint("the target is as it was before")
        }
    })
}

fn print(site: &Site<'_>, copied: &[Copied]) -> Outcome {
    let mut out = Output::stdout();
    if site.json {
        for table in copied {
            out.json(&json!({"table": table.table, "rows": table.rows, "digest": table.digest}))?;
        }
        return Ok(out.flush()?);
    }
    let rows: Vec<_> = copied
        .iter()
        .filter(|table| table.rows > 0)
        .map(|table| {
            let short = table.digest.get(..16).unwrap_or(&table.digest);
            [
                table.table.clone(),
                table.rows.to_string(),
                short.to_owned(),
            ]
        })
        .collect();
    table(&mut out, ["TABLE", "ROWS", "DIGEST"], &rows)?;
    Ok(out.flush()?)
}
