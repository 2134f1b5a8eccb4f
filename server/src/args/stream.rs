//! The flags of `dialtone stream`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{PayloadArgs, StoreArgs, StreamCopy, StreamPoints, StreamRestore};
use crate::config::{Size, Span};

/// `dialtone stream`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dialtone stream add notes --max-age 30d
  dialtone stream append notes 'buy milk'
  dialtone stream append notes - --lines < access.log
  dialtone stream read notes --from 100
  dialtone stream tail notes")]
pub(crate) struct Stream {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: StreamCommand,
}

/// The subcommands of `dialtone stream`.
#[derive(Debug, Subcommand)]
pub(crate) enum StreamCommand {
    /// List streams
    Ls(StreamLs),
    /// Describe a stream
    Info(StreamNamed),
    /// Make a stream
    Add(StreamAdd),
    /// Change the limits of a stream
    Edit(StreamEdit),
    /// Write records at the end of a stream
    Append(StreamAppend),
    /// Print the records of a stream
    Read(StreamRead),
    /// Print what is appended and removed from now on
    Tail(StreamTail),
    /// Delete a stream, or some of its records
    Rm(StreamRm),
    /// Read everything that is kept and compare the checksums
    Verify(StreamVerify),
    /// Write a stream to a file
    Export(StreamExport),
    /// Make a stream from a file that was exported
    Import(StreamImport),
    /// Copy a stream as it is, or as it was at a time
    Copy(StreamCopy),
    /// Show to which points in time an archive goes back
    Points(StreamPoints),
    /// Restore the log of a node from its archive
    Restore(StreamRestore),
    /// Show the nodes of the service
    Nodes(StreamNodes),
    /// Work through a stream: each record once, until it is acknowledged
    #[command(subcommand)]
    Consumer(ConsumerCommand),
}

/// `dialtone stream ls`
#[derive(Debug, Args)]
pub(crate) struct StreamLs {
    /// Only streams whose names begin like this
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// A subcommand that needs a name alone.
#[derive(Debug, Args)]
pub(crate) struct StreamNamed {
    /// The stream
    pub(crate) name: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// `dialtone stream verify`
#[derive(Debug, Args)]
pub(crate) struct StreamVerify {
    /// The streams; all of the scope where none is named
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Print JSON, a line for each stream
    #[arg(long)]
    pub(crate) json: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    /// It is on disk
    Fsync,
    /// The operating system has it
    Os,
    /// The service has it in memory
    Memory,
}

/// What happens when a stream is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Discard {
    /// The oldest records make room
    Old,
    /// The write is refused
    New,
}

const LIMITS: &str = "Limits";

/// The limits of a stream.
#[derive(Debug, Clone, Args)]
pub(crate) struct LimitArgs {
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Most records; 0 is no limit
    #[arg(long, value_name = "N", help_heading = LIMITS)]
    pub(crate) max_msgs: Option<u64>,
    /// Most bytes; 0 is no limit
    #[arg(long, value_name = "SIZE", help_heading = LIMITS)]
    pub(crate) max_bytes: Option<Size>,
    /// Longest life of a record, such as 1h or 30d; 0 is no limit
    #[arg(long, value_name = "TIME", help_heading = LIMITS)]
    pub(crate) max_age: Option<Span>,
    /// Largest record; 0 is no limit
    #[arg(long, value_name = "SIZE", help_heading = LIMITS)]
    pub(crate) max_msg_size: Option<Size>,
    /// Most records within any second; 0 is no limit
    #[arg(long, value_name = "N", help_heading = LIMITS)]
    pub(crate) max_msgs_per_second: Option<u64>,
    /// Most bytes within any second; 0 is no limit
    #[arg(long, value_name = "SIZE", help_heading = LIMITS)]
    pub(crate) max_bytes_per_second: Option<Size>,
    /// How many records of one key are kept, 1 to 64
    #[arg(long, value_name = "N", help_heading = LIMITS)]
    pub(crate) max_msgs_per_key: Option<u32>,
    /// What happens to a write for which there is no room: old or new
    #[arg(long, value_name = "WHICH", value_enum, hide_possible_values = true, help_heading = LIMITS)]
    pub(crate) discard: Option<Discard>,
    /// How long message ids are remembered, at most 7d; 0 is not at all
    #[arg(long, value_name = "TIME", help_heading = LIMITS)]
    pub(crate) duplicate_window: Option<Span>,
    /// How many removals are remembered for readers who were away
    #[arg(long, value_name = "N", help_heading = LIMITS)]
    pub(crate) removals_kept: Option<u64>,
}

/// `dialtone stream add`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dialtone stream add notes
  dialtone stream add metrics --max-bytes 1GiB --max-age 7d --durability os
  dialtone stream add scratch --ephemeral --exist-ok")]
pub(crate) struct StreamAdd {
    /// The stream, a path such as notes or team/notes
    pub(crate) name: String,
    /// A write is acknowledged when it is on disk (fsync), with the operating system (os), or in memory [default: fsync]
    #[arg(long, value_name = "LEVEL", value_enum, hide_possible_values = true)]
    pub(crate) durability: Option<Durability>,
    /// Keep it in memory alone; it ends with the service
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// A stream that is there already is no error
    #[arg(long)]
    pub(crate) exist_ok: bool,
    /// Its limits.
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// `dialtone stream edit`
#[derive(Debug, Args)]
#[command(after_help = "\
What is not given stays as it is. Limits hold at once, for the records that are there too.

Examples:
  dialtone stream edit notes --max-msgs 1000 --discard new")]
pub(crate) struct StreamEdit {
    /// The stream
    pub(crate) name: String,
    /// Its limits.
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// `dialtone stream append`
#[derive(Debug, Args)]
#[command(after_help = "\
With --lines, each line of standard input (or of --file) is a record: its bytes without the newline,
marked as JSON where they are JSON. Lines get the message ids ID.1, ID.2 and so on, so that the same
command with the same --id goes on where it was interrupted, as long as the stream remembers ids
(its duplicate window, 2 minutes by default).

Examples:
  dialtone stream append notes 'buy milk'
  dialtone stream append orders '{\"id\":7}' --id order-7        # a second time changes nothing
  dialtone stream append config '{\"a\":1}' -k app --if-key-seq 12
  dialtone stream append log - --lines < access.log
  dialtone stream append log --lines --file access.log --id monday")]
pub(crate) struct StreamAppend {
    /// The stream
    pub(crate) name: String,
    /// What.
    #[command(flatten)]
    pub(crate) payload: PayloadArgs,
    /// Make each line of the input a record
    #[arg(long)]
    pub(crate) lines: bool,
    /// Read the lines from this file rather than from standard input
    #[arg(
        long,
        value_name = "FILE",
        requires = "lines",
        conflicts_with = "payload"
    )]
    pub(crate) file: Option<PathBuf>,
    /// Make the record the value of a key
    #[arg(long, short = 'k', value_name = "KEY", conflicts_with = "lines")]
    pub(crate) record_key: Option<String>,
    /// Lets the record go away after a time
    #[arg(long, value_name = "TIME")]
    pub(crate) ttl: Option<Span>,
    /// Message id; a second record with the same one is not written
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// Write only if the last number that the stream gave is N
    #[arg(long, value_name = "N", conflicts_with_all = ["lines", "if_key_seq"])]
    pub(crate) if_last_seq: Option<u64>,
    /// Write only if the record of the key has number N; 0: there is none
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "lines",
        requires = "record_key"
    )]
    pub(crate) if_key_seq: Option<u64>,
    /// Acknowledge when it is on disk (fsync), with the operating system (os), or in memory [default: the stream's]
    #[arg(long, value_name = "LEVEL", value_enum, hide_possible_values = true)]
    pub(crate) durability: Option<Durability>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// How records are printed.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct PrintArgs {
    /// Print the bytes of payloads as they were written, without anything between them
    #[arg(long, conflicts_with_all = ["json", "lines"])]
    pub(crate) raw: bool,
    /// Print payloads alone, one per line: texts as texts, all others as they were written
    #[arg(long, conflicts_with = "json")]
    pub(crate) lines: bool,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dialtone stream read`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dialtone stream read notes
  dialtone stream read notes --from 100 --count 10 --json
  dialtone stream read log --lines > access.log
  dialtone stream read files --from 7 --to 7 --raw > seven.bin
  dialtone stream read log --since 1h")]
pub(crate) struct StreamRead {
    /// The stream
    pub(crate) name: String,
    /// The first number
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) from: u64,
    /// The last number
    #[arg(long, value_name = "N")]
    pub(crate) to: Option<u64>,
    /// End after so many records
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Only records that are not older than this, such as 1h
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Span>,
    /// Only records whose key begins like this
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,
    /// How.
    #[command(flatten)]
    pub(crate) print: PrintArgs,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// `dialtone stream tail`
#[derive(Debug, Args)]
#[command(after_help = "\
Goes on through lost connections and nodes without missing anything.

Examples:
  dialtone stream tail notes
  dialtone stream tail notes --from 1 --json
  dialtone stream tail config --prefix app.")]
pub(crate) struct StreamTail {
    /// The stream
    pub(crate) name: String,
    /// Print first what there is from this number on
    #[arg(long, value_name = "N")]
    pub(crate) from: Option<u64>,
    /// End after so many records
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Only records whose key begins like this
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,
    /// How.
    #[command(flatten)]
    pub(crate) print: PrintArgs,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// `dialtone stream rm`
#[derive(Debug, Args)]
#[command(after_help = "\
Without a flag that says which records, the stream is deleted with everything in it.

Examples:
  dialtone stream rm scratch
  dialtone stream rm notes --seq 7 --seq 9
  dialtone stream rm log --up-to 1000000")]
pub(crate) struct StreamRm {
    /// The stream
    pub(crate) name: String,
    /// Remove the record with this number; may be given several times
    #[arg(long, value_name = "N", group = "which")]
    pub(crate) seq: Vec<u64>,
    /// Remove everything up to and with this number
    #[arg(long, value_name = "N", group = "which")]
    pub(crate) up_to: Option<u64>,
    /// Remove every record of a key
    #[arg(long, value_name = "KEY", group = "which")]
    pub(crate) record_key: Option<String>,
    /// Remove every record whose key begins like this
    #[arg(long, value_name = "PREFIX", group = "which")]
    pub(crate) prefix: Option<String>,
    /// Remove every record, and keep the stream
    #[arg(long, group = "which")]
    pub(crate) all: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// `dialtone stream export`
#[derive(Debug, Args)]
#[command(after_help = "\
The file keeps numbers, times, keys, headers and lifetimes, with a checksum for each record and one
for all; docs/stream-file.md describes it.

Examples:
  dialtone stream export notes notes.dts
  dialtone stream export notes - | zstd > notes.dts.zst")]
pub(crate) struct StreamExport {
    /// The stream
    pub(crate) name: String,
    /// Where to; `-` is standard output
    pub(crate) file: String,
    /// Replace a file that is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// `dialtone stream import`
#[derive(Debug, Args)]
#[command(after_help = "\
Makes the stream, which must not exist. A file that is damaged or cut off is refused, and nothing
remains of the stream.

Examples:
  dialtone stream import notes-copy notes.dts
  zstd -dc notes.dts.zst | dialtone stream import notes -")]
pub(crate) struct StreamImport {
    /// The stream that is made
    pub(crate) name: String,
    /// Where from; `-` is standard input
    pub(crate) file: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// `dialtone stream nodes`
#[derive(Debug, Args)]
pub(crate) struct StreamNodes {
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// `dialtone stream consumer`
#[derive(Debug, Subcommand)]
pub(crate) enum ConsumerCommand {
    /// Make a consumer
    Add(ConsumerAdd),
    /// List the consumers of a stream
    Ls(StreamNamed),
    /// Describe a consumer
    Info(ConsumerNamed),
    /// Delete a consumer
    Rm(ConsumerNamed),
    /// Take the next records, print them, and acknowledge them
    Next(ConsumerNext),
}

/// `dialtone stream consumer add`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dialtone stream consumer add orders billing
  dialtone stream consumer add orders audit --from 1000 --max-deliveries 5 --dead-letter orders-dead")]
pub(crate) struct ConsumerAdd {
    /// The stream
    pub(crate) stream: String,
    /// The consumer
    pub(crate) name: String,
    /// Begin with this number rather than with the oldest record
    #[arg(long, value_name = "N", conflicts_with = "new")]
    pub(crate) from: Option<u64>,
    /// Begin with what is appended from now on
    #[arg(long)]
    pub(crate) new: bool,
    /// Only records whose key begins like this
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,
    /// Deliver again what is not acknowledged within this time
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub(crate) ack_wait: Span,
    /// Most deliveries that wait for an acknowledgement
    #[arg(long, value_name = "N", default_value = "1000")]
    pub(crate) max_ack_pending: u32,
    /// Give a record up after so many deliveries; 0 is never
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) max_deliveries: u32,
    /// The stream to which records go that are given up
    #[arg(long, value_name = "STREAM")]
    pub(crate) dead_letter: Option<String>,
    /// What it is for
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) description: String,
    /// A consumer that is there already takes over these settings
    #[arg(long)]
    pub(crate) exist_ok: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// A subcommand about one consumer.
#[derive(Debug, Args)]
pub(crate) struct ConsumerNamed {
    /// The stream
    pub(crate) stream: String,
    /// The consumer
    pub(crate) name: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// `dialtone stream consumer next`
#[derive(Debug, Args)]
#[command(after_help = "\
Exits with 5 when nothing comes in time.

Examples:
  dialtone stream consumer next orders billing
  dialtone stream consumer next orders billing --count 100 --wait 10s --json
  dialtone stream consumer next orders billing --no-ack    # somebody gets it again after the ack wait")]
pub(crate) struct ConsumerNext {
    /// The stream
    pub(crate) stream: String,
    /// The consumer
    pub(crate) name: String,
    /// Most records
    #[arg(long, short = 'n', value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) count: u32,
    /// How long to wait for the first one
    #[arg(long, short = 'w', value_name = "TIME", default_value = "0")]
    pub(crate) wait: Span,
    /// Do not acknowledge what is printed
    #[arg(long)]
    pub(crate) no_ack: bool,
    /// How.
    #[command(flatten)]
    pub(crate) print: PrintArgs,
    /// Which service.
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}
