//! `dialtone persist`: a node of the persist service by itself.

use std::sync::Arc;

use anyhow::Context as _;
use dialtone_broker::monitor::Monitor;
use dialtone_persist::node::Keep;
use dialtone_persist::{Handle, Node};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::args::{LogArgs, Persist as Args};
use crate::config::{Environment, Settings, Sources, Strings as _};
use crate::exit::{Exit, Failure, Outcome};
use crate::lifecycle::{Asked, Signals};
use crate::persist::{FOLDER, Watched, conat_storage};
use crate::print::note;
use crate::{assemble, connect, shards};

/// `dialtone persist`
pub(super) fn run(args: Box<Args>, log: &LogArgs) -> Outcome {
    super::start_logs(log)?;
    let runtime = shards::current_thread()?;
    let outcome = runtime.block_on(serve(*args));
    runtime.shutdown_background();
    outcome
}

async fn serve(mut args: Args) -> Outcome {
    // Before anything is announced, so that whoever reads it may send signals.
    let mut signals = Signals::new().context("cannot take over signals")?;
    let mut again = Signals::new().context("cannot take over signals")?;
    let mut flags = std::mem::take(&mut args.settings).into_flags();
    flags.add("persist.node", args.node.take());
    let (sources, settings) = crate::serve::settings(args.config.as_deref(), flags)?;
    let keep = keep(&args, &settings)?;
    let config = crate::persist::service(&settings)?;
    let node = config.node.clone();
    let monitor = monitor(&settings).await?;
    let client = connect::connect(&args.connect).await?;
    let persist = Node::bind(config, keep, client.clone()).await;
    let persist = persist.map_err(|error| Failure::from(anyhow::Error::from(error)))?;
    let monitor = monitor.map(|monitor| monitor.with(Arc::new(Watched::new(persist.handle()))));
    let address = monitor
        .as_ref()
        .map(|monitor| format!("http://{}", monitor.local_addr()));
    announce(&args, &node, address.as_deref())?;
    let handle = persist.handle();
    let stop = async {
        while signals.next().await == Asked::Reload {
            reload(&sources, &handle);
        }
        note("stopping: what was taken is finished; press Ctrl-C again to stop at once");
    };
    let (front_end, end) = (CancellationToken::new(), CancellationToken::new());
    let running = async {
        let front = async {
            if args.conat {
                conat_storage(client.clone(), node, front_end.clone()).await;
            }
        };
        let streams = async {
            let stop = async {
                stop.await;
                front_end.cancel();
            };
            let ended = persist.run(stop).await;
            // It may have failed, and then there is nothing to speak for.
            front_end.cancel();
            ended
        };
        let (ended, ()) = tokio::join!(streams, front);
        client.close().await;
        end.cancel();
        ended.context("persist has failed")
    };
    let watching = async {
        match monitor {
            Some(monitor) => monitor.run(end.clone()).await,
            None => end.cancelled().await,
        }
    };
    let hard = async {
        let mut stops = 0;
        while stops < 2 {
            stops += u32::from(again.next().await == Asked::Stop);
        }
    };
    tokio::select! {
        (ended, ()) = async { tokio::join!(running, watching) } => Ok(ended?),
        () = hard => Err(Failure::silent(Exit::Interrupted)),
    }
}

/// Reads the quotas again; what cannot be used is told and stays as it was.
fn reload(sources: &Sources, node: &Handle) {
    let loaded = sources.load(&Environment);
    for problem in &loaded.problems {
        tracing::error!("{problem}");
    }
    let read = if loaded.problems.is_empty() {
        crate::persist::quotas(&loaded.settings)
    } else {
        Err(anyhow::anyhow!("the configuration cannot be used"))
    };
    match read {
        Ok(quotas) => {
            node.set_quotas(quotas);
            note("reloaded: quotas");
        }
        Err(error) => tracing::error!("{:#}", error.context("the quotas stay as they were")),
    }
}

fn keep(args: &Args, settings: &Settings) -> Result<Keep, Failure> {
    if args.memory {
        return Ok(Keep::Memory);
    }
    let strings = Environment;
    let given = args.data.clone();
    let data = match given.or_else(|| strings.get("DIALTONE_DATA").map(Into::into)) {
        Some(data) => data,
        None => assemble::data_dir(&strings)?,
    };
    Ok(crate::persist::keep(settings, data.join(FOLDER))?)
}

async fn monitor(settings: &Settings) -> Result<Option<Monitor>, Failure> {
    let Some(addr) = settings.persist_monitor.value else {
        return Ok(None);
    };
    let bound = Monitor::without_broker(addr).await;
    bound.map(Some).map_err(|error| {
        Failure::from(anyhow::Error::from(error)).hint(
            "choose another address with --persist-monitor ADDRESS (port 0: any free port), or none with --persist-monitor off",
        )
    })
}

fn announce(args: &Args, node: &str, monitor: Option<&str>) -> Outcome {
    let ready: Value = json!({"pid": std::process::id(), "node": node, "monitor": monitor});
    if let Some(path) = &args.ready_file {
        crate::files::replace(path, format!("{ready}\n").as_bytes(), 0o644)
            .with_context(|| format!("cannot write the ready file {}", path.display()))?;
    }
    match monitor {
        Some(address) => note(format_args!(
            "persist node {node} is ready; monitoring on {address}"
        )),
        None => note(format_args!("persist node {node} is ready")),
    }
    Ok(())
}
