//! `dialtone proxy`: everything is read and checked, then bound, then announced, and then it runs until a signal comes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use dialtone_proxy::fixed::Fixed;
use dialtone_proxy::log::{Destination, Log, Style};
use dialtone_proxy::monitor::Monitor;
use dialtone_proxy::separate::Separate;
use dialtone_proxy::{Handle, Proxy as Running, Services, Whose};
use dialtone_transport::tls::ServerTls;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

mod assemble;
mod file;
mod listen;
mod projects;
mod settings;
mod show;

pub(crate) use settings::Flags;
pub(crate) use show::{resolved, sample};

use self::projects::Site;
use self::settings::Settings;
use crate::args::Proxy as Args;
use crate::certificates;
use crate::config::{Environment, Problem, Strings};
use crate::exit::{Failure, Outcome};
use crate::expiry::{self, Shown};
use crate::lifecycle::{self, Ended, Signals};
use crate::print::{Output, Paint, note};
use crate::shards::{self, Shards};

/// The variable that names the file.
const CONFIG: &str = "DIALTONE_PROXY_CONFIG";

/// Beyond the drain's own grace period, how long the proxy may take to end before it is cut.
const CUT_AFTER: Duration = Duration::from_secs(5);

/// A proxy's configuration as far as it could be read.
pub(crate) struct Loaded {
    /// Every setting with its origin.
    pub(crate) settings: Settings,
    /// The projects and users.
    pub(crate) site: Site,
    /// What is wrong; with any of these the settings must not be used.
    pub(crate) problems: Vec<Problem>,
    /// What is doubtful.
    pub(crate) warnings: Vec<Problem>,
}

/// Where a proxy's configuration comes from, and comes from again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    /// What the command line says.
    pub(crate) flags: Flags,
    /// The file that it names.
    pub(crate) file: Option<PathBuf>,
}

impl Sources {
    /// Reads and merges all sources. Nothing is bound or started.
    pub(crate) fn load(&self, strings: &dyn Strings) -> Loaded {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        let flags = self.flags.layer(&mut problems);
        let environment = settings::environment(strings, &mut problems, &mut warnings);
        let path = self
            .file
            .clone()
            .or_else(|| strings.get(CONFIG).map(Into::into));
        let read = path
            .map(|path: PathBuf| file::read(&path, &mut problems))
            .unwrap_or_default();
        let settings = flags.or(environment).or(read.layer).resolve();
        assemble::check(&settings, &mut problems);
        Loaded {
            settings,
            site: read.site,
            problems,
            warnings,
        }
    }
}

impl Loaded {
    /// What is wrong with the files and folders that the configuration names.
    pub(crate) fn unopened(&self) -> Vec<String> {
        let table = self.site.table().map(drop);
        let tls = assemble::tls(&self.settings).map(drop);
        let separate = assemble::separate(&self.settings).map(drop);
        let errors = [table, tls, separate].into_iter().filter_map(Result::err);
        errors.map(|error| format!("{error:#}")).collect()
    }
}

/// `dialtone proxy`
pub(crate) fn run(args: Args) -> Outcome {
    let sources = Sources {
        flags: args.settings,
        file: args.config,
    };
    let loaded = usable(sources.load(&Environment))?;
    let wrong = |error: anyhow::Error| Failure::new(crate::exit::Exit::Usage, error);
    let tls = assemble::tls(&loaded.settings).map_err(wrong)?;
    let separate = assemble::separate(&loaded.settings).map_err(wrong)?;
    let fixed = Arc::new(Fixed::new(loaded.site.table().map_err(wrong)?));
    let (projects, _) = loaded.site.counts();
    if projects == 0 && loaded.settings.brokers.value.is_empty() {
        tracing::warn!("there are neither projects nor brokers: every request is refused");
    }
    let (log, writer) = match log(&loaded.settings)? {
        Some((log, writer)) => (Some(log), Some(writer)),
        None => (None, None),
    };
    let shards =
        Shards::start(loaded.settings.threads.value).context("cannot start the threads")?;
    let runtime = shards::current_thread().context("cannot start the runtime")?;
    let service = Service {
        sources,
        settings: loaded.settings,
        tls,
        separate,
        fixed,
        log,
        ready_file: args.ready_file,
        json: args.json,
    };
    let outcome = runtime.block_on(service.run(&shards));
    drop(runtime);
    shards.stop();
    if let Some(writer) = writer {
        writer.stop();
    }
    outcome
}

/// Fails if anything is wrong with the configuration.
fn usable(loaded: Loaded) -> Result<Loaded, Failure> {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if loaded.problems.is_empty() {
        return Ok(loaded);
    }
    let problems: Vec<String> = loaded
        .problems
        .iter()
        .map(|problem| format!("\n  {problem}"))
        .collect();
    let problems = problems.concat();
    let failure = Failure::usage(format_args!("the configuration cannot be used:{problems}"));
    Err(failure.hint("`dialtone config check --proxy` shows the whole configuration, `dialtone config sample --proxy` explains it"))
}

fn log(settings: &Settings) -> anyhow::Result<Option<(Log, dialtone_proxy::log::Writer)>> {
    let Some(path) = &settings.log_file.value else {
        return Ok(None);
    };
    let destination = if path.ends_with(Path::new("-")) {
        Destination::Stdout
    } else {
        Destination::File(path.clone())
    };
    let style = if settings.log_combined.value {
        Style::Combined
    } else {
        Style::Json
    };
    let started = Log::start(destination, style);
    started
        .map(Some)
        .with_context(|| format!("cannot write the access log {}", path.display()))
}

struct Service {
    sources: Sources,
    settings: Settings,
    tls: Option<ServerTls>,
    separate: Option<Separate>,
    fixed: Arc<Fixed>,
    log: Option<Log>,
    ready_file: Option<PathBuf>,
    json: bool,
}

impl Service {
    async fn run(self, shards: &Shards) -> Outcome {
        // Before anything is announced, so that whoever reads it may send signals.
        let signals = Signals::new().context("cannot take over signals")?;
        let (tls, separate) = (self.tls.as_ref(), self.separate.clone());
        let config = assemble::config(&self.settings, tls, separate, shards.handles());
        let grace = config.drain_grace;
        let services = Services {
            access: Arc::<Fixed>::clone(&self.fixed),
            targets: Arc::<Fixed>::clone(&self.fixed),
            files: Arc::<Fixed>::clone(&self.fixed),
            log: self.log.clone(),
        };
        let bound = Running::bind(config, services).map_err(anyhow::Error::from);
        let proxy = bound.map_err(|error| {
            Failure::from(error)
                .hint("choose another address with --listen URL (port 0: any free port)")
        })?;
        let handle = proxy.handle();
        let monitor = self.monitor(&handle).await?;
        self.announce(&proxy, monitor.as_ref())?;
        let drain = CancellationToken::new();
        let renewed = renewed(self.tls.clone(), drain.clone());
        let serving = serve(proxy, monitor, drain.clone());
        let serving = async move {
            tokio::join!(serving, renewed);
        };
        let counting = handle.clone();
        let reload = Reload {
            sources: self.sources,
            tls: self.tls,
            fixed: self.fixed,
            log: self.log,
            handle,
        };
        let draining = || {
            let (requests, tunnels) = (counting.metrics().requests(), counting.metrics().tunnels());
            let seconds = grace.as_secs_f64();
            tracing::info!(
                requests,
                tunnels,
                "draining: at most {seconds} s; press Ctrl-C again to stop at once"
            );
        };
        let supervised = lifecycle::supervise(
            serving,
            signals,
            drain,
            grace + CUT_AFTER,
            || reload.run(),
            draining,
        );
        match supervised.await {
            Ended::Drained => tracing::info!("stopped"),
            Ended::Cut => tracing::warn!("stopped; connections were cut"),
            Ended::Unasked => {
                return Err(Failure::from(anyhow::anyhow!("the proxy ended by itself")));
            }
        }
        Ok(())
    }

    async fn monitor(&self, handle: &Handle) -> Result<Option<Monitor>, Failure> {
        let Some(addr) = self.settings.monitor.value else {
            return Ok(None);
        };
        let bound = Monitor::bind(addr, handle.clone()).await;
        let bound = bound.with_context(|| format!("cannot serve monitoring on {addr}"));
        bound.map(Some).map_err(|error| {
            Failure::from(error).hint("choose another address with --monitor ADDRESS")
        })
    }

    fn announce(&self, proxy: &Running, monitor: Option<&Monitor>) -> Outcome {
        let listening = self.settings.listen.value.iter().zip(proxy.local_addrs());
        let urls: Vec<String> = listening
            .map(|(at, addr)| listen::At { addr, ..*at }.to_string())
            .map(|url| format!("{url}{}", assemble::base(&self.settings)))
            .collect();
        let monitor = monitor.map(|monitor| format!("http://{}", monitor.local_addr()));
        for url in &urls {
            tracing::info!(url, "listening");
        }
        let fingerprint = self.tls.as_ref().map(|tls| tls.fingerprint().to_string());
        let ready = json!({"pid": std::process::id(), "urls": urls, "monitor": monitor, "fingerprint": fingerprint});
        if let Some(path) = &self.ready_file {
            crate::files::replace(path, format!("{ready}\n").as_bytes(), 0o644)
                .with_context(|| format!("cannot write the ready file {}", path.display()))?;
        }
        if self.json {
            let mut out = Output::stdout();
            out.json(&ready)?;
            std::io::Write::flush(&mut out)?;
        } else if Paint::stderr().is_on() {
            note(format_args!("Ready on {}", urls.join(", ")));
        }
        Ok(())
    }
}

/// Looks after the certificate, if there is one, until the proxy ends.
async fn renewed(tls: Option<ServerTls>, end: CancellationToken) {
    if let Some(tls) = tls {
        // A signal has it read again as well, with everything else.
        let asked = Notify::new();
        let expiring = expiry::watch(&tls, Shown::Browsers, &end);
        tokio::join!(certificates::follow(&tls, &asked, &end), expiring);
    }
}

/// The proxy, with its monitoring until it has ended.
async fn serve(proxy: Running, monitor: Option<Monitor>, drain: CancellationToken) {
    let over = CancellationToken::new();
    let proxying = async {
        if let Err(error) = proxy.run(drain.clone()).await {
            tracing::error!(%error, "the proxy failed");
        }
        over.cancel();
    };
    match monitor {
        Some(monitor) => drop(tokio::join!(
            proxying,
            monitor.run(drain.clone(), over.clone())
        )),
        None => proxying.await,
    }
}

/// What `SIGHUP` does: certificates, projects and users are read again, and the access log is opened again.
struct Reload {
    sources: Sources,
    tls: Option<ServerTls>,
    fixed: Arc<Fixed>,
    log: Option<Log>,
    handle: Handle,
}

impl Reload {
    fn run(&self) {
        if let Some(log) = &self.log {
            log.reopen();
        }
        if let Some(tls) = &self.tls
            && let Err(error) = tls.reload()
        {
            tracing::error!(
                "{:#}",
                anyhow::Error::from(error).context("the certificate stays as it was")
            );
        }
        let loaded = self.sources.load(&Environment);
        for problem in &loaded.problems {
            tracing::error!("{problem}");
        }
        let table = if loaded.problems.is_empty() {
            loaded.site.table()
        } else {
            Err(anyhow::anyhow!("it is wrong"))
        };
        match table {
            Ok(table) => self.replace(table, loaded.site.counts()),
            Err(error) => {
                tracing::error!("{:#}", error.context("the configuration stays as it was"));
            }
        }
    }

    fn replace(&self, table: dialtone_proxy::fixed::Table, (projects, tokens): (usize, usize)) {
        self.fixed.replace(table);
        self.handle.target_changed(None);
        let handle = self.handle.clone();
        // The table answers at once, so that this takes no time.
        let changed = async move { handle.access_changed(Whose::All).await };
        futures_util::FutureExt::now_or_never(changed);
        tracing::info!(
            projects,
            tokens,
            "reloaded; settings other than projects and users change with the next start"
        );
    }
}
