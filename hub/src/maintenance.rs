//! Removing what is over: rows with an end, and changes that nobody reads on from any more.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::store::files::BlobTotals;
use crate::store::{Error, Store, expire, files, outbox};

/// How gently, how often, and how long changes are kept.
#[derive(Debug, Clone)]
pub struct Config {
    /// How many rows a transaction removes at most.
    pub batch: i64,
    /// How long to wait between transactions.
    pub delay: Duration,
    /// How long to wait between rounds.
    pub every: Duration,
    /// How long changes are kept: for as long may somebody be away and then read on.
    pub changes_keep: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch: 500,
            delay: Duration::from_millis(100),
            every: Duration::from_mins(10),
            changes_keep: Duration::from_hours(24),
        }
    }
}

/// How much a round has removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Rows by table, of those from which there were any.
    pub rows: Vec<(&'static str, usize)>,
    /// Changes that are no longer kept.
    pub changes: u64,
}

/// What there is of blobs after those that were over are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blobs {
    /// How many were over.
    pub removed: usize,
    /// What stays.
    pub kept: BlobTotals,
}

/// Removes the blobs that are over, and counts the others.
///
/// # Errors
/// When the database does not answer; what was removed until then stays removed.
pub async fn blobs(store: &Store, config: &Config) -> Result<Blobs, Error> {
    let removed = remove(store, config, "blobs").await?;
    let kept = files::blob_totals(&mut store.read().await?).await?;
    Ok(Blobs { removed, kept })
}

/// Removes all that is over in a table, and returns how many rows that were.
async fn remove(store: &Store, config: &Config, table: &str) -> Result<usize, Error> {
    let mut all = 0;
    loop {
        let mut on = store.write().await?;
        let gone = expire::delete(&mut on, table, config.batch).await?;
        on.commit().await?;
        all += gone;
        if i64::try_from(gone).unwrap_or(i64::MAX) < config.batch {
            return Ok(all);
        }
        tokio::time::sleep(config.delay).await;
    }
}

/// Removes all that is over.
///
/// # Errors
/// When the database does not answer; what was removed until then stays removed.
pub async fn round(store: &Store, config: &Config) -> Result<Removed, Error> {
    let mut removed = Removed::default();
    for table in expire::tables() {
        let all = remove(store, config, table).await?;
        if all > 0 {
            removed.rows.push((table, all));
        }
    }
    loop {
        let mut on = store.write().await?;
        let gone = outbox::trim(&mut on, config.changes_keep, config.batch).await?;
        on.commit().await?;
        removed.changes += gone;
        if i64::try_from(gone).unwrap_or(i64::MAX) < config.batch {
            return Ok(removed);
        }
        tokio::time::sleep(config.delay).await;
    }
}

/// Removes again and again, until it is told to stop.
pub async fn run(store: &Store, config: &Config, stop: &CancellationToken) {
    let rounds = async {
        loop {
            match round(store, config).await {
                Ok(removed) if removed == Removed::default() => {}
                Ok(removed) => tracing::info!(?removed, "removed what was over"),
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "what is over could not be removed; the next round tries again"
                ),
            }
            tokio::time::sleep(config.every).await;
        }
    };
    tokio::select! {
        () = rounds => {}
        () = stop.cancelled() => {}
    }
}
