//! The daemon itself: what it binds, what it serves, and how it ends.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dialtone_client::{Client, ConnectError, Options, Service, SubscribeError};
use futures_util::future;
use serde_json::json;
use thiserror::Error as ThisError;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::announce::{Announcement, Files};
use crate::api::Api;
use crate::capabilities::Capabilities;
use crate::config::Config;
use crate::error::{Code, Error};
use crate::exec::{Jobs, serve_streams};
use crate::home::Home;
use crate::processes::Processes;
use crate::raw::{self, Raw};
use crate::servers::Servers;
use crate::status::Usage;
use crate::terminal::{self, Terminals};
use crate::transfer::{Transfers, chunks, sockets};

/// The first wait before it is tried again to be let in by the broker, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How long requests under way may take once the project is to end.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// Why a project cannot be run.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum BindError {
    /// The folder of its files is missing.
    #[error("the home {} cannot be used", .0.display())]
    Home(PathBuf, #[source] io::Error),
    /// The raw file server cannot listen.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The kernel does not let it look after its processes.
    #[error("processes cannot be looked after")]
    Processes(#[source] io::Error),
}

/// What functions may do to the project itself.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) announcement: Announcement,
    pub(crate) usage: Usage,
    /// Ends it.
    pub(crate) stop: CancellationToken,
}

/// A project that can be run.
#[derive(Debug)]
pub struct Project {
    api: Arc<Api>,
    transfers: Arc<Transfers>,
    raw: Raw,
    files: Files,
    /// For work that outlives a connection to the broker.
    tasks: TaskTracker,
    /// Ends that work.
    ended: CancellationToken,
    ready: watch::Sender<Option<Announcement>>,
}

/// A hand on a project that runs.
#[derive(Debug, Clone)]
pub struct Handle {
    ready: watch::Receiver<Option<Announcement>>,
    processes: Processes,
}

impl Handle {
    /// Waits until the project has served its first connection to the broker; `None` if it has ended before.
    pub async fn ready(&mut self) -> Option<Announcement> {
        let ready = self.ready.wait_for(Option::is_some).await;
        ready.ok().and_then(|ready| ready.clone())
    }

    /// Kills every process of the project at once, for those who cannot wait for its end.
    pub fn kill(&self) {
        self.processes.kill_all();
    }
}

impl Project {
    /// Binds the raw file server and prepares everything else.
    ///
    /// # Errors
    /// When the home is no folder, the address is taken, or processes cannot be looked after.
    pub async fn bind(config: Config) -> Result<(Self, Handle), BindError> {
        let home = Home::open(&config.home)
            .map_err(|error| BindError::Home(config.home.clone(), error))?
            .limited(config.disk_quota);
        let processes = Processes::new(config.adopts_orphans, config.timing.end_grace)
            .map_err(BindError::Processes)?;
        let secret = config.secret.clone();
        let secret = secret.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
        let listen =
            |error| BindError::Listen(SocketAddr::new(config.host, config.raw_port), error);
        let raw = Raw::bind(&config, home.clone(), &secret)
            .await
            .map_err(listen)?;
        let announcement = Announcement::new(&config, raw::shown(raw.addr().map_err(listen)?));
        let (tasks, ended) = (TaskTracker::new(), CancellationToken::new());
        let bounds = (config.timing.clone(), config.limits.clone());
        let environment = config.environment.clone();
        let jobs = Jobs::new(
            home.clone(),
            environment.clone(),
            bounds.clone(),
            processes.clone(),
            (tasks.clone(), ended.clone()),
        );
        let terminals = Terminals::new(
            home.clone(),
            environment.clone(),
            bounds,
            processes.clone(),
            tasks.clone(),
        );
        let lives = (tasks.clone(), ended.clone());
        let servers = Servers::new(&config, &secret, home.clone(), processes.clone(), lives);
        let shown_home = home.root().display().to_string();
        let kept = config.timing.capabilities_kept;
        let (ready, is_ready) = watch::channel(None);
        let project = Self {
            transfers: Arc::new(Transfers::new(
                home.clone(),
                config.timing.clone(),
                &config.limits,
            )),
            files: Files::new(&config.state, &announcement),
            raw,
            tasks,
            ended,
            ready,
            api: Arc::new(Api {
                limits: config.limits.clone(),
                config,
                home,
                jobs: Arc::new(jobs),
                terminals: Arc::new(terminals),
                servers: Arc::new(servers),
                processes,
                capabilities: Capabilities::new(environment, shown_home, kept),
                control: Control {
                    announcement,
                    usage: Usage::default(),
                    stop: CancellationToken::new(),
                },
            }),
        };
        let handle = Handle {
            ready: is_ready,
            processes: project.api.processes.clone(),
        };
        Ok((project, handle))
    }

    /// Serves until `stop` is cancelled, or somebody asks the project to end; then ends every process of it.
    ///
    /// A broker that cannot be reached, or does not let the project in, is tried again for ever: it may know the secret
    /// only later, and what runs here should not end for that.
    pub async fn run(self, options: Options, stop: CancellationToken) {
        let Self {
            api,
            transfers,
            raw,
            files,
            tasks,
            ended,
            ready,
        } = self;
        let own_stop = api.control.stop.clone();
        drop(tasks.spawn(raw.run(tasks.clone(), ended.clone())));
        let reaper = {
            let (processes, ended) = (api.processes.clone(), ended.clone());
            async move {
                if let Err(error) = processes.reap(&ended).await {
                    tracing::error!(%error, "processes without a parent are not looked after");
                }
            }
        };
        drop(tasks.spawn(reaper));
        let pause = api.config.timing.measure_pause;
        let measuring = Arc::clone(api.home.room()).follow(api.home.root().into(), pause);
        let measured = ended.clone();
        drop(tasks.spawn(async move {
            tokio::select! {
                () = measuring => {}
                () = measured.cancelled() => {}
            }
        }));
        let connections = Connections {
            api: Arc::clone(&api),
            transfers,
            files: &files,
            ready: &ready,
            tasks: tasks.clone(),
        };
        connections.serve_for_ever(options, &stop, &own_stop).await;
        api.processes.end_all().await;
        ended.cancel();
        tasks.close();
        tasks.wait().await;
        files.remove();
    }
}

/// What is needed to serve a connection.
struct Connections<'a> {
    api: Arc<Api>,
    transfers: Arc<Transfers>,
    files: &'a Files,
    ready: &'a watch::Sender<Option<Announcement>>,
    tasks: TaskTracker,
}

/// The two connections of a project: files of any size must not keep anything else waiting.
struct Pair {
    talk: Client,
    bulk: Client,
}

/// What answers on a connection.
struct Serving {
    services: Vec<Service>,
    /// Sockets are accepted and served until this is dropped.
    _accepting: DropGuard,
}

impl Connections<'_> {
    async fn serve_for_ever(
        &self,
        options: Options,
        stop: &CancellationToken,
        own_stop: &CancellationToken,
    ) {
        let is_over = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = own_stop.cancelled() => {}
            }
        };
        let mut is_over = std::pin::pin!(is_over);
        let (mut pause, pause_max) = AGAIN;
        loop {
            let begun = tokio::select! {
                begun = self.begin(&options) => begun,
                () = &mut is_over => return,
            };
            match begun {
                Ok((pair, serving)) => {
                    (pause, _) = AGAIN;
                    let is_stopped = tokio::select! {
                        () = self.attend(&pair) => false,
                        () = &mut is_over => true,
                    };
                    end(pair, serving, is_stopped).await;
                    if is_stopped {
                        return;
                    }
                    tracing::warn!("the broker has ended the connection; trying again");
                }
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the broker does not serve this project; trying again in {pause:?}"
                ),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(pause_max),
                () = &mut is_over => return,
            }
        }
    }

    async fn begin(&self, options: &Options) -> Result<(Pair, Serving), BeginError> {
        let connect = |role: &str| {
            let mut options = options.clone();
            options.retry_on_initial_connect = true;
            options.name = format!("{} ({role})", options.name);
            options.connect()
        };
        let pair = Pair {
            talk: connect("project").await?,
            bulk: connect("project files").await?,
        };
        let serving = self.serve(&pair).await?;
        let announcement = &self.api.control.announcement;
        if let Err(error) = self.files.write() {
            tracing::warn!(%error, "what the project says about itself cannot be written");
        }
        if self
            .ready
            .send_replace(Some(announcement.clone()))
            .is_none()
        {
            self.run_init();
        }
        Ok((pair, serving))
    }

    /// Runs the script that is to be run once.
    fn run_init(&self) {
        let config = &self.api.config;
        let Some(script) = &config.init else { return };
        let log = config.state.join("init.log");
        let request = json!({
            "command": "exec bash \"$1\" >\"$2\" 2>&1",
            "args": [script.display().to_string(), log.display().to_string()],
            "bash": true,
            "async_call": true,
        });
        let started = serde_json::from_value(request)
            .map_err(|error| Error::new(Code::Internal, error.to_string()))
            .and_then(|request| self.api.jobs.start(request));
        if let Err(error) = started {
            tracing::error!(%error, script = %script.display(), "the script for the start cannot be run");
        }
    }

    async fn serve(&self, pair: &Pair) -> Result<Serving, SubscribeError> {
        let (api, place) = (&self.api, &self.api.config.place);
        let (limits, stop) = (&api.limits, CancellationToken::new());
        let accepting = stop.clone().drop_guard();
        let transfers = || Arc::clone(&self.transfers);
        let services = vec![
            chunks::serve_reading(&pair.bulk, place, transfers(), limits.transfers_max).await?,
            chunks::serve_writing(&pair.bulk, place, transfers(), limits.transfers_max).await?,
            serve_streams(
                &pair.talk,
                place.service("exec-stream"),
                Arc::clone(&api.jobs),
                limits.running_max,
            )
            .await?,
            api.serve(&pair.talk, place.service("api")).await?,
            api.serve(&pair.talk, place.api()).await?,
        ];
        let files = sockets::serve(
            &pair.bulk,
            place.service("files"),
            transfers(),
            self.tasks.clone(),
            stop.clone(),
        );
        let viewers = terminal::serve(
            &pair.talk,
            place.terminals(),
            Arc::clone(&api.terminals),
            self.tasks.clone(),
            stop.clone(),
        );
        drop(self.tasks.spawn(files.await?));
        drop(self.tasks.spawn(viewers.await?));
        Ok(Serving {
            services,
            _accepting: accepting,
        })
    }

    /// Tells the status until one of the connections has ended for good.
    async fn attend(&self, pair: &Pair) {
        let subject = self.api.config.place.service("project-status");
        let mut interval = tokio::time::interval(self.api.config.timing.status_interval);
        loop {
            tokio::select! {
                reason = pair.talk.closed() => {
                    tracing::debug!(?reason, "the connection has ended");
                    return;
                }
                reason = pair.bulk.closed() => {
                    tracing::debug!(?reason, "the connection for files has ended");
                    return;
                }
                _ = interval.tick() => {}
            }
            let api = Arc::clone(&self.api);
            let status = tokio::task::spawn_blocking(move || api.status()).await;
            let status = status.unwrap_or_else(|error| json!({"error": error.to_string()}));
            let told = match pair.talk.message(&*subject).msgpack(&status) {
                Ok(draft) => draft.try_publish().map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = told {
                tracing::debug!(error, "the status cannot be told");
            }
            if let Err(error) = self.files.write() {
                tracing::debug!(%error, "what the project says about itself cannot be written");
            }
        }
    }
}

#[derive(Debug, ThisError)]
enum BeginError {
    #[error("cannot connect")]
    Connect(#[from] ConnectError),
    #[error("cannot subscribe")]
    Subscribe(#[from] SubscribeError),
}

/// Ends a connection: with time for what is under way if the project is stopped, at once if the connection is lost.
async fn end(pair: Pair, serving: Serving, is_drained: bool) {
    if is_drained {
        let stopping = future::join_all(serving.services.into_iter().map(Service::stop));
        // What takes longer than that is given up: its process ends as well.
        drop(tokio::time::timeout(DRAIN_MAX, stopping).await);
    }
    pair.talk.close().await;
    pair.bulk.close().await;
}
