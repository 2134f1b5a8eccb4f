//! What is told when a broker is ready: URLs, fingerprint and process number for programs, an invitation for people.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use crate::args::Mode;
use crate::exit::Outcome;
use crate::hub::{self, mode_name};
use crate::print::{Output, Paint, counted, note};
use crate::serve::UP_MONITOR;

/// What is known when everything is bound.
#[derive(Debug, Serialize)]
pub(crate) struct Ready {
    /// Number of the process.
    pub(crate) pid: u32,
    /// The broker, unless there is none.
    #[serde(flatten)]
    pub(crate) broker: Option<ReadyBroker>,
    /// The hub, if there is one.
    #[serde(flatten)]
    pub(crate) hub: Option<ReadyHub>,
}

/// A broker that is bound.
#[derive(Debug, Serialize)]
pub(crate) struct ReadyBroker {
    /// The node's name.
    pub(crate) node: String,
    /// Where clients connect.
    pub(crate) urls: Vec<String>,
    /// The monitoring server.
    pub(crate) monitor: Option<String>,
    /// Of the development certificate for clients.
    pub(crate) fingerprint: Option<String>,
    /// The cluster that the node belongs to.
    pub(crate) cluster: Option<ReadyCluster>,
}

/// A hub that is ready.
#[derive(Debug, Serialize)]
pub(crate) struct ReadyHub {
    /// Where it answers over HTTP.
    pub(crate) http: String,
    /// How projects are run.
    mode: String,
    /// Where its data is.
    database: String,
    /// Where a browser makes the first administrator; good once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_admin: Option<String>,
}

impl ReadyHub {
    /// What is known of it.
    pub(crate) fn new(facts: &hub::Facts, mode: Mode) -> Self {
        Self {
            http: facts.http.clone(),
            mode: mode_name(mode),
            database: facts.database.clone(),
            first_admin: facts.first_admin.clone(),
        }
    }
}

impl Ready {
    /// Who may read it: a link that makes an administrator is its owner's alone.
    fn mode(&self) -> u32 {
        let secret = self
            .hub
            .as_ref()
            .is_some_and(|hub| hub.first_admin.is_some());
        if secret { 0o600 } else { 0o644 }
    }

    /// Of a hub without a broker.
    pub(crate) fn of_hub(facts: &hub::Facts, mode: Mode) -> Self {
        Self {
            pid: std::process::id(),
            broker: None,
            hub: Some(ReadyHub::new(facts, mode)),
        }
    }
}

/// A node's cluster.
#[derive(Debug, Serialize)]
pub(crate) struct ReadyCluster {
    /// Its name.
    pub(crate) name: String,
    /// Where other nodes connect.
    pub(crate) urls: Vec<String>,
}

/// Who is told when everything is bound.
pub(crate) struct Announce {
    /// A file that gets the JSON.
    pub(crate) ready_file: Option<std::path::PathBuf>,
    /// Standard output gets it.
    pub(crate) json: bool,
    /// A person has just tried `up`.
    pub(crate) inviting: bool,
}

impl Announce {
    /// Tells everybody.
    pub(crate) fn say(&self, ready: &Ready) -> Outcome {
        let urls: &[String] = ready.broker.as_ref().map_or(&[], |broker| &broker.urls);
        for url in urls {
            tracing::info!(url, "listening");
        }
        let cluster = ready
            .broker
            .as_ref()
            .and_then(|broker| broker.cluster.as_ref());
        for url in cluster.iter().flat_map(|cluster| &cluster.urls) {
            tracing::info!(url, "listening for other nodes");
        }
        if let Some(url) = ready
            .broker
            .as_ref()
            .and_then(|broker| broker.monitor.as_ref())
        {
            tracing::info!(url, "monitoring");
        }
        if let Some(path) = &self.ready_file {
            let text = serde_json::to_string(ready).context("cannot describe this process")?;
            crate::files::replace(path, format!("{text}\n").as_bytes(), ready.mode())
                .with_context(|| format!("cannot write the ready file {}", path.display()))?;
        }
        if self.json {
            let mut out = Output::stdout();
            out.json(ready)?;
            out.flush()?;
        } else if self.inviting {
            let mut out = Output::stdout();
            out.line(invitation(ready, out.paint))?;
            out.flush()?;
        } else if let Some(hub) = &ready.hub {
            say_hub(hub, urls);
        } else if Paint::stderr().is_on() {
            note(format_args!("Ready on {}", urls.join(", ")));
        }
        Ok(())
    }
}

fn say_hub(hub: &ReadyHub, urls: &[String]) {
    let ReadyHub {
        http,
        mode,
        database,
        ..
    } = hub;
    note(format_args!(
        "the hub is ready at {http}, in mode {mode}, with its data in {database}"
    ));
    if !urls.is_empty() {
        note(format_args!("its broker listens on {}", urls.join(", ")));
    }
}

/// What `dialtone up` prints: where it is, and what to try next.
fn invitation(ready: &Ready, paint: Paint) -> String {
    let Some(broker) = &ready.broker else {
        return String::new();
    };
    let mut lines = vec![
        format!("{} {} is ready.", paint.bold("Dialtone"), broker.node),
        String::new(),
    ];
    for url in &broker.urls {
        lines.push(format!("  {}", paint.cyan(url)));
    }
    let mut http = |url: &String, what: &str| {
        lines.push(format!("  {}  {}", paint.cyan(url), paint.dim(what)));
    };
    if let Some(monitor) = &broker.monitor {
        http(monitor, "monitoring");
    }
    if let Some(hub) = &ready.hub {
        http(&hub.http, "hub");
    }
    if let Some(fingerprint) = &broker.fingerprint {
        lines.push(format!("\nThe certificate of wss and quic is for development; its SHA-256 fingerprint is\n  {fingerprint}"));
    }
    let first_admin = ready.hub.as_ref().and_then(|hub| hub.first_admin.as_ref());
    if let Some(link) = first_admin {
        lines.push(format!(
            "\nThere is no administrator yet. This link makes one, once:\n  {}",
            paint.cyan(link)
        ));
    }
    let next = next(broker, ready.hub.is_some());
    if !next.is_empty() {
        lines.push("\nTry next, each in a terminal of its own:".to_owned());
        lines.extend(next);
    }
    if broker.urls.iter().any(|url| reachable(url) != *url) {
        lines.push(
            "\nIt listens at every address of this machine; on others, write its name or address in these commands."
                .to_owned(),
        );
    }
    lines.push("\nCtrl-C stops it.".to_owned());
    lines.join("\n")
}

/// Commands to be tried.
fn next(broker: &ReadyBroker, hub: bool) -> Vec<String> {
    let mut lines = commands(broker, hub);
    if let Some(monitor) = &broker.monitor {
        let flag = if monitor.ends_with(UP_MONITOR) {
            String::new()
        } else {
            format!(" --monitor {monitor}")
        };
        lines.push(format!("  dialtone top{flag}"));
    }
    lines
}

/// Commands of native clients; none where they cannot connect, since only existing ones are listened for.
fn commands(broker: &ReadyBroker, hub: bool) -> Vec<String> {
    let native = |url: &&String| !url.starts_with("socketio+");
    let mut urls = broker.urls.iter().filter(native);
    let standard = urls.clone().any(|url| url == crate::connect::URL_DEFAULT);
    let first = urls.clone().find(|url| url.starts_with("ws://"));
    let Some(first) = first.or_else(|| urls.next()) else {
        return Vec::new();
    };
    let flags = if standard {
        String::new()
    } else {
        format!(" --url {}{}", reachable(first), trust(first, broker))
    };
    let mut lines = vec![
        format!("  dialtone sub{flags} 'greet.>'"),
        format!("  dialtone pub{flags} greet.world hello"),
        format!("  dialtone reply{flags} time.now --command date"),
        format!("  dialtone request{flags} time.now ''"),
    ];
    if hub {
        lines.push(format!("  dialtone call{flags} --list"));
    }
    let encrypted = broker
        .urls
        .iter()
        .find(|url| url.starts_with("quic://"))
        .filter(|_| standard);
    if let Some(url) = encrypted {
        lines.push(format!(
            "  dialtone rtt --url {}{}",
            reachable(url),
            trust(url, broker)
        ));
    }
    lines
}

/// Where this machine reaches a listener: the addresses that stand for all addresses are not to be dialled.
fn reachable(url: &str) -> String {
    url.replacen("://0.0.0.0:", "://127.0.0.1:", 1)
        .replacen("://[::]:", "://[::1]:", 1)
}

/// What is said when a drain begins.
pub(crate) fn draining_text(connections: u64, grace: Duration) -> String {
    if connections == 0 {
        return "draining: no connections".to_owned();
    }
    format!(
        "draining: {}, at most {} s; press Ctrl-C again to stop at once",
        counted(connections, "connection"),
        grace.as_secs_f64()
    )
}

fn trust(url: &str, ready: &ReadyBroker) -> String {
    match &ready.fingerprint {
        Some(fingerprint) if !url.starts_with("ws://") => format!(" --fingerprint {fingerprint}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_for_everybody_are_reached_at_this_machine() {
        for (url, shown) in [
            ("ws://0.0.0.0:4480/", "ws://127.0.0.1:4480/"),
            ("quic://[::]:4433", "quic://[::1]:4433"),
            ("ws://10.0.0.0:80/", "ws://10.0.0.0:80/"),
        ] {
            assert_eq!(reachable(url), shown);
        }
    }

    #[test]
    fn commands_to_be_tried_can_connect() {
        let tried = |urls: &[&str]| {
            let broker = ReadyBroker {
                node: "n1".to_owned(),
                urls: urls.iter().map(|&url| url.to_owned()).collect(),
                monitor: None,
                fingerprint: None,
                cluster: None,
            };
            next(&broker, true)
        };
        let existing = "socketio+http://127.0.0.1:3000";
        assert_eq!(tried(&[existing]), [""; 0]);
        for native in ["quic://127.0.0.1:1", "ws://127.0.0.1:1/"] {
            let tried = tried(&[existing, native]);
            let all = tried
                .iter()
                .all(|command| command.contains(&format!("--url {native}")));
            assert!(all && tried.len() >= 5, "{tried:?}");
        }
    }

    #[test]
    fn a_drain_is_announced() {
        assert_eq!(
            draining_text(1, Duration::from_millis(1500)),
            "draining: 1 connection, at most 1.5 s; press Ctrl-C again to stop at once"
        );
        assert_eq!(draining_text(0, Duration::ZERO), "draining: no connections");
    }
}
