//! The flags of the subcommands that work on this machine alone.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::TlsArgs;
use crate::config::Flags;

/// `dialtone config`
#[derive(Debug, Args)]
pub(crate) struct Config {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

/// `dialtone config …`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the resolved configuration with the origin of each value, and what is wrong with it
    #[command(after_help = "\
Nothing is started. Certificates and the users file are read and checked as well. Exits with 1 if
anything is wrong; each mistake is named with file, line and column.

Examples:
  dialtone config check --config broker.toml
  DIALTONE_LISTEN=ws://0.0.0.0:80 dialtone config check --config broker.toml --threads 4")]
    Check(ConfigCheck),
    /// Print a configuration file with every setting explained and at its default
    Sample(ConfigSample),
}

/// `dialtone config sample`
#[derive(Debug, Args)]
pub(crate) struct ConfigSample {
    /// That of a proxy
    #[arg(long)]
    pub(crate) proxy: bool,
}

/// `dialtone config check`
#[derive(Debug, Args)]
pub(crate) struct ConfigCheck {
    /// Check the configuration of a proxy: its file and environment
    #[arg(long)]
    pub(crate) proxy: bool,
    /// File with the configuration, as TOML [env: DIALTONE_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The settings.
    #[command(flatten)]
    pub(crate) settings: Flags,
}

/// `dialtone passwd`
#[derive(Debug, Args)]
#[command(after_help = "\
The password is asked for without being shown, or read from standard input when that is no terminal.

Examples:
  dialtone passwd                          # asks twice, prints $argon2id$… for `password =`
  openssl rand -hex 32 | tee token.txt | dialtone passwd --token")]
pub(crate) struct Passwd {
    /// Make the hash of a token instead: for long random texts, and quick to check
    #[arg(long)]
    pub(crate) token: bool,
}

/// `dialtone context …`
#[derive(Debug, Subcommand)]
pub(crate) enum Context {
    /// Save a broker and credentials under a name, and use it if it is the first
    #[command(after_help = "\
Examples:
  dialtone context add prod --url wss://broker.example.org --credentials ~/prod.toml --use
  dialtone context add lab --url quic://lab:4433 --fingerprint 5f3a… --user alice --password secret")]
    Add(Box<ContextAdd>),
    /// Use a context from here on
    Use(ContextNamed),
    /// List the contexts; the one in use is marked
    #[command(visible_alias = "ls")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one context, or the one in use, without its secrets
    Show {
        /// Which
        name: Option<String>,
    },
    /// Remove a context
    #[command(visible_alias = "rm")]
    Remove(ContextNamed),
}

/// `dialtone context add`
#[derive(Debug, Args)]
pub(crate) struct ContextAdd {
    /// Letters, digits, '-', '_' and '.'
    pub(crate) name: String,
    /// URLs of the broker
    #[arg(long, value_name = "URL", required = true)]
    pub(crate) url: Vec<String>,
    /// Address of its monitoring server, for `dialtone top`
    #[arg(long, value_name = "URL")]
    pub(crate) monitor: Option<String>,
    /// Who to be, and whom to trust.
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    /// Replace a context of the same name
    #[arg(long)]
    pub(crate) force: bool,
    /// Use it from here on
    #[arg(long = "use")]
    pub(crate) switch: bool,
}

/// A subcommand about one context.
#[derive(Debug, Args)]
pub(crate) struct ContextNamed {
    /// Which
    pub(crate) name: String,
}

/// `dialtone completions`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  dialtone completions bash > ~/.local/share/bash-completion/completions/dialtone
  dialtone completions zsh > \"${fpath[1]}/_dialtone\"")]
pub(crate) struct Completions {
    /// Which shell: bash, elvish, fish, powershell or zsh
    #[arg(hide_possible_values = true)]
    pub(crate) shell: clap_complete::Shell,
}
