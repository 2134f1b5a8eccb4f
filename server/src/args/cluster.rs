//! The flags of `dialtone cluster`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ConnectArgs;
use crate::config::Span;
use crate::discovery::{Link, Seed};

const DIR_HELP: &str = "Folder with this node's part in the cluster [env: DIALTONE_CLUSTER_DIR] \
    [default: ~/.local/share/dialtone/cluster]";

/// `dialtone cluster …`
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Found a cluster: make its certificate authority and the certificate of its first node
    #[command(after_help = "\
Everything is written into one folder, readable for its owner only. Whoever has ca-key.pem can make
nodes: keep it on one machine, and make a copy of it in a safe place.

Examples:
  dialtone cluster init --name prod
  dialtone cluster init --dir n1 --node n1 --listen quic://127.0.0.1:4434")]
    Init(ClusterInit),
    /// Make a token with which one more node joins
    #[command(after_help = "\
The token is printed alone on standard output. It holds the new node's private key: hand it over as
you would a password. --ttl says until when it may be used; the certificate in it is valid for
--valid-for, whoever has it.

Examples:
  dialtone cluster join-token
  dialtone cluster join-token --node n2 --seed quic://10.0.0.1:4434 --ttl 1h > n2.token
  dialtone cluster join-token --node n2 | ssh n2 dialtone cluster join -")]
    JoinToken(ClusterJoinToken),
    /// Join a cluster with a token, or make a running node dial another one by its URL
    #[command(after_help = "\
With a token, certificates and a configuration are written into a folder, and nothing is started. A
second token for the same node renews its certificate; `kill -HUP` makes a running broker use it.

With a URL, the running node behind --url dials that node now and goes on until it answers.

Examples:
  dialtone cluster join dialtone-join-1.AbC… --dir n2
  dialtone cluster join - < n2.token
  dialtone cluster join quic://10.0.0.1:4434         # at a running node")]
    Join(ClusterJoin),
    /// Renew the certificate of the node in the folder of the authority
    #[command(after_help = "\
Makes a new certificate for the node whose folder holds the authority as well (`cluster init`). For
other nodes, make a token and join with it again.

Examples:
  dialtone cluster renew && kill -HUP \"$(pidof dialtone)\"")]
    Renew(ClusterRenew),

    /// Show the cluster as a node sees it: how many nodes, links, interest, and what is wrong
    #[command(after_help = "\
Exits with 0 when all known nodes are linked, with 7 when some are not, and with 1 when the node
does not belong to a cluster.

Examples:
  dialtone cluster status
  dialtone cluster status --json | jq .members")]
    Status(ClusterAsk),
    /// List the nodes
    #[command(visible_alias = "members")]
    Nodes(ClusterAsk),
    /// List the links of a node, with round trip, traffic and what waits
    #[command(visible_alias = "routes")]
    Links(ClusterAsk),
    /// Make a node leave the cluster: the others forget it at once, its clients stay
    #[command(after_help = "\
The node goes on alone, until `cluster join URL` or its next start brings it back.

Examples:
  dialtone cluster leave --url ws://10.0.0.3:4480")]
    Leave(ClusterAsk),
    /// Forget a node that is gone for good, everywhere
    #[command(after_help = "\
Nodes that cannot be reached are dialled until cluster.forget_after; this ends it at once. A node
that is linked is not forgotten: stop it, or let it leave.

Examples:
  dialtone cluster forget n3")]
    Forget(ClusterForget),
}

/// `dialtone cluster init`
#[derive(Debug, Args)]
pub(crate) struct ClusterInit {
    /// Where to keep it.
    #[arg(long, value_name = "DIR", help = DIR_HELP)]
    pub(crate) dir: Option<PathBuf>,
    /// Name of the cluster: letters, digits, '-' and '_', at most 63
    #[arg(long, value_name = "NAME", default_value = "dialtone")]
    pub(crate) name: String,
    /// Name of this node [default: the name of this machine]
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// Where this node listens for other nodes
    #[arg(long, value_name = "URL", default_value = "quic://0.0.0.0:4434")]
    pub(crate) listen: Link,
    /// How long the node's certificate is valid
    #[arg(long, value_name = "TIME", default_value = "8760h")]
    pub(crate) valid_for: Span,
}

/// `dialtone cluster join-token`
#[derive(Debug, Args)]
pub(crate) struct ClusterJoinToken {
    /// Where the authority is.
    #[arg(long, value_name = "DIR", help = DIR_HELP)]
    pub(crate) dir: Option<PathBuf>,
    /// Name of the new node [default: one is made up]
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// How long the token may be used
    #[arg(long, value_name = "TIME", default_value = "24h")]
    pub(crate) ttl: Span,
    /// How long the certificate in it is valid
    #[arg(long, value_name = "TIME", default_value = "8760h")]
    pub(crate) valid_for: Span,
    /// Where the new node finds others, may be given several times [default: the node of the folder]
    #[arg(long, value_name = "URL")]
    pub(crate) seed: Vec<Seed>,
    /// Print JSON: the token, and what is in it
    #[arg(long)]
    pub(crate) json: bool,
}

/// `dialtone cluster join`
#[derive(Debug, Args)]
pub(crate) struct ClusterJoin {
    /// A join token, `-` for one on standard input, or the URL of a node
    #[arg(value_name = "TOKEN|URL")]
    pub(crate) to: String,
    /// Where to keep it.
    #[arg(long, value_name = "DIR", help = DIR_HELP)]
    pub(crate) dir: Option<PathBuf>,
    /// With a token: where this node listens for other nodes
    #[arg(long, value_name = "URL", default_value = "quic://0.0.0.0:4434")]
    pub(crate) listen: Link,
    /// With a URL: print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// With a URL: which broker.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// `dialtone cluster renew`
#[derive(Debug, Args)]
pub(crate) struct ClusterRenew {
    /// Where it is kept.
    #[arg(long, value_name = "DIR", help = DIR_HELP)]
    pub(crate) dir: Option<PathBuf>,
    /// How long the new certificate is valid
    #[arg(long, value_name = "TIME", default_value = "8760h")]
    pub(crate) valid_for: Span,
}

/// A question to a running node.
#[derive(Debug, Args)]
pub(crate) struct ClusterAsk {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which broker.
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// `dialtone cluster forget`
#[derive(Debug, Args)]
pub(crate) struct ClusterForget {
    /// Which node
    pub(crate) node: String,
    /// How.
    #[command(flatten)]
    pub(crate) ask: ClusterAsk,
}
