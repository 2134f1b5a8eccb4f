//! Files over sockets.
//!
//! ```text
//!   client                                              project
//!   {op: "read", path, offset?, version?}  ─────────▶
//!                                          ◀─────────  {size, offset, version, mtime}, bytes, {bytes, sha256}
//!
//!   {op: "write", path, size?, upload?}    ─────────▶
//!                                          ◀─────────  {offset}
//!   bytes from there on, {sha256?}         ─────────▶
//!                                          ◀─────────  {status: "success", bytes, sha256}
//! ```
//!
//! In the place of any of its words the project may say `{error, code}`, which ends it.

use std::sync::Arc;

use dialtone_client::{Client, Socket, SubscribeError};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use thiserror::Error as ThisError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Sink, Source, Transfers};
use crate::error::{Code, Error};
use crate::frames::{Frame, FrameError, Frames};

/// How much is read and sent at once, in bytes.
const PIECE_LEN: usize = 512 << 10;

/// Longest name of an upload that can be gone on with.
const UPLOAD_LEN_MAX: usize = 64;

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Request {
    Read {
        path: String,
        #[serde(default)]
        offset: u64,
        version: Option<String>,
    },
    Write {
        path: String,
        size: Option<u64>,
        upload: Option<String>,
    },
}

/// What a client says when all bytes were sent.
#[derive(Debug, Default, Deserialize)]
struct Sent {
    sha256: Option<String>,
}

/// Why a transfer ended early.
#[derive(Debug, ThisError)]
enum Ended {
    /// Something is wrong with it, which the client is told.
    #[error(transparent)]
    Failed(#[from] Error),
    /// The client cannot be told anything.
    #[error(transparent)]
    Gone(#[from] FrameError),
}

/// Accepts transfers until it is stopped.
pub(crate) async fn serve(
    client: &Client,
    subject: String,
    transfers: Arc<Transfers>,
    tasks: TaskTracker,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static + use<>, SubscribeError> {
    let mut listener = client.listen_socket(subject).await?;
    Ok(async move {
        loop {
            let socket = tokio::select! {
                socket = listener.accept() => socket,
                () = stop.cancelled() => None,
            };
            let Some(socket) = socket else { break };
            let (transfers, stop) = (Arc::clone(&transfers), stop.clone());
            drop(tasks.spawn(async move {
                tokio::select! {
                    () = attend(&transfers, socket) => {}
                    () = stop.cancelled() => {}
                }
            }));
        }
    })
}

async fn attend(transfers: &Transfers, socket: Socket) {
    let frames = Frames::new(socket);
    let ended = match work(transfers, &frames).await {
        Ok(()) => Ok(()),
        Err(Ended::Failed(error)) => refuse(&frames, &error).await,
        Err(Ended::Gone(error)) => Err(error),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a transfer broke off");
    }
}

async fn refuse(frames: &Frames, error: &Error) -> Result<(), FrameError> {
    frames.say(&error.to_json()).await?;
    frames.part().await
}

async fn work(transfers: &Transfers, frames: &Frames) -> Result<(), Ended> {
    let first = tokio::time::timeout(transfers.timing.transfer_idle, frames.hear::<Request>());
    let request = match first.await {
        Ok(Ok(request)) => request,
        Ok(Err(FrameError::Violation(text))) => {
            return Err(Error::new(Code::BadRequest, text).into());
        }
        Ok(Err(error)) => return Err(error.into()),
        Err(_elapsed) => {
            return Err(Error::new(Code::Timeout, "nothing was asked for").into());
        }
    };
    let _permit = transfers.begin()?;
    match request {
        Request::Read {
            path,
            offset,
            version,
        } => {
            let path = transfers.home.resolve(&path)?;
            read(frames, Source::open(path, offset, version).await?, offset).await
        }
        Request::Write { path, size, upload } => {
            let path = transfers.home.resolve(&path)?;
            check_upload(upload.as_deref())?;
            let room = Arc::clone(transfers.home.room());
            let sink = Sink::open(path, upload, room).await?;
            write(transfers, frames, sink, size).await
        }
    }
}

fn check_upload(upload: Option<&str>) -> Result<(), Error> {
    let is_name = |text: &str| {
        (1..=UPLOAD_LEN_MAX).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if upload.is_none_or(is_name) {
        return Ok(());
    }
    let text = format!("is no name of at most {UPLOAD_LEN_MAX} letters, digits, '-' and '_'");
    Err(Error::argument("upload", text))
}

async fn read(frames: &Frames, mut source: Source, offset: u64) -> Result<(), Ended> {
    let about: Json = json!({
        "size": source.size(),
        "offset": offset,
        "version": source.version(),
        "mtime": source.modified(),
    });
    frames.say(&about).await?;
    let mut sent = 0_u64;
    loop {
        let (rest, bytes) = source.next(PIECE_LEN).await?;
        source = rest;
        if bytes.is_empty() {
            break;
        }
        sent += bytes.len() as u64;
        frames.data(bytes).await?;
    }
    frames
        .say(&json!({"bytes": sent, "sha256": source.digest()}))
        .await?;
    Ok(frames.part().await?)
}

async fn write(
    transfers: &Transfers,
    frames: &Frames,
    mut sink: Sink,
    size: Option<u64>,
) -> Result<(), Ended> {
    frames.say(&json!({"offset": sink.written()})).await?;
    let sent = loop {
        let next = tokio::time::timeout(transfers.timing.transfer_idle, frames.next()).await;
        let Ok(next) = next else {
            return Err(Error::new(Code::Timeout, "no more of the file came").into());
        };
        match next? {
            Some(Frame::Data(bytes)) => {
                let len = sink.written() + bytes.len() as u64;
                if size.is_some_and(|size| len > size) {
                    let text = format!("more than {} bytes came", size.unwrap_or_default());
                    return Err(Error::new(Code::Conflict, text).into());
                }
                sink = sink.write(bytes).await?;
            }
            Some(Frame::Say(value)) => match serde_json::from_value::<Sent>(value) {
                Ok(sent) => break sent,
                Err(error) => {
                    return Err(Error::new(Code::BadRequest, error.to_string()).into());
                }
            },
            None => return Err(FrameError::Short.into()),
        }
    };
    let bytes = sink.written();
    let digest = sink.commit(size, sent.sha256).await?;
    frames
        .say(&json!({"status": "success", "bytes": bytes, "sha256": digest}))
        .await?;
    Ok(frames.part().await?)
}
