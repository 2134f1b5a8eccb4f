//! `dialtone admin sso`

use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::Context as _;
use dialtone_hub::sso::configure::{self, SetError};
use dialtone_hub::sso::{Strategy, strategy::Protocol};
use dialtone_hub::store::passports;
use serde_json::{Value, json};

use super::super::records::table;
use super::{Site, failure};
use crate::args::Sso;
use crate::exit::{Failure, Outcome};
use crate::print::{Output, counted, harmless, note};

/// Longest file, in bytes.
const FILE_LEN_MAX: u64 = 1 << 20;

pub(super) async fn run(site: &Site<'_>, command: Sso) -> Outcome {
    match command {
        Sso::Ls => ls(site).await,
        Sso::Set { name, file } => {
            let set = configure::set(site.store, &name, &read(&file)?).await;
            set.map_err(refused)
        }
        Sso::Rm { name } => {
            if configure::remove(site.store, &name)
                .await
                .map_err(failure)?
            {
                return Ok(());
            }
            let error = anyhow::anyhow!("there is no way to sign in that is called {name:?}");
            Err(Failure::from(error).hint("`dialtone admin sso ls` lists them"))
        }
        Sso::Apply { file } => apply(site, &read(&file)?).await,
    }
}

async fn apply(site: &Site<'_>, file: &Value) -> Outcome {
    let applied = configure::apply(site.store, file).await.map_err(refused)?;
    note(format_args!(
        "{} set, {} removed",
        counted(applied.set as u64, "way to sign in"),
        applied.removed
    ));
    Ok(())
}

/// What an error of the configuration means on the command line.
pub(crate) fn refused(error: SetError) -> Failure {
    match error {
        SetError::Store(error) => failure(error),
        SetError::NotAnObject | SetError::Invalid { .. } => {
            Failure::usage(format_args!("{:#}", anyhow::Error::from(error)))
        }
    }
}

/// A file with JSON.
pub(crate) fn read(path: &Path) -> Result<Value, Failure> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        let read = std::io::stdin()
            .lock()
            .take(FILE_LEN_MAX)
            .read_to_string(&mut text);
        read.context("cannot read standard input")?;
    } else {
        let file = std::fs::File::open(path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        let read = file.take(FILE_LEN_MAX).read_to_string(&mut text);
        read.with_context(|| format!("cannot read {}", path.display()))?;
    }
    serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format_args!("{} is not JSON: {error}", path.display())))
}

async fn ls(site: &Site<'_>) -> Outcome {
    let mut on = site.store.read().await.map_err(failure)?;
    let stored = passports::strategies(&mut on).await.map_err(failure)?;
    let mut out = Output::stdout();
    let mut rows = Vec::new();
    for stored in &stored {
        let read = Strategy::read(stored);
        let (place, state) = match &read {
            Ok(strategy) => {
                let place = match &strategy.protocol {
                    Protocol::Oidc { issuer } => issuer.clone(),
                    Protocol::Code(endpoints) => endpoints.authorize.clone(),
                };
                (
                    place,
                    if strategy.disabled { "off" } else { "on" }.to_owned(),
                )
            }
            Err(error) => ("-".to_owned(), error.to_string()),
        };
        let domains: Vec<String> = read.map(|read| read.exclusive_domains).unwrap_or_default();
        if site.json {
            out.json(&json!({
                "strategy": stored.strategy,
                "place": place,
                "state": state,
                "exclusive_domains": domains,
                "info": stored.info,
            }))?;
        }
        rows.push([
            harmless(&stored.strategy),
            harmless(&place),
            harmless(&domains.join(" ")),
            harmless(&state),
        ]);
    }
    if !site.json {
        table(
            &mut out,
            ["STRATEGY", "PLACE", "ONLY WAY FOR", "STATE"],
            &rows,
        )?;
    }
    Ok(out.flush()?)
}
