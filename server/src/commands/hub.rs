//! `dialtone hub`: accounts, projects and their API.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use dialtone_hub::store::Store;
use dialtone_hub::{Config, Hub, settings};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::args::{Hub as Args, LogArgs, Mode};
use crate::config::{Environment, Strings};
use crate::exit::{Exit, Failure, Outcome};
use crate::lifecycle::{self, Asked, Ended, Signals};
use crate::print::note;
use crate::{database, shards};

mod beginning;
mod once;

/// How long the end of a hub may take.
const GRACE: Duration = Duration::from_secs(30);

/// How variables begin that set a setting of the site.
const SETTING_PREFIXES: [&str; 2] = ["COCALC_SETTING_", "DIALTONE_SETTING_"];

/// `dialtone hub`
pub(super) fn run(args: Box<Args>, log: &LogArgs) -> Outcome {
    super::start_logs(log)?;
    let runtime = shards::current_thread()?;
    let outcome = runtime.block_on(serve(*args));
    runtime.shutdown_background();
    outcome
}

async fn serve(args: Args) -> Outcome {
    // Before anything is announced, so that whoever reads it may send signals.
    let mut signals = Signals::new().context("cannot take over signals")?;
    let strings = Environment;
    // What is done once has nothing to do with projects.
    let mode = if args.once.is_asked() {
        args.mode.unwrap_or(Mode::SingleUser)
    } else {
        mode(&args, &strings)?
    };
    let config = config(&args, &strings)?;
    let database = database::config(&args.database, &strings)?;
    let stop = CancellationToken::new();
    let opened = tokio::select! {
        opened = Store::open_when_ready(database, &stop) => opened.map_err(super::admin::failure)?,
        () = asked_to_stop(&mut signals) => None,
    };
    let Some(store) = opened else {
        return Err(Failure::silent(Exit::Interrupted));
    };
    settings::set_from_environment(&store, setting_variables(&strings))
        .await
        .map_err(super::admin::failure)?;
    beginning::make(&store, args.sso_config.clone(), &strings).await?;
    if args.once.is_asked() {
        let done = args.once.run(&store).await;
        store.close().await;
        return done;
    }
    let place = store.location().to_string();
    let hub = Hub::bind(store, config, Vec::new()).await;
    let hub = hub.map_err(anyhow::Error::from)?;
    announce(&args, mode, hub.local_addr(), &place)?;
    let running = Box::pin(hub.run(stop.clone()));
    let supervised = lifecycle::supervise(
        running,
        signals,
        stop,
        GRACE,
        || note("there is nothing to be read again"),
        || note("stopping: what has begun is finished; press Ctrl-C again to stop at once"),
    );
    match supervised.await {
        Ended::Drained => Ok(()),
        Ended::Cut => Err(Failure::silent(Exit::Interrupted)),
        Ended::Unasked => Err(Failure::from(anyhow::anyhow!("the hub ended by itself"))),
    }
}

async fn asked_to_stop(signals: &mut Signals) {
    while signals.next().await == Asked::Reload {}
}

fn mode(args: &Args, strings: &dyn Strings) -> Result<Mode, Failure> {
    if let Some(mode) = args.mode {
        return Ok(mode);
    }
    let named = strings
        .get("DIALTONE_MODE")
        .or_else(|| strings.get("COCALC_MODE"));
    let Some(named) = named else {
        return Err(
            Failure::usage("--mode says how projects are run, and is missing")
                .hint("`dialtone hub --mode single-user` runs them as processes of this user"),
        );
    };
    clap::ValueEnum::from_str(&named, false).map_err(|_unknown| {
        Failure::usage(format_args!(
            "the mode is single-user, multi-user, kucalc or kubernetes, not {named:?}"
        ))
    })
}

fn config(args: &Args, strings: &dyn Strings) -> Result<Config, Failure> {
    let machine = rustix::system::uname();
    let hostname = machine.nodename().to_string_lossy().into_owned();
    let mut config = Config::new(hostname, args.listen);
    let port = number(strings, &["DIALTONE_AGENT_PORT", "COCALC_AGENT_PORT"])?;
    let port = args.agent_port.or(port).unwrap_or(0);
    config.agent = (port != 0).then(|| SocketAddr::new(args.listen.ip(), port));
    let warn = number(
        strings,
        &[
            "DIALTONE_DB_CONCURRENT_WARN",
            "COCALC_HEALTH_PG_CONCURRENT_WARN",
        ],
    )?;
    config.letters_folder = args
        .letters
        .clone()
        .or_else(|| strings.get("DIALTONE_LETTERS").map(Into::into));
    if let Some(warn) = args.db_concurrent_warn.or(warn) {
        config.health.requests_warn = warn;
    }
    Ok(config)
}

/// A number from the first of these variables that is there.
fn number<T: std::str::FromStr>(
    strings: &dyn Strings,
    names: &[&str],
) -> Result<Option<T>, Failure> {
    let found = names
        .iter()
        .find_map(|name| strings.get(name).map(|text| (name, text)));
    let Some((name, text)) = found else {
        return Ok(None);
    };
    let wrong =
        |_error: T::Err| Failure::usage(format_args!("{name} must be a number, not {text:?}"));
    text.parse().map(Some).map_err(wrong)
}

/// The later prefix goes first.
fn setting_variables(strings: &dyn Strings) -> Vec<(String, String)> {
    let mut found = std::collections::BTreeMap::new();
    for prefix in SETTING_PREFIXES {
        for variable in strings.names() {
            let Some(name) = variable.strip_prefix(prefix) else {
                continue;
            };
            if let Some(value) = strings.get(&variable) {
                found.insert(name.to_lowercase(), value);
            }
        }
    }
    found.into_iter().collect()
}

fn announce(args: &Args, mode: Mode, addr: SocketAddr, database: &str) -> Outcome {
    if let Some(path) = &args.ready_file {
        let text = json!({"pid": std::process::id(), "http": format!("http://{addr}")}).to_string();
        crate::files::replace(path, format!("{text}\n").as_bytes(), 0o644)
            .with_context(|| format!("cannot write the ready file {}", path.display()))?;
    }
    let mode = clap::ValueEnum::to_possible_value(&mode);
    let mode = mode.as_ref().map_or("", |mode| mode.get_name());
    note(format_args!(
        "the hub is ready at http://{addr}, in mode {mode}, with its data in {database}"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn settings_come_from_variables_with_either_prefix() {
        let strings: BTreeMap<String, String> = [
            ("COCALC_SETTING_SITE_NAME", "theirs"),
            ("DIALTONE_SETTING_SITE_NAME", "ours"),
            ("COCALC_SETTING_DNS", "example.org"),
            ("COCALC_SETTINGS", "x"),
            ("HOME", "/"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            setting_variables(&strings),
            [pair("dns", "example.org"), pair("site_name", "ours")]
        );
    }
}
