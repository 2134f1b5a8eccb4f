//! [`Bucket`]: a key-value store that is asked each time.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{TOMBSTONE_TTL, tombstone};
use crate::error::PayloadError;
use crate::persist::error::{AppendError, CallError, OpenError};
use crate::persist::handle::Persist;
use crate::persist::read::ReadOptions;
use crate::persist::record::millis;
use crate::persist::stream::Stream;
use crate::persist::watch::{WatchError, WatchOptions, Watcher};
use crate::persist::wire::{Config, Cursor, Record, Removed, Select, StoredRecord, What, Written};

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The record of the key.
    pub record: StoredRecord,
}

impl Entry {
    /// The key.
    pub fn key(&self) -> &str {
        self.record.key.as_deref().unwrap_or_default()
    }

    /// The number of its record, with which [`Bucket::update`] can be sure that nobody was faster.
    pub fn seq(&self) -> u64 {
        self.record.seq
    }

    /// Reads the value as its encoding says.
    ///
    /// # Errors
    /// When it does not hold a `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        self.record.decode()
    }
}

/// A key-value store without a replica: every call asks the service. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Bucket {
    stream: Stream,
    tombstone_ttl: u64,
}

impl Bucket {
    /// Opens a store, and makes it if there is none; one that is there keeps its configuration.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn open(
        persist: &Persist,
        name: impl Into<String>,
        config: Config,
    ) -> Result<Self, OpenError> {
        let config = Config {
            allow_ttl: true,
            ..config
        };
        Ok(Self::of(persist.open_or_create(name, config).await?))
    }

    /// The store that a stream is.
    pub fn of(stream: Stream) -> Self {
        Self {
            stream,
            tombstone_ttl: millis(TOMBSTONE_TTL),
        }
    }

    /// Sets how long a deletion is kept as a tombstone; a day by default.
    pub fn tombstone_ttl(mut self, ttl: Duration) -> Self {
        self.tombstone_ttl = millis(ttl).max(1);
        self
    }

    /// The stream behind the store.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The value of a key, if it has one.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, CallError> {
        let record = self.stream.get(Select::Key(key.to_owned())).await?;
        Ok(record
            .filter(|record| !record.is_tombstone())
            .map(|record| Entry { record }))
    }

    /// Sets a key.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn put(
        &self,
        key: impl Into<String>,
        value: impl Into<Record>,
    ) -> Result<Written, AppendError> {
        self.stream.append(value.into().key(key)).await
    }

    /// Sets a key that has no value.
    ///
    /// # Errors
    /// [`AppendError::WrongLastSequence`] when it has one.
    pub async fn create(
        &self,
        key: impl Into<String>,
        value: impl Into<Record>,
    ) -> Result<Written, AppendError> {
        let (key, value) = (key.into(), value.into());
        let first = self
            .stream
            .append(value.clone().key(key.as_str()).after_key(0))
            .await;
        let Err(AppendError::WrongLastSequence { actual, text }) = first else {
            return first;
        };
        // What is there may be the trace of a deletion.
        let there = self.stream.get(Select::Key(key.clone())).await?;
        let seq = match &there {
            Some(record) if record.is_tombstone() => record.seq,
            Some(_) => return Err(AppendError::WrongLastSequence { actual, text }),
            None => 0,
        };
        self.stream.append(value.key(key).after_key(seq)).await
    }

    /// Sets a key whose record has a number.
    ///
    /// # Errors
    /// [`AppendError::WrongLastSequence`] when it has another one.
    pub async fn update(
        &self,
        key: impl Into<String>,
        value: impl Into<Record>,
        seq: u64,
    ) -> Result<Written, AppendError> {
        self.stream
            .append(value.into().key(key).after_key(seq))
            .await
    }

    /// Deletes a key: its value becomes a tombstone, which goes away by itself.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn delete(&self, key: &str) -> Result<Written, AppendError> {
        self.stream.append(tombstone(key, self.tombstone_ttl)).await
    }

    /// Takes everything out that there is of a key, its history included.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn purge(&self, key: &str) -> Result<Removed, CallError> {
        self.stream.remove(What::Key(key.to_owned())).await
    }

    /// The keys that have a value and begin with `prefix`, with their values, in the order of the keys' bytes.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn entries(&self, prefix: Option<&str>) -> Result<Vec<Entry>, CallError> {
        let mut newest = std::collections::BTreeMap::new();
        let mut records = self.records(prefix);
        while let Some(record) = records.next().await {
            let record = record?;
            if let Some(key) = record.key.clone() {
                newest.insert(key, record);
            }
        }
        let living = newest.into_values().filter(|record| !record.is_tombstone());
        Ok(living.map(|record| Entry { record }).collect())
    }

    /// All records of a key that are kept, oldest first, with the deletions among them.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn history(&self, key: &str) -> Result<Vec<StoredRecord>, CallError> {
        let mut records = self.records(Some(key));
        let mut history = Vec::new();
        while let Some(record) = records.next().await {
            let record = record?;
            if record.key.as_deref() == Some(key) {
                history.push(record);
            }
        }
        Ok(history)
    }

    fn records(&self, prefix: Option<&str>) -> crate::persist::Records {
        self.stream.read(ReadOptions {
            prefix: prefix.map(str::to_owned),
            ..ReadOptions::default()
        })
    }

    /// What happens to keys that begin with `prefix`: from now on, or first all that there is.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn watch(&self, prefix: Option<&str>, from_now: bool) -> Result<Watcher, WatchError> {
        let options = WatchOptions {
            prefix: prefix.map(str::to_owned),
            ..WatchOptions::default()
        };
        let cursor = if from_now {
            Cursor::Now
        } else {
            Cursor::Seq(1)
        };
        self.stream.watch(cursor, options).await
    }
}
