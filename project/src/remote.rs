//! A project as others see it: calling its functions, reading and writing its files, looking at its terminals.
//!
//! ```no_run
//! use dialtone_client::Options;
//! use dialtone_project::remote::Remote;
//! use dialtone_project::subjects::Place;
//! use serde_json::json;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Options::new("ws://127.0.0.1:4480").connect().await?;
//! let place = Place::new("7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f", 0)?;
//! let project = Remote::new(client, place);
//! let listing = project.call("system.listing", json!([{"path": ""}])).await?;
//! println!("{listing}");
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use bytes::Bytes;
use dialtone_client::{Client, EncodeError, PayloadError, RequestError, ServiceError, SocketError};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::frames::{Frame, FrameError, Frames};
use crate::subjects::Place;
use crate::transfer::hex;

/// How long an answer may take by default; commands that run longer are jobs.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a project did not do what it was asked for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// It says no.
    #[error("{text}")]
    Refused {
        /// What went wrong, in its words.
        text: String,
        /// The name of a [`Code`](crate::Code).
        code: String,
    },
    /// It does not answer.
    #[error("the project does not answer")]
    Request(#[from] RequestError),
    /// It answers in a way that is not understood.
    #[error("the project's answer makes no sense")]
    Answer(#[from] PayloadError),
    /// The service itself failed.
    #[error("the project failed")]
    Service(#[from] ServiceError),
    /// The arguments cannot be sent.
    #[error("the request cannot be sent")]
    Encode(#[from] EncodeError),
    /// The socket could not be opened.
    #[error("the project cannot be reached")]
    Socket(#[from] SocketError),
    /// The socket broke off.
    #[error("the transfer broke off")]
    Frame(#[from] FrameError),
    /// What came is not what was sent.
    #[error("the file is damaged: its SHA-256 is {found}, not {sent}")]
    Damaged {
        /// Of what came.
        found: String,
        /// Of what was sent.
        sent: String,
    },
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Remote {
    client: Client,
    place: Place,
}

impl Remote {
    /// A project that is reached through this client.
    pub fn new(client: Client, place: Place) -> Self {
        Self { client, place }
    }

    /// Calls a function with an array of arguments.
    ///
    /// # Errors
    /// When the project refuses, or does not answer within 30 s.
    pub async fn call(&self, name: &str, args: Json) -> Result<Json, RemoteError> {
        self.call_within(name, args, CALL_TIMEOUT).await
    }

    /// As [`call`](Self::call), with another limit.
    ///
    /// # Errors
    /// When the project refuses, or does not answer in time.
    pub async fn call_within(
        &self,
        name: &str,
        args: Json,
        limit: Duration,
    ) -> Result<Json, RemoteError> {
        let subject = self.place.service("api");
        let request = json!({"name": name, "args": args});
        let draft = self
            .client
            .message(&*subject)
            .msgpack(&request)?
            .timeout(limit);
        let answer = draft.request().await?.into_result()?;
        refused(answer.decode()?)
    }

    /// Opens a file to be read from a place on. With a version, it must still be that one.
    ///
    /// # Errors
    /// When the project refuses, or cannot be reached.
    pub async fn read_file(
        &self,
        path: &str,
        offset: u64,
        version: Option<&str>,
    ) -> Result<Download, RemoteError> {
        let frames = self.open(&self.place.service("files")).await?;
        let wanted = json!({"op": "read", "path": path, "offset": offset, "version": version});
        frames.say(&wanted).await?;
        let about = refused(frames.hear().await?)?;
        let about = serde_json::from_value(about)
            .map_err(|error| FrameError::Violation(error.to_string()))?;
        Ok(Download {
            frames,
            about,
            digest: Some(Sha256::new()),
        })
    }

    /// Begins a file, or goes on with one under the same `upload`, a name of letters and digits. What is written
    /// without such a name is gone when the connection is lost.
    ///
    /// # Errors
    /// When the project refuses, or cannot be reached.
    pub async fn write_file(
        &self,
        path: &str,
        size: Option<u64>,
        upload: Option<&str>,
    ) -> Result<Upload, RemoteError> {
        let frames = self.open(&self.place.service("files")).await?;
        let wanted = json!({"op": "write", "path": path, "size": size, "upload": upload});
        frames.say(&wanted).await?;
        let about = refused(frames.hear().await?)?;
        let offset = about["offset"]
            .as_u64()
            .ok_or_else(|| FrameError::Violation("it does not say where it goes on".to_owned()))?;
        Ok(Upload { frames, offset })
    }

    /// Looks at the terminal of a path. `options` are `rows`, `cols`, `command`, `args`, `cwd` and `env`.
    ///
    /// # Errors
    /// When the project refuses, or cannot be reached.
    pub async fn terminal(&self, path: &str, options: Json) -> Result<Terminal, RemoteError> {
        let frames = self.open(&self.place.terminal(path)).await?;
        frames.say(&json!({"open": options})).await?;
        let mut first = refused(frames.hear().await?)?;
        Ok(Terminal {
            frames,
            info: first["info"].take(),
        })
    }

    async fn open(&self, subject: &str) -> Result<Frames, RemoteError> {
        Ok(Frames::new(self.client.open_socket(subject).await?))
    }
}

/// An answer, unless it says that there is none.
fn refused(answer: Json) -> Result<Json, RemoteError> {
    let Some(text) = answer.get("error").and_then(Json::as_str) else {
        return Ok(answer);
    };
    let text = text.strip_prefix("Error: ").unwrap_or(text).to_owned();
    let code = answer
        .get("code")
        .and_then(Json::as_str)
        .unwrap_or("internal");
    Err(RemoteError::Refused {
        text,
        code: code.to_owned(),
    })
}

/// What is known about a file that is read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct About {
    /// Its length, in bytes.
    pub size: u64,
    /// Where reading begins.
    pub offset: u64,
    /// Another text whenever the content is another one.
    pub version: String,
    /// When it was changed last, in seconds since 1970.
    pub mtime: f64,
}

/// A file that is read, as fast as it is asked for.
#[derive(Debug)]
pub struct Download {
    frames: Frames,
    about: About,
    digest: Option<Sha256>,
}

impl Download {
    /// The file.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The next bytes; `None` when all have come and their digest is right.
    ///
    /// # Errors
    /// When the transfer broke off, the file has changed, or its bytes are not those that were sent.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RemoteError> {
        let Some(digest) = &mut self.digest else {
            return Ok(None);
        };
        match self.frames.next().await? {
            Some(Frame::Data(bytes)) => {
                digest.update(&bytes);
                Ok(Some(bytes))
            }
            Some(Frame::Say(last)) => {
                let last = refused(last)?;
                let sent = last["sha256"].as_str().unwrap_or_default().to_owned();
                let digest = self.digest.take().unwrap_or_default();
                let found = hex(&digest.finalize());
                if found != sent {
                    return Err(RemoteError::Damaged { found, sent });
                }
                self.frames.finish().await?;
                Ok(None)
            }
            None => Err(FrameError::Short.into()),
        }
    }
}

/// A file that is written, as fast as the project takes it.
#[derive(Debug)]
pub struct Upload {
    frames: Frames,
    offset: u64,
}

/// A file that is written and on disk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Written {
    /// Its length, in bytes.
    pub bytes: u64,
    /// Its digest, as hexadecimal digits.
    pub sha256: String,
}

impl Upload {
    /// From where on bytes are to be sent: those before are there already.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Sends the next bytes.
    ///
    /// # Errors
    /// When the transfer broke off; [`finish`](Self::finish) says why, if the project said so.
    pub async fn send(&self, bytes: impl Into<Bytes>) -> Result<(), RemoteError> {
        Ok(self.frames.data(bytes.into()).await?)
    }

    /// Says that these were all, with the digest of the whole file if it is known, and waits until it is on disk.
    ///
    /// # Errors
    /// When the project refuses, or the transfer broke off.
    pub async fn finish(self, sha256: Option<&str>) -> Result<Written, RemoteError> {
        self.frames.say(&json!({"sha256": sha256})).await?;
        let done = refused(self.frames.hear().await?)?;
        let written = serde_json::from_value(done)
            .map_err(|error| FrameError::Violation(error.to_string()))?;
        self.frames.finish().await?;
        Ok(written)
    }
}

/// What a terminal shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// Output.
    Data(Bytes),
    /// So many bytes of output were missed.
    Skipped(u64),
    /// Its size has changed, or something else about it.
    Info(Json),
    /// Its program has ended: `{code, signal}`.
    Exit(Json),
}

/// A terminal that is looked at.
#[derive(Debug)]
pub struct Terminal {
    frames: Frames,
    info: Json,
}

impl Terminal {
    /// What the project said about it at the beginning.
    pub fn info(&self) -> &Json {
        &self.info
    }

    /// What it shows next; `None` after its end. May be called while something is typed.
    ///
    /// # Errors
    /// When the connection broke off, or the project says what is not understood.
    pub async fn next(&self) -> Result<Option<Shown>, RemoteError> {
        Ok(match self.frames.next().await? {
            None => None,
            Some(Frame::Data(bytes)) => Some(Shown::Data(bytes)),
            Some(Frame::Say(mut word)) => {
                if let Some(count) = word["skipped"].as_u64() {
                    Some(Shown::Skipped(count))
                } else if word.get("exit").is_some() {
                    Some(Shown::Exit(word["exit"].take()))
                } else {
                    Some(Shown::Info(refused(word)?["info"].take()))
                }
            }
        })
    }

    /// Types something.
    ///
    /// # Errors
    /// When the connection broke off.
    pub async fn write(&self, bytes: impl Into<Bytes>) -> Result<(), RemoteError> {
        Ok(self.frames.data(bytes.into()).await?)
    }

    /// The window has another size.
    ///
    /// # Errors
    /// When the connection broke off.
    pub async fn resize(&self, rows: u16, cols: u16) -> Result<(), RemoteError> {
        let word = json!({"resize": {"rows": rows, "cols": cols}});
        Ok(self.frames.say(&word).await?)
    }

    /// Looks at it no longer; its program runs on.
    ///
    /// # Errors
    /// When the connection broke off.
    pub async fn leave(self) -> Result<(), RemoteError> {
        Ok(self.frames.finish().await?)
    }
}
