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
Listens on ws://127.0.0.1:4480, wss://127.0.0.1:4443 and quic://127.0.0.1:4433, and serves monitoring
on http://127.0.0.1:4490, unless told otherwise. Only this machine is let in.

Examples:
  dialtone up
  dialtone up --listen ws://127.0.0.1:5000 --monitor 127.0.0.1:5001
  dialtone up --listen ws://127.0.0.1:0 --json       # any free port, printed as JSON")]
pub(crate) struct Up {
    /// Folder for what must outlive a restart [env: DIALTONE_DATA] [default: ~/.local/share/dialtone]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The rest.
    #[command(flatten)]
    pub(crate) serve: Serve,
}

/// `dialtone broker`
#[derive(Debug, Args)]
#[command(after_help = "\
Each flag has an environment variable and a key in the configuration file; `dialtone config sample`
lists them. Flags go before the environment, the environment before the file, the file before defaults.

Signals:
  TERM, INT   drain: clients are told to move and connections close within --drain-grace; again: stop at once
  HUP         read certificates, users, limits and log level again; connections stay

Examples:
  dialtone broker --listen ws://127.0.0.1:4480 --monitor 127.0.0.1:4490
  dialtone broker --config /etc/dialtone/broker.toml
  dialtone broker --listen wss://0.0.0.0:4443 --listen quic://0.0.0.0:4433 \\
      --tls-cert cert.pem --tls-key key.pem --users users.toml")]
pub(crate) struct Broker {
    /// Everything.
    #[command(flatten)]
    pub(crate) serve: Serve,
}
