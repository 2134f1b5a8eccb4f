//! `dialtone project`: the daemon of a project.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dialtone_client::{Credentials, Options};
use dialtone_project::subjects::Place;
use dialtone_project::{Announcement, Config, Handle, Project};
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use crate::args::{LogArgs, Project as Args};
use crate::config::{Environment, Strings};
use crate::exit::{Exit, Failure, Outcome};
use crate::lifecycle::{self, Ended, Signals};
use crate::print::{Output, note};
use crate::{base_path, connect, shards};

/// How long the end of a project may take: its processes have five seconds, and what they print takes a moment.
const GRACE: Duration = Duration::from_secs(30);

/// Longest secret that is read, in bytes.
const SECRET_LEN_MAX: u64 = 4096;

/// How variables begin that are for the daemon and not for what it starts.
const OWN_PREFIXES: [&str; 3] = ["DIALTONE_", "CONAT_", "COCALC_"];

/// Variables that begin so and are for what it starts nonetheless. By the number of the run, whoever started the project
/// finds what it has left behind when it was killed.
const PASSED: [&str; 3] = ["COCALC_PROJECT_ID", "COCALC_USERNAME", "DIALTONE_RUN_ID"];

/// How many MB the project's files may take.
const DISK_QUOTA: &str = "DIALTONE_DISK_QUOTA";

/// `dialtone project`
pub(super) fn run(args: Args, log: &LogArgs) -> Outcome {
    super::start_logs_at(log, "info")?;
    let runtime = shards::current_thread()?;
    let outcome = runtime.block_on(serve(args));
    runtime.shutdown_background();
    outcome
}

async fn serve(args: Args) -> Outcome {
    // Before anything is announced, so that whoever reads it may send signals.
    let signals = Signals::new().context("cannot take over signals")?;
    let strings = Environment;
    let (config, options) = read(&args, &strings)?;
    let (project, handle) = Project::bind(config).await.map_err(anyhow::Error::from)?;
    let stop = CancellationToken::new();
    let announcing = announce(args, handle.clone());
    let running = project.run(options, stop.clone());
    let own_end = handle.clone();
    let failed = stop.clone();
    // It ends by itself only when somebody asks it to.
    let running = Box::pin(async {
        tokio::pin!(running);
        tokio::select! {
            () = &mut running => return Ok(()),
            announced = announcing => if announced.is_err() {
                // Nobody learns where it is: what it has started by now ends with it.
                failed.cancel();
                running.await;
                return announced;
            }
        }
        running.await;
        Ok(())
    });
    let mut outcome = Ok(());
    let noted = async { outcome = running.await };
    let supervised = lifecycle::supervise(
        noted,
        signals,
        stop,
        GRACE,
        || note("there is nothing to be read again"),
        || note("stopping: what runs in the project is ended; press Ctrl-C again to kill it"),
    );
    let ended = supervised.await;
    match ended {
        Ended::Drained | Ended::Unasked => outcome,
        Ended::Cut => {
            own_end.kill();
            Err(Failure::silent(Exit::Interrupted))
        }
    }
}

/// What flags and environment say.
fn read(args: &Args, strings: &dyn Strings) -> Result<(Config, Options), Failure> {
    let first = |names: &[&str]| names.iter().find_map(|name| strings.get(name));
    let id = args
        .id
        .clone()
        .or_else(|| first(&["DIALTONE_PROJECT_ID", "COCALC_PROJECT_ID"]));
    let id = id.ok_or_else(|| {
        Failure::usage("--id says which project this is, and is missing")
            .hint("any UUID will do for a try; `uuidgen` makes one")
    })?;
    let place = Place::new(&id, args.compute_server).map_err(Failure::usage)?;
    let home = args
        .home
        .clone()
        .or_else(|| strings.get("HOME").map(PathBuf::from));
    let home = home.ok_or_else(|| {
        Failure::usage("--home says where the project's files are, and HOME is not set")
    })?;
    let home = std::path::absolute(&home).context("cannot tell where the home is")?;
    let secret = secret(args, strings, &home)?;
    let mut options = connect::options(&args.connect, strings)?;
    if args.connect.url.is_empty()
        && strings.get("DIALTONE_URL").is_none()
        && let Some(server) = strings.get("CONAT_SERVER")
    {
        options.urls = vec![websocket(&server)];
    }
    if let Some(secret) = &secret {
        options = options.credentials(Credentials::Password {
            user: format!("project-{}", place.project_id()),
            password: secret.clone(),
        });
    }
    let mut config = Config::new(place, home);
    config.base_path = base_path::of(args.base_path.as_deref(), strings)?;
    config.host = args.host;
    config.raw_port = args.raw_port;
    config.raw_is_open = args.raw_open;
    config.init.clone_from(&args.init);
    config.disk_quota = disk_quota(strings)?;
    config.environment = environment(strings, &config, secret.as_deref())?;
    config.secret = secret;
    config.adopts_orphans = true;
    Ok((config, options))
}

/// The secret in the file that is named, or in the usual one if there is one.
fn secret(args: &Args, strings: &dyn Strings, home: &Path) -> Result<Option<String>, Failure> {
    let named = args.secret_file.clone().or_else(|| {
        let names = ["DIALTONE_SECRET_TOKEN", "COCALC_SECRET_TOKEN"];
        names
            .iter()
            .find_map(|name| strings.get(name))
            .map(PathBuf::from)
    });
    let usual = home.join(".smc/secret-token");
    let path = match named {
        Some(path) => path,
        None if usual.exists() => usual,
        None => return Ok(None),
    };
    let mut text = String::new();
    let read = std::fs::File::open(&path)
        .and_then(|file| file.take(SECRET_LEN_MAX + 1).read_to_string(&mut text));
    read.with_context(|| format!("cannot read the secret in {}", path.display()))?;
    let secret = text.trim();
    if secret.is_empty() || text.len() as u64 > SECRET_LEN_MAX {
        let path = path.display();
        return Err(Failure::usage(format_args!(
            "the secret in {path} is empty, or longer than {SECRET_LEN_MAX} bytes"
        )));
    }
    Ok(Some(secret.to_owned()))
}

/// The quota in MB, where whoever started the project knows that the file system does not hold it.
fn disk_quota(strings: &dyn Strings) -> Result<Option<u64>, Failure> {
    let Some(text) = strings.get(DISK_QUOTA) else {
        return Ok(None);
    };
    let megabytes: u64 = text.parse().map_err(|_error| {
        Failure::usage(format_args!("{DISK_QUOTA} is a number of MB, not {text:?}"))
    })?;
    Ok(Some(megabytes.saturating_mul(1_000_000)))
}

/// The address of a web server for a `WebSocket`; others as they are.
fn websocket(server: &str) -> String {
    let rest = |scheme: &str| server.strip_prefix(scheme);
    rest("http://")
        .map(|rest| format!("ws://{rest}"))
        .or_else(|| rest("https://").map(|rest| format!("wss://{rest}")))
        .unwrap_or_else(|| server.to_owned())
}

/// What is started gets the daemon's environment, without what is for the daemon or holds the secret.
fn environment(
    strings: &dyn Strings,
    config: &Config,
    secret: Option<&str>,
) -> Result<BTreeMap<String, String>, Failure> {
    let is_own = |name: &str| {
        let is_port = name.starts_with("COCALC_") && name.ends_with("_PORT");
        OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            && !PASSED.contains(&name)
            && !is_port
    };
    let is_secret = |value: &str| secret.is_some_and(|secret| value.contains(secret));
    let mut environment: BTreeMap<String, String> = strings
        .names()
        .into_iter()
        .filter(|name| !is_own(name))
        .filter_map(|name| strings.get(&name).map(|value| (name, value)))
        .filter(|(_, value)| !is_secret(value))
        .collect();
    let home = config.home.display().to_string();
    let path = environment
        .get("PATH")
        .cloned()
        .unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
    let own = [format!("{home}/bin"), format!("{home}/.local/bin")];
    let rest = path
        .split(':')
        .filter(|folder| !own.iter().any(|own| own == folder));
    let path: Vec<&str> = own.iter().map(String::as_str).chain(rest).collect();
    environment.insert("PATH".to_owned(), path.join(":"));
    environment.insert("HOME".to_owned(), home);
    environment.insert(
        "COCALC_PROJECT_ID".to_owned(),
        config.place.project_id().to_owned(),
    );
    if let Some(text) = strings.get("COCALC_EXTRA_ENV") {
        environment.extend(extra(&text)?);
    }
    Ok(environment)
}

/// Variables that the project's owner has set: JSON in base64.
fn extra(text: &str) -> Result<BTreeMap<String, String>, Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        Failure::usage(format_args!(
            "COCALC_EXTRA_ENV is no JSON object in base64: {why}"
        ))
    };
    let decoded = STANDARD.decode(text).map_err(|error| wrong(&error))?;
    let values: BTreeMap<String, Json> =
        serde_json::from_slice(&decoded).map_err(|error| wrong(&error))?;
    let texts = values.into_iter().filter_map(|(name, value)| match value {
        Json::String(text) => Some((name, text)),
        Json::Number(number) => Some((name, number.to_string())),
        Json::Bool(flag) => Some((name, flag.to_string())),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    });
    Ok(texts
        .filter(|(name, value)| {
            !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
        })
        .collect())
}

async fn announce(args: Args, mut handle: Handle) -> Outcome {
    let Some(announcement) = handle.ready().await else {
        return Ok(());
    };
    let text = announcement.to_json().to_string();
    if let Some(path) = &args.ready_file {
        crate::files::replace(path, format!("{text}\n").as_bytes(), 0o644)
            .with_context(|| format!("cannot write the ready file {}", path.display()))?;
    }
    if args.json {
        let mut out = Output::stdout();
        out.line(&text)?;
        std::io::Write::flush(&mut out)?;
    }
    let Announcement {
        project_id,
        compute_server,
        raw,
        ..
    } = announcement;
    note(format_args!(
        "the project is ready at project.{project_id}.{compute_server}.api, with raw files at http://{raw}"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn what_is_started_hears_nothing_that_is_for_the_daemon() {
        let place = Place::new("7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f", 0).unwrap();
        let config = Config::new(place, "/home/p");
        let given = strings(&[
            ("PATH", "/bin:/home/p/bin"),
            ("LANG", "C"),
            ("DIALTONE_TOKEN", "t"),
            ("CONAT_SERVER", "http://x"),
            ("COCALC_SECRET_TOKEN", "/f"),
            ("COCALC_USERNAME", "ada"),
            ("DIALTONE_RUN_ID", "r"),
            ("COCALC_JUPYTERLAB_PORT", "6002"),
            ("ODD", "x-s3cret-y"),
            // {"A": "b", "C": 1, "D": null}
            (
                "COCALC_EXTRA_ENV",
                "eyJBIjogImIiLCAiQyI6IDEsICJEIjogbnVsbH0=",
            ),
        ]);
        let found = environment(&given, &config, Some("s3cret")).unwrap();
        let wanted = strings(&[
            ("PATH", "/home/p/bin:/home/p/.local/bin:/bin"),
            ("HOME", "/home/p"),
            ("LANG", "C"),
            ("COCALC_USERNAME", "ada"),
            ("DIALTONE_RUN_ID", "r"),
            ("COCALC_JUPYTERLAB_PORT", "6002"),
            ("COCALC_PROJECT_ID", "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f"),
            ("A", "b"),
            ("C", "1"),
        ]);
        assert_eq!(found, wanted);
        let wrong = strings(&[("COCALC_EXTRA_ENV", "!")]);
        assert!(environment(&wrong, &config, None).is_err());
    }

    #[test]
    fn addresses_are_those_of_the_original() {
        assert_eq!(
            websocket("http://localhost:5000/b"),
            "ws://localhost:5000/b"
        );
        assert_eq!(websocket("https://example.org"), "wss://example.org");
        assert_eq!(websocket("quic://x:1"), "quic://x:1");
    }
}
