//! Key-value stores: streams that are read by key.
//!
//! [`KeyValue`] keeps a replica of the whole store: reading is synchronous, and so is writing, which is saved in the
//! background. Several programs that write the same key meet in a three-way merge, or the last one wins.
//! [`Bucket`] keeps nothing and asks the service each time.
//!
//! Deleting a key writes a *tombstone*, a record whose headers say so, which goes away after some time by itself; so a
//! deletion has a number and a message id like every other write.
//!
//! ```no_run
//! use dialtone_client::persist::Persist;
//! use dialtone_client::persist::kv::{KeyValue, KvOptions};
//!
//! # async fn example(client: dialtone_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! let settings: KeyValue<String> =
//!     KeyValue::open(&Persist::new(&client), "settings", KvOptions::default()).await?;
//! settings.set("theme", "dark".to_owned())?;
//! assert_eq!(settings.get("theme").as_deref(), Some("dark"));
//! settings.save().await?;
//! # Ok(())
//! # }
//! ```

mod bucket;
mod event;
mod replica;
mod saving;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use super::error::{CallError, OpenError};
use super::handle::Persist;
use super::record::millis;
use super::stream::Stream;
use super::watch::{Pages, WatchError, WatchOptions};
use super::wire::{Config, Cursor, Fault, KEY_LEN_MAX, PAYLOAD_LEN_MAX, Record, StoredRecord};
use crate::error::EncodeError;
use crate::headers::Headers;
use replica::{Merge, Replica};
use saving::Task;

pub(super) use replica::{Saved, Write};
pub(super) use saving::save_entries;

pub use bucket::{Bucket, Entry};
pub use event::{Cause, KvEvent};

/// The header of a tombstone, whose value is `true`.
pub const TOMBSTONE: &str = "CN-Tombstone";

/// How long a tombstone is kept by default.
const TOMBSTONE_TTL: Duration = Duration::from_hours(24);

/// Most events that wait for one receiver; then the replica stops following until it reads.
const EVENTS_MAX: usize = 1_024;

/// What a value must be able to do.
pub trait Value: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static> Value for T {}

/// How a store is opened.
pub struct KvOptions<T> {
    config: Config,
    tombstone_ttl: Duration,
    auto_save: bool,
    merge: Option<Arc<Merge<T>>>,
}

impl<T> Default for KvOptions<T> {
    fn default() -> Self {
        Self {
            config: Config::default(),
            tombstone_ttl: TOMBSTONE_TTL,
            auto_save: true,
            merge: None,
        }
    }
}

impl<T> fmt::Debug for KvOptions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvOptions")
            .field("config", &self.config)
            .field("auto_save", &self.auto_save)
            .field("merges", &self.merge.is_some())
            .finish_non_exhaustive()
    }
}

impl<T> KvOptions<T> {
    /// Sets the configuration of a store that is made by this; one that is there keeps its own.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Sets how long a deletion is kept as a tombstone; a day by default.
    pub fn tombstone_ttl(mut self, ttl: Duration) -> Self {
        self.tombstone_ttl = ttl;
        self
    }

    /// Saves only when [`KeyValue::save`] is called, not whenever something is set.
    pub fn save_by_hand(mut self) -> Self {
        self.auto_save = false;
        self
    }

    /// Decides what becomes of a key that was changed here and elsewhere at the same time: `merge(key, before, ours,
    /// theirs)` gives the value, or `None` to delete the key. Without it the change that is saved last wins.
    ///
    /// It is called with a lock held, and must not use the store.
    pub fn merge(
        mut self,
        merge: impl Fn(&str, Option<&T>, Option<&T>, Option<&T>) -> Option<T> + Send + Sync + 'static,
    ) -> Self {
        self.merge = Some(Arc::new(merge));
        self
    }
}

/// Why a change was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetError {
    /// The key is too long.
    #[error("a key of {len} bytes is longer than the limit of {KEY_LEN_MAX}")]
    Key {
        /// Its length, in bytes.
        len: usize,
    },
    /// The value is too large.
    #[error("a value of {len} bytes is larger than the limit of {PAYLOAD_LEN_MAX}")]
    TooLarge {
        /// Its length, in bytes.
        len: usize,
    },
    /// The value cannot be written.
    #[error("the value cannot be encoded")]
    Encode(#[from] EncodeError),
}

/// Why not everything was saved.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The service refused a change, which is taken back.
    #[error("the change of {key:?} was refused: {fault}")]
    Rejected {
        /// The key.
        key: String,
        /// Why.
        fault: Fault,
    },
    /// The service refuses to go on.
    #[error("the service refuses to go on")]
    Ended(#[source] CallError),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// What the handles and the task share.
struct Shared<T> {
    state: Mutex<State<T>>,
    /// There is something to save.
    wanted: Notify,
    /// Something was saved or refused, or the end has come.
    progress: Notify,
}

struct State<T> {
    replica: Replica<T>,
    listeners: Vec<mpsc::Sender<KvEvent<T>>>,
    /// Somebody asked to save.
    save_asked: bool,
    rejected: u64,
    last_rejected: Option<(String, Fault)>,
    ended: Option<End>,
}

/// Why a replica has ended.
#[derive(Debug, Clone)]
enum End {
    Closed,
    Refused(CallError),
}

/// A replica of a key-value store. Cloning is cheap, and all clones are the same replica.
///
/// When the last handle is dropped, the replica ends, and what is not saved yet is lost: [`close`](Self::close) saves.
pub struct KeyValue<T> {
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

impl<T> Clone for KeyValue<T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<T> fmt::Debug for KeyValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValue")
            .field("stream", &self.inner.stream.name())
            .finish_non_exhaustive()
    }
}

impl<T: Value> KeyValue<T> {
    /// Opens a store, makes it if there is none, and loads all of it.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn open(
        persist: &Persist,
        name: impl Into<String>,
        options: KvOptions<T>,
    ) -> Result<Self, OpenError> {
        let config = Config {
            allow_ttl: true,
            ..options.config
        };
        let stream = persist.open_or_create(name, config).await?;
        let info = stream.info().await.map_err(OpenError::Call)?;
        let keeps_history = info.config.max_msgs_per_key > 1;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                replica: Replica::new(options.merge, keeps_history),
                listeners: Vec::new(),
                save_asked: false,
                rejected: 0,
                last_rejected: None,
                ended: None,
            }),
            wanted: Notify::new(),
            progress: Notify::new(),
        });
        let pages = Pages::new(stream.clone(), Cursor::Seq(1), WatchOptions::default());
        let mut task = Task::new(
            Arc::clone(&shared),
            stream.clone(),
            pages,
            options.auto_save,
            millis(options.tombstone_ttl).max(1),
        );
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

    /// The stream behind the store.
    pub fn stream(&self) -> &Stream {
        &self.inner.stream
    }

    /// The value of a key: what was set here last, or else what the service has.
    pub fn get(&self, key: &str) -> Option<T> {
        self.inner.shared.state.lock().replica.get(key).cloned()
    }

    /// Whether a key has a value.
    pub fn contains(&self, key: &str) -> bool {
        self.inner.shared.state.lock().replica.get(key).is_some()
    }

    /// The keys that have a value, in the order of their bytes.
    pub fn keys(&self) -> Vec<String> {
        self.inner.shared.state.lock().replica.keys()
    }

    /// The keys with their values, in the order of the keys' bytes.
    pub fn entries(&self) -> Vec<(String, T)> {
        let state = self.inner.shared.state.lock();
        let keys = state.replica.keys();
        keys.into_iter()
            .filter_map(|key| {
                let value = state.replica.get(&key)?.clone();
                Some((key, value))
            })
            .collect()
    }

    /// How many keys have a value.
    pub fn len(&self) -> usize {
        self.keys().len()
    }

    /// Whether no key has a value.
    pub fn is_empty(&self) -> bool {
        self.keys().is_empty()
    }

    /// The number of the key's record at the service, and when it was written in milliseconds since 1970.
    pub fn confirmed(&self, key: &str) -> Option<(u64, u64)> {
        let state = self.inner.shared.state.lock();
        state
            .replica
            .confirmed(key)
            .map(|entry| (entry.seq, entry.time))
    }

    /// Sets a key. It can be read at once and is saved in the background.
    ///
    /// # Errors
    /// When the key is too long, or the value cannot be encoded or is too large.
    pub fn set(&self, key: &str, value: T) -> Result<(), SetError> {
        self.change(key, Some(value), None)
    }

    /// As [`set`](Self::set), for a value that goes away after a time.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_for(&self, key: &str, value: T, ttl: Duration) -> Result<(), SetError> {
        self.change(key, Some(value), Some(millis(ttl).max(1)))
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// When the key is too long.
    pub fn delete(&self, key: &str) -> Result<(), SetError> {
        self.change(key, None, None)
    }

    /// Deletes every key that has a value.
    pub fn clear(&self) {
        let mut state = self.inner.shared.state.lock();
        for key in state.replica.keys() {
            state.replica.set(&key, None, None);
        }
        drop(state);
        self.inner.shared.wanted.notify_one();
    }

    fn change(&self, key: &str, value: Option<T>, ttl: Option<u64>) -> Result<(), SetError> {
        if key.len() > KEY_LEN_MAX {
            return Err(SetError::Key { len: key.len() });
        }
        if let Some(value) = &value {
            let len = encoded(value)?.payload.len();
            if len > PAYLOAD_LEN_MAX {
                return Err(SetError::TooLarge { len });
            }
        }
        self.inner.shared.state.lock().replica.set(key, value, ttl);
        self.inner.shared.wanted.notify_one();
        Ok(())
    }

    /// Whether something that was set is not written at the service yet.
    pub fn has_unsaved(&self) -> bool {
        !self.inner.shared.state.lock().replica.is_saved()
    }

    /// The keys whose changes are not written at the service yet.
    pub fn unsaved(&self) -> Vec<String> {
        self.inner.shared.state.lock().replica.unsaved()
    }

    /// Saves, and waits until everything that was set is written at the service, however long that takes.
    ///
    /// # Errors
    /// When the service refused a change meanwhile, or the store is closed.
    pub async fn save(&self) -> Result<(), SaveError> {
        let shared = &self.inner.shared;
        let refused_before = shared.state.lock().rejected;
        loop {
            let mut progress = std::pin::pin!(shared.progress.notified());
            progress.as_mut().enable();
            {
                let mut state = shared.state.lock();
                if let Some(why) = &state.ended {
                    return Err(match why.clone() {
                        End::Closed => SaveError::Closed,
                        End::Refused(error) => SaveError::Ended(error),
                    });
                }
                if state.replica.is_saved() {
                    return match &state.last_rejected {
                        Some((key, fault)) if state.rejected > refused_before => {
                            Err(SaveError::Rejected {
                                key: key.clone(),
                                fault: fault.clone(),
                            })
                        }
                        _ => Ok(()),
                    };
                }
                state.save_asked = true;
            }
            shared.wanted.notify_one();
            progress.await;
        }
    }

    /// Everything that happens to the store from here on. A receiver that does not read holds the replica up, so that
    /// nothing is lost; dropping it lets the replica go.
    pub fn events(&self) -> mpsc::Receiver<KvEvent<T>> {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        self.inner.shared.state.lock().listeners.push(sender);
        receiver
    }

    /// Saves and ends the replica. Other handles keep what they know, and save nothing more.
    ///
    /// # Errors
    /// When not everything could be saved.
    pub async fn close(self) -> Result<(), SaveError> {
        let saved = self.save().await;
        self.inner.task.abort();
        let mut state = self.inner.shared.state.lock();
        state.listeners.clear();
        state.ended.get_or_insert(End::Closed);
        drop(state);
        self.inner.shared.progress.notify_waiters();
        saved
    }
}

/// A value as a record without a key.
pub(super) fn encoded<T: Serialize>(value: &T) -> Result<Record, EncodeError> {
    Record::msgpack(value)
}

/// The record that deletes a key.
pub(super) fn tombstone(key: &str, ttl: u64) -> Record {
    Record {
        ttl: Some(ttl),
        ..Record::keyed(key, &[0xc0_u8][..]).headers(&Headers::new().with(TOMBSTONE, true))
    }
}

impl StoredRecord {
    /// Whether the record says that its key was deleted.
    pub fn is_tombstone(&self) -> bool {
        let Some(headers) = &self.headers else {
            return false;
        };
        Headers::parse(headers)
            .is_ok_and(|headers| headers.get(TOMBSTONE) == Some(&serde_json::Value::Bool(true)))
    }
}
