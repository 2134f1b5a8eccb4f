//! What is told when a broker is ready: URLs, fingerprint and process number for programs, an invitation for people.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use crate::exit::Outcome;
use crate::print::{Output, Paint, counted, note};
use crate::serve::UP_MONITOR;

/// What is known when everything is bound.
#[derive(Debug, Serialize)]
pub(crate) struct Ready {
    /// Number of the process.
    pub(crate) pid: u32,
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
        for url in &ready.urls {
            tracing::info!(url, "listening");
        }
        if let Some(url) = &ready.monitor {
            tracing::info!(url, "monitoring");
        }
        if let Some(path) = &self.ready_file {
            let text = serde_json::to_string(ready).context("cannot describe this broker")?;
            crate::files::replace(path, format!("{text}\n").as_bytes(), 0o644)
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
        } else if Paint::stderr().is_on() {
            note(format_args!("Ready on {}", ready.urls.join(", ")));
        }
        Ok(())
    }
}

/// What `dialtone up` prints: where it is, and what to try next.
fn invitation(ready: &Ready, paint: Paint) -> String {
    let mut lines = vec![
        format!("{} {} is ready.", paint.bold("Dialtone"), ready.node),
        String::new(),
    ];
    for url in &ready.urls {
        lines.push(format!("  {}", paint.cyan(url)));
    }
    if let Some(monitor) = &ready.monitor {
        lines.push(format!(
            "  {}  {}",
            paint.cyan(monitor),
            paint.dim("monitoring")
        ));
    }
    let standard = ready
        .urls
        .iter()
        .any(|url| url == crate::connect::URL_DEFAULT);
    let first = ready
        .urls
        .iter()
        .find(|url| url.starts_with("ws://"))
        .or_else(|| ready.urls.first());
    let flags = match first {
        Some(url) if !standard => format!(" --url {}{}", reachable(url), trust(url, ready)),
        _ => String::new(),
    };
    if let Some(fingerprint) = &ready.fingerprint {
        lines.push(format!("\nThe certificate of wss and quic is for development; its SHA-256 fingerprint is\n  {fingerprint}"));
    }
    lines.push("\nTry next, each in a terminal of its own:".to_owned());
    lines.push(format!("  dialtone sub{flags} 'greet.>'"));
    lines.push(format!("  dialtone pub{flags} greet.world hello"));
    lines.push(format!("  dialtone reply{flags} time.now --command date"));
    lines.push(format!("  dialtone request{flags} time.now ''"));
    let encrypted = ready
        .urls
        .iter()
        .find(|url| url.starts_with("quic://"))
        .filter(|_| flags.is_empty());
    if let Some(url) = encrypted {
        lines.push(format!(
            "  dialtone rtt --url {}{}",
            reachable(url),
            trust(url, ready)
        ));
    }
    if let Some(monitor) = &ready.monitor {
        let flag = if monitor.ends_with(UP_MONITOR) {
            String::new()
        } else {
            format!(" --monitor {monitor}")
        };
        lines.push(format!("  dialtone top{flag}"));
    }
    if ready.urls.iter().any(|url| reachable(url) != *url) {
        lines.push(
            "\nIt listens at every address of this machine; on others, write its name or address in these commands."
                .to_owned(),
        );
    }
    lines.push("\nCtrl-C stops it.".to_owned());
    lines.join("\n")
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

fn trust(url: &str, ready: &Ready) -> String {
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
    fn a_drain_is_announced() {
        assert_eq!(
            draining_text(1, Duration::from_millis(1500)),
            "draining: 1 connection, at most 1.5 s; press Ctrl-C again to stop at once"
        );
        assert_eq!(draining_text(0, Duration::ZERO), "draining: no connections");
    }
}
