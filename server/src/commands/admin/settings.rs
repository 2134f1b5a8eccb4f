//! `dialtone admin settings`

use std::io::{Read as _, Write as _};

use anyhow::Context as _;
use dialtone_hub::settings::{self, Definition, Invalid, Kind, SetError, VALUE_LEN_MAX};
use serde_json::json;

use super::super::records::table;
use super::{Site, failure};
use crate::args::Settings;
use crate::exit::{Exit, Failure, Outcome};
use crate::print::{Output, harmless, note, shortened};

pub(super) async fn run(site: &Site<'_>, command: Settings) -> Outcome {
    match command {
        Settings::Ls { all } => ls(site, all).await,
        Settings::Get { name } => get(site, &name).await,
        Settings::Set { name, value } => {
            let value = if value == "-" { piped()? } else { value };
            settings::set(site.store, &name, &value)
                .await
                .map_err(refused)
        }
        Settings::Unset { name } => {
            let was_set = settings::unset(site.store, &name).await.map_err(refused)?;
            if !was_set {
                note(format_args!("{name} was not set"));
            }
            Ok(())
        }
    }
}

fn piped() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(VALUE_LEN_MAX as u64 + 2)
        .read_to_string(&mut text)
        .context("cannot read standard input")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn refused(error: SetError) -> Failure {
    match error {
        SetError::Store(error) => failure(error),
        SetError::Invalid(error) => unknown(&error),
        SetError::Readonly(_) => Failure::from(anyhow::Error::from(error)),
    }
}

fn unknown(error: &Invalid) -> Failure {
    let failure = Failure::new(Exit::Usage, error.clone());
    match error {
        Invalid::Unknown(_) => failure.hint("`dialtone admin settings ls --all` lists all"),
        Invalid::Value { .. } => failure,
    }
}

async fn ls(site: &Site<'_>, all: bool) -> Outcome {
    let now = settings::read(site.store).await.map_err(failure)?;
    let mut out = Output::stdout();
    let mut rows = Vec::new();
    let shown = |definition: &&Definition| all || now.is_set(definition.name);
    for definition in settings::definitions().iter().filter(shown) {
        let value = now.get(definition.name);
        let secret = definition.kind == Kind::Secret && !value.is_empty();
        let value = if secret { "(secret)" } else { value };
        let origin = if now.is_readonly(definition.name) {
            "environment"
        } else if now.is_set(definition.name) {
            "site"
        } else {
            "default"
        };
        if site.json {
            out.json(&json!({
                "name": definition.name,
                "value": value,
                "from": origin,
                "public": definition.public,
            }))?;
        } else {
            let value = shortened(&harmless(value).replace('\n', " "));
            rows.push([definition.name.to_owned(), origin.to_owned(), value]);
        }
    }
    if !site.json {
        table(&mut out, ["SETTING", "FROM", "VALUE"], &rows)?;
    }
    Ok(out.flush()?)
}

async fn get(site: &Site<'_>, name: &str) -> Outcome {
    settings::definition(name).map_err(|error| unknown(&error))?;
    let now = settings::read(site.store).await.map_err(failure)?;
    let mut out = Output::stdout();
    if site.json {
        out.json(&now.get(name))?;
    } else {
        out.line(now.get(name))?;
    }
    Ok(out.flush()?)
}
