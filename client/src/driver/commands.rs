//! What handles ask for: subscriptions that begin and end, and leaving.

use std::sync::Arc;

use dialtone_protocol::frame::{Frame, Subscribe, Unsubscribe, Wanted};
use dialtone_protocol::limits::SUBSCRIBE_BATCH_MAX;
use dialtone_protocol::{RequestId, SubscriptionId};
use tokio::time::Instant;

use super::{Done, Driver, Entry, LEAVE_MAX, Leaving, Unsubscribing};
use crate::error::{Reason, SubscribeError};
use crate::queue::{Ending, Queue};
use crate::shared::Command;

/// Most bytes of patterns and groups in one subscribe frame, so that it stays below any frame limit.
const SUBSCRIBE_LEN_MAX: usize = 48 << 10;

impl Driver {
    /// Carries out what was asked for; without a connection, what the broker must be told follows with the next one.
    pub(super) fn on_commands(&mut self, online: bool) {
        let commands = self.shared.take_commands();
        if commands.is_empty() {
            return;
        }
        let mut wanted = Vec::new();
        let mut unwanted = Unsubscribing::default();
        for command in commands {
            match command {
                Command::Subscribe {
                    wanted: new,
                    queue,
                    confirmed,
                } => {
                    let new = self.session.add(new);
                    let entry = Entry {
                        queue,
                        confirmed: Some(confirmed),
                        staged: Vec::new(),
                    };
                    self.subscriptions.insert(new.id, entry);
                    wanted.push(new);
                }
                Command::Unsubscribe { id, done } => {
                    // What was asked for in the same turn must reach the broker in this order.
                    self.subscribe(std::mem::take(&mut wanted), online);
                    unwanted.done.extend(done.map(Done::One));
                    unwanted.ids.push(id);
                }
                Command::UnsubscribeAll { done } => {
                    self.subscribe(std::mem::take(&mut wanted), online);
                    let (ids, queues) = self.all();
                    unwanted.ids.extend(ids);
                    unwanted.done.push(Done::All(done, queues));
                }
                Command::Leave(reason) => {
                    let deadline = Instant::now() + LEAVE_MAX;
                    self.leaving.get_or_insert(Leaving {
                        reason,
                        deadline,
                        said: false,
                    });
                }
            }
        }
        self.subscribe(wanted, online);
        if !unwanted.ids.is_empty() || !unwanted.done.is_empty() {
            self.unsubscribe(unwanted, online);
        }
    }

    fn all(&self) -> (Vec<SubscriptionId>, Vec<Arc<Queue>>) {
        self.subscriptions
            .iter()
            .map(|(id, entry)| (*id, Arc::clone(&entry.queue)))
            .unzip()
    }

    /// Asks for everything that the session holds, on a new connection.
    pub(super) fn restore(&mut self) {
        let wanted = self.session.subscriptions().cloned().collect();
        self.subscribe(wanted, true);
    }

    fn subscribe(&mut self, wanted: Vec<Wanted>, online: bool) {
        if !online {
            return;
        }
        let mut batch: Vec<Wanted> = Vec::new();
        let mut len = 0;
        for new in wanted {
            let new_len = new.pattern.len() + new.group.as_ref().map_or(0, String::len) + 32;
            if batch.len() == SUBSCRIBE_BATCH_MAX || len + new_len > SUBSCRIBE_LEN_MAX {
                self.send_subscribe(std::mem::take(&mut batch));
                len = 0;
            }
            len += new_len;
            batch.push(new);
        }
        self.send_subscribe(batch);
    }

    fn send_subscribe(&mut self, wanted: Vec<Wanted>) {
        if wanted.is_empty() {
            return;
        }
        let request = self.shared.next_request();
        self.subscribing
            .insert(request, wanted.iter().map(|new| new.id).collect());
        self.send(&Frame::Subscribe(Subscribe { request, wanted }));
    }

    fn unsubscribe(&mut self, unwanted: Unsubscribing, online: bool) {
        for id in &unwanted.ids {
            drop(self.session.remove(*id));
        }
        if !online {
            let request = self.shared.next_request();
            self.unsubscribing.insert(request, unwanted);
            self.on_unsubscribed(request);
            return;
        }
        let Unsubscribing { ids, mut done } = unwanted;
        let mut chunks = ids.chunks(SUBSCRIBE_BATCH_MAX).peekable();
        if chunks.peek().is_none() {
            // Nothing to end, but somebody waits: an empty question is answered in its turn.
            self.send_unsubscribe(Unsubscribing {
                ids: Vec::new(),
                done,
            });
            return;
        }
        while let Some(chunk) = chunks.next() {
            let done = if chunks.peek().is_none() {
                std::mem::take(&mut done)
            } else {
                Vec::new()
            };
            self.send_unsubscribe(Unsubscribing {
                ids: chunk.to_vec(),
                done,
            });
        }
    }

    /// Ends subscriptions that nobody wants any more.
    pub(super) fn give_up(&mut self, ids: Vec<SubscriptionId>) {
        if !ids.is_empty() {
            self.unsubscribe(
                Unsubscribing {
                    ids,
                    done: Vec::new(),
                },
                true,
            );
        }
    }

    fn send_unsubscribe(&mut self, unwanted: Unsubscribing) {
        let request = self.shared.next_request();
        self.send(&Frame::Unsubscribe(Unsubscribe {
            request,
            ids: unwanted.ids.clone(),
        }));
        self.unsubscribing.insert(request, unwanted);
    }

    /// Asks the broker to deliver nothing more, without giving any subscription up; the request of the last question.
    pub(super) fn pause_subscriptions(&mut self) -> Option<RequestId> {
        let ids: Vec<SubscriptionId> = self
            .session
            .subscriptions()
            .map(|wanted| wanted.id)
            .collect();
        let mut last = None;
        for chunk in ids.chunks(SUBSCRIBE_BATCH_MAX) {
            let request = self.shared.next_request();
            self.send(&Frame::Unsubscribe(Unsubscribe {
                request,
                ids: chunk.to_vec(),
            }));
            last = Some(request);
        }
        last
    }

    /// The broker delivers nothing more for these.
    pub(super) fn on_unsubscribed(&mut self, request: RequestId) {
        let Some(Unsubscribing { ids, done }) = self.unsubscribing.remove(&request) else {
            return;
        };
        for id in ids {
            if let Some(mut entry) = self.subscriptions.remove(&id) {
                // What came before the answer is still the consumer's.
                entry.queue.append(&mut entry.staged);
                entry.queue.end(Ending::Caller);
            }
        }
        for done in done {
            // Whoever asked may have gone in the meantime.
            match done {
                Done::One(done) => {
                    let _was_awaited = done.send(()).is_ok();
                }
                Done::All(done, queues) => drop(done.send(queues)),
            }
        }
    }

    /// Refuses commands that came too late.
    pub(super) fn refuse(&self, commands: Vec<Command>, reason: &Reason) {
        for command in commands {
            match command {
                Command::Subscribe { confirmed, .. } => {
                    drop(confirmed.send(Err(SubscribeError::Closed(reason.clone()))));
                }
                Command::UnsubscribeAll { done } => drop(done.send(self.all().1)),
                // Dropping the sender says that there is nothing left to end.
                Command::Unsubscribe { .. } | Command::Leave(_) => {}
            }
        }
    }

    /// Ends every subscription, since the client has ended.
    pub(super) fn end_subscriptions(&mut self, reason: &Reason) {
        for (_, mut entry) in self.subscriptions.drain() {
            entry.queue.append(&mut entry.staged);
            if let Some(confirmed) = entry.confirmed {
                drop(confirmed.send(Err(SubscribeError::Closed(reason.clone()))));
            }
            entry.queue.end(Ending::Closed(reason.clone()));
        }
        let requests: Vec<RequestId> = self.unsubscribing.keys().copied().collect();
        for request in requests {
            self.on_unsubscribed(request);
        }
    }
}
