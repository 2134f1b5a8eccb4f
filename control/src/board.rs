//! Hearing of what happens to projects, whichever hub it happens in: wakes those who wait, and tells events.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use dialtone_hub::control::{EVENTS_WAITING_MAX, Event};
use dialtone_hub::feed::{Follower, News};
use dialtone_hub::id::ProjectId;
use dialtone_hub::store::outbox::{Entry, Table};
use dialtone_hub::store::{Error, Store, control as rows};
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

/// How long it waits when the database does not answer.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// The fields of a project that an order changes.
const ORDER: &str = "action_request";
const STATE: &str = "state";

/// Who waits for which project.
#[derive(Debug)]
pub(crate) struct Board {
    store: Store,
    waiting: Mutex<HashMap<ProjectId, watch::Sender<()>>>,
    events: broadcast::Sender<Event>,
    /// Told when there may be orders.
    news: Arc<Notify>,
}

impl Board {
    pub(crate) fn new(store: Store, news: Arc<Notify>) -> Self {
        Self {
            store,
            waiting: Mutex::default(),
            events: broadcast::Sender::new(EVENTS_WAITING_MAX),
            news,
        }
    }

    /// Hears of changes of a project from now on.
    pub(crate) fn watch(&self, id: ProjectId) -> watch::Receiver<()> {
        let mut waiting = self.waiting.lock();
        // Those who have gone are forgotten whenever somebody comes, before there are many of them.
        if waiting.len() >= waiting.capacity() {
            waiting.retain(|_, sender| sender.receiver_count() > 0);
        }
        waiting.entry(id).or_default().subscribe()
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// There may be orders or copies.
    pub(crate) fn ordered(&self) {
        self.news.notify_one();
    }

    /// Follows the changes until it is told to stop.
    pub(crate) async fn run(&self, mut follower: Follower, stop: CancellationToken) {
        loop {
            let next = tokio::select! {
                next = follower.next() => next,
                () = stop.cancelled() => return,
            };
            let told = match next {
                Ok(News::Changes(entries)) => self.changes(&entries).await,
                Ok(News::Gap) => {
                    self.wake(|_| true);
                    self.ordered();
                    Ok(())
                }
                Err(error) => Err(error),
            };
            if let Err(error) = told {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "it is not heard what happens to projects"
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn changes(&self, entries: &[Entry]) -> Result<(), Error> {
        let of = |field: &str| -> BTreeSet<ProjectId> {
            entries
                .iter()
                .map(|entry| &entry.change)
                .filter(|change| change.table == Table::Projects)
                .filter(|change| change.fields.iter().any(|one| one == field))
                .filter_map(|change| change.project_id)
                .collect()
        };
        let (ordered, moved) = (of(ORDER), of(STATE));
        if !ordered.is_empty() {
            self.ordered();
        }
        self.wake(|id| ordered.contains(id) || moved.contains(id));
        if moved.is_empty() || self.events.receiver_count() == 0 {
            return Ok(());
        }
        let ids: Vec<ProjectId> = moved.into_iter().collect();
        let records = rows::by_ids(&mut self.store.read().await?, &ids).await?;
        for record in records {
            let event = Event {
                project_id: record.project_id,
                state: record.state,
            };
            // Whoever has listened may have gone meanwhile.
            drop(self.events.send(event));
        }
        Ok(())
    }

    fn wake(&self, concerned: impl Fn(&ProjectId) -> bool) {
        self.waiting.lock().retain(|id, sender| {
            if concerned(id) {
                sender.send_replace(());
            }
            sender.receiver_count() > 0
        });
    }
}
