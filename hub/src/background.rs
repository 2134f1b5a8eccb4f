//! Migrations of data: moved in small batches while the hub works, by one hub at a time, and never lost.
//!
//! ```text
//!   next ─▶ items ─▶ move each ─▶ one transaction, fenced by the lease:
//!                                   retire what was moved, note what failed, go on from there
//! ```
//!
//! An item is moved before that is noted, so that one may be moved again after a crash: moving must not mind. What
//! could not be moved is kept by its key, and tried again after a pause for as long as it takes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use crate::singleton;
use crate::store::background::{self, Batch, Progress};
use crate::store::leases::{self, Lease};
use crate::store::{Error, Reader, Store, Transaction};

/// Longest reason that is kept, in characters.
const REASON_MAX: usize = 1000;

/// What is to be moved.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Which one: enough to find it again.
    pub key: String,
    /// Where to go on behind it.
    pub cursor: Json,
}

/// A migration of data.
pub trait Migration: Send + Sync {
    /// Its name, which never changes.
    fn name(&self) -> &'static str;

    /// The next items behind the cursor, in order; at most `limit`. None means that all were looked at.
    ///
    /// # Errors
    /// When the database does not answer. It is asked again.
    fn next<'a>(
        &'a self,
        on: &'a mut Reader,
        cursor: Option<&'a Json>,
        limit: i64,
    ) -> BoxFuture<'a, Result<Vec<Item>, Error>>;

    /// Moves an item, and returns when it is there to stay. It may have been moved before, or be gone.
    ///
    /// # Errors
    /// Why it was not moved, for those who look after the site. It is tried again.
    fn carry<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), String>>;

    /// Removes or marks where items were, in the transaction that notes that they were moved.
    ///
    /// # Errors
    /// When the database does not answer.
    fn retire<'a>(
        &'a self,
        on: &'a mut Transaction,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<(), Error>>;
}

/// How gently it goes.
#[derive(Debug, Clone)]
pub struct Config {
    /// How many items are moved together.
    pub batch: i64,
    /// How long to wait after each batch.
    pub delay: Duration,
    /// How long to wait after a batch that did not happen.
    pub error_delay: Duration,
    /// How long to wait before an item that was not moved is tried again.
    pub retry: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch: 100,
            delay: Duration::from_millis(500),
            error_delay: Duration::from_secs(5),
            retry: Duration::from_mins(5),
        }
    }
}

/// The lease of whoever runs migrations.
pub const LEASE: &str = "background-migrations";

/// Runs the migrations whenever this process has the lease, until nothing is left or it is told to stop.
pub async fn keep(
    store: &Store,
    lease: &singleton::Config,
    migrations: &Arc<[Box<dyn Migration>]>,
    config: &Config,
    stop: &CancellationToken,
) {
    Box::pin(singleton::run(store, lease, stop, |lease, stop| {
        let (store, config, migrations) = (store.clone(), config.clone(), Arc::clone(migrations));
        Box::pin(async move { run(&store, &lease, &migrations, &config, &stop).await })
    }))
    .await;
}

/// Runs the migrations one after the other, and then tries again what failed. Returns when nothing is left, the lease
/// is no longer ours, or it is told to stop.
pub async fn run(
    store: &Store,
    lease: &Lease,
    migrations: &[Box<dyn Migration>],
    config: &Config,
    stop: &CancellationToken,
) {
    loop {
        let mut left = false;
        for migration in migrations {
            let mover = Mover {
                store,
                lease,
                migration: migration.as_ref(),
                config,
            };
            match stop.run_until_cancelled(Box::pin(mover.run())).await {
                Some(Ok(Outcome::Finished)) => {}
                Some(Ok(Outcome::FailuresLeft)) => left = true,
                Some(Err(Lost)) | None => return,
            }
        }
        if !left {
            return;
        }
        let pause = tokio::time::sleep(config.retry);
        if stop.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

/// Somebody else has the lease.
struct Lost;

enum Outcome {
    Finished,
    FailuresLeft,
}

/// What a step has come to.
enum Step {
    More,
    End,
    Lost,
}

struct Mover<'a> {
    store: &'a Store,
    lease: &'a Lease,
    migration: &'a dyn Migration,
    config: &'a Config,
}

impl Mover<'_> {
    async fn run(&self) -> Result<Outcome, Lost> {
        loop {
            let delay = match self.step().await {
                Ok(Step::More) => self.config.delay,
                Ok(Step::End) => break,
                Ok(Step::Lost) => return Err(Lost),
                Err(error) => {
                    self.warn(&error).await;
                    self.config.error_delay
                }
            };
            tokio::time::sleep(delay).await;
        }
        loop {
            match self.retry().await {
                Ok(Step::More) => tokio::time::sleep(self.config.delay).await,
                Ok(Step::End) => break,
                Ok(Step::Lost) => return Err(Lost),
                Err(error) => {
                    self.warn(&error).await;
                    return Ok(Outcome::FailuresLeft);
                }
            }
        }
        match self.failures_left().await {
            Ok(false) => Ok(Outcome::Finished),
            Ok(true) | Err(_) => Ok(Outcome::FailuresLeft),
        }
    }

    /// Moves the next batch.
    async fn step(&self) -> Result<Step, Error> {
        let Some(progress) = self.progress().await? else {
            return Ok(Step::Lost);
        };
        if progress.finished {
            return Ok(Step::End);
        }
        let items = {
            let mut on = self.store.read().await?;
            self.migration
                .next(&mut on, progress.cursor.as_ref(), self.config.batch)
                .await?
        };
        let last = items.is_empty();
        let cursor = items
            .last()
            .map(|item| item.cursor.clone())
            .or(progress.cursor);
        let keys: Vec<String> = items.into_iter().map(|item| item.key).collect();
        let moved = self.carry(&keys).await;
        let Some(mut on) = self.fenced().await? else {
            return Ok(Step::Lost);
        };
        self.note(&mut on, &moved, false).await?;
        let batch = Batch {
            cursor,
            done: count(&moved.done),
            last,
        };
        background::advance(&mut on, self.migration.name(), &batch).await?;
        on.commit().await?;
        if last {
            tracing::info!(migration = self.migration.name(), "all data was looked at");
            return Ok(Step::End);
        }
        Ok(Step::More)
    }

    /// Tries again what has failed for long enough.
    async fn retry(&self) -> Result<Step, Error> {
        let keys = {
            let mut on = self.store.read().await?;
            let (name, config) = (self.migration.name(), self.config);
            background::to_retry(&mut on, name, config.retry, config.batch).await?
        };
        if keys.is_empty() {
            return Ok(Step::End);
        }
        let moved = self.carry(&keys).await;
        let Some(mut on) = self.fenced().await? else {
            return Ok(Step::Lost);
        };
        self.note(&mut on, &moved, true).await?;
        on.commit().await?;
        Ok(Step::More)
    }

    async fn carry(&self, keys: &[String]) -> Moved {
        let mut moved = Moved::default();
        for key in keys {
            match self.migration.carry(key).await {
                Ok(()) => moved.done.push(key.clone()),
                Err(error) => {
                    let reason: String = error.chars().take(REASON_MAX).collect();
                    tracing::warn!(migration = self.migration.name(), key, reason, "not moved");
                    moved.failed.push((key.clone(), reason));
                }
            }
        }
        moved
    }

    async fn note(&self, on: &mut Transaction, moved: &Moved, again: bool) -> Result<(), Error> {
        let name = self.migration.name();
        if !moved.done.is_empty() {
            self.migration.retire(on, &moved.done).await?;
        }
        if again {
            for key in &moved.done {
                background::recover(on, name, key).await?;
            }
        }
        for (key, reason) in &moved.failed {
            background::fail(on, name, key, reason).await?;
        }
        Ok(())
    }

    async fn progress(&self) -> Result<Option<Progress>, Error> {
        let Some(mut on) = self.fenced().await? else {
            return Ok(None);
        };
        let progress = background::begin(&mut on, self.migration.name()).await?;
        on.commit().await?;
        Ok(Some(progress))
    }

    /// A transaction that commits only if the lease is ours; `None` if it is not.
    async fn fenced(&self) -> Result<Option<Transaction>, Error> {
        let mut on = self.store.write().await?;
        Ok(leases::fence(&mut on, self.lease).await?.then_some(on))
    }

    async fn failures_left(&self) -> Result<bool, Error> {
        let mut on = self.store.read().await?;
        let one = background::failures(&mut on, self.migration.name(), 1).await?;
        Ok(!one.is_empty())
    }

    /// Says why a batch did not happen, in the log and for those who ask how far it is.
    async fn warn(&self, error: &Error) {
        let name = self.migration.name();
        tracing::warn!(
            migration = name,
            error = error as &dyn std::error::Error,
            "a batch of a migration did not happen; it is tried again"
        );
        let noted = async {
            let Some(mut on) = self.fenced().await? else {
                return Ok(());
            };
            background::set_error(&mut on, name, &error.to_string()).await?;
            on.commit().await
        };
        if let Err(again) = noted.await {
            tracing::debug!(
                error = &again as &dyn std::error::Error,
                "nor was that noted"
            );
        }
    }
}

#[derive(Default)]
struct Moved {
    done: Vec<String>,
    failed: Vec<(String, String)>,
}

fn count(keys: &[String]) -> i64 {
    i64::try_from(keys.len()).unwrap_or(i64::MAX)
}
