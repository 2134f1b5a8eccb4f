//! [`Stream`]: one durable stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::call::{Caller, Manner, Repeat, Route};
use super::error::{AppendError, CallError};
use super::ids::Ids;
use super::name::StreamName;
use super::read::{ReadOptions, Records};
use super::watch::{WatchError, WatchOptions, Watcher};
use super::wire::{
    Append, Appended, Config, ConfigPatch, Cursor, Durability, Expect, Found, Get, Info, KeyEntry,
    KeyList, KeyPage, Outcome, Record, Remove, Removed, Request, Restore, Restored, Select,
    StoredRecord, StreamInfo, Update, Verified, Verify, What, Written,
};

/// Keys of one page of a listing.
const KEYS_PAGE: u32 = 10_000;

/// How long reading a part of a stream from disk for verification may take.
const VERIFY_MAX: Duration = Duration::from_mins(5);

/// A stream of numbered records that survive. Cloning is cheap.
///
/// A record that is appended gets a message id unless it has one, so that repeating a request whose answer was lost does
/// not write it twice. That needs a stream with a `duplicate_window`; a stream without is asked once.
#[derive(Debug, Clone)]
pub struct Stream {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    caller: Caller,
    name: StreamName,
    route: Route,
    ids: Ids,
    /// The stream remembers message ids.
    dedupes: AtomicBool,
}

impl Stream {
    pub(super) fn new(caller: Caller, name: StreamName, route: Route) -> Self {
        let inner = Inner {
            caller,
            name,
            route,
            ids: Ids::new(),
            dedupes: AtomicBool::new(true),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.inner.name.as_str()
    }

    /// A message id that nobody else gives.
    pub(super) fn next_id(&self) -> String {
        self.inner.ids.next()
    }

    /// Whether a write with a message id may be repeated.
    pub(super) fn learn(&self, config: &Config) {
        let dedupes = config.duplicate_window > 0;
        self.inner.dedupes.store(dedupes, Ordering::Relaxed);
    }

    pub(super) async fn ask<A: DeserializeOwned>(
        &self,
        request: &Request,
        manner: Manner,
    ) -> Result<A, CallError> {
        let Inner { caller, route, .. } = &*self.inner;
        caller.call(request, route, manner).await
    }

    pub(super) fn manner(&self, repeat: Repeat) -> Manner {
        self.inner.caller.manner(repeat)
    }

    /// Writes one record at the end, and waits until it is as durable as the stream says.
    ///
    /// # Errors
    /// When the record is refused, or nobody knows whether it was written.
    pub async fn append(&self, record: impl Into<Record>) -> Result<Written, AppendError> {
        self.append_with(record, None).await
    }

    /// As [`append`](Self::append), with a durability other than the stream's.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub async fn append_with(
        &self,
        record: impl Into<Record>,
        durability: Option<Durability>,
    ) -> Result<Written, AppendError> {
        let appended = self.write(vec![record.into()], false, durability).await?;
        match appended.results.into_iter().next() {
            Some(Outcome::Written(written)) => Ok(written),
            Some(Outcome::Refused(fault)) => Err(fault.into()),
            None => Err(CallError::Answer("it has no outcome".to_owned()).into()),
        }
    }

    /// Writes records in order, each with an outcome of its own; at most 10,000, and 64 MiB.
    ///
    /// # Errors
    /// When the request as a whole is refused, or nobody knows whether it was carried out.
    pub async fn append_many(&self, records: Vec<Record>) -> Result<Appended, AppendError> {
        self.write(records, false, None).await
    }

    /// As [`append_many`](Self::append_many), with a durability other than the stream's.
    ///
    /// # Errors
    /// As [`append_many`](Self::append_many).
    pub async fn append_many_with(
        &self,
        records: Vec<Record>,
        durability: Option<Durability>,
    ) -> Result<Appended, AppendError> {
        self.write(records, false, durability).await
    }

    /// Writes all records or none; at most 10,000, and 64 MiB.
    ///
    /// # Errors
    /// The first refusal, which refuses all; or that nobody knows whether they were written.
    pub async fn append_atomic(&self, records: Vec<Record>) -> Result<Vec<Written>, AppendError> {
        let appended = self.write(records, true, None).await?;
        let results = appended.results.into_iter().map(|outcome| match outcome {
            Outcome::Written(written) => Ok(written),
            Outcome::Refused(fault) => Err(fault.into()),
        });
        results.collect()
    }

    /// The request behind all appends.
    pub(super) async fn write(
        &self,
        mut records: Vec<Record>,
        atomic: bool,
        durability: Option<Durability>,
    ) -> Result<Appended, AppendError> {
        for record in &mut records {
            record.id.get_or_insert_with(|| self.inner.ids.next());
        }
        let expected = records.len();
        let request = Request::Append(Append {
            stream: self.name().to_owned(),
            records,
            atomic,
            durability,
            epoch: None,
        });
        let repeat = if self.inner.dedupes.load(Ordering::Relaxed) {
            Repeat::Safe
        } else {
            Repeat::Refused
        };
        let appended: Appended = self.ask(&request, self.manner(repeat)).await?;
        if appended.results.len() != expected {
            let text = format!("{} outcomes for {expected} records", appended.results.len());
            return Err(CallError::Answer(text).into());
        }
        Ok(appended)
    }

    /// One record.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn get(&self, select: Select) -> Result<Option<StoredRecord>, CallError> {
        let request = Request::Get(Get {
            stream: self.name().to_owned(),
            select,
        });
        let found: Found = self.ask(&request, self.manner(Repeat::Safe)).await?;
        Ok(found.record)
    }

    /// Records in the order of their numbers, read ahead while they are worked on.
    pub fn read(&self, options: ReadOptions) -> Records {
        Records::new(self.clone(), options)
    }

    /// What happens to the stream after a cursor, without a gap, whatever happens to connections and nodes.
    ///
    /// # Errors
    /// When there is no such stream, or the service is not reached or refuses.
    pub async fn watch(
        &self,
        cursor: Cursor,
        options: WatchOptions,
    ) -> Result<Watcher, WatchError> {
        Watcher::begin(self.clone(), cursor, options).await
    }

    /// One page of keys that begin with `prefix`, behind `after`.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn keys_page(
        &self,
        prefix: Option<&str>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<KeyPage, CallError> {
        let request = Request::Keys(KeyList {
            stream: self.name().to_owned(),
            prefix: prefix.map(str::to_owned),
            after: after.map(str::to_owned),
            limit: Some(limit),
        });
        self.ask(&request, self.manner(Repeat::Safe)).await
    }

    /// All keys that begin with `prefix`, in the order of their bytes, with the numbers of their newest records.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn keys(&self, prefix: Option<&str>) -> Result<Vec<KeyEntry>, CallError> {
        let mut all: Vec<KeyEntry> = Vec::new();
        loop {
            let after = all.last().map(|entry| entry.key.clone());
            let page = self.keys_page(prefix, after.as_deref(), KEYS_PAGE).await?;
            let more = page.more && !page.keys.is_empty();
            all.extend(page.keys);
            if !more {
                return Ok(all);
            }
        }
    }

    /// Takes records out of the stream. Those that are not there are not removed, which is no error.
    ///
    /// # Errors
    /// When the service is not reached or refuses. Removing `all`, a `key` or a `prefix` is not repeated when its answer
    /// is lost, because that could take what was written in between.
    pub async fn remove(&self, what: What) -> Result<Removed, CallError> {
        self.remove_if(what, None).await
    }

    /// As [`remove`](Self::remove), if an expectation holds.
    ///
    /// # Errors
    /// As [`remove`](Self::remove), and when the expectation does not hold.
    pub async fn remove_if(
        &self,
        what: What,
        expect: Option<Expect>,
    ) -> Result<Removed, CallError> {
        let numbers = matches!(what, What::Seqs(_) | What::UpTo(_) | What::Range(..));
        let repeat = if numbers && expect.is_none() {
            Repeat::Safe
        } else {
            Repeat::Refused
        };
        let request = Request::Remove(Remove {
            stream: self.name().to_owned(),
            what,
            expect,
            durability: None,
        });
        self.ask(&request, self.manner(repeat)).await
    }

    /// The stream as it is.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn info(&self) -> Result<StreamInfo, CallError> {
        let request = Request::Info(Info {
            stream: self.name().to_owned(),
        });
        let info: StreamInfo = self.ask(&request, self.manner(Repeat::Safe)).await?;
        self.learn(&info.config);
        Ok(info)
    }

    /// Changes the configuration; what the patch does not say stays.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn update(&self, config: ConfigPatch) -> Result<StreamInfo, CallError> {
        let request = Request::Update(Update {
            stream: self.name().to_owned(),
            config,
        });
        let info: StreamInfo = self.ask(&request, self.manner(Repeat::Safe)).await?;
        self.learn(&info.config);
        Ok(info)
    }

    /// Reads what is kept from a number on and compares checksums. `next` of the answer says where to go on.
    ///
    /// # Errors
    /// When the service is not reached or refuses.
    pub async fn verify(&self, from: u64) -> Result<Verified, CallError> {
        let request = Request::Verify(Verify {
            stream: self.name().to_owned(),
            from,
        });
        let manner = self.manner(Repeat::Safe).waiting(VERIFY_MAX);
        self.ask(&request, manner).await
    }

    /// Fills an empty stream with records of another one, which keep their numbers and times. See [`Restore`].
    ///
    /// # Errors
    /// When the service is not reached or refuses. It is not repeated when its answer is lost.
    pub async fn restore(
        &self,
        records: Vec<StoredRecord>,
        last_seq: Option<u64>,
        done: bool,
    ) -> Result<Restored, CallError> {
        let request = Request::Restore(Restore {
            stream: self.name().to_owned(),
            records,
            last_seq,
            done,
        });
        self.ask(&request, self.manner(Repeat::Refused)).await
    }
}
