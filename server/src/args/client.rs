//! The flags of the subcommands that talk to a broker.

use std::path::PathBuf;

use clap::Args;

use crate::config::{Size, Span};
use crate::payload::Encoding;

const CONNECTION: &str = "Connection";
const URL_HELP: &str =
    "Broker's URL, may be given several times [env: DIALTONE_URL] [default: ws://127.0.0.1:4480]";
const MONITOR_HELP: &str =
    "The broker's monitoring server [default: that of the context, or http://127.0.0.1:4490]";

/// Which broker, and as whom. What no flag says comes from the environment, then from the context.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConnectArgs {
    /// Where brokers can be reached.
    #[arg(long, short = 's', value_name = "URL", help_heading = CONNECTION, help = URL_HELP)]
    pub(crate) url: Vec<String>,
    /// Take broker and credentials from this context [env: DIALTONE_CONTEXT]
    #[arg(long, value_name = "NAME", help_heading = CONNECTION)]
    pub(crate) context: Option<String>,
    /// Who to be, and whom to trust.
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    /// How long connecting may take
    #[arg(long, value_name = "TIME", default_value = "10s", help_heading = CONNECTION)]
    pub(crate) connect_timeout: Option<Span>,
}

/// Who to be, and whom to trust.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TlsArgs {
    /// File with `token = "…"`, or `user = "…"` and `password = "…"` [env: DIALTONE_CREDENTIALS]
    #[arg(long, value_name = "FILE", help_heading = CONNECTION, conflicts_with_all = ["user", "password", "token"])]
    pub(crate) credentials: Option<PathBuf>,
    /// User name [env: DIALTONE_USER]
    #[arg(long, short = 'u', value_name = "NAME", help_heading = CONNECTION, conflicts_with = "token")]
    pub(crate) user: Option<String>,
    /// Password; others on this machine may see it, unlike in the environment [env: DIALTONE_PASSWORD]
    #[arg(long, value_name = "TEXT", help_heading = CONNECTION, requires = "user")]
    pub(crate) password: Option<String>,
    /// Token; others on this machine may see it, unlike in the environment [env: DIALTONE_TOKEN]
    #[arg(long, value_name = "TEXT", help_heading = CONNECTION)]
    pub(crate) token: Option<String>,
    /// Trust certificates that are signed by one of this PEM file [env: DIALTONE_CA]
    #[arg(long, value_name = "FILE", help_heading = CONNECTION, conflicts_with_all = ["fingerprint", "insecure"])]
    pub(crate) ca: Option<PathBuf>,
    /// Trust the certificate with this SHA-256 fingerprint [env: DIALTONE_FINGERPRINT]
    #[arg(long, value_name = "HEX", help_heading = CONNECTION, conflicts_with = "insecure")]
    pub(crate) fingerprint: Option<String>,
    /// Trust any certificate: whoever is on the way can read and change everything
    #[arg(long, help_heading = CONNECTION)]
    pub(crate) insecure: bool,
    /// Prove who this is by this certificate chain, as PEM
    #[arg(long, value_name = "FILE", help_heading = CONNECTION, requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Private key of the certificate, as PEM
    #[arg(long, value_name = "FILE", help_heading = CONNECTION, requires = "cert")]
    pub(crate) key: Option<PathBuf>,
}

/// What a message consists of, beside its subject.
#[derive(Debug, Clone, Args)]
pub(crate) struct PayloadArgs {
    /// What to send; `-` reads standard input to its end
    pub(crate) payload: Option<String>,
    /// How to send it: auto, json, msgpack or raw
    #[arg(
        long,
        short = 'e',
        value_enum,
        default_value = "auto",
        hide_possible_values = true
    )]
    pub(crate) encoding: Encoding,
    /// A header; a value that is JSON is sent as that, any other as a text
    #[arg(long, short = 'H', value_name = "NAME=VALUE")]
    pub(crate) header: Vec<String>,
}

/// `dialtone pub`
#[derive(Debug, Args)]
#[command(after_help = "\
Encodings: auto sends valid JSON as JSON, any other text as a MessagePack text, and bytes that are
no text as MessagePack bytes; json insists on JSON; msgpack turns JSON into MessagePack; raw sends
the bytes as they are.

With --count or --interval, {{i}} in the payload stands for the number of the message, from 1.

Examples:
  dialtone pub sensors.kitchen.temperature 21.5
  dialtone pub log.app '{\"level\":\"info\"}' --header trace=abc
  dialtone pub --ack orders.new '{\"id\":7}'     # prints how many got it, exits with 4 if nobody
  dialtone pub tick 'this is tick {{i}}' --count 10 --interval 1s
  gzip -c big.json | dialtone pub files.big - --encoding raw")]
pub(crate) struct Publish {
    /// Where to
    pub(crate) subject: String,
    /// What.
    #[command(flatten)]
    pub(crate) payload: PayloadArgs,
    /// Where answers are to go
    #[arg(long, short = 'r', value_name = "SUBJECT")]
    pub(crate) reply: Option<String>,
    /// Wait for the broker's acknowledgement and print how many subscribers there were
    #[arg(long, short = 'a', conflicts_with = "unreliable")]
    pub(crate) ack: bool,
    /// If nobody subscribes, wait so long for somebody to come; implies --ack
    #[arg(long, short = 'w', value_name = "TIME", conflicts_with = "unreliable")]
    pub(crate) wait: Option<Span>,
    /// How often [default: 1, or without end with --interval]
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Time between messages
    #[arg(long, short = 'i', value_name = "TIME")]
    pub(crate) interval: Option<Span>,
    /// Rather lose the message than wait; as a datagram where the transport has them
    #[arg(long)]
    pub(crate) unreliable: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which broker.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// How to subscribe.
#[derive(Debug, Clone, Args)]
pub(crate) struct SubscribeFlags {
    /// Share the messages with the other members of this queue group
    #[arg(long, short = 'q', value_name = "GROUP", value_parser = group)]
    pub(crate) queue: Option<String>,
}

fn group(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a queue group needs a name".to_owned());
    }
    Ok(text.to_owned())
}

/// `dialtone sub`
#[derive(Debug, Args)]
#[command(after_help = "\
'*' stands for one segment of a subject, '>' for one or more at the end. Quote patterns for the shell.

Examples:
  dialtone sub 'sensors.*.temperature'
  dialtone sub 'orders.>' --queue workers
  dialtone sub '>' --tap --headers                   # watch without being counted
  dialtone sub files.big --count 1 --raw > big.json.gz
  dialtone sub 'log.>' --json | jq .payload")]
pub(crate) struct Subscribe {
    /// What to subscribe to
    pub(crate) pattern: String,
    /// How.
    #[command(flatten)]
    pub(crate) flags: SubscribeFlags,
    /// End after so many messages
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End with exit code 5 when nothing comes for so long
    #[arg(long, short = 't', value_name = "TIME")]
    pub(crate) timeout: Option<Span>,
    /// Watch only: publishers do not see this subscription in counts and interest
    #[arg(long, conflicts_with = "queue")]
    pub(crate) tap: bool,
    /// When more than N messages wait in the broker, drop the oldest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) drop_oldest: Option<u16>,
    /// Print the bytes of payloads as they were sent, without anything between them
    #[arg(long, conflicts_with_all = ["json", "text"])]
    pub(crate) raw: bool,
    /// Print texts without quotes
    #[arg(long, conflicts_with = "json")]
    pub(crate) text: bool,
    /// Print headers and reply subjects
    #[arg(long)]
    pub(crate) headers: bool,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Which broker.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// `dialtone request`
#[derive(Debug, Args)]
#[command(after_help = "\
The answer alone is printed, and nothing if it is an error. Exits with 4 at once if nobody
subscribes, and with 5 if no answer comes in time, or nobody with --wait.

Examples:
  dialtone request time.now ''
  dialtone request math.add '[1,2]' --timeout 5s
  name=$(dialtone request user.name '7' --text)
  dialtone request service.ping '' --replies 10 --timeout 1s    # whoever answers within a second")]
pub(crate) struct Request {
    /// Whom to ask
    pub(crate) subject: String,
    /// What.
    #[command(flatten)]
    pub(crate) payload: PayloadArgs,
    /// How long to wait
    #[arg(long, short = 't', value_name = "TIME", default_value = "2s")]
    pub(crate) timeout: Span,
    /// How many answers to wait for
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) replies: u32,
    /// If nobody subscribes, wait for somebody to come, within the time
    #[arg(long, short = 'w')]
    pub(crate) wait: bool,
    /// Print the bytes of the answer as they were sent
    #[arg(long, conflicts_with_all = ["json", "text"])]
    pub(crate) raw: bool,
    /// Print a text without quotes
    #[arg(long, conflicts_with = "json")]
    pub(crate) text: bool,
    /// Print subject, size, time and headers as well
    #[arg(long)]
    pub(crate) headers: bool,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Which broker.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// `dialtone reply`
#[derive(Debug, Args)]
#[command(after_help = "\
A command is run by `sh -c` for each request, with the payload as its standard input and
DIALTONE_SUBJECT in its environment; what it prints is the answer. Text payloads arrive as the text
itself. If it fails, the answer is an error with the command's last words.

Examples:
  dialtone reply echo --echo
  dialtone reply time.now --command date
  dialtone reply 'file.*' --command 'wc -c' --queue workers")]
#[command(group(clap::ArgGroup::new("answer").required(true).args(["echo", "command"])))]
pub(crate) struct Reply {
    /// What to answer
    pub(crate) pattern: String,
    /// Answer with what was asked
    #[arg(long)]
    pub(crate) echo: bool,
    /// Answer with what this command prints
    #[arg(long, short = 'c', value_name = "COMMAND")]
    pub(crate) command: Option<String>,
    /// How.
    #[command(flatten)]
    pub(crate) flags: SubscribeFlags,
    /// Most commands at the same time
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) parallel: u16,
    /// How long a command may take
    #[arg(long, short = 't', value_name = "TIME", default_value = "30s")]
    pub(crate) timeout: Span,
    /// Longest answer of a command
    #[arg(long, value_name = "SIZE", default_value = "64 MiB")]
    pub(crate) output_max: Size,
    /// End after so many answers
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// How to send answers of commands: auto, json, msgpack or raw
    #[arg(
        long,
        short = 'e',
        value_enum,
        default_value = "auto",
        hide_possible_values = true
    )]
    pub(crate) encoding: Encoding,
    /// Print each request as one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Which broker.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// `dialtone call`
#[derive(Debug, Args)]
#[command(after_help = "\
Each argument is JSON if it can be, and a text otherwise; `-` reads one from standard input. NAME=TEXT
and NAME:=JSON are fields of one object, which is the first argument.

Who calls is whoever the broker takes this program for: the account of an API key or of a session
(--token), or a project (--user project-ID). Who may do everything says for whom, with --account or
--project.

Exit codes: 1 the function failed, 2 there is no such function or argument, 4 no hub answers, 5 no answer
in time, 6 not permitted.

Examples:
  dialtone call --list
  dialtone call --describe projects.createProject
  dialtone call system.ping
  dialtone call projects.createProject title=Notes start:=false
  dialtone call projects.addCollaborator '{\"opts\":{\"project_id\":\"…\",\"account_id\":\"…\"}}'")]
pub(crate) struct Call {
    /// Which function
    #[arg(required_unless_present = "list")]
    pub(crate) name: Option<String>,
    /// Its arguments
    pub(crate) args: Vec<String>,
    /// List the functions that there are
    #[arg(long, short = 'l', conflicts_with = "name")]
    pub(crate) list: bool,
    /// Show what the function takes, instead of calling it
    #[arg(long, short = 'd')]
    pub(crate) describe: bool,
    /// Call as this account
    #[arg(long, value_name = "ID", conflicts_with = "project")]
    pub(crate) account: Option<String>,
    /// Call as this project
    #[arg(long, value_name = "ID")]
    pub(crate) project: Option<String>,
    /// How long it may take
    #[arg(long, short = 't', value_name = "TIME", default_value = "30s")]
    pub(crate) timeout: Span,
    /// Print JSON in one line, also errors
    #[arg(long)]
    pub(crate) json: bool,
    /// Which broker.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

impl Call {
    /// Whether it is asked what there is to call.
    pub(crate) fn describes(&self) -> bool {
        self.list || self.describe
    }
}

/// `dialtone interest`
#[derive(Debug, Args)]
#[command(after_help = "\
Exits with 0 if somebody subscribes, with 4 if nobody does, and with 5 if nobody came in the time
given with --wait.

Examples:
  dialtone interest orders.new
  dialtone interest --wait 30s orders.new && start-producing")]
pub(crate) struct Interest {
    /// About which subject
    pub(crate) subject: String,
    /// Wait so long for somebody to come
    #[arg(long, short = 'w', value_name = "TIME")]
    pub(crate) wait: Option<Span>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which broker.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// `dialtone rtt`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dialtone rtt
  dialtone rtt --url quic://broker.example.org --count 20 --interval 100ms")]
pub(crate) struct Rtt {
    /// How often
    #[arg(long, short = 'n', value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) count: u32,
    /// Time between measurements
    #[arg(long, short = 'i', value_name = "TIME", default_value = "0")]
    pub(crate) interval: Span,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which broker.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// `dialtone top`
#[derive(Debug, Args)]
#[command(after_help = "\
Keys: q ends; s or the arrow keys choose the column to sort by; p pauses.

Examples:
  dialtone top
  dialtone top --monitor http://10.0.0.5:4490 --interval 5s
  dialtone top --json                                # once, for scripts
  dialtone top --cluster --url ws://10.0.0.5:4480    # all nodes, and the links between them")]
pub(crate) struct Top {
    /// Where the broker's monitoring server is.
    #[arg(long, short = 'm', value_name = "URL", help = MONITOR_HELP)]
    pub(crate) monitor: Option<String>,
    /// Watch all nodes of the cluster and their links instead, asked as --url says
    #[arg(long, conflicts_with_all = ["monitor", "connections"])]
    pub(crate) cluster: bool,
    /// Time between looks
    #[arg(long, short = 'i', value_name = "TIME", default_value = "1s")]
    pub(crate) interval: Span,
    /// Most connections to show
    #[arg(long, short = 'n', value_name = "N", default_value = "100", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) connections: u16,
    /// Print one look as JSON, with rates over one interval, and end
    #[arg(long)]
    pub(crate) json: bool,
    /// Which broker, for --cluster.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}
