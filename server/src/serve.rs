//! `up` and `broker`: everything is read and checked before anything is bound, then bound, then
//! announced, and then it runs until a signal comes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use dialtone_broker::Handle;
use dialtone_broker::auth::Authenticate;
use dialtone_broker::monitor::Monitor;
use dialtone_persist::node::Keep;
use dialtone_transport::tls::ServerTls;
use dialtone_transport::{Endpoint, PORT_QUIC, PORT_WSS};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::announce::{Announce, Ready, ReadyBroker, ReadyCluster, ReadyHub, draining_text};
use crate::args::{Broker, Hub as HubArgs, LogArgs, Serve, Up};
use crate::assemble::{self, Auth};
use crate::cluster::{self, JoinToken, Trusted};
use crate::config::{
    Environment, Layer, Loaded, Origin, Problem, Raw, Settings, Sources, Strings as _,
};
use crate::exit::{Exit, Failure, Outcome};
use crate::hub::Plan;
use crate::lifecycle::{self, Ended, Signals};
use crate::persist::{self, Embedded, Inside};
use crate::print::note;
use crate::reload::Reload;
use crate::shards::{self, Shards};
use crate::socketio::SocketIo;
use crate::telemetry;
use crate::watch::Watch;

mod guard;
use guard::{Guard, Guarding};

mod parts;
use parts::Parts;

mod explain;
use explain::explain;

/// Beyond the drain's own grace period, how long a broker may take to end before it is cut.
const CUT_AFTER: Duration = Duration::from_secs(5);

/// The monitoring server of `up`.
pub(crate) const UP_MONITOR: &str = "127.0.0.1:4490";

/// `dialtone up`
pub(crate) fn up(args: Up, log: &LogArgs) -> Outcome {
    let strings = Environment;
    let data = match args
        .data
        .or_else(|| strings.get("DIALTONE_DATA").map(Into::into))
    {
        Some(data) => data,
        None => assemble::data_dir(&strings)?,
    };
    let data = std::path::absolute(&data).context("cannot tell where the data folder is")?;
    if let Some(count) = args.nodes {
        return crate::nodes::up(count, args.serve, log, &data);
    }
    let preset = up_preset(&data);
    let hub = if args.no_hub {
        None
    } else {
        Some(Guard {
            plan: Plan::up(&data, args.hub_listen, &args.edge, &args.settings, &strings)?,
            alone: false,
        })
    };
    let extras = Extras {
        inviting: true,
        streams: Some(data.join(persist::FOLDER)),
        hub,
        stop_with_stdin: false,
    };
    run(args.serve, log, preset, extras)
}

/// `dialtone hub` with a broker in its process. `folder` is for the streams of its node of persist.
pub(crate) fn hub(args: HubArgs, log: &LogArgs, plan: Plan, folder: PathBuf) -> Outcome {
    let mut settings = crate::config::Flags::default();
    if !args.broker_listen.is_empty() {
        settings.add("listen", Some(args.broker_listen.join(",")));
    }
    let serve = Serve {
        config: args.config,
        ready_file: args.ready_file,
        json: false,
        settings,
    };
    let extras = Extras {
        inviting: false,
        streams: plan.services.persist.then_some(folder),
        hub: Some(Guard { plan, alone: true }),
        stop_with_stdin: false,
    };
    run(serve, log, hub_preset(), extras)
}

/// The defaults of a hub's broker, which go before those of the table: a hub says little.
fn hub_preset() -> Layer {
    let mut layer = Layer::default();
    let level = ["warn".to_owned()];
    layer
        .set("log.level", Raw::Texts(&level), Origin::Default)
        .expect("the presets are valid settings");
    layer
}

/// `dialtone broker`
pub(crate) fn broker(args: Broker, log: &LogArgs) -> Outcome {
    if let Some(flag) = args.serve.settings.first_of("persist") {
        let text = format!("{flag} means nothing to a broker, which keeps no streams");
        return Err(Failure::usage(text).hint(
            "`dialtone persist` runs a node that keeps them, and `dialtone up` both in one process",
        ));
    }
    let mut preset = Layer::default();
    let text = args
        .cluster_token
        .or_else(|| Environment.get("DIALTONE_CLUSTER_TOKEN"));
    if let Some(text) = text {
        let token = JoinToken::parse(&text).map_err(cluster::refused)?;
        let folder = crate::commands::cluster::folder(args.cluster_dir.as_ref())?;
        cluster::join(&token, &folder, SystemTime::now())?;
        cluster::preset(&token, &folder, &mut preset)?;
    }
    let extras = Extras {
        inviting: false,
        streams: args.persist,
        hub: None,
        stop_with_stdin: args.stop_with_stdin,
    };
    run(args.serve, log, preset, extras)
}

/// What is not in the settings.
struct Extras {
    /// A person is told what to try.
    inviting: bool,
    /// Where the persist service of this process keeps its streams, if it has one.
    streams: Option<PathBuf>,
    hub: Option<Guard>,
    stop_with_stdin: bool,
}

/// The defaults of `up`, which go before those of the table.
pub(crate) fn up_preset(data: &Path) -> Layer {
    let plain = dialtone_transport::PORT_WS;
    let listen =
        format!("ws://127.0.0.1:{plain},wss://127.0.0.1:{PORT_WSS},quic://127.0.0.1:{PORT_QUIC}");
    let data = data.to_string_lossy().into_owned();
    let mut layer = Layer::default();
    for (key, text) in [
        ("listen", listen.as_str()),
        ("monitor", UP_MONITOR),
        ("tls.dev", &data),
        ("log.level", "warn"),
        // There is nowhere to move to from a broker that is alone on its machine.
        ("drain_grace", "1s"),
    ] {
        layer
            .set(key, Raw::Texts(&[text.to_owned()]), Origin::Default)
            .expect("the presets are valid settings");
    }
    layer
}

/// The sources of a broker's configuration.
pub(crate) fn sources(
    config: Option<&Path>,
    settings: crate::config::Flags,
    log: &LogArgs,
    preset: Layer,
) -> Sources {
    let mut flags = settings;
    flags.add("log.level", log.log_level.clone());
    flags.add(
        "log.format",
        log.log_format.map(|format| {
            crate::config::Value::to_toml(&format)
                .as_str()
                .unwrap_or("")
                .to_owned()
        }),
    );
    let file = config
        .map(Path::to_path_buf)
        .or_else(|| Environment.get("DIALTONE_CONFIG").map(Into::into));
    Sources {
        flags,
        file,
        preset,
    }
}

/// The settings of a subcommand that needs only some of them.
pub(crate) fn settings(
    config: Option<&Path>,
    flags: crate::config::Flags,
) -> Result<(Sources, Settings), Failure> {
    let file = config
        .map(Path::to_path_buf)
        .or_else(|| Environment.get("DIALTONE_CONFIG").map(Into::into));
    let preset = Layer::default();
    let sources = Sources {
        flags,
        file,
        preset,
    };
    let settings = usable(sources.load(&Environment))?;
    Ok((sources, settings))
}

/// Fails if anything is wrong with the configuration.
pub(crate) fn usable(loaded: Loaded) -> Result<Settings, Failure> {
    let problems: Vec<_> = loaded
        .problems
        .iter()
        .map(|problem: &Problem| format!("\n  {problem}"))
        .collect();
    if problems.is_empty() {
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        return Ok(loaded.settings);
    }
    let failure = Failure::usage(format_args!(
        "the configuration cannot be used:{}",
        problems.concat()
    ));
    Err(failure.hint("`dialtone config check` shows the whole configuration, `dialtone config sample` explains it"))
}

fn run(args: Serve, log: &LogArgs, preset: Layer, extras: Extras) -> Outcome {
    let sources = sources(args.config.as_deref(), args.settings, log, preset);
    let loaded = sources.load(&Environment);
    // With a wrong level there is nothing to be logged yet; the problem is reported below.
    let level = if loaded.problems.is_empty() {
        loaded.settings.log_level.value.as_str()
    } else {
        "warn"
    };
    let logs = telemetry::start(level, loaded.settings.log_format.value)?;
    let settings = usable(loaded)?;
    let wrong = |error| Failure::new(Exit::Usage, error);
    let tls = assemble::tls(&settings).map_err(wrong)?;
    let auth = assemble::auth(&settings).map_err(wrong)?;
    if extras.hub.as_ref().is_some_and(|hub| hub.alone) {
        guard::refuse_other_users(&settings)?;
    }
    let trusted = cluster::trusted(&settings, &Environment).map_err(wrong)?;

    let shards = Shards::start(settings.threads.value).context("cannot start the threads")?;
    let runtime = shards::current_thread().context("cannot start the runtime")?;
    let announce = Announce {
        ready_file: args.ready_file,
        json: args.json,
        inviting: extras.inviting,
    };
    let service = Service {
        sources,
        settings,
        tls,
        auth,
        trusted,
        logs,
        announce,
        streams: extras.streams,
        hub: extras.hub,
        stop_with_stdin: extras.stop_with_stdin,
    };
    let outcome = runtime.block_on(service.run(&shards));
    drop(runtime);
    shards.stop();
    outcome
}

struct Service {
    sources: Sources,
    settings: Settings,
    tls: Option<ServerTls>,
    auth: Auth,
    trusted: Option<Trusted>,
    logs: telemetry::Logs,
    announce: Announce,
    /// Where the persist service of this process keeps its streams, if it has one.
    streams: Option<PathBuf>,
    hub: Option<Guard>,
    stop_with_stdin: bool,
}

impl Service {
    async fn run(mut self, shards: &Shards) -> Outcome {
        // Before anything is announced, so that whoever reads it may send signals.
        let mut signals = signals(self.stop_with_stdin)?;
        let trusted = self.trusted.as_ref();
        let config = assemble::broker(&self.settings, self.tls.as_ref(), trusted, shards.handles());
        let keep = |folder| persist::keep(&self.settings, folder);
        let streams_kept = self.streams.clone().map(keep).transpose()?;
        let https = self.hub.as_ref().map(Guard::certificate);
        let (hub, provider) = (self.hub.take(), &mut self.auth.provider);
        let mut guarding = Guarding::start(hub, &self.settings, provider, &mut signals).await?;
        let inside = Arc::new(Inside::new(Arc::clone(&self.auth.provider)));
        let provider: Arc<dyn Authenticate> = Arc::<Inside>::clone(&inside);
        let bound = dialtone_broker::Broker::bind(config, provider).await;
        let broker = bound.map_err(|error| explain(error, &self.settings))?;
        let handle = broker.handle();
        guarding.guard(&handle);
        let tls = self.tls.as_ref();
        let socketio = SocketIo::bind(&self.settings, tls, &handle).await?;
        let monitor = self.monitor(&handle).await?;
        let ready = self.ready(&broker, &socketio, monitor.as_ref(), guarding.hub());
        guarding.reached_at(ready.broker.as_ref().map_or(&[], |broker| &broker.urls));
        let keys = self.trusted.map(|trusted| trusted.keys);
        let (seeds, new_seeds) = watch::channel(self.settings.cluster_seeds.value.clone());
        let watch = Watch::new(&self.settings, &handle, tls, keys.as_ref(), new_seeds)?;
        let drain = CancellationToken::new();
        let (counting, inviting) = (handle.clone(), self.announce.inviting);
        let grace = self.settings.drain_grace.value.get();
        // Those of parts of this process are nobody's who has to move.
        let own = u64::from(self.streams.is_some())
            + u64::from(socketio.is_wanted())
            + guarding.connections();
        let say_draining = || say_draining(&counting, own, grace, inviting);
        let mut reload = Reload {
            sources: self.sources,
            settings: self.settings,
            tls: self.tls,
            users: self.auth.users,
            keys,
            logs: self.logs,
            broker: handle,
            streams: None,
            https,
            seeds,
        };
        let conat = socketio.urls().next().is_some();
        let streams = match streams_kept {
            Some(keep) => Some(start_streams(&reload, &inside, keep, shards, conat).await?),
            None => None,
        };
        reload.streams = streams.as_ref().map(Embedded::handle);
        let monitor = watching(monitor, streams.as_ref());
        let joining = guarding.join(&inside, &reload.broker, shards, drain.clone());
        let parts = Parts {
            streams,
            hub: joining.await?,
        };
        let within = socketio.dial(&inside, reload.broker.clone(), shards, drain.clone());
        let within = within.await?;
        let failure = Arc::new(OnceLock::new());
        let served_by = reload.broker.clone();
        let failed = Arc::clone(&failure);
        let served = parts::serve(broker, monitor, parts, watch, drain.clone(), failed);
        let closing = drain.child_token();
        let gateways = socketio.run(within, shards.handles(), closing.clone());
        let service = Box::pin(with_gateways(served, gateways, closing));
        self.announce.say(&ready)?;
        let (limit, again) = (grace + CUT_AFTER, || reload.run());
        let supervised = lifecycle::supervise(service, signals, drain, limit, again, say_draining);
        report(supervised.await, failure, served_by.was_asked_to_drain())
    }
}

/// Says who has to move, without `own` connections.
fn say_draining(counting: &Handle, own: u64, grace: Duration, inviting: bool) {
    let text = draining_text(counting.status().connections.saturating_sub(own), grace);
    if inviting {
        note(text);
    } else {
        tracing::info!("{text}");
    }
}

/// Runs a broker with what is in front of it. It may end by itself, and they end with it.
async fn with_gateways(
    served: impl Future<Output = ()>,
    gateways: impl Future<Output = ()>,
    closing: CancellationToken,
) {
    let served = async {
        served.await;
        closing.cancel();
    };
    tokio::join!(served, gateways);
}

/// What asks to stop: signals, and where that is wanted the end of standard input.
fn signals(stop_with_stdin: bool) -> Result<Signals, Failure> {
    let mut signals = Signals::new().context("cannot take over signals")?;
    if stop_with_stdin {
        signals
            .watch_stdin()
            .context("cannot watch standard input")?;
    }
    Ok(signals)
}

/// Says how it ended; `was_asked` is whether the broker itself was asked to drain, with `sys.drain`.
fn report(ended: Ended, failure: Arc<OnceLock<anyhow::Error>>, was_asked: bool) -> Outcome {
    if let Some(failure) = Arc::into_inner(failure).and_then(OnceLock::into_inner) {
        return Err(failure.into());
    }
    match ended {
        Ended::Drained => tracing::info!("stopped"),
        Ended::Unasked if was_asked => tracing::info!("stopped"),
        Ended::Cut => tracing::warn!("stopped; connections were cut"),
        Ended::Unasked => {
            return Err(Failure::from(anyhow::anyhow!("the broker ended by itself")));
        }
    }
    Ok(())
}

/// Starts a node of persist beside the broker.
async fn start_streams(
    reload: &Reload,
    inside: &Inside,
    keep: Keep,
    shards: &Shards,
    conat: bool,
) -> Result<Embedded, Failure> {
    let shards = shards.handles();
    let shard = shards.first().context("there is no thread for persist")?;
    let config = persist::service(&reload.settings)?;
    Embedded::start(reload.broker.clone(), inside, config, keep, shard, conat).await
}

/// The monitoring server, which shows the node of persist as well.
fn watching(monitor: Option<Monitor>, streams: Option<&Embedded>) -> Option<Monitor> {
    match (monitor, streams) {
        (Some(monitor), Some(streams)) => {
            Some(monitor.with(Arc::new(persist::Watched::new(streams.handle()))))
        }
        (monitor, _) => monitor,
    }
}

impl Service {
    async fn monitor(&self, handle: &Handle) -> Result<Option<Monitor>, Failure> {
        let Some(addr) = self.settings.monitor.value else {
            return Ok(None);
        };
        let bound = Monitor::bind(addr, Arc::new(handle.clone())).await;
        bound.map(Some).map_err(|error| {
            Failure::from(anyhow::Error::from(error))
                .hint("choose another address with --monitor ADDRESS (port 0: any free port), or none with --monitor off")
        })
    }

    fn ready(
        &self,
        broker: &dialtone_broker::Broker,
        socketio: &SocketIo,
        monitor: Option<&Monitor>,
        guarded: Option<&guard::Guarded>,
    ) -> Ready {
        let urls = |endpoints: Vec<Endpoint>| -> Vec<String> {
            endpoints.iter().map(ToString::to_string).collect()
        };
        let handle = broker.handle();
        let broker = ReadyBroker {
            node: handle.node().to_owned(),
            urls: urls(broker.endpoints())
                .into_iter()
                .chain(socketio.urls())
                .collect(),
            monitor: monitor.map(|monitor| format!("http://{}", monitor.local_addr())),
            fingerprint: self.tls.as_ref().map(|tls| tls.fingerprint().to_string()),
            cluster: handle.cluster().map(|cluster| ReadyCluster {
                name: cluster.name().to_owned(),
                urls: urls(cluster.endpoints()),
            }),
        };
        Ready {
            pid: std::process::id(),
            broker: Some(broker),
            hub: guarded.map(|guarded| ReadyHub::new(guarded.hub.facts(), guarded.mode)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_of_up_are_valid() {
        let settings = up_preset(Path::new("/tmp/x")).resolve();
        assert_eq!(settings.drain_grace.value.get(), Duration::from_secs(1));
        assert_eq!(settings.listen.value.len(), 3);
        assert_eq!(settings.monitor.value, Some(UP_MONITOR.parse().unwrap()));
    }
}
