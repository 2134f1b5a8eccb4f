//! Programs that write to two streams and note what they are told.

use std::sync::Arc;
use std::time::Duration;

use dialtone_client::Options;
use dialtone_client::persist::wire::{Config, Record, What, Written};
use dialtone_client::persist::{AppendError, Persist, Stream};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;

use super::ledger::{Keyed, Ledger};
use super::may_pass;

/// Programs that write to the log, and to keys.
const LOGGERS: u64 = 4;
const KEEPERS: u64 = 3;

/// Keys that all keepers want.
const KEYS: usize = 3;

/// Records of a batch, at most.
const BATCH_MAX: usize = 20;

/// How long a request waits until its writer takes it for lost. Those to a node that was killed are.
pub(super) const LOST: Duration = Duration::from_secs(2);

/// Of writes with an unknown outcome, how many are not repeated.
const GIVEN_UP: f64 = 0.3;

/// What all writers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) ledger: Mutex<Ledger>,
    /// One for each outcome; closed when all writers have ended and the log was read, which is when workers may end.
    pub(super) outcomes: Semaphore,
    /// One for each write that may still begin; closed at the end.
    pub(super) budget: Semaphore,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            ledger: Mutex::default(),
            outcomes: Semaphore::new(0),
            budget: Semaphore::new(0),
        }
    }
}

/// The streams as one program has them.
pub(super) struct Streams {
    pub(super) log: Stream,
    pub(super) keyed: Stream,
}

impl Streams {
    async fn persist(url: &str) -> Persist {
        Persist::new(&Options::new(url).connect().await.unwrap())
    }

    /// Makes them.
    pub(super) async fn create(url: &str) -> Self {
        let persist = Self::persist(url).await;
        let config = Config {
            duplicate_window: 3_600_000,
            ..Config::default()
        };
        Self {
            log: persist.create("log", config.clone()).await.unwrap(),
            keyed: persist.create("keyed", config).await.unwrap(),
        }
    }

    async fn open(url: &str) -> Self {
        let persist = Self::persist(url).await.timeout(LOST);
        Self {
            log: persist.stream("log").unwrap(),
            keyed: persist.stream("keyed").unwrap(),
        }
    }
}

/// Starts all writers.
pub(super) fn start(
    runtime: &Runtime,
    url: &str,
    seed: u64,
    shared: &Arc<Shared>,
) -> Vec<JoinHandle<()>> {
    let writers = (0..LOGGERS + KEEPERS).map(|number| {
        let (url, shared) = (url.to_owned(), Arc::clone(shared));
        runtime.spawn(async move {
            let mut writer = Writer {
                streams: Streams::open(&url).await,
                shared,
                rng: StdRng::seed_from_u64(seed.wrapping_add(number)),
                name: format!("w{number}"),
                written: 0,
            };
            if number < LOGGERS {
                writer.log().await;
            } else {
                writer.keep().await;
            }
        })
    });
    writers.collect()
}

struct Writer {
    streams: Streams,
    shared: Arc<Shared>,
    rng: StdRng,
    name: String,
    /// How many writes it has begun.
    written: u64,
}

impl Writer {
    async fn log(&mut self) {
        let mut mine: Vec<(u64, String)> = Vec::new();
        while self.may_write().await {
            match self.rng.random_range(0..10) {
                0 => self.batch().await,
                1 => self.refused().await,
                2 if !mine.is_empty() => {
                    let (seq, id) = mine.swap_remove(self.rng.random_range(0..mine.len()));
                    self.remove(seq, id).await;
                }
                _ => mine.extend(self.one().await),
            }
        }
    }

    /// A new message id, which is noted as sent.
    fn id(&mut self) -> String {
        self.written += 1;
        let id = format!("{}.{}", self.name, self.written);
        self.shared.ledger.lock().sent.insert(id.clone());
        id
    }

    async fn one(&mut self) -> Option<(u64, String)> {
        let id = self.id();
        let outcome = self.append(self.streams.log.clone(), record(&id)).await;
        let Some(outcome) = outcome else {
            self.shared.ledger.lock().unknown.insert(id);
            return None;
        };
        let written = outcome.unwrap();
        self.note(&[(written, id.clone())]);
        Some((written.seq, id))
    }

    async fn batch(&mut self) {
        let first = self.id();
        let len = self.rng.random_range(1..=BATCH_MAX);
        let ids: Vec<String> = (0..len).map(|index| format!("{first}.{index}")).collect();
        {
            let mut ledger = self.shared.ledger.lock();
            ledger.sent.extend(ids.iter().cloned());
            ledger.batches.push(ids.clone());
        }
        let log = self.streams.log.clone();
        let records: Vec<Record> = ids.iter().map(|id| record(id)).collect();
        let written = self.outcome(|| {
            let (log, records) = (log.clone(), records.clone());
            async move { log.append_atomic(records).await }
        });
        match written.await {
            Some(written) => {
                let noted: Vec<_> = written.unwrap().into_iter().zip(ids).collect();
                self.note(&noted);
            }
            None => self.shared.ledger.lock().unknown.extend(ids),
        }
    }

    /// Writes what must not be written: a stream that has records never was empty.
    async fn refused(&mut self) {
        if self.shared.ledger.lock().acked.is_empty() {
            return;
        }
        let id = self.id();
        let record = record(&id).after_last(0);
        self.shared.ledger.lock().refused.insert(id);
        match self.append(self.streams.log.clone(), record).await {
            None | Some(Err(AppendError::WrongLastSequence { .. })) => {}
            Some(other) => panic!("{other:?}"),
        }
    }

    async fn remove(&self, seq: u64, id: String) {
        self.shared.ledger.lock().going.insert(seq);
        while let Err(error) = self.streams.log.remove(What::Seqs(vec![seq])).await {
            assert!(may_pass(&error), "{error}");
        }
        self.shared.ledger.lock().gone.insert(seq);
        // Who does not know that it was written and removed meanwhile must not bring it back.
        let again = loop {
            match self.streams.log.append(record(&id)).await {
                Err(AppendError::Call(error)) if may_pass(&error) => {}
                other => break other.unwrap(),
            }
        };
        assert_eq!((again.seq, again.duplicate), (seq, true), "{id} again");
    }

    /// Changes values of keys that others change too, each time only if it knows the newest.
    async fn keep(&mut self) {
        let mut known = [0; KEYS];
        while self.may_write().await {
            let number = self.rng.random_range(0..known.len());
            let (id, key, expected) = (self.id(), key(number), known[number]);
            let record = record(&id).key(&key).after_key(expected);
            let outcome = self.append(self.streams.keyed.clone(), record).await;
            let mut ledger = self.shared.ledger.lock();
            match outcome {
                None => drop(ledger.unknown.insert(id)),
                Some(Err(AppendError::WrongLastSequence { actual, .. })) => {
                    known[number] = actual;
                    ledger.refused.insert(id);
                }
                Some(written) => {
                    let written = written.unwrap();
                    known[number] = written.seq;
                    ledger.duplicates += u64::from(written.duplicate);
                    ledger
                        .keyed
                        .insert(written.seq, Keyed { key, id, expected });
                }
            }
        }
    }

    async fn append(
        &mut self,
        stream: Stream,
        record: Record,
    ) -> Option<Result<Written, AppendError>> {
        let write = || {
            let (stream, record) = (stream.clone(), record.clone());
            async move { stream.append(record).await }
        };
        self.outcome(write).await
    }

    /// Waits until another write may begin; whether that is so.
    async fn may_write(&self) -> bool {
        let permit = self.shared.budget.acquire().await;
        permit.map(SemaphorePermit::forget).is_ok()
    }

    /// Repeats a write until its outcome is known; sometimes gives up.
    async fn outcome<T, F: Future<Output = Result<T, AppendError>>>(
        &mut self,
        write: impl Fn() -> F,
    ) -> Option<Result<T, AppendError>> {
        let outcome = loop {
            match write().await {
                Err(AppendError::Call(error)) if may_pass(&error) => {
                    if error.is_unknown() && self.rng.random_bool(GIVEN_UP) {
                        break None;
                    }
                }
                outcome => break Some(outcome),
            }
        };
        self.shared.outcomes.add_permits(1);
        outcome
    }

    fn note(&self, written: &[(Written, String)]) {
        let mut ledger = self.shared.ledger.lock();
        for (written, id) in written {
            ledger.duplicates += u64::from(written.duplicate);
            let before = ledger.acked.insert(written.seq, id.clone());
            assert_eq!(before, None, "record {} has two ids", written.seq);
        }
    }
}

/// All keys.
pub(super) fn keys() -> impl Iterator<Item = String> {
    (0..KEYS).map(key)
}

fn key(number: usize) -> String {
    format!("k{number}")
}

fn record(id: &str) -> Record {
    Record::new(id).id(id)
}
