//! A stream as it was at a time, in a new stream.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dialtone_client::persist::wire::{
    self, Create, Created, Fault, FaultKind, Request, Restore, Restored, StoredRecord,
};
use dialtone_client::persist::{Owner, StreamName};
use dialtone_client::{Client, Encoding};
use serde::de::DeserializeOwned;

use super::restore::{RestoreError, restore};
use super::store::Archive;
use crate::backend::log::{Config, Log};
use crate::backend::{self, Backend as _, Loaded};
use crate::disk::{self, Folder};

/// About how many bytes of records travel in one request.
const REQUEST_BYTES: u64 = 1 << 20;

/// How long a request may take.
const REQUEST_MAX: Duration = Duration::from_mins(1);

/// How often a request follows its stream to another node.
const MOVES_MAX: usize = 8;

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// When the stream was like this, in milliseconds since 1970.
    pub time: u64,
    /// How many records it had.
    pub messages: u64,
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
    /// The service refuses the new stream.
    #[error("the service refused the copy")]
    Refused(#[from] Fault),
    /// The service does not answer.
    #[error("the service did not answer: {0}")]
    Silent(String),
}

/// Makes the stream `to` with what `from` held at `at`, in milliseconds since 1970, or when it was archived last. The
/// log of that time is restored into `folder`, which is empty; whoever calls removes it.
///
/// # Errors
/// See [`CopyError`]. What was copied by then stays, as a stream that is being restored.
pub async fn copy(
    archive: &Archive,
    at: Option<u64>,
    folder: &Path,
    from: &StreamName,
    to: &StreamName,
    client: &Client,
) -> Result<Copied, CopyError> {
    let disk = Arc::new(Folder::open(folder)?);
    let own: Arc<Folder> = Arc::clone(&disk);
    let restored = restore(archive, own, at, |_, _| {}).await?;
    let config = Config {
        maintenance: false,
        free_bytes_min: 0,
        ..Config::default()
    };
    let log = tokio::task::spawn_blocking(|| Log::open(disk, config)).await;
    let log = log.map_err(|error| backend::Error::Failed(error.to_string()))??;
    let loaded = log
        .load(from, now())
        .await?
        .ok_or_else(|| CopyError::NotThere(from.clone()))?;
    let create = Create {
        stream: to.to_string(),
        config: loaded.meta.config.clone(),
        exist_ok: false,
    };
    let _created: Created = call(client, &Request::Create(create)).await?;
    send(&log, &loaded, to, client).await?;
    let messages = loaded.totals.messages;
    log.close().await?;
    Ok(Copied {
        time: restored.time,
        messages,
    })
}

async fn send(
    log: &Log,
    loaded: &Loaded,
    to: &StreamName,
    client: &Client,
) -> Result<(), CopyError> {
    let mut next = Some(1);
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
        put(client, to, batch.records, None).await?;
    }
    put(client, to, Vec::new(), Some(loaded.totals.last_seq)).await
}

/// The last request has the last number that was given.
async fn put(
    client: &Client,
    to: &StreamName,
    mut records: Vec<StoredRecord>,
    last_seq: Option<u64>,
) -> Result<(), CopyError> {
    loop {
        let rest = records.split_off(records.len().min(wire::APPEND_RECORDS_MAX));
        let is_last = rest.is_empty();
        let done = is_last && last_seq.is_some();
        let last_seq = last_seq.filter(|_| is_last);
        let restore = Restore {
            stream: to.to_string(),
            records,
            last_seq,
            done,
        };
        let _restored: Restored = call(client, &Request::Restore(restore)).await?;
        if is_last {
            return Ok(());
        }
        records = rest;
    }
}

async fn call<T: DeserializeOwned>(client: &Client, request: &Request) -> Result<T, CopyError> {
    let silent = |error: &dyn std::error::Error| CopyError::Silent(error.to_string());
    let payload = wire::encode(request, Encoding::MessagePack).map_err(|error| silent(&error))?;
    let mut subject = Owner::Hub.call_subject();
    for _ in 0..MOVES_MAX {
        let draft = client
            .message(subject.as_str())
            .payload(payload.clone())
            .encoding(Encoding::MessagePack);
        let answer = draft
            .timeout(REQUEST_MAX)
            .request()
            .await
            .map_err(|error| silent(&error))?;
        let headers = answer.headers().map_err(|error| silent(&error))?;
        let Some(fault) = Fault::from_headers(&headers) else {
            return wire::decode(answer.payload(), answer.encoding())
                .map_err(|error| silent(&error));
        };
        match (fault.kind, &fault.node) {
            (FaultKind::Moved, Some(node)) => subject = Owner::Hub.node_subject(node),
            _ => return Err(fault.into()),
        }
    }
    Err(CopyError::Silent(
        "the stream moves all the time".to_owned(),
    ))
}

fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
