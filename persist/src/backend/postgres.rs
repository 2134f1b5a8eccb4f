//! Streams in PostgreSQL, for those who outgrow one machine and run a replicated database already.
//!
//! ```text
//!   commit ─▶ queue ─▶ writer ─▶ transaction: many streams ─▶ done, done, done
//!                        │
//!                        └ lane: what became of a transaction whose end was not heard of
//! ```
//!
//! Any node can serve any stream, because nothing of a stream is on a node. What keeps two nodes from writing the same
//! stream is its fence: a commit with a lower number than the stream has seen is refused by the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dialtone_client::persist::StreamName;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Backend, Batch, Done, Entry, Error, Loaded, Status, StreamId, Sum, Verified};
use crate::core::commit::{Commit, Meta};
use connect::{of, to_sql};
use queue::{Queue, Stored};

mod checksum;
mod connect;
mod leases;
mod load;
mod plan;
mod queue;
mod read;
mod sweep;
mod transaction;
mod writer;

pub use connect::Config;
pub use leases::PostgresLeases;

/// The store; clones are the same one.
#[derive(Debug, Clone)]
pub struct PostgresBackend {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    pool: PgPool,
    queue: Queue,
    /// Whether the database makes commits durable unless told otherwise.
    sync_by_default: bool,
    /// The fences that were claimed, by stream.
    claimed: Mutex<ahash::HashMap<StreamId, u64>>,
    counters: Counters,
    /// The numbers of the last sweep.
    seen: Mutex<(Sum, u64)>,
    tasks: TaskTracker,
    /// What waits is stored, and nothing new begins.
    stopping: CancellationToken,
}

#[derive(Debug, Default)]
struct Counters {
    transactions: AtomicU64,
    commits: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    fn batch(&self, verdicts: &writer::Verdicts) {
        let good = verdicts.iter().filter(|verdict| verdict.is_ok()).count();
        self.transactions.fetch_add(1, Ordering::Relaxed);
        self.commits.fetch_add(good as u64, Ordering::Relaxed);
        self.refused
            .fetch_add((verdicts.len() - good) as u64, Ordering::Relaxed);
    }
}

impl PostgresBackend {
    /// Connects, brings the tables up to date, and starts the writers on the current runtime.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the database cannot be reached or has tables of a later version.
    pub async fn open(config: Config) -> Result<Self, Error> {
        let pool = connect::connect(&config).await?;
        let show = async |name: &'static str| {
            sqlx::query_scalar::<_, String>(name)
                .fetch_one(&pool)
                .await
                .map_err(|error| of(&error))
        };
        if show("SHOW fsync").await? == "off" {
            tracing::warn!(
                "fsync is off in PostgreSQL: what is acknowledged does not survive the end of its machine"
            );
        }
        let sync_by_default = show("SHOW synchronous_commit").await? != "off";
        let writers = config.writers.clamp(1, config.connections_max.max(2) - 1);
        let shared = Arc::new(Shared {
            config,
            pool,
            queue: Queue::default(),
            sync_by_default,
            claimed: Mutex::default(),
            counters: Counters::default(),
            seen: Mutex::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        });
        for _ in 0..writers {
            shared.tasks.spawn(writer::run(Arc::clone(&shared)));
        }
        shared.tasks.spawn(sweep::run(Arc::clone(&shared)));
        Ok(Self { shared })
    }

    async fn create(&self, stream: &StreamName, meta: &Meta) -> Result<StreamId, Error> {
        let config = serde_json::to_string(&meta.config).map_err(|error| {
            Error::Unavailable(format!("a configuration cannot be written: {error}"))
        })?;
        let id: Option<i64> = sqlx::query_scalar(
            "INSERT INTO stream (digest, name, epoch, created, restoring, config, duplicate_window)
             VALUES ($1, $2, $3, $4, $5, $6::json, $7) ON CONFLICT (digest) DO NOTHING RETURNING id",
        )
        .bind(load::digest(stream.as_str()))
        .bind(stream.as_str())
        .bind(to_sql(meta.epoch))
        .bind(to_sql(meta.created))
        .bind(meta.restoring)
        .bind(config)
        .bind(to_sql(meta.config.duplicate_window))
        .fetch_optional(&self.shared.pool)
        .await
        .map_err(|error| of(&error))?;
        id.map_or(Err(Error::Exists), |id| connect::from_sql(id).map(StreamId))
    }

    async fn claim(&self, stream: &StreamName, fence: u64) -> Result<(), Error> {
        // Waits for a commit of the one who had it, which then counts, and keeps those that come later out.
        let found: Option<(i64, i64)> = sqlx::query_as(
            "UPDATE stream SET fence = greatest(fence, $2) WHERE digest = $1 RETURNING id, fence",
        )
        .bind(load::digest(stream.as_str()))
        .bind(to_sql(fence))
        .fetch_optional(&self.shared.pool)
        .await
        .map_err(|error| of(&error))?;
        let Some((id, seen)) = found else {
            return Ok(());
        };
        if connect::from_sql(seen)? > fence {
            return Err(Error::Fenced);
        }
        self.shared
            .claimed
            .lock()
            .insert(StreamId(connect::from_sql(id)?), fence);
        Ok(())
    }

    async fn delete(&self, stream: StreamId) -> Result<(), Error> {
        let fence = self
            .shared
            .claimed
            .lock()
            .get(&stream)
            .copied()
            .unwrap_or(0);
        let mut transaction = self.shared.pool.begin().await.map_err(|error| of(&error))?;
        let seen: Option<i64> =
            sqlx::query_scalar("SELECT fence FROM stream WHERE id = $1 FOR UPDATE")
                .bind(to_sql(stream.0))
                .fetch_optional(&mut *transaction)
                .await
                .map_err(|error| of(&error))?;
        match seen {
            None => return Err(Error::NotFound),
            Some(seen) if connect::from_sql(seen)? > fence => return Err(Error::Fenced),
            Some(_) => {}
        }
        for statement in [
            "DELETE FROM stream WHERE id = $1",
            "INSERT INTO dropped (stream) VALUES ($1)",
        ] {
            sqlx::query(statement)
                .bind(to_sql(stream.0))
                .execute(&mut *transaction)
                .await
                .map_err(|error| of(&error))?;
        }
        transaction.commit().await.map_err(|error| of(&error))?;
        self.shared.claimed.lock().remove(&stream);
        Ok(())
    }
}

impl Backend for PostgresBackend {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn due(&self, now: u64, limit: usize) -> BoxFuture<'_, Result<Vec<StreamName>, Error>> {
        read::due(&self.shared.pool, now, limit).boxed()
    }

    fn create<'a>(
        &'a self,
        stream: &'a StreamName,
        meta: &'a Meta,
    ) -> BoxFuture<'a, Result<StreamId, Error>> {
        Self::create(self, stream, meta).boxed()
    }

    fn claim<'a>(&'a self, stream: &'a StreamName, fence: u64) -> BoxFuture<'a, Result<(), Error>> {
        Self::claim(self, stream, fence).boxed()
    }

    fn load<'a>(
        &'a self,
        stream: &'a StreamName,
        now: u64,
    ) -> BoxFuture<'a, Result<Option<Loaded>, Error>> {
        load::load(&self.shared.pool, stream, now).boxed()
    }

    fn unload(&self, stream: StreamId) {
        self.shared.claimed.lock().remove(&stream);
    }

    fn commit(&self, stream: StreamId, commit: Commit, done: Done) {
        self.shared.queue.push((Stored { stream, commit }, done));
    }

    fn read<'a>(
        &'a self,
        stream: StreamId,
        ranges: &'a [(u64, u64)],
        bytes: u64,
    ) -> BoxFuture<'a, Result<Batch, Error>> {
        read::read(&self.shared.pool, stream, ranges, bytes).boxed()
    }

    fn delete(&self, stream: StreamId) -> BoxFuture<'_, Result<(), Error>> {
        Self::delete(self, stream).boxed()
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Entry>, Error>> {
        read::list(&self.shared.pool, prefix, after, limit).boxed()
    }

    fn sum<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Sum, Error>> {
        read::sum(&self.shared.pool, prefix).boxed()
    }

    fn verify(
        &self,
        stream: StreamId,
        from: u64,
        bytes: u64,
    ) -> BoxFuture<'_, Result<Verified, Error>> {
        async move { read::verify(&self.shared.pool, stream, from, bytes).await }.boxed()
    }

    fn status(&self) -> Status {
        let (sum, disk_bytes) = *self.shared.seen.lock();
        let counters = &self.shared.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Status {
            failure: None,
            sum,
            disk_bytes,
            counters: vec![
                ("postgres_transactions", count(&counters.transactions)),
                ("postgres_commits", count(&counters.commits)),
                ("postgres_commits_refused", count(&counters.refused)),
                ("postgres_connections", u64::from(self.shared.pool.size())),
            ],
        }
    }

    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            self.shared.stopping.cancel();
            self.shared.queue.close();
            self.shared.tasks.close();
            self.shared.tasks.wait().await;
            self.shared.pool.close().await;
            Ok(())
        }
        .boxed()
    }
}
