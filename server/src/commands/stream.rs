//! `dialtone stream`: one file for each group of its subcommands.

use std::io::Write as _;

use dialtone_client::persist::wire::{Config, ConfigPatch, StreamInfo};
use serde_json::{Value, json};

use super::attached::with_client;
use super::records::{at, table};
use super::store;
use crate::args::{
    LimitArgs, StreamAdd, StreamCommand, StreamEdit, StreamLs, StreamNamed, StreamNodes,
};
use crate::exit::{Failure, Outcome};
use crate::print::{Output, bytes, harmless, note};

mod append;
pub(super) use append::print as print_written;
mod archive;
mod consumer;
mod copy;
mod export;
pub(super) use export::Part;
mod file;
mod import;
mod lines;
mod read;
mod remove;
mod verify;

/// `dialtone stream`
pub(super) async fn run(command: StreamCommand) -> Outcome {
    match command {
        StreamCommand::Ls(args) => ls(args).await,
        StreamCommand::Info(args) => info(args).await,
        StreamCommand::Add(args) => add(args).await,
        StreamCommand::Edit(args) => edit(args).await,
        StreamCommand::Append(args) => append::run(args).await,
        StreamCommand::Read(args) => read::read(args).await,
        StreamCommand::Tail(args) => read::tail(args).await,
        StreamCommand::Rm(args) => remove::run(args).await,
        StreamCommand::Verify(args) => verify::run(args).await,
        StreamCommand::Export(args) => export::run(args).await,
        StreamCommand::Import(args) => import::run(args).await,
        StreamCommand::Copy(args) => copy::run(args).await,
        StreamCommand::Points(args) => archive::points(args).await,
        StreamCommand::Restore(args) => archive::run(args).await,
        StreamCommand::Nodes(args) => nodes(args).await,
        StreamCommand::Consumer(command) => consumer::run(command).await,
    }
}

async fn ls(args: StreamLs) -> Outcome {
    with_client(&args.store.connect, async |client| {
        let persist = store::persist(client, &args.store)?;
        let list = persist.list_all(&args.prefix).await.map_err(store::call)?;
        let (streams, missing) = (list.streams, store::all_there(&list.missing));
        let mut out = Output::stdout();
        if args.json {
            for entry in &streams {
                out.json(entry)?;
            }
            out.flush()?;
            return missing;
        }
        if streams.is_empty() && missing.is_ok() {
            note("there are no streams here; `dialtone stream add NAME` makes one");
            return Ok(());
        }
        let rows: Vec<[String; 5]> = streams
            .iter()
            .map(|entry| {
                let last = if entry.last_time == 0 {
                    "never".to_owned()
                } else {
                    at(entry.last_time)
                };
                [
                    harmless(&entry.stream),
                    entry.messages.to_string(),
                    bytes(entry.bytes),
                    last,
                    harmless(&entry.description),
                ]
            })
            .collect();
        let titles = ["NAME", "RECORDS", "SIZE", "LAST WRITTEN", "DESCRIPTION"];
        table(&mut out, titles, &rows)?;
        out.flush()?;
        missing
    })
    .await
}

async fn info(args: StreamNamed) -> Outcome {
    with_client(&args.store.connect, async |client| {
        let persist = store::persist(client, &args.store)?;
        let info = persist
            .info(args.name.as_str())
            .await
            .map_err(store::open)?;
        print_info(&info, args.json)
    })
    .await
}

fn print_info(info: &StreamInfo, as_json: bool) -> Outcome {
    let mut out = Output::stdout();
    if as_json {
        out.json(info)?;
        return Ok(out.flush()?);
    }
    let (paint, config) = (out.paint, &info.config);
    out.line(paint.bold(harmless(&info.stream)))?;
    let mut line = |name: &str, value: String| {
        let name = paint.dim(format_args!("{name:20}"));
        out.line(format_args!("  {name} {value}"))
    };
    if !config.description.is_empty() {
        line("description", harmless(&config.description))?;
    }
    line(
        "records",
        format!(
            "{}, numbers {} to {}",
            info.messages, info.first_seq, info.last_seq
        ),
    )?;
    line("size", bytes(info.bytes))?;
    line("keys", info.keys.to_string())?;
    line("made", at(info.created))?;
    if info.last_time > 0 {
        line("last written", at(info.last_time))?;
    }
    line("consumers", info.consumers.to_string())?;
    line("node", harmless(&info.node))?;
    let kept = if config.ephemeral {
        "in memory alone".to_owned()
    } else {
        format!("acknowledged at {}", word(&json!(config.durability)))
    };
    line("durability", kept)?;
    for (name, value) in limits(config) {
        line(name, value)?;
    }
    if info.restoring {
        line("state", "being restored".to_owned())?;
    }
    Ok(out.flush()?)
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The limits that are set, as people read them.
fn limits(config: &Config) -> Vec<(&'static str, String)> {
    let count = |value: u64| (value > 0).then(|| value.to_string());
    let size = |value: u64| (value > 0).then(|| bytes(value));
    let all = [
        ("max msgs", count(config.max_msgs)),
        ("max bytes", size(config.max_bytes)),
        (
            "max age",
            (config.max_age > 0).then(|| span(config.max_age)),
        ),
        ("max msg size", size(config.max_msg_size)),
        ("max msgs per second", count(config.max_msgs_per_second)),
        ("max bytes per second", size(config.max_bytes_per_second)),
        (
            "max msgs per key",
            Some(config.max_msgs_per_key.to_string()),
        ),
        (
            "when full",
            Some(format!("discard {}", word(&json!(config.discard)))),
        ),
        ("duplicate window", Some(span(config.duplicate_window))),
    ];
    all.into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

fn span(ms: u64) -> String {
    crate::config::Span(std::time::Duration::from_millis(ms)).to_string()
}

/// The flags as a change of a configuration.
fn patch(limits: LimitArgs) -> ConfigPatch {
    let ms = |span: crate::config::Span| u64::try_from(span.get().as_millis()).unwrap_or(u64::MAX);
    let size = |size: crate::config::Size| size.0;
    ConfigPatch {
        description: limits.description,
        max_msgs: limits.max_msgs,
        max_bytes: limits.max_bytes.map(size),
        max_age: limits.max_age.map(ms),
        max_msg_size: limits.max_msg_size.map(size),
        max_msgs_per_second: limits.max_msgs_per_second,
        max_bytes_per_second: limits.max_bytes_per_second.map(size),
        max_msgs_per_key: limits.max_msgs_per_key,
        discard: limits.discard.map(Into::into),
        allow_ttl: None,
        duplicate_window: limits.duplicate_window.map(ms),
        removals_kept: limits.removals_kept,
    }
}

async fn add(args: StreamAdd) -> Outcome {
    let config = Config {
        ephemeral: args.ephemeral,
        durability: args.durability.map(Into::into).unwrap_or_default(),
        ..Config::default()
    };
    let config = patch(args.limits).apply(&config);
    with_client(&args.store.connect, async |client| {
        let persist = store::persist(client, &args.store)?;
        let name = args.name.as_str();
        let made = if args.exist_ok {
            persist.open_or_create(name, config).await
        } else {
            persist.create(name, config).await
        };
        let stream = made.map_err(store::open)?;
        if args.json {
            let info = stream.info().await.map_err(store::call)?;
            return print_info(&info, true);
        }
        let mut out = Output::stdout();
        out.line(format_args!("stream {} is there", harmless(name)))?;
        Ok(out.flush()?)
    })
    .await
}

async fn edit(args: StreamEdit) -> Outcome {
    let patch = patch(args.limits);
    if patch == ConfigPatch::default() {
        return Err(Failure::usage("nothing to change was given")
            .hint("`dialtone stream edit --help` lists the limits"));
    }
    with_client(&args.store.connect, async |client| {
        let persist = store::persist(client, &args.store)?;
        let stream = persist.stream(args.name.as_str()).map_err(store::open)?;
        let info = stream.update(patch).await.map_err(store::call)?;
        print_info(&info, args.json)
    })
    .await
}

async fn nodes(args: StreamNodes) -> Outcome {
    with_client(&args.store.connect, async |client| {
        let persist = store::persist(client, &args.store)?;
        let nodes = persist.nodes().await.map_err(store::call)?;
        let mut out = Output::stdout();
        if args.json {
            for node in &nodes {
                out.json(node)?;
            }
            return Ok(out.flush()?);
        }
        let rows: Vec<[String; 9]> = nodes
            .iter()
            .map(|node| {
                let state = match (&node.failure, node.alive) {
                    (Some(failure), _) => format!("failed: {failure}"),
                    (None, true) if node.lease == Some(0) => "without a lease".to_owned(),
                    (None, true) => "up".to_owned(),
                    (None, false) => "does not answer".to_owned(),
                };
                let lease = node.lease.filter(|_| node.alive);
                [
                    harmless(&node.node),
                    harmless(&node.backend),
                    node.streams.to_string(),
                    node.messages.to_string(),
                    bytes(node.bytes),
                    bytes(node.disk_bytes),
                    span(node.uptime / 1_000 * 1_000),
                    lease.map_or_else(|| "-".to_owned(), |lease| span(lease / 100 * 100)),
                    harmless(&state),
                ]
            })
            .collect();
        let titles = [
            "NODE", "STORE", "STREAMS", "RECORDS", "SIZE", "ON DISK", "UPTIME", "LEASE", "STATE",
        ];
        table(&mut out, titles, &rows)?;
        Ok(out.flush()?)
    })
    .await
}

impl From<crate::args::Durability> for dialtone_client::persist::wire::Durability {
    fn from(durability: crate::args::Durability) -> Self {
        match durability {
            crate::args::Durability::Fsync => Self::Fsync,
            crate::args::Durability::Os => Self::Os,
            crate::args::Durability::Memory => Self::Memory,
        }
    }
}

impl From<crate::args::Discard> for dialtone_client::persist::wire::Discard {
    fn from(discard: crate::args::Discard) -> Self {
        match discard {
            crate::args::Discard::Old => Self::Old,
            crate::args::Discard::New => Self::New,
        }
    }
}
