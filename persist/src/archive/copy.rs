//! A stream as it was at a time, in a new stream.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use dialtone_client::persist::wire::{self, StoredRecord};
use dialtone_client::persist::{CallError, OpenError, Persist, Stream, StreamName};

use super::restore::{Point, RestoreError, restore};
use super::store::Archive;
use crate::backend::log::{Config, Log};
use crate::backend::{self, Backend as _, Loaded};
use crate::disk::{self, Folder};

/// About how many bytes of records travel in one request.
const REQUEST_BYTES: u64 = 1 << 20;

/// Which stream, and of when.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Where its log is archived.
    pub archive: &'a Archive,
    /// Of when.
    pub point: Point,
    /// An empty folder, into which the log of that time is restored; whoever calls removes it.
    pub folder: &'a Path,
    /// Its name.
    pub stream: &'a StreamName,
}

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many bytes of so many of the log were restored.
    Restored(u64, u64),
    /// So many records of so many were copied.
    Copied(u64, u64),
}

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// When the stream was like this, in milliseconds since 1970.
    pub time: u64,
    /// How many records it had.
    pub messages: u64,
    /// The last number that it had given.
    pub last_seq: u64,
}

/// Why a stream was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The log of that time is not to be had.
    #[error("failed to restore the log of that time")]
    Restore(#[from] RestoreError),
    /// The folder for it cannot be used.
    #[error("failed to use the folder for the restored log")]
    Folder(#[from] disk::OpenError),
    /// It cannot be opened or read.
    #[error("failed to read the restored log")]
    Log(#[from] backend::Error),
    /// A record is damaged.
    #[error("record {seq} of the stream is damaged: {text}")]
    Damaged {
        /// Which one.
        seq: u64,
        /// What is wrong.
        text: String,
    },
    /// There was no such stream.
    #[error("there was no stream {0} at that time")]
    NotThere(StreamName),
    /// The new stream cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new stream does not take its records.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Makes the stream `to` with what another one held, whose numbers, times, keys and headers it has. `told` hears how far
/// it is.
///
/// # Errors
/// See [`CopyError`]; then there is no stream `to`, unless the service was not reached to delete it.
pub async fn copy(
    source: Source<'_>,
    persist: &Persist,
    to: &str,
    mut told: impl FnMut(Step),
) -> Result<Copied, CopyError> {
    let disk = Arc::new(Folder::open(source.folder)?);
    let own: Arc<Folder> = Arc::clone(&disk);
    let restoring = |done, all| told(Step::Restored(done, all));
    let restored = restore(source.archive, own, source.point, restoring).await?;
    let config = Config {
        maintenance: false,
        free_bytes_min: 0,
        ..Config::default()
    };
    let log = tokio::task::spawn_blocking(|| Log::open(disk, config)).await;
    let log = log.map_err(|error| backend::Error::Failed(error.to_string()))??;
    let loaded = log
        .load(source.stream, now())
        .await?
        .ok_or_else(|| CopyError::NotThere(source.stream.clone()))?;
    let stream = persist.create(to, loaded.meta.config.clone()).await?;
    if let Err(error) = send(&log, &loaded, &stream, &mut told).await {
        // A part would look like the whole.
        drop(persist.delete(to).await);
        return Err(error);
    }
    log.close().await?;
    Ok(Copied {
        time: restored.time,
        messages: loaded.totals.messages,
        last_seq: loaded.totals.last_seq,
    })
}

async fn send(
    log: &Log,
    loaded: &Loaded,
    to: &Stream,
    told: &mut impl FnMut(Step),
) -> Result<(), CopyError> {
    let (mut next, mut copied) = (Some(1), 0);
    while let Some(first) = next {
        let batch = log
            .read(loaded.id, &[(first, u64::MAX >> 12)], REQUEST_BYTES)
            .await?;
        if let Some(damaged) = batch.damaged {
            return Err(CopyError::Damaged {
                seq: damaged.seq,
                text: damaged.text,
            });
        }
        next = batch.next;
        copied += batch.records.len() as u64;
        put(to, batch.records).await?;
        told(Step::Copied(copied, loaded.totals.messages));
    }
    let last_seq = Some(loaded.totals.last_seq);
    let _restored = to.restore(Vec::new(), last_seq, true).await?;
    Ok(())
}

async fn put(to: &Stream, mut records: Vec<StoredRecord>) -> Result<(), CallError> {
    while !records.is_empty() {
        let rest = records.split_off(records.len().min(wire::APPEND_RECORDS_MAX));
        let _restored = to.restore(records, None, false).await?;
        records = rest;
    }
    Ok(())
}

fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
