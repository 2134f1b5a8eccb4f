//! The one binary: arguments, configuration, start, wait, stop.
//!
//! [`args`] is the command line, [`commands`] does what it says. [`serve`] runs a broker:
//! [`config`] reads its settings, [`assemble`] turns them into the broker's own types, [`shards`]
//! are its threads, [`lifecycle`] waits for signals and [`reload`] answers to `SIGHUP`.
//! [`connect`] reaches a broker for everything else.

use std::process::ExitCode;

use clap::FromArgMatches as _;

mod announce;
mod args;
mod assemble;
mod base_path;
mod certificates;
mod cluster;
mod commands;
mod config;
mod connect;
mod contexts;
mod database;
mod discovery;
mod exit;
mod expiry;
mod files;
mod hub;
mod lifecycle;
mod nodes;
mod payload;
mod persist;
mod print;
mod profile;
mod proxy;
mod reload;
mod serve;
mod shards;
mod socketio;
mod telemetry;
mod watch;
mod when;

/// Many small buffers come and go; this allocator is made for that and gives memory back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let matches = args::command().get_matches();
    let cli = match args::Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
