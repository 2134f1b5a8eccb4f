//! The subcommands, one file each.

use crate::args::{Cli, Command, LogArgs};
use crate::config::{Environment, Format, Strings as _};
use crate::exit::{Exit, Failure, Outcome};
use crate::print::Output;
use crate::{serve, shards, telemetry};

mod admin;
pub(crate) use admin::failure as store_failure;

mod attached;
mod call;
pub(crate) mod cluster;
mod config;
mod context;
mod hub;
pub(crate) use hub::begin_site;
mod interest;
mod kv;
mod object;
mod passwd;
mod persist;
mod progress;
mod project;
mod publish;
mod records;
mod reply;
mod request;
mod rtt;
mod show;
mod store;
mod stream;
mod subscribe;
mod top;
mod worker;

/// How often the other tasks have their turn at the end: a connection that was given up before it was a client's has its
/// goodbye sent by a task of the transport, and would otherwise stay at the broker until it is missed.
const GOODBYE_TURNS: u32 = 64;

/// Does what the command line says.
pub(crate) fn run(cli: Cli) -> Outcome {
    let Cli { log, command } = cli;
    match command {
        Command::Up(args) => serve::up(args, &log),
        Command::Broker(args) => serve::broker(args, &log),
        Command::Cluster(args) => cluster::run(*args, &log),
        Command::Persist(args) => persist::run(args, &log),
        Command::Hub(args) => hub::run(args, &log),
        Command::Admin(args) => client(&log, admin::run(*args)),
        Command::Worker(args) => worker::run(*args, &log),
        Command::Proxy(args) => {
            start_logs_at(&log, "info")?;
            crate::proxy::run(*args)
        }
        Command::Project(args) => project::run(*args, &log),
        Command::Config(args) => config::run(args, &log),
        Command::Passwd(args) => passwd::run(&args),
        Command::Context(args) => context::run(args),
        Command::Completions(args) => completions(&args),
        Command::Version => {
            Ok(Output::stdout().line(concat!("dialtone ", env!("CARGO_PKG_VERSION")))?)
        }
        Command::Bench(args) => bench(&args, &log),
        Command::Pub(args) => client(&log, publish::run(args)),
        Command::Sub(args) => client(&log, subscribe::run(args)),
        Command::Request(args) => client(&log, request::run(args)),
        Command::Reply(args) => client(&log, reply::run(args)),
        Command::Interest(args) => client(&log, interest::run(args)),
        Command::Call(args) => client(&log, call::run(args)),
        Command::Stream(args) => client(&log, stream::run(args.command)),
        Command::Kv(args) => client(&log, kv::run(args.command)),
        Command::Object(args) => client(&log, object::run(args.command)),
        Command::Rtt(args) => client(&log, rtt::run(args)),
        Command::Top(args) => client(&log, top::run(args)),
    }
}

/// Runs a subcommand that talks to a broker: one thread, and few words about itself.
fn client(log: &LogArgs, work: impl Future<Output = Outcome>) -> Outcome {
    start_logs(log)?;
    let runtime = shards::current_thread()?;
    let outcome = runtime.block_on(async {
        let outcome = work.await;
        for _ in 0..GOODBYE_TURNS {
            tokio::task::yield_now().await;
        }
        outcome
    });
    // Reading standard input cannot be cancelled, so that waiting for it could last for ever.
    runtime.shutdown_background();
    outcome
}

fn start_logs(log: &LogArgs) -> Outcome {
    start_logs_at(log, "warn")
}

fn start_logs_at(log: &LogArgs, default: &str) -> Outcome {
    let level = log
        .log_level
        .clone()
        .or_else(|| Environment.get("DIALTONE_LOG"));
    let level = level.as_deref().unwrap_or(default);
    telemetry::parse(level).map_err(|error| Failure::new(Exit::Usage, error))?;
    telemetry::start(level, log.log_format.unwrap_or(Format::Text))?;
    Ok(())
}

fn completions(args: &crate::args::Completions) -> Outcome {
    let mut out = Output::stdout();
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut crate::args::command(),
        "dialtone",
        &mut script,
    );
    std::io::Write::write_all(&mut out, &script)?;
    Ok(std::io::Write::flush(&mut out)?)
}

fn bench(args: &dialtone_load::cli::BenchArgs, log: &LogArgs) -> Outcome {
    start_logs(log)?;
    let (mut out, mut progress) = (Output::stdout(), std::io::stderr());
    dialtone_load::cli::main(args, &mut out, &mut progress).map_err(anyhow::Error::from)?;
    Ok(std::io::Write::flush(&mut out)?)
}
