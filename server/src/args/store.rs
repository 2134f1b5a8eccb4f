//! Which persist service, and the flags of `dialtone kv` and `dialtone object`.

use clap::{Args, Subcommand};

use super::{ConnectArgs, PayloadArgs, PrintArgs};
use crate::config::{Size, Span};

/// Whose streams, and how long to wait for the service.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreArgs {
    /// Whose streams: hub for the site itself, account-UUID or project-UUID
    #[arg(
        long,
        value_name = "SCOPE",
        default_value = "hub",
        help_heading = "Service"
    )]
    pub(crate) scope: String,
    /// How long a request may take, with repetitions
    #[arg(
        long,
        value_name = "TIME",
        default_value = "30s",
        help_heading = "Service"
    )]
    pub(crate) timeout: Span,
    /// Which broker.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// `dialtone kv`
#[derive(Debug, Args)]
#[command(after_help = "\
A store is a stream that is read by key; `kv put` makes it when it is not there.

Examples:
  dialtone kv put settings theme dark
  dialtone kv get settings theme
  dialtone kv watch settings")]
pub(crate) struct Kv {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: KvCommand,
}

/// The subcommands of `dialtone kv`.
#[derive(Debug, Subcommand)]
pub(crate) enum KvCommand {
    /// Print the value of a key
    Get(KvGet),
    /// Set a key
    Put(KvPut),
    /// Print changes as they happen
    Watch(KvWatch),
    /// List keys
    Ls(KvLs),
    /// Delete keys
    Rm(KvRm),
    /// Print the records of a key that are kept
    History(KvHistory),
}

/// `dialtone kv get`
#[derive(Debug, Args)]
#[command(
    after_help = "Prints a text without quotes, and other values as JSON. Exits with 1 if the key has no value."
)]
pub(crate) struct KvGet {
    /// The store
    #[arg(value_name = "STORE")]
    pub(crate) store_name: String,
    /// The key
    #[arg(id = "kv_key", value_name = "KEY")]
    pub(crate) key: String,
    /// Print the bytes of the value as they were written
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
    /// Print the record as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// `dialtone kv put`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dialtone kv put settings theme dark
  dialtone kv put sessions alice '{\"page\":3}' --ttl 1h
  dialtone kv put locks job-7 $HOSTNAME --create          # exits with 1 if somebody has it
  dialtone kv put config app - --if-seq 12 < app.json")]
pub(crate) struct KvPut {
    /// The store
    #[arg(value_name = "STORE")]
    pub(crate) store_name: String,
    /// The key
    #[arg(id = "kv_key", value_name = "KEY")]
    pub(crate) key: String,
    /// What.
    #[command(flatten)]
    pub(crate) payload: PayloadArgs,
    /// Lets the value go away after a time
    #[arg(long, value_name = "TIME")]
    pub(crate) ttl: Option<Span>,
    /// Only if the key has no value
    #[arg(long, conflicts_with = "if_seq")]
    pub(crate) create: bool,
    /// Only if the key's record has this number
    #[arg(long, value_name = "N")]
    pub(crate) if_seq: Option<u64>,
    /// How many records of one key a store keeps that is made by this, 1 to 64
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) history: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// `dialtone kv watch`
#[derive(Debug, Args)]
pub(crate) struct KvWatch {
    /// The store
    #[arg(value_name = "STORE")]
    pub(crate) store_name: String,
    /// Only keys that begin like this
    pub(crate) prefix: Option<String>,
    /// Print only what happens from now on, not first what there is
    #[arg(long)]
    pub(crate) new: bool,
    /// End after so many changes
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// `dialtone kv ls`
#[derive(Debug, Args)]
pub(crate) struct KvLs {
    /// The store
    #[arg(value_name = "STORE")]
    pub(crate) store_name: String,
    /// Only keys that begin like this
    pub(crate) prefix: Option<String>,
    /// Print values, numbers and times as well
    #[arg(long, short = 'l')]
    pub(crate) long: bool,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// `dialtone kv rm`
#[derive(Debug, Args)]
#[command(after_help = "\
A deletion is a record too, which goes away after a day; --purge removes the key with its history
and leaves nothing. `dialtone stream rm STORE` deletes the whole store.")]
pub(crate) struct KvRm {
    /// The store
    #[arg(value_name = "STORE")]
    pub(crate) store_name: String,
    /// The keys
    #[arg(id = "kv_key", value_name = "KEY", required = true)]
    pub(crate) key: Vec<String>,
    /// Remove every trace of them
    #[arg(long)]
    pub(crate) purge: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// `dialtone kv history`
#[derive(Debug, Args)]
pub(crate) struct KvHistory {
    /// The store
    #[arg(value_name = "STORE")]
    pub(crate) store_name: String,
    /// The key
    #[arg(id = "kv_key", value_name = "KEY")]
    pub(crate) key: String,
    /// How.
    #[command(flatten)]
    pub(crate) print: PrintArgs,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// `dialtone object`
#[derive(Debug, Args)]
#[command(after_help = "\
A store is a stream; `object put` makes it when it is not there. An object is replaced in one step
when all of it has arrived, and an upload that was interrupted goes on where it was.

Examples:
  dialtone object put films holiday.mkv
  dialtone object ls films
  dialtone object get films holiday.mkv --output copy.mkv")]
pub(crate) struct Object {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: ObjectCommand,
}

/// The subcommands of `dialtone object`.
#[derive(Debug, Subcommand)]
pub(crate) enum ObjectCommand {
    /// Store a file
    Put(ObjectPut),
    /// Fetch an object, or a part of it
    Get(ObjectGet),
    /// List objects
    Ls(ObjectLs),
    /// Remove an object
    Rm(ObjectNamed),
    /// Describe an object
    Info(ObjectNamed),
}

/// `dialtone object put`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dialtone object put films holiday.mkv
  dialtone object put backups db.sql --name db-monday.sql --header host=db1
  pg_dump db | dialtone object put backups - --name db.sql")]
pub(crate) struct ObjectPut {
    /// The store
    #[arg(value_name = "STORE")]
    pub(crate) store_name: String,
    /// The file; `-` reads standard input and needs --name
    pub(crate) file: String,
    /// Name of the object [default: that of the file]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Something to say about it; a value that is JSON is kept as that, any other as a text
    #[arg(long, short = 'H', value_name = "NAME=VALUE")]
    pub(crate) header: Vec<String>,
    /// Length of its chunks, at most 16MiB
    #[arg(long, value_name = "SIZE", default_value = "1MiB")]
    pub(crate) chunk: Size,
    /// Begin anew rather than go on with an interrupted upload
    #[arg(long)]
    pub(crate) no_resume: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// `dialtone object get`
#[derive(Debug, Args)]
#[command(after_help = "\
The bytes are compared with the digest that was stored. A file appears when all of it has arrived.

Examples:
  dialtone object get films holiday.mkv                     # to holiday.mkv
  dialtone object get films holiday.mkv --output - | mpv -
  dialtone object get films holiday.mkv --range 0..1024 --output head.bin")]
pub(crate) struct ObjectGet {
    /// The store
    #[arg(value_name = "STORE")]
    pub(crate) store_name: String,
    /// The object
    pub(crate) name: String,
    /// Where to; `-` is standard output [default: the last part of the object's name]
    #[arg(long, short = 'o', value_name = "FILE")]
    pub(crate) output: Option<String>,
    /// Only these bytes, such as 0..1024, 4096.. or ..100
    #[arg(long, value_name = "FROM..TO", value_parser = range)]
    pub(crate) range: Option<(u64, Option<u64>)>,
    /// Replace a file that is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

fn range(text: &str) -> Result<(u64, Option<u64>), String> {
    let wrong = || format!("expected a range such as 0..1024, 4096.. or ..100, found {text:?}");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u64>().map_err(|_error| wrong());
    let from = if from.is_empty() { 0 } else { number(from)? };
    let to = if to.is_empty() {
        None
    } else {
        Some(number(to)?)
    };
    Ok((from, to))
}

/// `dialtone object ls`
#[derive(Debug, Args)]
pub(crate) struct ObjectLs {
    /// The store
    #[arg(value_name = "STORE")]
    pub(crate) store_name: String,
    /// Only objects whose names begin like this
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// A subcommand about one object.
#[derive(Debug, Args)]
pub(crate) struct ObjectNamed {
    /// The store
    #[arg(value_name = "STORE")]
    pub(crate) store_name: String,
    /// The object
    pub(crate) name: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}
