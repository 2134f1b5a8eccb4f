//! What `dialtone up --nodes` says when all nodes are ready.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::plan::{CLUSTER, Plan};
use crate::exit::Outcome;
use crate::print::{Output, Paint};

/// Who is told.
#[derive(Debug)]
pub(super) struct Invite {
    /// A file that gets the JSON.
    pub(super) ready_file: Option<PathBuf>,
    /// Standard output gets it.
    pub(super) json: bool,
}

impl Invite {
    /// Tells everybody. `ready` is what the nodes said.
    pub(super) fn say(&self, ready: &[Value], plans: &[Plan]) -> Outcome {
        let all = json!({ "pid": std::process::id(), "cluster": CLUSTER, "nodes": ready });
        if let Some(path) = &self.ready_file {
            crate::files::replace(path, format!("{all}\n").as_bytes(), 0o644)
                .with_context(|| format!("cannot write the ready file {}", path.display()))?;
        }
        let mut out = Output::stdout();
        if self.json {
            out.json(&all)?;
        } else {
            out.line(invitation(ready, plans, out.paint))?;
        }
        Ok(out.flush()?)
    }
}

fn invitation(ready: &[Value], plans: &[Plan], paint: Paint) -> String {
    let mut lines = vec![
        format!(
            "{} cluster {CLUSTER} is ready: {} nodes, each a process of its own.",
            paint.bold("Dialtone"),
            ready.len()
        ),
        String::new(),
    ];
    for node in ready {
        let urls: Vec<_> = texts(&node["urls"]).map(|url| paint.cyan(url)).collect();
        lines.push(format!(
            "  {}  {}  {}",
            paint.bold(node["node"].as_str().unwrap_or_default()),
            urls.join("  "),
            paint.dim(format_args!("process {}", node["pid"]))
        ));
    }
    let (first, last) = (ready.first(), ready.last());
    let fingerprint = first.and_then(|node| node["fingerprint"].as_str());
    if let Some(fingerprint) = fingerprint {
        lines.push(format!(
            "\nThe certificate of wss and quic is for development; its SHA-256 fingerprint is\n  {fingerprint}"
        ));
    }
    lines.push("\nTry next, each in a terminal of its own:".to_owned());
    let at_last = url_flag(last, fingerprint);
    let at_first = url_flag(first, fingerprint);
    lines.push(format!("  dialtone sub 'greet.>'{at_last}"));
    lines.push(format!("  dialtone pub greet.world hello{at_first}"));
    lines.push(format!("  dialtone cluster nodes{at_first}"));
    lines.push(format!("  dialtone top --cluster{at_first}"));
    if let (Some(last), Some(plan)) = (last, plans.last()) {
        lines.push(format!(
            "\nLose a node, and see its subscriber move to another one; then start it again:\n  kill -9 {}\n  {}",
            last["pid"],
            plan.start_command()
        ));
    }
    lines.push("\nCtrl-C stops all of them.".to_owned());
    lines.join("\n")
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// The flags that name a node, unless it is where everybody looks first.
fn url_flag(node: Option<&Value>, fingerprint: Option<&str>) -> String {
    let Some(node) = node else {
        return String::new();
    };
    let plain = texts(&node["urls"]).find(|url| url.starts_with("ws://"));
    let url = plain.or_else(|| texts(&node["urls"]).next());
    match url {
        Some(crate::connect::URL_DEFAULT) | None => String::new(),
        Some(url) => {
            let trust = match fingerprint {
                Some(fingerprint) if !url.starts_with("ws://") => {
                    format!(" --fingerprint {fingerprint}")
                }
                _ => String::new(),
            };
            format!(" --url {url}{trust}")
        }
    }
}
