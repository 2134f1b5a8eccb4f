//! `up` and `broker`: everything is read and checked before anything is bound, then bound, then
//! announced, and then it runs until a signal comes.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use dialtone_broker::auth::Authenticate;
use dialtone_broker::error::BindError;
use dialtone_broker::monitor::Monitor;
use dialtone_transport::tls::ServerTls;
use dialtone_transport::{Endpoint, PORT_QUIC, PORT_WSS};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::args::{Broker, LogArgs, Serve, Up};
use crate::assemble::{self, Auth};
use crate::config::{
    Environment, Layer, Loaded, Origin, Problem, Raw, Settings, Sources, Strings as _,
};
use crate::exit::{Exit, Failure, Outcome};
use crate::lifecycle::{self, Ended, Signals};
use crate::persist::{self, Embedded, Inside};
use crate::print::{Output, Paint, counted, note};
use crate::reload::Reload;
use crate::shards::{self, Shards};
use crate::telemetry;

/// Beyond the drain's own grace period, how long a broker may take to end before it is cut.
const CUT_AFTER: Duration = Duration::from_secs(5);

/// How long an answer of the monitoring server that is under way may take after the broker has ended.
const MONITOR_GRACE: Duration = Duration::from_millis(200);

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
    let preset = up_preset(&data);
    run(args.serve, log, preset, Some(data.join(persist::FOLDER)))
}

/// `dialtone broker`
pub(crate) fn broker(args: Broker, log: &LogArgs) -> Outcome {
    run(args.serve, log, Layer::default(), None)
}

fn up_preset(data: &Path) -> Layer {
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
) -> Result<Settings, Failure> {
    let file = config
        .map(Path::to_path_buf)
        .or_else(|| Environment.get("DIALTONE_CONFIG").map(Into::into));
    let preset = Layer::default();
    let sources = Sources {
        flags,
        file,
        preset,
    };
    usable(sources.load(&Environment))
}

/// Fails if anything is wrong with the configuration.
fn usable(loaded: Loaded) -> Result<Settings, Failure> {
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

/// `up` has a folder for streams, and invites to try things.
fn run(args: Serve, log: &LogArgs, preset: Layer, streams: Option<PathBuf>) -> Outcome {
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

    let shards = Shards::start(settings.threads.value).context("cannot start the threads")?;
    let runtime = shards::current_thread().context("cannot start the runtime")?;
    let announce = Announce {
        ready_file: args.ready_file,
        json: args.json,
        inviting: streams.is_some(),
    };
    let service = Service {
        sources,
        settings,
        tls,
        auth,
        logs,
        announce,
        streams,
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
    logs: telemetry::Logs,
    announce: Announce,
    /// Where the persist service of this process keeps its streams, if it has one.
    streams: Option<PathBuf>,
}

impl Service {
    async fn run(self, shards: &Shards) -> Outcome {
        // Before anything is announced, so that whoever reads it may send signals.
        let signals = Signals::new().context("cannot take over signals")?;
        let config = assemble::broker(&self.settings, self.tls.as_ref(), shards.handles());
        let keep = |folder| persist::keep(&self.settings, folder);
        let streams_kept = self.streams.map(keep).transpose()?;
        let inside = Arc::new(Inside::new(Arc::clone(&self.auth.provider)));
        let provider: Arc<dyn Authenticate> = Arc::<Inside>::clone(&inside);
        let bound = dialtone_broker::Broker::bind(config, provider).await;
        let broker = bound.map_err(explain)?;
        let handle = broker.handle();
        let monitor = match self.settings.monitor.value {
            Some(addr) => Some(Monitor::bind(addr, Arc::new(handle.clone())).await.map_err(|error| {
                Failure::from(anyhow::Error::from(error))
                    .hint("choose another address with --monitor ADDRESS (port 0: any free port), or none with --monitor off")
            })?),
            None => None,
        };
        let ready = Ready {
            pid: std::process::id(),
            node: handle.node().to_owned(),
            urls: broker.endpoints().iter().map(ToString::to_string).collect(),
            monitor: monitor
                .as_ref()
                .map(|monitor| format!("http://{}", monitor.local_addr())),
            fingerprint: self.tls.as_ref().map(|tls| tls.fingerprint().to_string()),
        };
        let drain = CancellationToken::new();
        let grace = self.settings.drain_grace.value.get();
        let (counting, inviting) = (handle.clone(), self.announce.inviting);
        let say_draining = || {
            let text = draining_text(counting.status().connections, grace);
            if inviting {
                note(text);
            } else {
                tracing::info!("{text}");
            }
        };
        let mut reload = Reload {
            sources: self.sources,
            settings: self.settings,
            tls: self.tls,
            users: self.auth.users,
            logs: self.logs,
            broker: handle,
        };
        let mut streams = None;
        if let Some(keep) = streams_kept {
            let shards = shards.handles();
            let shard = shards.first().context("there is no thread for persist")?;
            let (broker, node) = (reload.broker.clone(), persist::node_of_machine());
            streams = Some(Embedded::start(broker, &inside, node, keep, shard).await?);
        }
        let service = serve(broker, monitor, streams, drain.clone());
        self.announce.say(&ready)?;
        let supervised = lifecycle::supervise(
            service,
            signals,
            drain,
            grace + CUT_AFTER,
            || reload.run(),
            say_draining,
        );
        match supervised.await {
            Ended::Drained => tracing::info!("stopped"),
            Ended::Cut => tracing::warn!("stopped; connections were cut"),
            Ended::Unasked => {
                return Err(Failure::from(anyhow::anyhow!("the broker ended by itself")));
            }
        }
        Ok(())
    }
}

/// Runs a broker until it has drained. Persist ends before, so that its answers still arrive; monitoring goes on
/// meanwhile, and ends with the broker.
async fn serve(
    broker: dialtone_broker::Broker,
    monitor: Option<Monitor>,
    streams: Option<Embedded>,
    stop: CancellationToken,
) {
    let (drain, end) = (CancellationToken::new(), CancellationToken::new());
    let draining = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = end.cancelled() => {}
        }
        if let Some(streams) = streams
            && let Err(error) = streams.stop().await
        {
            tracing::error!("persist did not stop in good order: {error:#}");
        }
        drain.cancel();
    };
    let monitoring = async {
        let Some(monitor) = monitor else { return };
        let cut = async {
            end.cancelled().await;
            tokio::time::sleep(MONITOR_GRACE).await;
        };
        tokio::select! {
            () = monitor.run(end.clone()) => {}
            () = cut => {}
        }
    };
    let broker = async {
        broker.run(drain.clone()).await;
        end.cancel();
    };
    tokio::join!(broker, monitoring, draining);
}

/// What is known when everything is bound.
#[derive(Debug, Serialize)]
struct Ready {
    pid: u32,
    node: String,
    urls: Vec<String>,
    monitor: Option<String>,
    fingerprint: Option<String>,
}

/// Who is told when everything is bound.
struct Announce {
    ready_file: Option<PathBuf>,
    json: bool,
    inviting: bool,
}

impl Announce {
    fn say(&self, ready: &Ready) -> Outcome {
        for url in &ready.urls {
            tracing::info!(url, "listening");
        }
        if let Some(url) = &ready.monitor {
            tracing::info!(url, "monitoring");
        }
        if let Some(path) = &self.ready_file {
            let text = serde_json::to_string(ready).context("cannot describe this broker")?;
            crate::files::replace(path, format!("{text}\n").as_bytes(), 0o644)
                .with_context(|| format!("cannot write the ready file {}", path.display()))?;
        }
        if self.json {
            let mut out = Output::stdout();
            out.json(ready)?;
            out.flush()?;
        } else if self.inviting {
            let mut out = Output::stdout();
            out.line(invitation(ready, out.paint))?;
            out.flush()?;
        } else if Paint::stderr().is_on() {
            note(format_args!("Ready on {}", ready.urls.join(", ")));
        }
        Ok(())
    }
}

/// What `dialtone up` prints: where it is, and what to try next.
fn invitation(ready: &Ready, paint: Paint) -> String {
    let mut lines = vec![
        format!("{} {} is ready.", paint.bold("Dialtone"), ready.node),
        String::new(),
    ];
    for url in &ready.urls {
        lines.push(format!("  {}", paint.cyan(url)));
    }
    if let Some(monitor) = &ready.monitor {
        lines.push(format!(
            "  {}  {}",
            paint.cyan(monitor),
            paint.dim("monitoring")
        ));
    }
    let standard = ready
        .urls
        .iter()
        .any(|url| url == crate::connect::URL_DEFAULT);
    let first = ready
        .urls
        .iter()
        .find(|url| url.starts_with("ws://"))
        .or_else(|| ready.urls.first());
    let flags = match first {
        Some(url) if !standard => format!(" --url {}{}", reachable(url), trust(url, ready)),
        _ => String::new(),
    };
    if let Some(fingerprint) = &ready.fingerprint {
        lines.push(format!("\nThe certificate of wss and quic is for development; its SHA-256 fingerprint is\n  {fingerprint}"));
    }
    lines.push("\nTry next, each in a terminal of its own:".to_owned());
    lines.push(format!("  dialtone sub{flags} 'greet.>'"));
    lines.push(format!("  dialtone pub{flags} greet.world hello"));
    lines.push(format!("  dialtone reply{flags} time.now --command date"));
    lines.push(format!("  dialtone request{flags} time.now ''"));
    let encrypted = ready
        .urls
        .iter()
        .find(|url| url.starts_with("quic://"))
        .filter(|_| flags.is_empty());
    if let Some(url) = encrypted {
        lines.push(format!(
            "  dialtone rtt --url {}{}",
            reachable(url),
            trust(url, ready)
        ));
    }
    if let Some(monitor) = &ready.monitor {
        let flag = if monitor.ends_with(UP_MONITOR) {
            String::new()
        } else {
            format!(" --monitor {monitor}")
        };
        lines.push(format!("  dialtone top{flag}"));
    }
    if ready.urls.iter().any(|url| reachable(url) != *url) {
        lines.push(
            "\nIt listens at every address of this machine; on others, write its name or address in these commands."
                .to_owned(),
        );
    }
    lines.push("\nCtrl-C stops it.".to_owned());
    lines.join("\n")
}

/// Where this machine reaches a listener: the addresses that stand for all addresses are not to be dialled.
fn reachable(url: &str) -> String {
    url.replacen("://0.0.0.0:", "://127.0.0.1:", 1)
        .replacen("://[::]:", "://[::1]:", 1)
}

/// What is said when a drain begins.
fn draining_text(connections: u64, grace: Duration) -> String {
    if connections == 0 {
        return "draining: no connections".to_owned();
    }
    format!(
        "draining: {}, at most {} s; press Ctrl-C again to stop at once",
        counted(connections, "connection"),
        grace.as_secs_f64()
    )
}

fn trust(url: &str, ready: &Ready) -> String {
    match &ready.fingerprint {
        Some(fingerprint) if !url.starts_with("ws://") => format!(" --fingerprint {fingerprint}"),
        _ => String::new(),
    }
}

/// Says what to do about an address that cannot be had.
fn explain(error: BindError) -> Failure {
    let hint = match &error {
        BindError::Listen {
            endpoint,
            source: dialtone_transport::BindError::Socket { source, .. },
        } => bind_hint(endpoint, source.kind()),
        BindError::Listen { .. } | BindError::NodeName { .. } | BindError::Config { .. } => None,
    };
    let failure = Failure::new(Exit::Failure, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn bind_hint(endpoint: &Endpoint, kind: std::io::ErrorKind) -> Option<String> {
    let (scheme, port) = match endpoint {
        Endpoint::Quic { port, .. } => ("quic", port),
        Endpoint::Ws { port, .. } => ("ws", port),
        Endpoint::Wss { port, .. } => ("wss", port),
        Endpoint::Memory(_) => return None,
    };
    let others = "given once, --listen replaces all default addresses";
    if kind == std::io::ErrorKind::AddrInUse {
        Some(format!(
            "port {port} is in use, perhaps by another broker; choose another with --listen {scheme}://127.0.0.1:PORT \
             (port 0: any free port; {others})"
        ))
    } else if kind == std::io::ErrorKind::PermissionDenied {
        Some(format!(
            "port {port} needs privileges; choose one above 1023 with --listen ({others})"
        ))
    } else if kind == std::io::ErrorKind::AddrNotAvailable {
        Some(
            "this machine does not have that address; 0.0.0.0 stands for all that it has"
                .to_owned(),
        )
    } else {
        None
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

    #[test]
    fn listeners_for_everybody_are_reached_at_this_machine() {
        for (url, shown) in [
            ("ws://0.0.0.0:4480/", "ws://127.0.0.1:4480/"),
            ("quic://[::]:4433", "quic://[::1]:4433"),
            ("ws://10.0.0.0:80/", "ws://10.0.0.0:80/"),
        ] {
            assert_eq!(reachable(url), shown);
        }
    }

    #[test]
    fn a_drain_is_announced() {
        assert_eq!(
            draining_text(1, Duration::from_millis(1500)),
            "draining: 1 connection, at most 1.5 s; press Ctrl-C again to stop at once"
        );
        assert_eq!(draining_text(0, Duration::ZERO), "draining: no connections");
    }
}
