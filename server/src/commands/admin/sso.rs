//! `dialtone admin sso`

use std::io::{Read, Write as _};
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
    let (text, name) = if path.as_os_str() == "-" {
        let text = bounded(std::io::stdin().lock()).context("cannot read standard input")?;
        (text, "standard input".to_owned())
    } else {
        let file = std::fs::File::open(path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        let text = bounded(file).with_context(|| format!("cannot read {}", path.display()))?;
        (text, path.display().to_string())
    };
    let text = text.ok_or_else(|| {
        Failure::usage(format_args!("{name} is longer than {FILE_LEN_MAX} bytes"))
    })?;
    serde_json::from_slice(&text)
        .map_err(|error| Failure::usage(format_args!("{name} is not JSON: {error}")))
}

/// All of it; `None` if it is too long.
fn bounded(from: impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    from.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes)?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|len| len <= FILE_LEN_MAX);
    Ok(fits.then_some(bytes))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_long_is_refused_and_not_cut_off() {
        let most = usize::try_from(FILE_LEN_MAX).unwrap();
        let fits = vec![b' '; most];
        assert_eq!(bounded(&fits[..]).unwrap().unwrap().len(), most);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long.json");
        // Cut off at the longest length, this would be JSON.
        std::fs::write(&path, format!("{{}}{}", " ".repeat(most))).unwrap();
        let refused = format!("{:?}", read(&path).unwrap_err());
        assert!(refused.contains("longer than 1048576 bytes"), "{refused}");
        std::fs::write(&path, "{}").unwrap();
        assert!(read(&path).is_ok());
    }
}
