//! What the hub keeps, in PostgreSQL or SQLite: the only place with SQL.
//!
//! A repository is a file with functions about one concept. Those that only ask take `&mut Reader`; those that change
//! something take `&mut Transaction`, which is a reader too, and note each change with
//! [`Transaction::changed`](transaction::Transaction), so that it is told in the same transaction. They return types of
//! the domain and never rows. Each statement is written once for both databases where possible ([`sql`]), and every
//! function is run on both by `hub/tests/store`.
//!
//! To add one: a migration in `migrations/hub/postgres` and `migrations/hub/sqlite` with a line in `migrate.rs`; a
//! file here; a variant of [`outbox::Table`], if others should hear of its changes; a test for both in
//! `hub/tests/store`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

mod config;
pub use config::{Config, InvalidLocation, Location};

mod error;
pub use error::Error;

mod sql;
pub use sql::Dialect;

mod row;

mod transaction;
pub use transaction::{Reader, Transaction};

mod connect;

pub mod migrate;

pub mod outbox;

mod listen;

pub mod leases;

pub mod settings;

mod assign;

pub mod accounts;

pub mod remember_me;

pub mod api_keys;

pub mod tokens;

pub mod throttle;

pub mod letters;

pub mod stats;

pub mod passports;

pub mod projects;

pub mod control;

pub mod copies;

pub mod pool;

pub mod users;

pub mod expire;

pub mod background;

pub mod hubs;

pub mod bookmarks;

pub mod copy;

pub mod query;

pub mod invites;

pub mod project_log;

pub mod creation_actions;

pub mod messages;

pub mod organizations;

pub mod purchases;

pub mod licences;

pub mod kernels;

pub mod models;

pub mod logs;

pub mod files;

/// How much longer than the database we wait for a statement: it should be the one to end it, and say why.
const ANSWER_EXTRA: Duration = Duration::from_secs(2);

/// The first and the longest pause between attempts to reach the database at the start.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// How much of a slow statement is logged, in characters.
const LOGGED_MAX: usize = 300;

/// A database with the tables of the hub. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pools: connect::Pools,
    config: Config,
    permits: Arc<Semaphore>,
    /// The number in the log of changes that this process has heard of last.
    heard: watch::Sender<i64>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    statements: AtomicU64,
    slow: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    micros: AtomicU64,
}

/// What the store says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Open connections.
    pub connections: u32,
    /// Open connections that nobody uses.
    pub idle: usize,
    /// Requests that have or wait for a connection.
    pub requests: usize,
    /// Statements so far.
    pub statements: u64,
    /// Statements so far that took longer than [`Config::slow_min`].
    pub slow: u64,
    /// Statements so far that failed, for whatever reason.
    pub failed: u64,
    /// Requests so far that were refused because too many waited.
    pub refused: u64,
    /// How long all statements so far took together.
    pub busy: Duration,
}

impl Store {
    /// Connects, and brings the tables up to date.
    ///
    /// # Errors
    /// [`Error::Unusable`] if somebody has to change something first; otherwise it may work later.
    pub async fn open(config: Config) -> Result<Self, Error> {
        let store = Self::attach(config).await?;
        let done = migrate::run(store.write().await?).await?;
        if done > 0 {
            tracing::info!(
                migrations = done,
                "the tables of the hub were brought up to date"
            );
        }
        let head = outbox::head(&mut store.read().await?).await?;
        store.shared.wake(head);
        Ok(store)
    }

    /// Connects, and leaves the tables as they are.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn attach(config: Config) -> Result<Self, Error> {
        let pools = connect::pools(&config).await?;
        let shared = Shared {
            pools,
            permits: Arc::new(Semaphore::new(config.waiting_max)),
            config,
            heard: watch::Sender::new(0),
            counters: Counters::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Opens it as soon as the database answers, however long that takes; `None` when it is told to stop.
    ///
    /// # Errors
    /// [`Error::Unusable`] and others that waiting does not cure.
    pub async fn open_when_ready(
        config: Config,
        stop: &CancellationToken,
    ) -> Result<Option<Self>, Error> {
        let mut pause = RETRY_FIRST;
        for attempt in 1_u32.. {
            let opened = tokio::select! {
                opened = Self::open(config.clone()) => opened,
                () = stop.cancelled() => return Ok(None),
            };
            let error = match opened {
                Ok(store) => return Ok(Some(store)),
                Err(error) if error.is_temporary() => error,
                Err(error) => return Err(error),
            };
            tracing::warn!(
                attempt,
                database = %config.location,
                next_seconds = pause.as_secs(),
                error = &error as &dyn std::error::Error,
                "the database does not answer yet"
            );
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return Ok(None),
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
        Ok(None)
    }

    /// A connection for questions.
    ///
    /// # Errors
    /// [`Error::Overloaded`] or [`Error::Unavailable`].
    pub async fn read(&self) -> Result<Reader, Error> {
        Reader::begin(&self.shared).await
    }

    /// A transaction for changes.
    ///
    /// # Errors
    /// [`Error::Overloaded`] or [`Error::Unavailable`].
    pub async fn write(&self) -> Result<Transaction, Error> {
        Transaction::begin(&self.shared).await
    }

    /// Where the database is, without passwords.
    pub fn location(&self) -> &Location {
        &self.shared.config.location
    }

    /// What it says about itself.
    pub fn status(&self) -> Status {
        let (connections, idle) = self.shared.pools.sizes();
        let counters = &self.shared.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Status {
            connections,
            idle,
            requests: self
                .shared
                .config
                .waiting_max
                .saturating_sub(self.shared.permits.available_permits()),
            statements: get(&counters.statements),
            slow: get(&counters.slow),
            failed: get(&counters.failed),
            refused: get(&counters.refused),
            busy: Duration::from_micros(get(&counters.micros)),
        }
    }

    /// The number in the log of changes that this process has heard of last, and news of others.
    pub fn heard(&self) -> watch::Receiver<i64> {
        self.shared.heard.subscribe()
    }

    /// How often those who follow the changes look by themselves.
    pub(crate) fn poll(&self) -> Duration {
        self.shared.config.poll
    }

    /// Waits until every connection is given back, and closes them. Nothing can be asked afterwards.
    pub async fn close(&self) {
        self.shared.pools.close().await;
    }
}

impl Shared {
    fn permit(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.permits)
            .try_acquire_owned()
            .map_err(|_full| {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                Error::Overloaded {
                    waiting_max: self.config.waiting_max,
                }
            })
    }

    /// Waits for an answer of the database, but not for ever.
    async fn bounded<T>(
        &self,
        answer_max: Duration,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(answer_max, work).await {
            Ok(done) => done.map_err(|error| error::of(&error)),
            Err(_elapsed) => Err(Error::Unavailable(format!(
                "no answer within {} s",
                answer_max.as_secs()
            ))),
        }
    }

    fn answer_max(&self) -> Duration {
        self.config.statement_max + ANSWER_EXTRA
    }

    fn failed(&self, error: &sqlx::Error) -> Error {
        self.counters.failed.fetch_add(1, Ordering::Relaxed);
        error::of(error)
    }

    /// Counts a statement. Those that fail in ways that callers expect are no news.
    fn seen(&self, statement: &str, took: Duration, error: Option<&Error>) {
        let counters = &self.counters;
        counters.statements.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        counters.micros.fetch_add(micros, Ordering::Relaxed);
        if let Some(error) = error {
            counters.failed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(
                statement,
                error = error as &dyn std::error::Error,
                "a statement failed"
            );
        }
        if took >= self.config.slow_min {
            counters.slow.fetch_add(1, Ordering::Relaxed);
            let words: String = statement
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .chars()
                .take(LOGGED_MAX)
                .collect();
            tracing::warn!(
                statement = words,
                millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                "a statement was slow"
            );
        }
    }

    /// Tells those who follow the changes that this is the last number. It may be lower than what was told before:
    /// tellers overtake each other, and a database may be restored to an earlier state.
    fn wake(&self, seq: i64) {
        self.heard.send_if_modified(|heard| {
            let news = seq != *heard;
            *heard = seq;
            news
        });
    }
}
