//! Commits that wait for a transaction, and how many go into one.

use std::collections::VecDeque;

use dialtone_client::persist::wire::Durability;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::backend::{Done, Error, StreamId};
use crate::core::commit::{Change, Commit};

/// Most changes of a transaction, so that what it locks is free again soon.
const BATCH_CHANGES_MAX: usize = 8_192;

/// What is to be stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) stream: StreamId,
    pub(super) commit: Commit,
}

/// A commit, and whom to tell.
pub(super) type Waiting = (Stored, Done);

/// What waits. A stream has one commit at a time, so that there are never more than open streams.
#[derive(Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    arrived: Notify,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Waiting>,
    closed: bool,
}

impl Queue {
    /// Adds a commit; after the end it is answered at once.
    pub(super) fn push(&self, waiting: Waiting) {
        let mut inner = self.inner.lock();
        if inner.closed {
            drop(inner);
            let (_, done) = waiting;
            done(Err(Error::Closed));
            return;
        }
        inner.waiting.push_back(waiting);
        drop(inner);
        self.arrived.notify_one();
    }

    /// Takes what waits, up to about `bytes` bytes of records; `None` after the end when nothing is left.
    pub(super) async fn take(&self, bytes: usize) -> Option<Vec<Waiting>> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut inner = self.inner.lock();
                if !inner.waiting.is_empty() {
                    let batch = take_some(&mut inner.waiting, bytes);
                    let more = !inner.waiting.is_empty() || inner.closed;
                    drop(inner);
                    if more {
                        self.arrived.notify_one();
                    }
                    return Some(batch);
                }
                if inner.closed {
                    drop(inner);
                    self.arrived.notify_one();
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// Nothing is added any more; what waits is still stored.
    pub(super) fn close(&self) {
        self.inner.lock().closed = true;
        self.arrived.notify_one();
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = self.inner.lock();
        f.debug_struct("Queue")
            .field("waiting", &inner.waiting.len())
            .field("closed", &inner.closed)
            .finish_non_exhaustive()
    }
}

fn take_some(waiting: &mut VecDeque<Waiting>, bytes: usize) -> Vec<Waiting> {
    let (mut changes, mut size, mut count) = (0, 0, 0);
    for (next, _) in waiting.iter() {
        changes += next.commit.changes.len();
        size += commit_size(&next.commit);
        if count > 0 && (changes > BATCH_CHANGES_MAX || size > bytes) {
            break;
        }
        count += 1;
    }
    waiting.drain(..count).collect()
}

fn commit_size(commit: &Commit) -> usize {
    let sizes = commit.changes.iter().map(|change| match change {
        Change::Append(append) => {
            append.payload.len() + append.headers.as_ref().map_or(0, bytes::Bytes::len)
        }
        Change::Remove(_) | Change::Meta(_) => 0,
    });
    sizes.sum()
}

/// The durability that a transaction must have: the highest that one of its commits asks for.
pub(super) fn durability(batch: &[Stored]) -> Durability {
    batch
        .iter()
        .map(|stored| stored.commit.durability)
        .max()
        .unwrap_or_default()
}
