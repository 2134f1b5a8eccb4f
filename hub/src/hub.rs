//! A running hub: its store, what it does by itself, and how it comes to an end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::background::{self, Migration};
use crate::feed::Follower;
use crate::health::{self, Health};
use crate::letters::{self, Letters, Sender};
use crate::settings::Live;
use crate::singleton;
use crate::store::{self, Store, hubs};
use crate::web::{Pages, Web};
use crate::{agent, maintenance, stats};

/// How often a hub says that it runs, and how long that counts.
const REGISTER_EVERY: Duration = Duration::from_secs(20);
const REGISTER_TTL: Duration = Duration::from_mins(1);

/// How long the parts of a hub may take to end.
const END_MAX: Duration = Duration::from_secs(10);

/// What a hub is called and what it does.
#[derive(Debug, Clone)]
pub struct Config {
    /// The machine that it runs on.
    pub hostname: String,
    /// Where it answers over HTTP.
    pub listen: SocketAddr,
    /// Where it tells `HAProxy` whether to send work, if anywhere.
    pub agent: Option<SocketAddr>,
    /// When it counts as ill.
    pub health: health::Config,
    /// What is removed when.
    pub maintenance: maintenance::Config,
    /// How gently data is migrated.
    pub background: background::Config,
    /// The folder in which letters become files where the settings name no mail server, if any.
    pub letters_folder: Option<PathBuf>,
    /// How eagerly letters are sent.
    pub letters: letters::Config,
    /// How often the site is counted.
    pub stats: stats::Config,
    /// How long others wait for a hub that has a lease and was not heard of since.
    pub lease_ttl: Duration,
    /// How often those who do not have a lease ask for it.
    pub lease_retry: Duration,
}

impl Config {
    /// The defaults, on this machine.
    pub fn new(hostname: String, listen: SocketAddr) -> Self {
        Self {
            hostname,
            listen,
            agent: None,
            health: health::Config::default(),
            maintenance: maintenance::Config::default(),
            background: background::Config::default(),
            letters_folder: None,
            letters: letters::Config::default(),
            stats: stats::Config::default(),
            lease_ttl: Duration::from_secs(30),
            lease_retry: Duration::from_secs(10),
        }
    }
}

/// Why a hub did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database did not do what was asked.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// An address cannot be had.
    #[error("cannot listen on {addr}")]
    Listen {
        /// Which one.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A hub that has everything it needs and does not run yet.
pub struct Hub {
    store: Store,
    config: Config,
    settings: Live,
    follower: Follower,
    web: Web,
    agent: Option<agent::Agent>,
    health: Arc<Health>,
    letters: Letters,
    migrations: Arc<[Box<dyn Migration>]>,
    pages: Vec<Arc<dyn Pages>>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// A hub as other parts of the program see it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    /// Its store.
    pub store: Store,
    /// The settings of the site.
    pub settings: Live,
    /// What it knows about itself.
    pub health: Arc<Health>,
    /// Takes the letters that it sends.
    pub letters: Letters,
}

impl Hub {
    /// Takes what it needs: addresses, and the settings.
    ///
    /// # Errors
    /// When an address cannot be had, or the database does not answer.
    pub async fn bind(
        store: Store,
        config: Config,
        migrations: Vec<Box<dyn Migration>>,
    ) -> Result<Self, Error> {
        let addr = config.listen;
        let listened = Web::bind(addr).await;
        let web = listened.map_err(|source| Error::Listen { addr, source })?;
        let agent = match config.agent {
            Some(addr) => {
                let bound = agent::Agent::bind(addr).await;
                Some(bound.map_err(|source| Error::Listen { addr, source })?)
            }
            None => None,
        };
        let (settings, follower) = Live::open(&store).await?;
        let health = Arc::new(Health::new(config.health.clone(), store.clone()));
        let letters = Letters::new(settings.clone(), config.letters_folder.clone());
        Ok(Self {
            store,
            letters,
            config,
            settings,
            follower,
            web,
            agent,
            health,
            migrations: migrations.into(),
            pages: Vec::new(),
        })
    }

    /// Also shows these pages over HTTP.
    #[must_use]
    pub fn with_pages(mut self, pages: Arc<dyn Pages>) -> Self {
        self.pages.push(pages);
        self
    }

    /// For other parts of the program.
    pub fn handle(&self) -> Handle {
        Handle {
            store: self.store.clone(),
            settings: self.settings.clone(),
            health: Arc::clone(&self.health),
            letters: self.letters.clone(),
        }
    }

    /// Where it answers over HTTP, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.web.local_addr()
    }

    /// Works until it is told to stop, then ends everything in good order: those who ask are told first, what has
    /// begun is finished, leases are given back, and the database is closed last.
    pub async fn run(self, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let ending = CancellationToken::new();
        let port = self.web.local_addr().port();
        let host = format!("{}-{port}", self.config.hostname);
        let holder = format!("{host}-{}", uuid::Uuid::new_v4());
        let (ttl, retry) = (self.config.lease_ttl, self.config.lease_retry);
        let lease = |name| singleton::Config {
            ttl,
            retry,
            ..singleton::Config::new(name, &holder)
        };
        let (store, health) = (self.store.clone(), Arc::clone(&self.health));
        tasks.spawn({
            let (store, ending) = (store.clone(), ending.clone());
            async move { store.listen(ending).await }
        });
        tasks.spawn({
            let (settings, ending) = (self.settings, ending.clone());
            async move { settings.follow(self.follower, ending).await }
        });
        tasks.spawn(
            self.web
                .run(Arc::clone(&health), self.pages, ending.clone()),
        );
        if let Some(agent) = self.agent {
            tasks.spawn(agent.run(Arc::clone(&health), ending.clone()));
        }
        let sender = Sender::new(store.clone(), self.letters, self.config.letters);
        tasks.spawn(sender.run(ending.clone()));
        tasks.spawn(register(
            store.clone(),
            health,
            host.clone(),
            port,
            ending.clone(),
        ));
        tasks.spawn(maintain(
            store.clone(),
            lease("maintenance"),
            self.config.maintenance,
            ending.clone(),
        ));
        tasks.spawn(count(
            store.clone(),
            lease("stats"),
            self.config.stats,
            ending.clone(),
        ));
        if !self.migrations.is_empty() {
            let (config, ending) = (self.config.background, ending.clone());
            let lease = lease(background::LEASE);
            let (store, migrations) = (store.clone(), self.migrations);
            tasks.spawn(async move {
                background::keep(&store, &lease, &migrations, &config, &ending).await;
            });
        }
        tasks.close();
        stop.cancelled().await;
        self.health.drain();
        ending.cancel();
        end(&tasks, &store, &host).await;
    }
}

/// Waits for all parts, and lets the database go.
async fn end(tasks: &TaskTracker, store: &Store, host: &str) {
    if tokio::time::timeout(END_MAX, tasks.wait()).await.is_err() {
        tracing::warn!("some parts of the hub did not end in time");
    }
    if tokio::time::timeout(END_MAX, goodbye(store, host))
        .await
        .is_err()
    {
        tracing::warn!("the database did not let go in time");
    }
}

async fn goodbye(store: &Store, host: &str) {
    let gone = async {
        let mut on = store.write().await?;
        hubs::delete(&mut on, host).await?;
        on.commit().await
    };
    if let Err(error) = gone.await {
        // It is forgotten by itself.
        tracing::debug!(error = &error as &dyn std::error::Error, "no goodbye");
    }
    store.close().await;
}

async fn maintain(
    store: Store,
    lease: singleton::Config,
    config: maintenance::Config,
    ending: CancellationToken,
) {
    Box::pin(singleton::run(&store, &lease, &ending, |_lease, stop| {
        let (store, config) = (store.clone(), config.clone());
        Box::pin(async move { maintenance::run(&store, &config, &stop).await })
    }))
    .await;
}

async fn count(
    store: Store,
    lease: singleton::Config,
    config: stats::Config,
    ending: CancellationToken,
) {
    Box::pin(singleton::run(&store, &lease, &ending, |_lease, stop| {
        let (store, config) = (store.clone(), config.clone());
        Box::pin(async move { stats::run(&store, &config, &stop).await })
    }))
    .await;
}

/// Says again and again that the hub runs, which shows whether the database answers.
async fn register(
    store: Store,
    health: Arc<Health>,
    host: String,
    port: u16,
    ending: CancellationToken,
) {
    let version = env!("CARGO_PKG_VERSION");
    let rounds = async {
        loop {
            let said = async {
                let mut on = store.write().await?;
                hubs::put(&mut on, &host, port, version, REGISTER_TTL).await?;
                on.commit().await
            };
            let said = said.await;
            health.database(said.is_ok());
            if let Err(error) = said {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the database does not answer"
                );
                tokio::time::sleep(REGISTER_EVERY / 10).await;
            } else {
                tokio::time::sleep(REGISTER_EVERY).await;
            }
        }
    };
    tokio::select! {
        () = rounds => {}
        () = ending.cancelled() => {}
    }
}
