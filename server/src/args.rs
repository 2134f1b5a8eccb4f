//! The command line.

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::Format;

#[expect(clippy::doc_markdown, reason = "help texts are shown as they stand")]
mod client;
pub(crate) use client::{
    Call, ConnectArgs, Interest, PayloadArgs, Publish, Reply, Request, Rtt, Subscribe, TlsArgs, Top,
};

mod cluster;
pub(crate) use cluster::{
    Cluster, ClusterAsk, ClusterForget, ClusterInit, ClusterJoin, ClusterJoinToken, ClusterRenew,
};

#[expect(clippy::doc_markdown, reason = "help texts are shown as they stand")]
mod edge;
pub(crate) use edge::Edge;

#[expect(clippy::doc_markdown, reason = "help texts are shown as they stand")]
mod hub;
pub(crate) use hub::{
    Admin, AdminCommand, DatabaseArgs, Db, Hub, Letters, Migrations, Mode, Once, ServiceArgs,
    SettingArgs, Settings, Sso, TokenAdd, Tokens, UserAdd, UserNamed, Users,
};

#[expect(clippy::doc_markdown, reason = "help texts are shown as they stand")]
mod worker;
pub(crate) use worker::Worker;

#[expect(clippy::doc_markdown, reason = "help texts are shown as they stand")]
mod local;
pub(crate) use local::{
    Completions, Config, ConfigCheck, ConfigCommand, Context, ContextAdd, Passwd,
};

#[expect(clippy::doc_markdown, reason = "help texts are shown as they stand")]
mod archive;
pub(crate) use archive::{ArchiveArgs, StreamCopy, StreamPoints, StreamRestore};

#[expect(clippy::doc_markdown, reason = "help texts are shown as they stand")]
mod project;
pub(crate) use project::Project;

mod store;
pub(crate) use store::{
    Kv, KvCommand, KvGet, KvHistory, KvLs, KvPut, KvRm, KvWatch, Object, ObjectCommand, ObjectGet,
    ObjectLs, ObjectNamed, ObjectPut, StoreArgs,
};

mod stream;
pub(crate) use stream::{
    ConsumerAdd, ConsumerCommand, ConsumerNamed, ConsumerNext, Discard, Durability, LimitArgs,
    PrintArgs, Stream, StreamAdd, StreamAppend, StreamCommand, StreamEdit, StreamExport,
    StreamImport, StreamLs, StreamNamed, StreamNodes, StreamRead, StreamRm, StreamTail,
    StreamVerify,
};

#[expect(clippy::doc_markdown, reason = "help texts are shown as they stand")]
mod serve;
pub(crate) use serve::{Broker, Persist, Proxy, Serve, Up};

/// Everything that can stand behind `dialtone`.
#[derive(Debug, Parser)]
#[command(
    name = "dialtone",
    version,
    about = "Dialtone: publish, subscribe, request and reply, over QUIC and WebSocket",
    max_term_width = 100,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// What to log.
    #[command(flatten)]
    pub(crate) log: LogArgs,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to log; understood by every subcommand.
#[derive(Debug, Clone, Args)]
#[expect(clippy::doc_markdown, reason = "help texts are shown as they stand")]
pub(crate) struct LogArgs {
    /// What to log: error, warn, info, debug, trace, or directives [env: DIALTONE_LOG]
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Logs")]
    pub(crate) log_level: Option<String>,
    /// How to log it: text or json [env: DIALTONE_LOG_FORMAT]
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        value_enum,
        hide_possible_values = true,
        help_heading = "Logs"
    )]
    pub(crate) log_format: Option<Format>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything on this machine, ready to be tried
    Up(Up),
    /// Run a broker
    Broker(Broker),
    /// Make several brokers act as one, and watch them
    #[command(subcommand)]
    Cluster(Box<Cluster>),
    /// Run a node of the persist service: durable streams
    Persist(Box<Persist>),
    /// Run a hub: accounts and projects
    Hub(Box<Hub>),
    /// Accounts, settings and tables of a hub's database
    Admin(Box<Admin>),
    /// Run projects on this machine, for the hubs of a site
    Worker(Box<Worker>),
    /// Run a proxy: HTTP and WebSocket to the servers of projects
    Proxy(Box<Proxy>),
    /// Run the daemon of a project: its files, commands, terminals and servers
    Project(Box<Project>),
    /// Show, check and explain the configuration of a broker
    Config(Config),
    /// Make the hash of a password or token for a users file
    Passwd(Passwd),

    /// Publish messages
    #[command(visible_alias = "publish")]
    Pub(Publish),
    /// Subscribe to a pattern and print what arrives
    #[command(visible_alias = "subscribe")]
    Sub(Subscribe),
    /// Send a request and print the answer
    #[command(visible_alias = "req")]
    Request(Request),
    /// Answer requests
    Reply(Reply),
    /// Ask whether somebody subscribes to a subject
    Interest(Interest),
    /// Call a function of the hub
    Call(Call),

    /// Keep numbered records: append, read, follow, consume
    Stream(Stream),
    /// Keep values under keys
    Kv(Kv),
    /// Keep large values, such as files
    Object(Object),

    /// Measure the round trip to the broker
    Rtt(Rtt),
    /// Watch connections, rates and slow consumers
    Top(Top),
    /// Generate load and measure, also beside nats-server
    Bench(Box<dialtone_load::cli::BenchArgs>),

    /// Keep brokers and credentials under names
    #[command(visible_alias = "ctx", subcommand)]
    Context(Context),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print the version
    Version,
}

/// The groups of the overview, with the subcommands of each in order.
const GROUPS: [(&str, &[&str]); 5] = [
    (
        "Run",
        &[
            "up", "broker", "cluster", "persist", "hub", "admin", "worker", "proxy", "project",
            "config", "passwd",
        ],
    ),
    (
        "Use",
        &["pub", "sub", "request", "reply", "interest", "call"],
    ),
    ("Keep", &["stream", "kv", "object"]),
    ("Watch and measure", &["rtt", "top", "bench"]),
    ("Set up", &["context", "completions", "version"]),
];

const NEXT: &str = "\
Try it:
  dialtone up                                  in one terminal
  dialtone sub 'greet.>'                       in another
  dialtone pub greet.world hello               in a third

`dialtone COMMAND --help` says more about each, with examples.
Exit codes: 0 success, 1 failure, 2 usage, 4 no subscriber, 5 timeout, 6 denied, 7 nodes missing.";

/// The command line, with the subcommands of the overview in groups.
pub(crate) fn command() -> clap::Command {
    // A broker keeps no streams, and says so when it is told how.
    let hide = |arg: clap::Arg| {
        if arg.get_id().as_str().starts_with("persist.") {
            arg.hide(true)
        } else {
            arg
        }
    };
    let command = Cli::command().mut_subcommand("broker", |broker| broker.mut_args(hide));
    let mut overview = String::from("{about}\n\n{usage-heading} {usage}\n");
    for (title, names) in GROUPS {
        overview.extend(["\n", title, ":\n"]);
        for sub in names
            .iter()
            .filter_map(|name| command.find_subcommand(name))
        {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            let line = format!("  {:<12} {about}\n", sub.get_name());
            overview.push_str(&line);
        }
    }
    overview.push_str("\nOptions:\n{options}\n\n");
    overview.push_str(NEXT);
    command.help_template(overview)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_subcommand_is_in_one_group() {
        let mut grouped: Vec<_> = GROUPS
            .iter()
            .flat_map(|(_, names)| names.iter().map(ToString::to_string))
            .collect();
        let mut all: Vec<_> = Cli::command()
            .get_subcommands()
            .map(|sub| sub.get_name().to_owned())
            .collect();
        grouped.sort_unstable();
        all.sort_unstable();
        assert_eq!(grouped, all);
    }
}
