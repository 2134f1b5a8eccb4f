//! The arguments of `dialtone bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::scenario::{
    Append, Bulk, Connect, Direction, Idle, Large, Overload, Pace, Paced, Propagation, PubSub,
    ReadAll, Request, Scenario, Subscriptions,
};

/// Put load on a broker, or compare it with nats-server.
#[derive(Debug, Clone, Parser)]
pub struct BenchArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// What `dialtone bench` can do.
#[derive(Debug, Clone, Subcommand)]
pub enum BenchCommand {
    /// Run one scenario against a server that is there.
    Run(RunArgs),
    /// Start the broker and nats-server, put the same load on both, and compare.
    Compare(CompareArgs),
    /// List the cells of a comparison.
    Cells,
}

/// How long a run takes.
#[derive(Debug, Clone, Copy, Args)]
pub struct PaceArgs {
    /// Seconds that are measured.
    #[arg(long, default_value_t = 2.0, value_parser = seconds, global = true)]
    pub secs: f64,
    /// Seconds of load before that.
    #[arg(long, default_value_t = 0.5, value_parser = seconds, global = true)]
    pub warm: f64,
}

impl From<PaceArgs> for Pace {
    fn from(args: PaceArgs) -> Self {
        Self {
            warm: Duration::from_secs_f64(args.warm),
            measured: Duration::from_secs_f64(args.secs),
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let secs: f64 = text
        .parse()
        .map_err(|error: std::num::ParseFloatError| format!("{text:?}: {error}"))?;
    if (0.0..=3600.0).contains(&secs) {
        Ok(secs)
    } else {
        Err("must be between 0 and 3600".to_owned())
    }
}

/// Arguments of `dialtone bench run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// ws://, wss:// or quic:// for a broker, socketio+http:// as existing clients, nats:// or nats+tls:// for a NATS server; several,
    /// separated by commas, for the nodes of a cluster.
    #[arg(
        long,
        default_value = "ws://127.0.0.1:4480",
        value_delimiter = ',',
        global = true
    )]
    pub url: Vec<String>,
    /// The server's process on this machine, whose CPU and memory are reported; one for each URL.
    #[arg(long, value_delimiter = ',', global = true)]
    pub pid: Vec<u32>,
    /// Certificates (PEM) that the server's must lead to; not needed on a loopback address.
    #[arg(long, value_name = "FILE", global = true)]
    pub ca: Option<PathBuf>,
    /// How long.
    #[command(flatten)]
    pub pace: PaceArgs,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// The load.
    #[command(subcommand)]
    pub scenario: ScenarioArgs,
}

/// The load of `dialtone bench run`.
#[derive(Debug, Clone, Subcommand)]
pub enum ScenarioArgs {
    /// Publishers at full speed and subscribers that count.
    Pubsub(PubSubArgs),
    /// Requests and answers.
    Request {
        /// Requests under way at any time.
        #[arg(long, default_value_t = 1, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
        in_flight: usize,
        /// Payload in bytes, at least 8.
        #[arg(long, default_value_t = 128)]
        size: usize,
    },
    /// One-way latency at a steady rate.
    Paced {
        /// Messages a second.
        #[arg(long, default_value_t = 1_000)]
        rate: u32,
        /// Payload in bytes, at least 8.
        #[arg(long, default_value_t = 128)]
        size: usize,
        /// Connections that subscribe.
        #[arg(long, default_value_t = 1)]
        subscribers: usize,
    },
    /// One-way latency beside a subject that is overloaded.
    Overload {
        /// Messages a second to the slow subscriber; 0 is as many as possible.
        #[arg(long, default_value_t = 200_000)]
        rate: u32,
    },
    /// Requests beside a bulk transfer on the same connection.
    Bulk {
        /// Which way the bulk goes.
        #[arg(long, value_enum, default_value = "up")]
        direction: DirectionArg,
    },
    /// One large message.
    Large {
        /// Payload in bytes.
        #[arg(long, default_value_t = 100_000_000)]
        size: usize,
    },
    /// Connect and close, again and again.
    Connect {
        /// Threads that connect.
        #[arg(long, default_value_t = 4)]
        threads: usize,
    },
    /// Connections that do nothing.
    Idle {
        /// How many.
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
    },
    /// Distinct subscriptions.
    Subscriptions {
        /// How many.
        #[arg(long, default_value_t = 100_000)]
        count: usize,
        /// Connections that they are spread over.
        #[arg(long, default_value_t = 100)]
        connections: usize,
    },
    /// Subscriptions on the second of several nodes until the first knows of them.
    Interest {
        /// How many are begun at once.
        #[arg(long, default_value_t = 1, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000_000))]
        count: usize,
    },
    /// Records that are appended to the streams `bench0`, `bench1` …, which are made.
    Append {
        /// Appends under way at any time.
        #[arg(long, default_value_t = 64, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000))]
        writers: usize,
        /// Streams that they go to in turn.
        #[arg(long, default_value_t = 1, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000))]
        streams: usize,
        /// Payload in bytes.
        #[arg(long, default_value_t = 256, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(..=65_536))]
        size: usize,
        /// Let the broker acknowledge what the operating system has, not what is on disk.
        #[arg(long)]
        unsynced: bool,
    },
    /// The stream `bench0`, which is made and filled, read from its first to its last record.
    Read {
        /// Records in it.
        #[arg(long, default_value_t = 400_000, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100_000_000))]
        records: usize,
        /// Payload of each in bytes.
        #[arg(long, default_value_t = 256, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(..=65_536))]
        size: usize,
        /// Connections that read all of it.
        #[arg(long, default_value_t = 1, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000))]
        readers: usize,
    },
    /// The load of a cell of `dialtone bench compare`.
    Cell {
        /// Its name.
        name: String,
    },
}

/// Arguments of `dialtone bench run pubsub`.
#[derive(Debug, Clone, Args)]
pub struct PubSubArgs {
    /// Connections that publish.
    #[arg(long, default_value_t = 1, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub publishers: usize,
    /// Connections that subscribe.
    #[arg(long, default_value_t = 1)]
    pub subscribers: usize,
    /// Payload in bytes.
    #[arg(long, default_value_t = 128)]
    pub size: usize,
    /// Subjects that the publishers go through.
    #[arg(long, default_value_t = 1)]
    pub subjects: usize,
    /// Subscribe with a wildcard rather than to each subject.
    #[arg(long)]
    pub wildcard: bool,
    /// Make the subscribers one queue group.
    #[arg(long)]
    pub group: bool,
    /// Subscriptions that another connection begins and ends each second.
    #[arg(long, default_value_t = 0)]
    pub churn: u32,
    /// Connections that subscribe and never read.
    #[arg(long, default_value_t = 0)]
    pub stalled: usize,
    /// Most bytes between sent and received, for each subscriber.
    #[arg(long, default_value_t = 4 << 20)]
    pub window: usize,
}

/// [`Direction`] on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DirectionArg {
    /// To the server.
    Up,
    /// From the server.
    Down,
}

impl ScenarioArgs {
    /// The scenario; `Err` with the name of a cell whose load is wanted.
    ///
    /// # Errors
    /// When a cell is named instead of a scenario.
    pub fn scenario(&self) -> Result<Scenario, &str> {
        Ok(match self {
            Self::Pubsub(args) => Scenario::PubSub(args.into()),
            &Self::Request { in_flight, size } => Scenario::Request(Request { in_flight, size }),
            &Self::Paced {
                rate,
                size,
                subscribers,
            } => Scenario::Paced(Paced {
                rate,
                size,
                subscribers,
            }),
            &Self::Overload { rate } => Scenario::Overload(Overload {
                rate,
                ..Overload::default()
            }),
            &Self::Bulk { direction } => Scenario::Bulk(Bulk {
                direction: direction.into(),
                ..Bulk::default()
            }),
            &Self::Large { size } => Scenario::Large(Large { size }),
            &Self::Connect { threads } => Scenario::Connect(Connect { threads }),
            &Self::Idle { connections } => Scenario::Idle(Idle {
                connections,
                ..Idle::default()
            }),
            &Self::Subscriptions { count, connections } => {
                Scenario::Subscriptions(Subscriptions { count, connections })
            }
            &Self::Interest { count } => Scenario::Propagation(Propagation { count }),
            &Self::Append {
                writers,
                streams,
                size,
                unsynced,
            } => Scenario::Append(Append {
                writers,
                streams,
                size,
                synced: !unsynced,
                ..Append::default()
            }),
            &Self::Read {
                records,
                size,
                readers,
            } => Scenario::ReadAll(ReadAll {
                records,
                size,
                readers,
            }),
            Self::Cell { name } => return Err(name),
        })
    }
}

impl From<&PubSubArgs> for PubSub {
    fn from(args: &PubSubArgs) -> Self {
        let &PubSubArgs {
            publishers,
            subscribers,
            size,
            subjects,
            wildcard,
            group,
            churn,
            stalled,
            window,
        } = args;
        Self {
            publishers,
            subscribers,
            size,
            subjects,
            wildcard,
            group,
            churn,
            stalled,
            window,
        }
    }
}

impl From<DirectionArg> for Direction {
    fn from(direction: DirectionArg) -> Self {
        match direction {
            DirectionArg::Up => Self::Up,
            DirectionArg::Down => Self::Down,
        }
    }
}

/// Arguments of `dialtone bench compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// Only these cells, separated by commas; `dialtone bench cells` lists them.
    #[arg(long, value_delimiter = ',')]
    pub cells: Vec<String>,
    /// Compare clusters of so many nodes, in cells of their own: clients on different nodes.
    #[arg(long, value_name = "NODES", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(2..=32))]
    pub cluster: Option<usize>,
    /// How often each cell is run against each side.
    #[arg(long, default_value_t = 3, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=100))]
    pub rounds: usize,
    /// How long.
    #[command(flatten)]
    pub pace: PaceArgs,
    /// The NATS server.
    #[arg(long, value_name = "PROGRAM", default_value = "nats-server")]
    pub nats_server: PathBuf,
    /// The program that is started as `PROGRAM broker --listen URL`; this one if not given.
    #[arg(long, value_name = "PROGRAM")]
    pub broker: Option<PathBuf>,
    /// Connections of the idle cells.
    #[arg(long, default_value_t = 10_000)]
    pub connections: usize,
    /// Streams of the cell open-100k.
    #[arg(long, default_value_t = 100_000)]
    pub streams: usize,
    /// Subscriptions of the cells subs-1m and interest-100k.
    #[arg(long, default_value_t = 100_000)]
    pub subscriptions: usize,
    /// Print JSON, with every single run.
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        BenchArgs::command().debug_assert();
    }

    #[test]
    fn arguments_become_scenarios() {
        let args =
            BenchArgs::parse_from(["bench", "run", "pubsub", "--stalled", "2", "--secs", "0.5"]);
        let BenchCommand::Run(run) = args.command else {
            panic!("not a run")
        };
        let scenario = run.scenario.scenario();
        assert!(matches!(
            scenario,
            Ok(Scenario::PubSub(PubSub {
                stalled: 2,
                size: 128,
                ..
            }))
        ));
        assert_eq!(Pace::from(run.pace).measured, Duration::from_millis(500));
        assert!(BenchArgs::try_parse_from(["bench", "run", "--secs", "-1", "pubsub"]).is_err());
    }
}
