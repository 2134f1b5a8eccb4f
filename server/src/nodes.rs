//! `dialtone up --nodes N`: a cluster on this machine, each node a process of its own, so that killing one shows what
//! happens when a machine is lost.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::timeout;

use crate::args::{LogArgs, Serve};
use crate::config::{Environment, Origin, Settings};
use crate::exit::{Failure, Outcome};
use crate::lifecycle::{Asked, Signals};
use crate::print::{counted, note};
use crate::{assemble, serve, shards, telemetry};

mod plan;
use plan::Plan;

mod child;
use child::Child;

mod invite;
use invite::Invite;

/// How long a node may take to be ready.
const READY_MAX: Duration = Duration::from_mins(1);

/// `dialtone up --nodes`
pub(crate) fn up(count: u8, args: Serve, log: &LogArgs, data: &Path) -> Outcome {
    let preset = serve::up_preset(data);
    let sources = serve::sources(args.config.as_deref(), args.settings, log, preset);
    let loaded = sources.load(&Environment);
    let level = if loaded.problems.is_empty() {
        loaded.settings.log_level.value.as_str()
    } else {
        "warn"
    };
    telemetry::start(level, loaded.settings.log_format.value)?;
    let settings = serve::usable(loaded)?;
    refuse_what_is_ours(&settings)?;
    // All nodes show the same development certificate, which is made once.
    assemble::tls(&settings)?;
    let plans = plan::prepare(&settings, data, count)?;
    let invite = Invite {
        ready_file: args.ready_file,
        json: args.json,
    };
    let runtime = shards::current_thread().context("cannot start the runtime")?;
    runtime.block_on(run(plans, &invite, settings.drain_grace.value.get()))
}

/// Each node gets a name, addresses and certificates of its own here.
fn refuse_what_is_ours(s: &Settings) -> Outcome {
    for (key, origin) in [
        ("node", &s.node.origin),
        ("cluster.name", &s.cluster_name.origin),
        ("cluster.advertise", &s.cluster_advertise.origin),
        ("cluster.seeds", &s.cluster_seeds.origin),
        ("cluster.cert", &s.cluster_cert.origin),
        ("cluster.secret_file", &s.cluster_secret_file.origin),
        ("persist.nodes", &s.persist_nodes.origin),
    ] {
        if *origin != Origin::Default {
            return Err(Failure::usage(format_args!(
                "{key} ({origin}) cannot be chosen with --nodes, which chooses it for each node"
            ))
            .hint("`dialtone cluster init` and `dialtone broker` give full control"));
        }
    }
    Ok(())
}

/// The nodes that run, in the order of their numbers.
struct Nodes {
    children: Vec<Child>,
    watchers: FuturesUnordered<LocalBoxFuture<'static, (usize, std::io::Result<ExitStatus>)>>,
}

async fn run(plans: Vec<Plan>, invite: &Invite, grace: Duration) -> Outcome {
    let mut signals = Signals::new().context("cannot take over signals")?;
    let mut nodes = Nodes {
        children: Vec::new(),
        watchers: FuturesUnordered::new(),
    };
    let started = tokio::select! {
        started = nodes.start(&plans) => started,
        _ = signals.next() => Err(Failure::silent(crate::exit::Exit::Interrupted)),
    };
    let outcome = match started {
        Ok(ready) => match invite.say(&ready, &plans) {
            Ok(()) => nodes.watch(&mut signals).await,
            failed @ Err(_) => failed,
        },
        failed @ Err(_) => failed.map(drop),
    };
    nodes.stop(&mut signals, grace).await;
    outcome
}

impl Nodes {
    /// Starts one after the other; what each says when it is ready.
    async fn start(&mut self, plans: &[Plan]) -> Result<Vec<Value>, Failure> {
        let mut ready = Vec::new();
        for plan in plans {
            plan.write(&links_of(&ready))?;
            let index = self.children.len();
            let (child, first_line, watcher) = Child::start(plan)?;
            self.children.push(child);
            self.watchers
                .push(Box::pin(async move { (index, watcher.await) }));
            let said = timeout(READY_MAX, self.first_line(first_line)).await;
            let said = said.with_context(|| format!("{} takes too long to start", plan.name))??;
            let said: Value = serde_json::from_str(&said)
                .with_context(|| format!("{} did not start", plan.name))?;
            ready.push(said);
        }
        Ok(ready)
    }

    /// Waits for a line while the others are looked after.
    async fn first_line(
        &mut self,
        line: impl Future<Output = std::io::Result<String>>,
    ) -> Result<String, Failure> {
        let ended = tokio::select! {
            line = line => match line? {
                // Its output is over, and so is it.
                line if line.is_empty() => self.watchers.next().await,
                line => return Ok(line),
            },
            ended = self.watchers.next() => ended,
        };
        let (index, status) = ended.context("no node runs")?;
        let name = self.ended(index);
        Err(anyhow::anyhow!("{name} did not start: it {}", how(&status)).into())
    }

    /// Goes on until a signal asks to stop, or no node is left.
    async fn watch(&mut self, signals: &mut Signals) -> Outcome {
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop => return Ok(()),
                    Asked::Reload => self.signal(Signal::HUP),
                },
                ended = self.watchers.next() => match ended {
                    Some((index, status)) => self.tell_end(index, &status),
                    None => return Err(anyhow::anyhow!("all nodes have ended").into()),
                },
            }
        }
    }

    fn tell_end(&mut self, index: usize, status: &std::io::Result<ExitStatus>) {
        let name = self.ended(index);
        let left = self.children.iter().filter(|child| child.alive).count();
        let start = self
            .children
            .get(index)
            .map(Child::start_command)
            .unwrap_or_default();
        note(format_args!(
            "{name} {}; {} on. To start it again, in a terminal of its own:\n  {start}",
            how(status),
            if left == 1 {
                "one node goes".to_owned()
            } else {
                format!("{left} nodes go")
            }
        ));
    }

    fn ended(&mut self, index: usize) -> String {
        self.children
            .get_mut(index)
            .map_or_else(String::new, |child| {
                child.alive = false;
                child.name.clone()
            })
    }

    /// Drains all nodes together; a second signal stops them at once.
    async fn stop(&mut self, signals: &mut Signals, grace: Duration) {
        let alive = self.children.iter().filter(|child| child.alive).count();
        if alive == 0 {
            return;
        }
        note(format_args!(
            "draining {}, at most {} s; press Ctrl-C again to stop at once",
            counted(alive as u64, "node"),
            grace.as_secs_f64()
        ));
        self.signal(Signal::TERM);
        loop {
            tokio::select! {
                asked = signals.next() => {
                    if asked == Asked::Stop {
                        self.signal(Signal::TERM);
                    }
                }
                ended = self.watchers.next() => match ended {
                    Some((index, _)) => drop(self.ended(index)),
                    None => return,
                },
            }
        }
    }

    fn signal(&self, signal: Signal) {
        for child in self.children.iter().filter(|child| child.alive) {
            child.signal(signal);
        }
    }
}

/// Where the nodes that are ready are reached by the next ones.
fn links_of(ready: &[Value]) -> Vec<String> {
    let urls = ready
        .iter()
        .filter_map(|node| node["cluster"]["urls"].as_array());
    urls.flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// How a process ended, as the end of a sentence.
fn how(status: &std::io::Result<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match status {
        Ok(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("was ended by signal {signal}"),
            (None, Some(0)) => "has ended".to_owned(),
            (None, code) => format!("failed with exit code {}", code.unwrap_or_default()),
        },
        Err(error) => format!("is lost: {error}"),
    }
}
