//! `dialtone context`: brokers and credentials under names.

use std::io::Write as _;

use anyhow::Context as _;
use dialtone_transport::Endpoint;

use crate::args::{Context, ContextAdd};
use crate::config::Environment;
use crate::contexts::Contexts;
use crate::exit::{Failure, Outcome};
use crate::print::{Output, note};
use crate::profile::Profile;

/// `dialtone context`
pub(super) fn run(args: Context) -> Outcome {
    let mut contexts = Contexts::open(&Environment)?;
    match args {
        Context::Add(args) => add(contexts, *args),
        Context::Use(args) => {
            contexts.switch(&args.name)?;
            contexts.save()?;
            note(format_args!("using {}", args.name));
            Ok(())
        }
        Context::Remove(args) => {
            contexts.remove(&args.name)?;
            contexts.save()?;
            note(format_args!("removed {}", args.name));
            Ok(())
        }
        Context::List { json } => list(&contexts, json),
        Context::Show { name } => show(&contexts, name.as_deref()),
    }
}

fn add(mut contexts: Contexts, args: ContextAdd) -> Outcome {
    if !args.force && contexts.get(&args.name).is_ok() {
        return Err(
            Failure::usage(format_args!("there is a context {:?} already", args.name))
                .hint("--force replaces it"),
        );
    }
    for url in &args.url {
        url.parse::<Endpoint>().map_err(Failure::usage)?;
    }
    let mut profile = Profile::from_flags(&args.url, &args.tls);
    profile.monitor = args.monitor;
    for path in [
        &mut profile.credentials,
        &mut profile.ca,
        &mut profile.cert,
        &mut profile.key,
    ]
    .into_iter()
    .flatten()
    {
        // A context is used from anywhere.
        *path = std::path::absolute(&*path)
            .with_context(|| format!("cannot tell where {} is", path.display()))?;
    }
    contexts.add(&args.name, profile, args.switch)?;
    contexts.save()?;
    let used = if contexts.current() == Some(args.name.as_str()) {
        ", which is used from here on"
    } else {
        ""
    };
    note(format_args!("saved {}{used}", args.name));
    Ok(())
}

fn list(contexts: &Contexts, json: bool) -> Outcome {
    let mut out = Output::stdout();
    if json {
        let all: Vec<_> = contexts
            .iter()
            .map(|(name, profile)| {
                let current = contexts.current() == Some(name);
                serde_json::json!({ "name": name, "current": current, "context": profile.masked() })
            })
            .collect();
        out.json(&all)?;
    } else if contexts.iter().next().is_none() {
        note("there are no contexts yet; `dialtone context add NAME --url URL` makes one");
    } else {
        let width = contexts
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or(0);
        for (name, profile) in contexts.iter() {
            let mark = if contexts.current() == Some(name) {
                '*'
            } else {
                ' '
            };
            out.line(format_args!(
                "{mark} {name:width$}  {}",
                profile.url.join(", ")
            ))?;
        }
    }
    Ok(out.flush()?)
}

fn show(contexts: &Contexts, name: Option<&str>) -> Outcome {
    let Some(name) = name.or_else(|| contexts.current()) else {
        return Err(Failure::usage("no context is in use")
            .hint("`dialtone context list` shows which there are"));
    };
    let profile = contexts.get(name)?.masked();
    let mut out = Output::stdout();
    out.line(format_args!("# {name}"))?;
    let text = toml::to_string(&profile).context("the context cannot be written as TOML")?;
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
