//! `dialtone persist`: a node of the persist service by itself.

use anyhow::Context as _;
use dialtone_persist::node::Keep;
use dialtone_persist::{Node, Quota, Store};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::args::{LogArgs, Persist as Args};
use crate::config::{Environment, Strings as _};
use crate::exit::{Exit, Failure, Outcome};
use crate::lifecycle::Signals;
use crate::persist::{FOLDER, conat_storage, node_of_machine};
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
    let keep = keep(&mut args)?;
    let config = config(&args);
    let node = config.node.clone();
    let client = connect::connect(&args.connect).await?;
    let persist = Node::bind(config, keep, client.clone()).await;
    let persist = persist.map_err(|error| Failure::from(anyhow::Error::from(error)))?;
    announce(&args, &node)?;
    let stop = async {
        // There is nothing to be read again.
        while signals.next().await == crate::lifecycle::Asked::Reload {}
        note("stopping: what was taken is finished; press Ctrl-C again to stop at once");
    };
    let mut again = Signals::new().context("cannot take over signals")?;
    let stopped = CancellationToken::new();
    let running = async {
        let front = async {
            if args.conat {
                conat_storage(client.clone(), node, stopped.clone()).await;
            }
        };
        let run = async {
            let stop = async {
                stop.await;
                stopped.cancel();
            };
            persist.run(stop).await
        };
        let (ended, ()) = tokio::join!(run, front);
        client.close().await;
        ended.context("the store was not closed in good order")
    };
    let hard = async {
        let mut stops = 0;
        while stops < 2 {
            stops += u32::from(again.next().await == crate::lifecycle::Asked::Stop);
        }
    };
    tokio::select! {
        ended = running => Ok(ended?),
        () = hard => Err(Failure::silent(Exit::Interrupted)),
    }
}

fn keep(args: &mut Args) -> Result<Keep, Failure> {
    let strings = Environment;
    let flags = std::mem::take(&mut args.settings).into_flags();
    let settings = crate::serve::settings(args.config.as_deref(), flags)?;
    if args.memory {
        return Ok(Keep::Memory);
    }
    let given = args.data.clone();
    let data = match given.or_else(|| strings.get("DIALTONE_DATA").map(Into::into)) {
        Some(data) => data,
        None => assemble::data_dir(&strings)?,
    };
    Ok(crate::persist::keep(&settings, data.join(FOLDER))?)
}

fn config(args: &Args) -> dialtone_persist::Config {
    let node = args.node.clone();
    let node = node.or_else(|| Environment.get("DIALTONE_PERSIST_NODE"));
    let node = node.unwrap_or_else(node_of_machine);
    let mut config = dialtone_persist::Config::new(node, Store::Memory);
    config.quota = Quota {
        streams_max: args.quota_streams,
        bytes_max: args.quota_bytes.0,
        ..Quota::default()
    };
    config
}

fn announce(args: &Args, node: &str) -> Outcome {
    if let Some(path) = &args.ready_file {
        let text = json!({"pid": std::process::id(), "node": node}).to_string();
        crate::files::replace(path, format!("{text}\n").as_bytes(), 0o644)
            .with_context(|| format!("cannot write the ready file {}", path.display()))?;
    }
    note(format_args!("persist node {node} is ready"));
    Ok(())
}
