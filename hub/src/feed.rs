//! Following the changes: waiting for the next ones, and going on after an interruption.

use crate::store::outbox::{self, Batch, Entry};
use crate::store::{Error, Store};

/// What a follower hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The next changes, in order; at least one.
    Changes(Vec<Entry>),
    /// Changes were missed that are no longer kept. What is known must be read anew; changes after this are told.
    Gap,
}

/// Somebody who is told of every change behind a number.
#[derive(Debug)]
pub struct Follower {
    store: Store,
    heard: tokio::sync::watch::Receiver<i64>,
    at: i64,
}

impl Follower {
    /// One that is told what happens from now on. Whoever keeps a copy of something reads it after this.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn from_now(store: &Store) -> Result<Self, Error> {
        let head = outbox::head(&mut store.read().await?).await?;
        Ok(Self::after(store, head))
    }

    /// One that is told what happened after the change with this number.
    pub fn after(store: &Store, seq: i64) -> Self {
        Self {
            heard: store.heard(),
            store: store.clone(),
            at: seq,
        }
    }

    /// The number of the last change that it was told of.
    pub fn at(&self) -> i64 {
        self.at
    }

    /// Waits for the next changes. It may be dropped while it waits, and then nothing is lost.
    ///
    /// # Errors
    /// When the database does not answer. It may be asked again, and goes on where it was.
    pub async fn next(&mut self) -> Result<News, Error> {
        loop {
            // Before reading, so that what is told meanwhile is looked at.
            self.heard.mark_unchanged();
            let batch = {
                let mut on = self.store.read().await?;
                outbox::read(&mut on, self.at, outbox::BATCH_MAX).await?
            };
            match batch {
                Batch::Gap { head } => {
                    self.at = head;
                    return Ok(News::Gap);
                }
                Batch::Changes { entries, next } => {
                    self.at = next;
                    if !entries.is_empty() {
                        return Ok(News::Changes(entries));
                    }
                }
            }
            let looked = tokio::time::timeout(self.store.poll(), self.heard.changed()).await;
            // Its time is over, or something is told; the store itself outlives its followers.
            drop(looked);
        }
    }
}
