//! `dialtone worker`: runs projects on this machine for the hubs of a site.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use dialtone_control::processes::{Config, PLACEHOLDER, Processes};
use dialtone_control::runner::Runner as _;
use dialtone_control::worker::Remote;
use dialtone_control::{Executor, executor};
use tokio_util::sync::CancellationToken;

use crate::args::{LogArgs, Worker as Args};
use crate::assemble;
use crate::config::{Environment, Strings};
use crate::connect::{self, URL_DEFAULT, connect};
use crate::exit::{Exit, Failure, Outcome};
use crate::lifecycle::{self, Ended, Signals};
use crate::print::note;
use crate::shards;

/// How long the end of a worker may take.
const GRACE: Duration = Duration::from_secs(30);

/// `dialtone worker`
pub(super) fn run(args: Args, log: &LogArgs) -> Outcome {
    super::start_logs_at(log, "info")?;
    let runtime = shards::current_thread()?;
    let outcome = runtime.block_on(serve(args));
    runtime.shutdown_background();
    outcome
}

async fn serve(args: Args) -> Outcome {
    let signals = Signals::new().context("cannot take over signals")?;
    let processes = Processes::new(config(&args, &Environment)?)
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let host = processes.config().host.clone();
    let holder = format!(
        "{host}-{}-{:016x}",
        std::process::id(),
        rand::random::<u64>()
    );
    let client = connect(&args.connect).await?;
    let ledger = Remote::new(client.clone(), &host, holder, processes.uids()).await;
    let ledger = ledger.context("cannot hear of orders")?;
    let bounds = executor::Config {
        orders_max: args.orders_max.into(),
        ..executor::Config::default()
    };
    let homes = processes.config().homes.clone();
    let executor = Executor::new(Arc::new(ledger), Arc::new(processes), bounds);
    note(format_args!(
        "worker {host} takes orders; homes are {homes}"
    ));
    let stop = CancellationToken::new();
    let running = Box::pin(executor.run(stop.clone()));
    let supervised = lifecycle::supervise(
        running,
        signals,
        stop,
        GRACE,
        || note("there is nothing to be read again"),
        || note("stopping: what has begun is finished; press Ctrl-C again to stop at once"),
    );
    let ended = supervised.await;
    client.close().await;
    match ended {
        Ended::Drained => Ok(()),
        Ended::Cut => Err(Failure::silent(Exit::Interrupted)),
        Ended::Unasked => Err(Failure::from(anyhow::anyhow!("the worker ended by itself"))),
    }
}

fn config(args: &Args, strings: &dyn Strings) -> Result<Config, Failure> {
    let machine = rustix::system::uname();
    let named = machine.nodename().to_string_lossy().into_owned();
    let host = args.host.clone().unwrap_or(named);
    let homes = match args.homes.clone().or_else(|| strings.get("PROJECTS")) {
        Some(homes) => homes,
        None => {
            let given = args.data.clone();
            let data = match given.or_else(|| strings.get("DIALTONE_DATA").map(Into::into)) {
                Some(data) => data,
                None => assemble::data_dir(strings)?,
            };
            data.join("projects")
                .join(PLACEHOLDER)
                .display()
                .to_string()
        }
    };
    let mut config = Config::new(host, homes, command(args)?);
    let url = args
        .project_url
        .clone()
        .or_else(|| args.connect.url.first().cloned());
    config.broker_url = url
        .or_else(|| strings.get("DIALTONE_URL"))
        .unwrap_or_else(|| URL_DEFAULT.to_owned());
    let base_path = args.base_path.clone().or_else(|| strings.get("BASE_PATH"));
    let base_path = base_path.unwrap_or_default();
    base_path
        .trim_end_matches('/')
        .clone_into(&mut config.base_path);
    config.uids = args.users.map(|(first, last)| first..=last);
    config.names = config.uids.is_some();
    config.cgroups.clone_from(&args.cgroup);
    let urls = connect::options(&args.connect, strings)?.urls;
    if args.address.is_loopback() && urls.iter().any(|url| is_elsewhere(url)) {
        return Err(Failure::usage(
            "--address says where the proxy reaches projects of this machine, and is missing: the broker is on another one",
        ));
    }
    config.address = args.address;
    Ok(config)
}

/// Whether a broker is on another machine.
fn is_elsewhere(url: &str) -> bool {
    let endpoint = url.parse::<dialtone_transport::Endpoint>();
    let host = endpoint
        .as_ref()
        .ok()
        .and_then(|endpoint| endpoint.host_port());
    host.is_some_and(|(host, _port)| !crate::config::is_loopback(host))
}

fn command(args: &Args) -> Result<Vec<String>, Failure> {
    if !args.command.is_empty() {
        return Ok(args.command.clone());
    }
    let own = std::env::current_exe().context("it is not known where this program is")?;
    let own = own.into_os_string().into_string();
    let own = own.map_err(|path| {
        Failure::usage(format_args!(
            "the path of this program is no text: {}",
            path.display()
        ))
    })?;
    // Where the proxy looks for its servers, they have to listen.
    let address = args.address.to_string();
    Ok(vec![
        own,
        "project".to_owned(),
        "--host".to_owned(),
        address,
    ])
}
