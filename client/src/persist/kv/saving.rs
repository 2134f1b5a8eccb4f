//! The task behind a [`KeyValue`](super::KeyValue): follows the store and saves what was set.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::event::KvEvent;
use super::replica::{Confirmed, Remote, Saved, Write};
use super::{End, Shared, Value, encoded, tombstone};
use crate::persist::error::{AppendError, CallError, with_cause};
use crate::persist::saver::{Results, Saver, TELL_MAX, listening, tell};
use crate::persist::stream::Stream;
use crate::persist::watch::{Pages, WatchError};
use crate::persist::wire::{
    Change, Expect, Fault, FaultKind, Outcome, Record, StoredRecord, Watched,
};

/// Most bytes of payloads in one append.
const SAVE_BYTES_MAX: usize = 4 << 20;

/// See the module.
pub(super) struct Task<T> {
    shared: Arc<Shared<T>>,
    stream: Stream,
    pages: Pages,
    auto_save: bool,
    tombstone_ttl: u64,
    epoch: Option<u64>,
    saver: Saver,
    /// To be told to the listeners.
    telling: VecDeque<KvEvent<T>>,
    was_saved: bool,
}

impl<T: Value> Task<T> {
    pub(super) fn new(
        shared: Arc<Shared<T>>,
        stream: Stream,
        pages: Pages,
        auto_save: bool,
        tombstone_ttl: u64,
    ) -> Self {
        Self {
            shared,
            stream,
            pages,
            auto_save,
            tombstone_ttl,
            epoch: None,
            saver: Saver::new(),
            telling: VecDeque::new(),
            was_saved: true,
        }
    }

    /// Reads all that the store holds.
    pub(super) async fn load(&mut self) -> Result<(), WatchError> {
        let first = self.pages.first().await?;
        self.take(first);
        while !self.shared.state.lock().replica.is_loaded() {
            let page = self.pages.next().await?;
            self.take(page);
        }
        // Nobody listens yet; what is there is no change.
        self.telling.clear();
        Ok(())
    }

    pub(super) async fn run(mut self) {
        loop {
            self.start_saving();
            let listeners = self.listeners();
            let (has_news, can_follow) = (
                !self.telling.is_empty() && !listeners.is_empty(),
                self.telling.is_empty() || listeners.is_empty(),
            );
            tokio::select! {
                page = self.pages.next(), if can_follow => match page {
                    Ok(page) => self.take(page),
                    Err(error) => return self.end(error).await,
                },
                results = self.saver.next() => self.settle(results),
                () = tell(&mut self.telling, &listeners), if has_news => {}
                () = self.shared.wanted.notified() => {}
            }
        }
    }

    /// Those who listen; what was to be told to nobody is forgotten.
    fn listeners(&mut self) -> Vec<mpsc::Sender<KvEvent<T>>> {
        let mut state = self.shared.state.lock();
        listening(&mut state.listeners, &mut self.telling)
    }

    fn take(&mut self, page: Watched) {
        let mut events = Vec::new();
        let mut again = false;
        let position = page.position;
        let mut state = self.shared.state.lock();
        if page.resync {
            state
                .replica
                .resync(self.epoch.is_some_and(|epoch| epoch != position.epoch));
        }
        self.epoch = Some(position.epoch);
        for change in page.changes {
            for remote in remotes(change, &mut events) {
                again |= state.replica.apply(remote, &mut events);
            }
        }
        if !page.resync && !again {
            let whole = position.seq.is_none();
            state.replica.reach(position.revision, whole, &mut events);
        }
        if again {
            state.replica.resync(false);
        }
        drop(state);
        if again {
            self.pages.restart();
        }
        self.saver.told(page.more);
        self.telling.extend(events);
        self.note_progress();
    }

    fn start_saving(&mut self) {
        if self.saver.is_busy() || self.telling.len() > TELL_MAX {
            return;
        }
        let mut state = self.shared.state.lock();
        if !(self.auto_save || state.save_asked) || !state.replica.has_outgoing() {
            return;
        }
        self.was_saved = false;
        let writes = state.replica.outgoing(|| self.stream.next_id());
        drop(state);
        let stream = self.stream.clone();
        self.saver.start(save(stream, writes, self.tombstone_ttl));
    }

    fn settle(&mut self, results: Results) {
        self.saver.settled(&results, &mut self.pages);
        let mut events = Vec::new();
        let mut state = self.shared.state.lock();
        for (key, id, saved) in results {
            if let Saved::Refused(fault) = &saved
                && fault.kind != FaultKind::WrongLastSequence
            {
                state.rejected += 1;
                state.last_rejected = Some((key.clone(), fault.clone()));
            }
            state.replica.settle(&key, &id, saved, &mut events);
        }
        drop(state);
        self.telling.extend(events);
        self.note_progress();
    }

    fn note_progress(&mut self) {
        let mut state = self.shared.state.lock();
        let is_saved = state.replica.is_saved();
        if is_saved {
            state.save_asked = false;
        }
        drop(state);
        if is_saved && !self.was_saved {
            self.was_saved = true;
            self.telling.push_back(KvEvent::Saved);
        }
        self.shared.progress.notify_waiters();
    }

    async fn end(mut self, error: WatchError) {
        let error = error.into_call();
        self.shared.state.lock().ended = Some(End::Refused(error.clone()));
        self.shared.progress.notify_waiters();
        self.telling.push_back(KvEvent::Ended(error));
        let listeners = self.listeners();
        tell(&mut self.telling, &listeners).await;
        self.shared.state.lock().listeners.clear();
    }
}

/// A change as it concerns keys; records without a key do not.
fn remotes<T: Value>(change: Change, events: &mut Vec<KvEvent<T>>) -> Vec<Remote<T>> {
    match change {
        Change::Append(record) => put(record, events).into_iter().collect(),
        Change::Remove(removal) => {
            let cause = removal.cause;
            let gone = removal.keys.into_iter().map(|entry| Remote::Gone {
                key: entry.key,
                seq: entry.seq,
                cause,
            });
            gone.collect()
        }
        Change::Damaged { seq, error } => {
            events.push(KvEvent::Damaged { seq, error });
            Vec::new()
        }
        Change::Config { .. } => Vec::new(),
    }
}

fn put<T: Value>(mut record: StoredRecord, events: &mut Vec<KvEvent<T>>) -> Option<Remote<T>> {
    let key = record.key.take()?;
    let value = if record.is_tombstone() {
        None
    } else {
        match record.decode() {
            Ok(value) => Some(value),
            Err(error) => {
                events.push(KvEvent::Unreadable {
                    key: key.clone(),
                    seq: record.seq,
                    error: with_cause(&error),
                });
                None
            }
        }
    };
    Some(Remote::Put {
        key,
        id: record.id,
        revision: record.revision,
        entry: Confirmed {
            seq: record.seq,
            time: record.time,
            value,
        },
    })
}

/// Sends writes of keys.
async fn save<T: Value>(stream: Stream, writes: Vec<Write<T>>, tombstone_ttl: u64) -> Results {
    let records = writes.into_iter().map(|write| {
        let names = (write.key.clone(), write.id.clone());
        (names, record(write, tombstone_ttl))
    });
    send(&stream, records.collect()).await
}

/// Sends writes without keys.
pub(in crate::persist) async fn save_entries<T: Value>(
    stream: Stream,
    writes: Vec<Write<T>>,
) -> Results {
    let records = writes.into_iter().map(|write| {
        let names = (write.key.clone(), write.id.clone());
        let record = record(write, 1).map(|record| Record {
            key: None,
            ..record
        });
        (names, record)
    });
    send(&stream, records.collect()).await
}

/// A record with its key and message id, or why it is none.
type Named = ((String, String), Result<Record, Fault>);

/// Sends records, in as many appends as their size asks for.
async fn send(stream: &Stream, writes: Vec<Named>) -> Results {
    let mut results = Vec::with_capacity(writes.len());
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for ((key, id), record) in writes {
        match record {
            Ok(record) => {
                bytes += record.payload.len();
                batch.push(record);
            }
            Err(fault) => results.push((key, id, Saved::Refused(fault))),
        }
        if bytes >= SAVE_BYTES_MAX {
            append(stream, std::mem::take(&mut batch), &mut results).await;
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        append(stream, batch, &mut results).await;
    }
    results
}

fn record<T: Value>(write: Write<T>, tombstone_ttl: u64) -> Result<Record, Fault> {
    let record = match &write.value {
        Some(value) => Record {
            ttl: write.ttl,
            ..encoded(value)
                .map_err(|error| Fault::new(FaultKind::BadRequest, with_cause(&error)))?
        },
        None => tombstone(&write.key, tombstone_ttl),
    };
    Ok(Record {
        key: Some(write.key),
        id: Some(write.id),
        expect: write.expect.map(Expect::KeySeq),
        ..record
    })
}

async fn append(stream: &Stream, batch: Vec<Record>, results: &mut Results) {
    let names: Vec<(String, String)> = batch
        .iter()
        .map(|record| {
            let name = |text: &Option<String>| text.clone().unwrap_or_default();
            (name(&record.key), name(&record.id))
        })
        .collect();
    let saved: Vec<Saved> = match stream.append_many(batch).await {
        Ok(appended) => appended.results.into_iter().map(saved).collect(),
        Err(error) => names.iter().map(|_| refused(&error)).collect(),
    };
    let named = names.into_iter().zip(saved);
    results.extend(named.map(|((key, id), saved)| (key, id, saved)));
}

fn saved(outcome: Outcome) -> Saved {
    match outcome {
        Outcome::Written(written) => Saved::Written {
            seq: written.seq,
            revision: written.revision,
        },
        Outcome::Refused(fault) if is_final(fault.kind) => Saved::Refused(fault),
        Outcome::Refused(_) => Saved::Unknown,
    }
}

/// What became of writes whose request as a whole failed.
fn refused(error: &AppendError) -> Saved {
    match error {
        AppendError::Call(CallError::Fault(fault)) if is_final(fault.kind) => {
            Saved::Refused(fault.clone())
        }
        AppendError::Call(CallError::Encode(text)) => {
            Saved::Refused(Fault::new(FaultKind::BadRequest, text.clone()))
        }
        AppendError::Call(_) => Saved::Unknown,
        AppendError::WrongLastSequence { actual, text } => {
            Saved::Refused(Fault::new(FaultKind::WrongLastSequence, text.clone()).seq(*actual))
        }
        AppendError::Rejected { text, .. } => {
            Saved::Refused(Fault::new(FaultKind::Reject, text.clone()))
        }
    }
}

/// Whether a write will never be accepted as it is. Everything else passes, with time or with an operator.
fn is_final(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::BadRequest
            | FaultKind::Denied
            | FaultKind::NotFound
            | FaultKind::TooLarge
            | FaultKind::Reject
            | FaultKind::WrongLastSequence
    )
}
