//! `dialtone hub`: accounts, projects and their API, with as many other parts of a site as wanted.

use crate::announce::Announce;
use crate::args::{Hub as Args, LogArgs};
use crate::config::{Environment, Strings as _};
use crate::exit::{Failure, Outcome};
use crate::hub::{self, Plan, Services};
use crate::persist::FOLDER;
use crate::print::note;
use crate::{assemble, serve, shards};

mod beginning;
pub(crate) use beginning::make as begin_site;

mod once;
pub(super) use once::blob_maintenance;

/// `dialtone hub`
pub(super) fn run(args: Box<Args>, log: &LogArgs) -> Outcome {
    let args = *args;
    if args.once.is_asked(Services::of(args.services)) {
        super::start_logs(log)?;
        return shards::current_thread()?.block_on(once::run(&args, &Environment));
    }
    let plan = Plan::of(&args, &Environment)?;
    let services = plan.services;
    if !args.broker_listen.is_empty() && !services.broker {
        return Err(
            Failure::usage("--broker-listen is for a hub that runs a broker")
                .hint("--conat-router or --conat-server runs one in this process"),
        );
    }
    let streams = match args.database.data.clone() {
        Some(data) => data,
        None => match Environment.get("DIALTONE_DATA") {
            Some(data) => data.into(),
            None => assemble::data_dir(&Environment)?,
        },
    };
    let streams = streams.join(FOLDER);
    if services.broker {
        return serve::hub(args, log, plan, streams);
    }
    super::start_logs(log)?;
    let flags = crate::config::Flags::default();
    let (_sources, settings) = serve::settings(args.config.as_deref(), flags)?;
    if services == Services::default() {
        note("this hub looks after its database alone; --all runs everything");
    }
    let announce = Announce {
        ready_file: args.ready_file,
        json: false,
        inviting: false,
    };
    let runtime = shards::current_thread()?;
    let running = hub::run_alone(plan, &args.connect, &settings, streams, &announce);
    let outcome = runtime.block_on(running);
    runtime.shutdown_background();
    outcome
}
