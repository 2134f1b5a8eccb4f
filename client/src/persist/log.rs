//! Logs: the replica of a stream without keys, which is read and appended to without waiting.
//!
//! What is pushed is at the end at once and saved in the background. Records of others may come before it, because the
//! service decides about the order; so the place of an entry is certain only when it has a number.
//!
//! ```no_run
//! use dialtone_client::persist::Persist;
//! use dialtone_client::persist::log::Log;
//!
//! # async fn example(client: dialtone_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! let chat: Log<String> = Log::open(&Persist::new(&client), "chat", Default::default()).await?;
//! chat.push("hello".to_owned())?;
//! for (seq, line) in chat.entries() {
//!     println!("{seq:?} {line}");
//! }
//! chat.close().await?;
//! # Ok(())
//! # }
//! ```

mod tape;
mod task;

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use super::error::{CallError, OpenError};
use super::handle::Persist;
use super::kv::{SetError, Value, encoded};
use super::stream::Stream;
use super::watch::{Pages, WatchError, WatchOptions};
use super::wire::{Config, Cursor, Fault, PAYLOAD_LEN_MAX};
use tape::Tape;
use task::Task;

/// Most events that wait for one receiver; then the replica stops following until it reads.
const EVENTS_MAX: usize = 1_024;

/// Something that a [`Log`] tells.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LogEvent<T> {
    /// An entry is at the service; told once for each, also for one's own.
    Appended {
        /// Its number.
        seq: u64,
        /// What it says.
        value: T,
    },
    /// An entry is gone.
    Removed {
        /// Its number.
        seq: u64,
        /// What it said.
        value: T,
    },
    /// The service refused an entry, which is taken back here.
    Rejected {
        /// What it said.
        value: T,
        /// Why.
        fault: Fault,
    },
    /// An entry is there that is not of this type, or can no longer be read. It is left out here.
    Unreadable {
        /// Its number.
        seq: u64,
        /// What is wrong with it.
        error: String,
    },
    /// Everything that was pushed is saved.
    Saved,
    /// The service refuses to go on, for example because the stream was deleted. Nothing follows, and nothing is saved.
    Ended(CallError),
}

/// Why not everything was saved.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The service refused an entry, which is taken back.
    #[error("an entry was refused: {0}")]
    Rejected(Fault),
    /// The service refuses to go on.
    #[error("the service refuses to go on")]
    Ended(#[source] CallError),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// There is something to save.
    wanted: Notify,
    /// Something was saved or refused, or the end has come.
    progress: Notify,
}

struct State<T> {
    tape: Tape<T>,
    listeners: Vec<mpsc::Sender<LogEvent<T>>>,
    rejected: u64,
    last_rejected: Option<Fault>,
    ended: Option<LogError>,
}

/// A replica of a log. Cloning is cheap, and all clones are the same replica.
///
/// When the last handle is dropped, the replica ends, and what is not saved yet is lost: [`close`](Self::close) saves.
pub struct Log<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    shared: Arc<Shared<T>>,
    stream: Stream,
    task: AbortHandle,
}

impl<T> Drop for Inner<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<T> fmt::Debug for Log<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("stream", &self.inner.stream.name())
            .finish_non_exhaustive()
    }
}

impl<T: Value> Log<T> {
    /// Opens a log, makes it if there is none, and loads all of it; one that is there keeps its configuration.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn open(
        persist: &Persist,
        name: impl Into<String>,
        config: Config,
    ) -> Result<Self, OpenError> {
        Self::open_from(persist, name, config, 1).await
    }

    /// As [`open`](Self::open), with the entries from a number on.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_from(
        persist: &Persist,
        name: impl Into<String>,
        config: Config,
        from: u64,
    ) -> Result<Self, OpenError> {
        let stream = persist.open_or_create(name, config).await?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                tape: Tape::new(),
                listeners: Vec::new(),
                rejected: 0,
                last_rejected: None,
                ended: None,
            }),
            wanted: Notify::new(),
            progress: Notify::new(),
        });
        let pages = Pages::new(stream.clone(), Cursor::Seq(from), WatchOptions::default());
        let mut task = Task::new(Arc::clone(&shared), stream.clone(), pages, from);
        task.load().await.map_err(|error| match error {
            WatchError::NotFound { stream } => OpenError::NotFound { stream },
            WatchError::Call(error) => OpenError::Call(error),
        })?;
        let runtime = persist.client().shared().runtime.clone();
        let task = runtime.spawn(task.run()).abort_handle();
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                stream,
                task,
            }),
        })
    }

    /// The stream behind the log.
    pub fn stream(&self) -> &Stream {
        &self.inner.stream
    }

    /// Adds an entry at the end. It can be read at once and is saved in the background.
    ///
    /// # Errors
    /// When the value cannot be encoded or is too large.
    pub fn push(&self, value: T) -> Result<(), SetError> {
        let len = encoded(&value)?.payload.len();
        if len > PAYLOAD_LEN_MAX {
            return Err(SetError::TooLarge { len });
        }
        let id = self.inner.stream.next_id();
        self.inner.shared.state.lock().tape.push(id, value);
        self.inner.shared.wanted.notify_one();
        Ok(())
    }

    /// The entries in order, each with its number if the service has given one and told it.
    pub fn entries(&self) -> Vec<(Option<u64>, T)> {
        self.inner.shared.state.lock().tape.entries()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.inner.shared.state.lock().tape.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether something that was pushed is not written at the service yet.
    pub fn has_unsaved(&self) -> bool {
        !self.inner.shared.state.lock().tape.is_saved()
    }

    /// Waits until everything that was pushed is written at the service, however long that takes.
    ///
    /// # Errors
    /// When the service refused an entry meanwhile, or the log is closed.
    pub async fn save(&self) -> Result<(), LogError> {
        let shared = &self.inner.shared;
        let refused_before = shared.state.lock().rejected;
        loop {
            let mut progress = std::pin::pin!(shared.progress.notified());
            progress.as_mut().enable();
            {
                let state = shared.state.lock();
                if let Some(why) = &state.ended {
                    return Err(why.clone());
                }
                if state.tape.is_saved() {
                    return match &state.last_rejected {
                        Some(fault) if state.rejected > refused_before => {
                            Err(LogError::Rejected(fault.clone()))
                        }
                        _ => Ok(()),
                    };
                }
            }
            progress.await;
        }
    }

    /// Everything that happens to the log from here on. A receiver that does not read holds the replica up, so that
    /// nothing is lost; dropping it lets the replica go.
    pub fn events(&self) -> mpsc::Receiver<LogEvent<T>> {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        self.inner.shared.state.lock().listeners.push(sender);
        receiver
    }

    /// Saves and ends the replica. Other handles keep what they know, and save nothing more.
    ///
    /// # Errors
    /// When not everything could be saved.
    pub async fn close(self) -> Result<(), LogError> {
        let saved = self.save().await;
        self.inner.task.abort();
        let mut state = self.inner.shared.state.lock();
        state.listeners.clear();
        state.ended.get_or_insert(LogError::Closed);
        drop(state);
        self.inner.shared.progress.notify_waiters();
        saved
    }
}
