//! The flags of the subcommands that run something.

use std::path::PathBuf;

use clap::Args;

use crate::config::Flags;

/// What `up` and `broker` have in common.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// File with the configuration, as TOML [env: DIALTONE_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// When ready, write URLs, certificate fingerprint and process number to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// When ready, print the same as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The settings.
    #[command(flatten)]
    pub(crate) settings: Flags,
}

/// `dialtone up`
#[derive(Debug, Args)]
#[command(after_help = "\
A broker, a node of persist and a hub. Listens on ws://127.0.0.1:4480, wss://127.0.0.1:4443 and
quic://127.0.0.1:4433, serves monitoring on http://127.0.0.1:4490 and the hub on http://127.0.0.1:5000,
unless told otherwise. Who signs in to the hub is let in as their account. Without credentials, only
this machine is let in, and may do everything.

Examples:
  dialtone up
  dialtone up --listen ws://127.0.0.1:5000 --monitor 127.0.0.1:5001
  dialtone up --listen ws://127.0.0.1:0 --json       # any free port, printed as JSON
  dialtone up --no-hub                               # without accounts and projects
  dialtone up --nodes 3                              # a cluster; n2 listens on ws://127.0.0.1:4580")]
pub(crate) struct Up {
    /// Folder for what must outlive a restart [env: DIALTONE_DATA] [default: ~/.local/share/dialtone]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Run a cluster of so many nodes, each a process of its own with ports 100 above those of the one before
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(2..=9))]
    pub(crate) nodes: Option<u8>,
    /// Address of the hub, for browsers
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5000")]
    pub(crate) hub_listen: std::net::SocketAddr,
    /// How browsers reach the hub.
    #[command(flatten)]
    pub(crate) edge: super::Edge,
    /// Run no hub: a broker and its streams, for those who need no accounts; --nodes runs none in any case
    #[arg(long)]
    pub(crate) no_hub: bool,
    /// Settings of the site.
    #[command(flatten)]
    pub(crate) settings: super::SettingArgs,
    /// The rest.
    #[command(flatten)]
    pub(crate) serve: Serve,
}

/// `dialtone persist`
#[derive(Debug, Args)]
#[command(after_help = "\
Durable streams for the clients of a broker, kept in a log in the data folder.
`dialtone up` runs a node beside its broker.

Signals:
  TERM, INT   finish what was taken, make it durable, and stop; again: stop at once

Examples:
  dialtone persist --url ws://127.0.0.1:4480 --data /var/lib/dialtone
  dialtone persist --data ./data --node p1 --persist-quota-bytes '10 GiB'
  dialtone persist --node p2 --persist-postgres postgres://dialtone@db.example.org/dialtone
  dialtone persist --config /etc/dialtone/persist.toml --persist-monitor 127.0.0.1:4491")]
pub(crate) struct Persist {
    /// Which broker.
    #[command(flatten)]
    pub(crate) connect: super::ConnectArgs,
    /// Folder for the streams [env: DIALTONE_DATA] [default: ~/.local/share/dialtone]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// File with the configuration, as TOML; its part `persist` is used [env: DIALTONE_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Keep everything in memory alone, and lose it at the end
    #[arg(long, conflicts_with = "data")]
    pub(crate) memory: bool,
    /// Speak the storage protocol of existing Conat clients, too
    #[arg(long)]
    pub(crate) conat: bool,
    /// Name of this node; the same as --persist-node
    #[arg(long, value_name = "NAME", conflicts_with = "persist.node")]
    pub(crate) node: Option<String>,
    /// When ready, write the name and process number to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// The settings.
    #[command(flatten)]
    pub(crate) settings: crate::config::StreamFlags,
}

/// `dialtone proxy`
#[derive(Debug, Args)]
#[command(after_help = "\
Passes requests to {base}/PROJECT/port/PORT/…, …/server/NAME/…, …/raw/… and …/files/… on to the servers
and files of projects, which stand in the configuration file with those who may use them, and requests
to {base}/conat/ to a broker. `dialtone config sample --proxy` prints a file that explains everything.

Signals:
  TERM, INT   let what is under way come to its end within --drain-grace; again: stop at once
  HUP         read projects, users and certificates again, open the access log again; connections
              stay, unless access has ended

Examples:
  dialtone proxy --config /etc/dialtone/proxy.toml
  dialtone proxy --config proxy.toml --listen https://0.0.0.0:443 --tls-cert cert.pem --tls-key key.pem
  dialtone proxy --listen http://127.0.0.1:4470 --brokers 127.0.0.1:4480 --monitor 127.0.0.1:4471")]
pub(crate) struct Proxy {
    /// File with settings, projects and users, as TOML [env: DIALTONE_PROXY_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// When ready, write URLs and process number to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// When ready, print the same as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The settings.
    #[command(flatten)]
    pub(crate) settings: crate::proxy::Flags,
}

/// `dialtone broker`
#[derive(Debug, Args)]
#[command(after_help = "\
Each flag has an environment variable and a key in the configuration file; `dialtone config sample`
lists them. Flags go before the environment, the environment before the file, the file before defaults.

Signals:
  TERM, INT   drain: clients are told to move and connections close within --drain-grace; again: stop at once
  HUP         read certificates, users, limits, seeds and log level again; connections stay

Examples:
  dialtone broker --listen ws://127.0.0.1:4480 --monitor 127.0.0.1:4490
  dialtone broker --config /etc/dialtone/broker.toml
  dialtone broker --listen wss://0.0.0.0:4443 --listen quic://0.0.0.0:4433 \\
      --tls-cert cert.pem --tls-key key.pem --users users.toml
  DIALTONE_CLUSTER_TOKEN=$(cat n2.token) dialtone broker --listen ws://0.0.0.0:4480")]
pub(crate) struct Broker {
    /// Join a cluster with this token from `dialtone cluster join-token`, unless that is done; others on this machine may see it, unlike in the environment [env: DIALTONE_CLUSTER_TOKEN]
    #[arg(long, value_name = "TOKEN", help_heading = "Cluster")]
    pub(crate) cluster_token: Option<String>,
    /// With a join token: folder for the certificates in it [env: DIALTONE_CLUSTER_DIR] [default: ~/.local/share/dialtone/cluster]
    #[arg(long, value_name = "DIR", help_heading = "Cluster")]
    pub(crate) cluster_dir: Option<PathBuf>,
    /// Also run a node of the persist service in this process, with its log in this folder; `persist.nodes` names the others
    #[arg(long, value_name = "DIR")]
    pub(crate) persist: Option<PathBuf>,
    /// Drain when standard input ends: whoever started this broker has gone
    #[arg(long, hide = true)]
    pub(crate) stop_with_stdin: bool,
    /// Everything.
    #[command(flatten)]
    pub(crate) serve: Serve,
}
