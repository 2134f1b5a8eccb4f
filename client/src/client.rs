//! The cheap handle.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use dialtone_protocol::Limits;
use dialtone_protocol::frame::{Denied, Wanted};
use tokio::sync::{broadcast, oneshot, watch};

use crate::ask;
use crate::error::{AskError, PublishError, Reason, RequestError, SubscribeError};
use crate::message::Message;
use crate::options::Options;
use crate::outgoing::{Hindrance, Outbound, Reply};
use crate::payload::{Payload, To};
use crate::publish::Draft;
use crate::queue::{Bounds, Queue};
use crate::request::{self, Answers, Many};
use crate::shared::{Command, Shared};
use crate::status::Status;
use crate::subscription::{Subscribe, Subscription};

/// A connection to a broker that makes itself again when it is lost. Cloning costs a reference count.
///
/// The client ends when it is closed or drained, when its last handle and subscription are dropped, or when the broker
/// refuses it for good.
#[derive(Debug, Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    subscription: Bounds,
    request_timeout: Duration,
    drain_timeout: Duration,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A client that has ended already has nothing to leave.
        drop(self.shared.command(Command::Leave(Reason::Dropped)));
    }
}

impl Client {
    pub(crate) fn new(shared: Arc<Shared>, options: &Options) -> Self {
        let handle = Handle {
            shared,
            subscription: options.subscription,
            request_timeout: options.request_timeout,
            drain_timeout: options.drain_timeout,
        };
        Self {
            handle: Arc::new(handle),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Publishes, waiting only while the outgoing queue is full.
    ///
    /// It is at most once: without an acknowledgement nobody knows whether it arrived. While the client reconnects,
    /// messages wait in the queue. What the broker does not permit is told to [`denials`](Self::denials).
    ///
    /// # Errors
    /// When the subject is not valid, the payload is too large, or the client has ended.
    #[inline]
    pub async fn publish<'a>(
        &self,
        subject: impl Into<To<'a>>,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), PublishError> {
        // Gives other tasks of this thread their turn now and then, above all the driver.
        tokio::task::coop::consume_budget().await;
        self.shared()
            .push(&plain(subject.into(), payload.into()))
            .await
    }

    /// Publishes without waiting.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), and when the outgoing queue is full.
    #[inline]
    pub fn try_publish<'a>(
        &self,
        subject: impl Into<To<'a>>,
        payload: impl Into<Payload<'a>>,
    ) -> Result<(), PublishError> {
        match self
            .shared()
            .try_push(&plain(subject.into(), payload.into()))
        {
            Ok(()) => Ok(()),
            Err(Hindrance::Error(error)) => Err(error),
            Err(Hindrance::Full | Hindrance::Offline) => Err(PublishError::Full),
        }
    }

    /// Publishes and waits until the broker says to how many subscriptions and groups the message went.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), and when the broker refuses the message, the connection is lost before it has
    /// answered, or that takes longer than 30 s.
    pub async fn publish_acked<'a>(
        &'a self,
        subject: impl Into<To<'a>>,
        payload: impl Into<Payload<'a>>,
    ) -> Result<u32, PublishError> {
        self.message(subject).payload(payload).publish_acked().await
    }

    /// Begins a message to which more can be said than subject and payload.
    pub fn message<'a>(&'a self, subject: impl Into<To<'a>>) -> Draft<'a> {
        Draft::new(self.shared(), subject.into()).timeout(self.handle.request_timeout)
    }

    /// Sends a request and waits for the first answer.
    ///
    /// # Errors
    /// At once when nobody subscribes to the subject; when the connection is lost; when no answer comes within
    /// [`Options::request_timeout`].
    pub async fn request<'a>(
        &'a self,
        subject: impl Into<To<'a>>,
        payload: impl Into<Payload<'a>>,
    ) -> Result<Message, RequestError> {
        request::draft(self.shared(), subject, payload, self.handle.request_timeout)
            .request()
            .await
    }

    /// Sends a request and collects the answers of everybody.
    ///
    /// # Errors
    /// When the request cannot be sent.
    pub async fn request_many<'a>(
        &'a self,
        subject: impl Into<To<'a>>,
        payload: impl Into<Payload<'a>>,
        many: Many,
    ) -> Result<Answers, RequestError> {
        request::draft(self.shared(), subject, payload, self.handle.request_timeout)
            .request_many(many)
            .await
    }

    /// Subscribes to a pattern, and waits until the broker confirms it.
    ///
    /// # Errors
    /// When the pattern is not valid, the broker refuses it, or the client has ended.
    pub async fn subscribe(
        &self,
        pattern: impl Into<String>,
    ) -> Result<Subscription, SubscribeError> {
        self.subscription(pattern).subscribe().await
    }

    /// Begins a subscription to which more can be said than the pattern.
    pub fn subscription(&self, pattern: impl Into<String>) -> Subscribe<'_> {
        Subscribe::new(self, pattern.into(), self.handle.subscription)
    }

    /// Whether anybody subscribes to a subject, taps aside.
    ///
    /// # Errors
    /// When the subject is not valid, or the broker does not answer the question.
    pub async fn interest(&self, subject: &str) -> Result<bool, AskError> {
        ask::interest(self.shared(), subject, Duration::ZERO).await
    }

    /// Waits until somebody subscribes to a subject; `false` when nobody did within `limit`.
    ///
    /// # Errors
    /// When the subject is not valid, or the broker does not answer the question.
    pub async fn wait_for_interest(
        &self,
        subject: &str,
        limit: Duration,
    ) -> Result<bool, AskError> {
        ask::interest(self.shared(), subject, limit).await
    }

    /// How long the way to the broker and back takes, behind everything that waits to be written.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn rtt(&self) -> Result<Duration, AskError> {
        ask::ping(self.shared()).await
    }

    /// Waits until the broker has processed everything that was published before. Over QUIC, messages that were cut
    /// into fragments travel on a way of their own: publish these with an acknowledgement to be sure of them.
    ///
    /// # Errors
    /// When the connection is lost before the broker has answered.
    pub async fn flush(&self) -> Result<(), AskError> {
        ask::ping(self.shared()).await.map(drop)
    }

    /// The subscriptions that the broker knows of.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn subscriptions(&self) -> Result<Vec<Wanted>, AskError> {
        ask::subscriptions(self.shared()).await
    }

    /// What the broker granted last.
    pub fn limits(&self) -> Limits {
        self.shared().outgoing.lock().limits().clone()
    }

    /// The subject below which answers reach this connection; another one after each reconnect, and none in between.
    pub fn inbox(&self) -> Option<String> {
        let inbox = self.shared().outgoing.lock().inbox().to_owned();
        (!inbox.is_empty()).then_some(inbox)
    }

    /// How the client stands with its broker, whenever that changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared().status.subscribe()
    }

    /// What the broker did not permit to publish without acknowledgement. A listener that lags misses some.
    pub fn denials(&self) -> broadcast::Receiver<Denied> {
        self.shared().denials.subscribe()
    }

    /// Waits until the client has ended, and says why.
    pub async fn closed(&self) -> Reason {
        let mut status = self.status();
        loop {
            if let Status::Closed { reason } = &*status.borrow_and_update() {
                return reason.clone();
            }
            if status.changed().await.is_err() {
                return Reason::Closed;
            }
        }
    }

    /// Why the client has ended, if it has; otherwise that it was closed.
    pub(crate) fn reason(&self) -> Reason {
        match &*self.shared().status.borrow() {
            Status::Closed { reason } => reason.clone(),
            Status::Connecting | Status::Connected { .. } | Status::Reconnecting { .. } => {
                Reason::Closed
            }
        }
    }

    /// Ends all subscriptions, waits until what they had received was taken (at most
    /// [`Options::drain_timeout`]) and what was published was processed, and closes.
    ///
    /// # Errors
    /// When the connection is lost before the broker has processed everything; the client is closed in any case.
    pub async fn drain(&self) -> Result<(), AskError> {
        let (done, queues) = oneshot::channel();
        let asked = self.shared().command(Command::UnsubscribeAll { done });
        if asked.is_ok()
            && let Ok(queues) = queues.await
        {
            let taken = async {
                for queue in queues {
                    drained(&queue).await;
                }
            };
            if tokio::time::timeout(self.handle.drain_timeout, taken)
                .await
                .is_err()
            {
                tracing::warn!("draining ended before every message was taken");
            }
        }
        let flushed = match &*self.shared().status.borrow() {
            Status::Connected { .. } => None,
            Status::Closed { reason } => Some(Err(AskError::Closed(reason.clone()))),
            Status::Connecting | Status::Reconnecting { .. } => Some(Err(AskError::Disconnected)),
        };
        let flushed = match flushed {
            Some(flushed) => flushed,
            None => self.flush().await,
        };
        self.close().await;
        flushed
    }

    /// Writes what waits, for at most 5 s, and ends. Every handle and subscription ends with it.
    pub async fn close(&self) {
        self.shared().outgoing.lock().close(Reason::Closed);
        self.shared().changed.notify_waiters();
        // A client that has ended already needs no second end.
        drop(self.shared().command(Command::Leave(Reason::Closed)));
        self.closed().await;
    }
}

async fn drained(queue: &Queue) {
    poll_fn(|cx| queue.poll_drained(cx)).await;
}

#[inline]
fn plain<'a>(to: To<'a>, payload: Payload<'a>) -> Outbound<'a> {
    Outbound {
        to,
        reply: Reply::None,
        encoding: 0,
        headers: None,
        unreliable: false,
        request: None,
        payload,
    }
}
