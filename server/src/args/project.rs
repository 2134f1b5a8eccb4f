//! The flags of `dialtone project`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

/// `dialtone project`
#[derive(Debug, Args)]
#[command(after_help = "\
Serves one project until it is stopped: its functions at project.ID.N.api, files and terminals over the
broker, and over HTTP the raw files and the named servers (Jupyter and others). A broker that cannot be
reached, or does not let the project in, is tried again for ever. Every process of the project ends with it.

The project proves who it is with the secret in --secret-file, as user project-ID. Where there is none, the
credentials of --user, --token or --credentials are used; a broker of `dialtone up` needs none.

Signals:
  TERM, INT   finish what is under way, then end every process of the project; again: kill them at once

Examples:
  dialtone up                                                                 in one terminal
  dialtone project --id 7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f --home ~/work    in another
  dialtone request project.7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f.0.api \\
      '{\"name\": \"system.exec\", \"args\": [{\"command\": \"ls -l\"}]}'")]
pub(crate) struct Project {
    /// Which project this is, as UUID [env: DIALTONE_PROJECT_ID, COCALC_PROJECT_ID]
    #[arg(long, value_name = "UUID")]
    pub(crate) id: Option<String>,
    /// Which compute server of the project this is; 0 is its home base
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) compute_server: u32,
    /// Folder of the project's files [env: HOME]
    #[arg(long, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// File with the project's secret [env: DIALTONE_SECRET_TOKEN, COCALC_SECRET_TOKEN] [default: .smc/secret-token in the home, if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Path below which the site lies [env: DIALTONE_BASE_PATH, BASE_PATH] [default: /]
    #[arg(long, value_name = "PATH", help_heading = "HTTP")]
    pub(crate) base_path: Option<String>,
    /// Address for the raw file server and for named servers
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1",
        alias = "hostname",
        help_heading = "HTTP"
    )]
    pub(crate) host: IpAddr,
    /// Port of the raw file server; 0: any free one
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 0,
        alias = "browser-port",
        help_heading = "HTTP"
    )]
    pub(crate) raw_port: u16,
    /// Let everybody read raw files who reaches the port, without the token that follows from the secret
    #[arg(long, help_heading = "HTTP")]
    pub(crate) raw_open: bool,
    /// Script that is run once in the background when the project is ready; what it prints goes to .smc/init.log
    #[arg(long, value_name = "FILE")]
    pub(crate) init: Option<PathBuf>,
    /// When ready, write addresses and process number to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) ready_file: Option<PathBuf>,
    /// When ready, print the same as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Which broker.
    #[command(flatten)]
    pub(crate) connect: super::ConnectArgs,
}
