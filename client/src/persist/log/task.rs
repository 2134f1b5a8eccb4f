//! The task behind a [`Log`](super::Log): follows the stream and saves what was pushed.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{LogError, LogEvent, Shared};
use crate::persist::error::with_cause;
use crate::persist::kv::{Value, save_entries};
use crate::persist::saver::{Results, Saver, TELL_MAX, listening, tell};
use crate::persist::stream::Stream;
use crate::persist::watch::{Pages, WatchError};
use crate::persist::wire::{Change, Watched};

/// See the module.
pub(super) struct Task<T> {
    shared: Arc<Shared<T>>,
    stream: Stream,
    pages: Pages,
    from: u64,
    epoch: Option<u64>,
    /// What the stream held at the beginning is told.
    whole: bool,
    saver: Saver,
    telling: VecDeque<LogEvent<T>>,
    was_saved: bool,
}

impl<T: Value> Task<T> {
    pub(super) fn new(shared: Arc<Shared<T>>, stream: Stream, pages: Pages, from: u64) -> Self {
        Self {
            shared,
            stream,
            pages,
            from,
            epoch: None,
            whole: false,
            saver: Saver::new(),
            telling: VecDeque::new(),
            was_saved: true,
        }
    }

    /// Reads all that the log holds.
    pub(super) async fn load(&mut self) -> Result<(), WatchError> {
        let first = self.pages.first().await?;
        self.take(first);
        while !self.whole {
            let page = self.pages.next().await?;
            self.take(page);
        }
        self.telling.clear();
        Ok(())
    }

    pub(super) async fn run(mut self) {
        loop {
            self.start_saving();
            let listeners = self.listeners();
            let has_news = !self.telling.is_empty();
            tokio::select! {
                page = self.pages.next(), if !has_news => match page {
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
    fn listeners(&mut self) -> Vec<mpsc::Sender<LogEvent<T>>> {
        let mut state = self.shared.state.lock();
        listening(&mut state.listeners, &mut self.telling)
    }

    fn take(&mut self, page: Watched) {
        let position = page.position;
        if page.resync {
            let is_new = self.epoch.is_some_and(|epoch| epoch != position.epoch);
            self.resync(is_new);
        }
        self.epoch = Some(position.epoch);
        for change in page.changes {
            self.apply(change);
        }
        if !page.resync && position.seq.is_none() {
            self.whole = true;
            self.shared.state.lock().tape.reach(position.revision);
        }
        self.saver.told(page.more);
        self.note_progress();
    }

    fn resync(&mut self, is_new_epoch: bool) {
        self.whole = false;
        let gone = self.shared.state.lock().tape.resync(is_new_epoch);
        let gone = gone.into_iter();
        self.telling
            .extend(gone.map(|(seq, value)| LogEvent::Removed { seq, value }));
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Append(record) if record.seq < self.from => {}
            Change::Append(record) => match record.decode::<T>() {
                Ok(value) => {
                    let (seq, id) = (record.seq, record.id.as_deref());
                    let mut state = self.shared.state.lock();
                    let is_news = state.tape.put(seq, id, value.clone());
                    drop(state);
                    if is_news {
                        self.telling.push_back(LogEvent::Appended { seq, value });
                    }
                }
                Err(error) => self.telling.push_back(LogEvent::Unreadable {
                    seq: record.seq,
                    error: with_cause(&error),
                }),
            },
            Change::Remove(removal) => {
                for (from, to) in removal.ranges {
                    let gone = self.shared.state.lock().tape.gone(from, to).into_iter();
                    self.telling
                        .extend(gone.map(|(seq, value)| LogEvent::Removed { seq, value }));
                }
            }
            Change::Damaged { seq, error } => {
                self.telling.push_back(LogEvent::Unreadable { seq, error });
            }
            Change::Config { .. } => {}
        }
    }

    fn start_saving(&mut self) {
        if self.saver.is_busy() || self.telling.len() > TELL_MAX {
            return;
        }
        let mut state = self.shared.state.lock();
        if !state.tape.has_outgoing() {
            return;
        }
        self.was_saved = false;
        let writes = state.tape.outgoing();
        drop(state);
        self.saver.start(save_entries(self.stream.clone(), writes));
    }

    fn settle(&mut self, results: Results) {
        self.saver.settled(&results, &mut self.pages);
        let mut state = self.shared.state.lock();
        for (_, id, saved) in results {
            if let Some((value, fault)) = state.tape.settle(&id, saved) {
                state.rejected += 1;
                state.last_rejected = Some(fault.clone());
                self.telling.push_back(LogEvent::Rejected { value, fault });
            }
        }
        drop(state);
        self.note_progress();
    }

    fn note_progress(&mut self) {
        let is_saved = self.shared.state.lock().tape.is_saved();
        if is_saved && !self.was_saved {
            self.was_saved = true;
            self.telling.push_back(LogEvent::Saved);
        }
        self.shared.progress.notify_waiters();
    }

    async fn end(mut self, error: WatchError) {
        let error = error.into_call();
        self.shared.state.lock().ended = Some(LogError::Ended(error.clone()));
        self.shared.progress.notify_waiters();
        self.telling.push_back(LogEvent::Ended(error));
        let listeners = self.listeners();
        tell(&mut self.telling, &listeners).await;
        self.shared.state.lock().listeners.clear();
    }
}
