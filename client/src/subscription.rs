//! A stream of messages that unsubscribes when it is dropped.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use dialtone_protocol::frame::{Pick, Refused, Wanted};
use dialtone_protocol::{Pattern, SubscriptionId};
use futures_util::Stream;
use tokio::sync::oneshot;

use crate::client::Client;
use crate::error::{Reason, SubscribeError};
use crate::message::Message;
use crate::queue::{Bounds, Ending, Overflow, Queue};
use crate::shared::Command;

/// What is asked for, before the broker is asked.
#[derive(Debug)]
#[must_use = "nothing is asked for until it is awaited with `subscribe`"]
pub struct Subscribe<'c> {
    client: &'c Client,
    pattern: String,
    group: Option<String>,
    pick: Pick,
    tap: bool,
    drop_oldest: u16,
    bounds: Bounds,
}

impl<'c> Subscribe<'c> {
    pub(crate) fn new(client: &'c Client, pattern: String, bounds: Bounds) -> Self {
        Self {
            client,
            pattern,
            group: None,
            pick: Pick::Any,
            tap: false,
            drop_oldest: 0,
            bounds,
        }
    }

    /// Joins a queue group, of whose members one gets each message.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// How the member of the group is chosen; the first member decides for the group.
    pub fn pick(mut self, pick: Pick) -> Self {
        self.pick = pick;
        self
    }

    /// Makes the subscription invisible to counts and to interest.
    pub fn tap(mut self) -> Self {
        self.tap = true;
        self
    }

    /// Lets the broker drop the oldest message when `messages` wait at its end, and the client when its own queue is
    /// full, instead of slowing anything down.
    pub fn drop_oldest(mut self, messages: u16) -> Self {
        self.drop_oldest = messages;
        self.bounds.overflow = Overflow::DropOldest;
        self
    }

    /// Sets the bounds of the queue at this end.
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Subscribes, and waits until the broker confirms it; through reconnects, if need be.
    ///
    /// # Errors
    /// When the pattern is not valid, the broker refuses it, or the client has ended.
    pub async fn subscribe(self) -> Result<Subscription, SubscribeError> {
        let pattern = Pattern::new(&self.pattern)?;
        let wanted = Wanted {
            // Chosen by the session.
            id: SubscriptionId::INBOX,
            pattern: self.pattern,
            group: self.group,
            pick: self.pick,
            tap: self.tap,
            drop_oldest: self.drop_oldest,
        };
        let queue = Arc::new(Queue::new(self.bounds));
        let (confirmed, confirmation) = oneshot::channel();
        let client = self.client.clone();
        let command = Command::Subscribe {
            wanted,
            queue: Arc::clone(&queue),
            confirmed,
        };
        client
            .shared()
            .command(command)
            .map_err(SubscribeError::Closed)?;
        let mut attempt = Attempt {
            client,
            queue,
            confirmation,
            is_over: false,
        };
        let result = (&mut attempt.confirmation).await;
        attempt.is_over = true;
        let (client, queue) = (attempt.client.clone(), Arc::clone(&attempt.queue));
        let id = result.unwrap_or_else(|_| Err(SubscribeError::Closed(client.reason())))?;
        Ok(Subscription {
            client,
            queue,
            taken: VecDeque::new(),
            pattern,
            id,
            ended: false,
        })
    }
}

/// A subscription that is not confirmed yet; dropping it takes the wish back.
struct Attempt {
    client: Client,
    queue: Arc<Queue>,
    confirmation: oneshot::Receiver<Result<SubscriptionId, SubscribeError>>,
    is_over: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        self.queue.abandon();
        // From here on the driver sees that nobody waits, unless it has answered already.
        self.confirmation.close();
        if let Ok(Ok(id)) = self.confirmation.try_recv() {
            // A client that has ended has no subscription to end.
            drop(
                self.client
                    .shared()
                    .command(Command::Unsubscribe { id, done: None }),
            );
        }
    }
}

/// Messages of one pattern, as a [`Stream`].
///
/// It survives reconnects, and ends only when the caller ends it, the broker does, or the client has ended. Dropping it
/// unsubscribes. It counts as a handle of its client.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
    queue: Arc<Queue>,
    taken: VecDeque<Message>,
    pattern: Pattern,
    id: SubscriptionId,
    /// The broker was told that it ends.
    ended: bool,
}

impl Subscription {
    /// What was asked for.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Its number on the connection.
    pub fn id(&self) -> SubscriptionId {
        self.id
    }

    /// The next message; `None` when nothing will ever follow.
    pub async fn next(&mut self) -> Option<Message> {
        poll_fn(|cx| self.poll_message(cx)).await
    }

    /// A message that is there already.
    pub fn try_next(&mut self) -> Option<Message> {
        let cx = Context::from_waker(std::task::Waker::noop());
        match self.poll_message(&cx) {
            Poll::Ready(message) => message,
            Poll::Pending => None,
        }
    }

    fn poll_message(&mut self, cx: &Context<'_>) -> Poll<Option<Message>> {
        if let Some(message) = self.taken.pop_front() {
            return Poll::Ready(Some(message));
        }
        let driver = &self.client.shared().driver;
        match self.queue.poll_take(cx, &mut self.taken, || driver.wake()) {
            Poll::Ready(_) => Poll::Ready(self.taken.pop_front()),
            Poll::Pending => Poll::Pending,
        }
    }

    /// How many messages were dropped, here or by the broker, because they were not taken in time.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    /// Why the broker ended the subscription, if it did.
    pub fn ended(&self) -> Option<Refused> {
        match self.queue.ending()? {
            Ending::Refused(refused) => Some(refused),
            Ending::Caller
            | Ending::Closed(_)
            | Ending::Disconnected
            | Ending::Cut(_)
            | Ending::Withdrawn(_) => None,
        }
    }

    /// Why the client has ended, if that is why nothing more comes.
    pub fn closed(&self) -> Option<Reason> {
        match self.queue.ending()? {
            Ending::Closed(reason) => Some(reason),
            Ending::Caller
            | Ending::Refused(_)
            | Ending::Disconnected
            | Ending::Cut(_)
            | Ending::Withdrawn(_) => None,
        }
    }

    /// Ends the subscription, throws away what waits, and waits until the broker confirms it.
    pub async fn unsubscribe(mut self) {
        self.queue.abandon();
        self.end().await;
    }

    /// Ends the subscription and waits until the broker confirms it. What was delivered before can still be taken; then
    /// [`next`](Self::next) gives `None`.
    pub async fn drain(&mut self) {
        self.end().await;
    }

    async fn end(&mut self) {
        if self.ended {
            return;
        }
        self.ended = true;
        let (done, confirmation) = oneshot::channel();
        let command = Command::Unsubscribe {
            id: self.id,
            done: Some(done),
        };
        if self.client.shared().command(command).is_ok() {
            // A driver that ends drops the sender, and with itself the subscription.
            drop(confirmation.await);
        }
    }
}

impl Stream for Subscription {
    type Item = Message;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.get_mut().poll_message(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if self.queue.abandon() {
            self.client.shared().driver.wake();
        }
        if !self.ended && self.queue.ending().is_none() {
            // A client that has ended has no subscription to end.
            drop(self.client.shared().command(Command::Unsubscribe {
                id: self.id,
                done: None,
            }));
        }
    }
}
