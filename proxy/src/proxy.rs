//! The proxy itself: bind, run, stop, and the handle by which others tell it what has changed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use http::HeaderValue;
use parking_lot::RwLock;
use rustix::net::sockopt;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::Handle as Runtime;
use tokio::sync::Semaphore;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{Access, Whose};
use crate::config::{Config, Listen};
use crate::files::Files;
use crate::grant::Grants;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::places::Places;
use crate::pool::{Pool, Shard};
use crate::project::ProjectId;
use crate::separate::{Separate, Tickets};
use crate::serve::{Door, Worker};
use crate::site::Site;
use crate::targets::Targets;

/// Connections that wait in the kernel's queue for being accepted.
const BACKLOG: i32 = 4096;

/// How often connections to servers that are not used are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// How long the last tasks may take after everything was cut off.
const CUT_GRACE: Duration = Duration::from_secs(2);

/// An address cannot be had.
#[derive(Debug, Error)]
#[error("cannot listen on {addr}")]
pub struct BindError {
    /// Where the proxy should have listened.
    pub addr: SocketAddr,
    /// The operating system's word.
    #[source]
    pub source: io::Error,
}

/// Everything that the proxy asks.
#[derive(Clone)]
pub struct Services {
    /// Who may pass.
    pub access: Arc<dyn Access>,
    /// Where servers are.
    pub targets: Arc<dyn Targets>,
    /// The files of projects.
    pub files: Arc<dyn Files>,
    /// Where requests are told about.
    pub log: Option<Log>,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

/// A proxy that listens and does not yet answer.
pub struct Proxy {
    site: Arc<Site>,
    listeners: Vec<(std::net::TcpListener, SocketAddr, Listen)>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy")
            .field("addrs", &self.local_addrs())
            .finish_non_exhaustive()
    }
}

/// Tells a running proxy what has changed, and asks it how it does. Clones are of the same proxy.
#[derive(Clone)]
pub struct Handle(Arc<Site>);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Handle {
    /// What somebody may do has changed: what is remembered of it is forgotten, and live connections that may not go on
    /// are closed.
    pub async fn access_changed(&self, whose: Whose) {
        self.0.grants.changed(&whose).await;
    }

    /// Closes what is under way, whatever access says; whoever may, can come again. Gives the number of those concerned.
    pub fn end(&self, whose: &Whose) -> usize {
        self.0.grants.end(whose)
    }

    /// A project's servers are elsewhere, or gone; without a project, all of them.
    pub fn target_changed(&self, project: Option<ProjectId>) {
        self.0.places.forget(project);
    }

    /// The brokers behind `{base}/conat/` are others from here on; connections that are there stay.
    pub fn set_brokers(&self, brokers: Vec<SocketAddr>) {
        *self.0.brokers.write() = brokers.into();
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// How many answers about access are remembered.
    pub fn grants(&self) -> usize {
        self.0.grants.len()
    }
}

impl Proxy {
    /// Listens. Nothing is answered before [`run`](Self::run).
    ///
    /// # Errors
    /// When an address is taken, not of this machine, or forbidden.
    pub fn bind(mut config: Config, services: Services) -> Result<Self, BindError> {
        let mut listeners = Vec::with_capacity(config.listen.len());
        for listen in &config.listen {
            let failed = |source| BindError {
                addr: listen.addr,
                source,
            };
            let listener = listen_on(listen.addr).map_err(failed)?;
            let addr = listener.local_addr().map_err(failed)?;
            listeners.push((listener, addr, listen.clone()));
        }
        fill_ports(&mut listeners, config.separate.as_mut());
        if config.separate.is_some() {
            config.names.cookies.extend(Separate::cookies());
        }
        let limits = &config.limits;
        let site = Site {
            grants: Grants::new(
                services.access,
                config.access_ttl,
                config.refusal_ttl,
                limits.answers_max,
            ),
            places: Places::new(services.targets, config.target_ttl, limits.answers_max),
            files: services.files,
            metrics: Arc::default(),
            log: services.log,
            nobody: "".into(),
            brokers: RwLock::new(config.brokers.clone().into()),
            broker: AtomicUsize::new(0),
            hsts: config.hsts.and_then(hsts),
            tickets: Tickets::default(),
            tracker: TaskTracker::new(),
            cut: CancellationToken::new(),
            config,
        };
        Ok(Self {
            site: Arc::new(site),
            listeners,
        })
    }

    /// Where it listens, with real ports, in the order of the configuration.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|(_, addr, _)| *addr).collect()
    }

    /// For those who tell it what has changed.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.site))
    }

    /// Answers until `stop`; then lets what is under way come to its end within
    /// [`Config::drain_grace`], and cuts off the rest.
    ///
    /// # Errors
    /// When a socket cannot be watched.
    pub async fn run(self, stop: CancellationToken) -> io::Result<()> {
        let Self { site, listeners } = self;
        let workers = workers(&site.config);
        let max = usize::try_from(site.config.limits.connections_max).unwrap_or(usize::MAX);
        let slots = Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)));
        for (listener, _, listen) in listeners {
            let door = Door {
                listener: TcpListener::from_std(listener)?,
                listen,
            };
            let (site_of_door, slots) = (Arc::clone(&site), Arc::clone(&slots));
            let opened = door.run(site_of_door, workers.clone(), slots, stop.child_token());
            site.tracker.spawn(opened);
        }
        let kept = keep(&site, &workers);
        stop.run_until_cancelled(kept).await;
        site.tracker.close();
        for worker in &workers {
            worker.shard.pool.close();
        }
        if timeout(site.config.drain_grace, site.tracker.wait())
            .await
            .is_err()
        {
            site.cut.cancel();
            if timeout(CUT_GRACE, site.tracker.wait()).await.is_err() {
                tracing::warn!(tasks = site.tracker.len(), "some tasks have not ended");
            }
        }
        Ok(())
    }
}

/// Puts real ports in the place of those that were not known before.
fn fill_ports(
    listeners: &mut [(std::net::TcpListener, SocketAddr, Listen)],
    separate: Option<&mut Separate>,
) {
    let encrypted = listeners.iter().find(|(.., listen)| listen.tls.is_some());
    let https = encrypted.map(|(_, addr, _)| addr.port());
    for (.., listen) in listeners.iter_mut() {
        listen.https_port = match listen.https_port {
            Some(0) => https,
            port => port,
        };
    }
    let first = listeners.first().map(|(_, addr, _)| addr.port());
    if let (Some(separate), Some(first)) = (separate, first)
        && let Some(host) = separate.site.strip_suffix(":0")
    {
        separate.site = format!("{host}:{first}");
    }
}

fn hsts(age: Duration) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("max-age={}", age.as_secs())).ok()
}

/// A worker for each runtime, or one for the runtime of the caller.
fn workers(config: &Config) -> Vec<Worker> {
    let here = [Runtime::current()];
    let runtimes = if config.shards.is_empty() {
        &here[..]
    } else {
        &config.shards
    };
    let worker = |runtime: &Runtime| Worker {
        runtime: runtime.clone(),
        shard: Arc::new(Shard {
            pool: Pool::new(&config.timing, &config.limits),
        }),
    };
    runtimes.iter().map(worker).collect()
}

/// Forgets what is old, for ever.
async fn keep(site: &Site, workers: &[Worker]) {
    let mut sweep = interval(SWEEP_INTERVAL);
    let mut refresh = interval((site.config.access_ttl / 2).max(SWEEP_INTERVAL));
    loop {
        tokio::select! {
            _ = sweep.tick() => workers.iter().for_each(|worker| worker.shard.pool.sweep()),
            _ = refresh.tick() => site.grants.refresh().await,
        }
    }
}

fn listen_on(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
    let family = if addr.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &addr)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}
