//! Sending one message: in the short form, or with everything that can be said about it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dialtone_protocol::RequestId;
use dialtone_protocol::session::client::Answer;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::ask;
use crate::error::{AskError, EncodeError, PublishError};
use crate::headers::Headers;
use crate::outgoing::{Hindrance, Outbound, Reply};
use crate::payload::{Encoding, Payload, To};
use crate::pending::Waiter;
use crate::shared::Shared;

/// How long an acknowledgement is awaited by default.
pub(crate) const ACK_TIMEOUT: Duration = Duration::from_secs(30);

/// A second attempt after waiting for interest is made only if this much time is left for it.
const SECOND_ATTEMPT_MIN: Duration = Duration::from_millis(500);

/// A message that is being put together; it is sent by one of the methods at the end.
#[derive(Debug)]
#[must_use = "a draft goes nowhere until it is published or requested"]
pub struct Draft<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) to: To<'a>,
    pub(crate) reply: Option<To<'a>>,
    pub(crate) headers: Option<Bytes>,
    pub(crate) encoding: Encoding,
    pub(crate) payload: Payload<'a>,
    pub(crate) unreliable: bool,
    pub(crate) wait_for_interest: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(shared: &'a Arc<Shared>, to: To<'a>) -> Self {
        Self {
            shared,
            to,
            reply: None,
            headers: None,
            encoding: Encoding::default(),
            payload: Payload::Slice(&[]),
            unreliable: false,
            wait_for_interest: None,
            timeout: None,
        }
    }

    /// Sets the payload.
    pub fn payload(mut self, payload: impl Into<Payload<'a>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Sets how the payload is to be read.
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Sets payload and encoding from a value, as JSON.
    ///
    /// # Errors
    /// When JSON cannot hold the value.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<Self, EncodeError> {
        Ok(self
            .payload(serde_json::to_vec(value)?)
            .encoding(Encoding::Json))
    }

    /// Sets payload and encoding from a value, as `MessagePack` with named fields.
    ///
    /// # Errors
    /// When `MessagePack` cannot hold the value.
    pub fn msgpack<T: Serialize + ?Sized>(self, value: &T) -> Result<Self, EncodeError> {
        Ok(self
            .payload(rmp_serde::to_vec_named(value)?)
            .encoding(Encoding::MessagePack))
    }

    /// Sets the headers; empty ones are not sent.
    pub fn headers(mut self, headers: &Headers) -> Self {
        self.headers = if headers.is_empty() {
            None
        } else {
            Some(headers.to_json().into())
        };
        self
    }

    /// Sets the headers from what a message carried.
    pub fn header_bytes(mut self, headers: Bytes) -> Self {
        self.headers = Some(headers);
        self
    }

    /// Sets where an answer is to go; a request sets this itself.
    pub fn reply(mut self, reply: impl Into<To<'a>>) -> Self {
        self.reply = Some(reply.into());
        self
    }

    /// Lets the message be lost rather than wait: it travels as a datagram where it can.
    pub fn unreliable(mut self) -> Self {
        self.unreliable = true;
        self
    }

    /// When nobody subscribes to the subject, waits up to `limit` for somebody and then tries a second time.
    pub fn wait_for_interest(mut self, limit: Duration) -> Self {
        self.wait_for_interest = Some(limit);
        self
    }

    /// How long the acknowledgement of [`publish_acked`](Self::publish_acked) or the answer to a request may take.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    pub(crate) fn into_outbound(
        self,
        request: Option<RequestId>,
        inbox: Option<u32>,
    ) -> Outbound<'a> {
        let reply = match (inbox, self.reply) {
            (Some(number), _) => Reply::Inbox(number),
            (None, Some(to)) => Reply::To(to),
            (None, None) => Reply::None,
        };
        Outbound {
            to: self.to,
            reply,
            encoding: self.encoding.number(),
            headers: self.headers,
            unreliable: self.unreliable,
            request,
            payload: self.payload,
        }
    }

    /// Publishes, waiting only for room in the outgoing queue.
    ///
    /// # Errors
    /// When the message is not valid or the client has ended.
    pub async fn publish(self) -> Result<(), PublishError> {
        let shared = self.shared;
        shared.push(&self.into_outbound(None, None)).await
    }

    /// Publishes without waiting.
    ///
    /// # Errors
    /// When the queue is full, the message is not valid or the client has ended.
    pub fn try_publish(self) -> Result<(), PublishError> {
        let shared = self.shared;
        match shared.try_push(&self.into_outbound(None, None)) {
            Ok(()) => Ok(()),
            Err(Hindrance::Error(error)) => Err(error),
            Err(Hindrance::Full | Hindrance::Offline) => Err(PublishError::Full),
        }
    }

    /// Publishes and waits until the broker says to how many subscriptions and groups it went.
    ///
    /// # Errors
    /// When the message is not valid, is refused or is not acknowledged, or the client has ended.
    pub async fn publish_acked(self) -> Result<u32, PublishError> {
        let shared = self.shared;
        let limit = self.timeout.unwrap_or(ACK_TIMEOUT);
        let wait_for_interest = self.wait_for_interest;
        let mut outbound = self.into_outbound(None, None);
        let count = acknowledged(shared, &mut outbound, limit).await?;
        let Some(patience) = wait_for_interest.filter(|_| count == 0) else {
            return Ok(count);
        };
        let subject = outbound.to.as_str();
        if !is_worth_repeating(shared, subject, patience).await? {
            return Ok(0);
        }
        acknowledged(shared, &mut outbound, limit).await
    }
}

/// Waits for somebody to subscribe; whether that came early enough for a second attempt.
pub(crate) async fn is_worth_repeating(
    shared: &Arc<Shared>,
    subject: &str,
    patience: Duration,
) -> Result<bool, PublishError> {
    let deadline = Instant::now() + patience;
    let interested =
        ask::interest(shared, subject, patience)
            .await
            .map_err(|error| match error {
                AskError::Subject(error) => PublishError::Subject(error),
                AskError::Refused(refused) => PublishError::Refused(refused),
                AskError::Disconnected => PublishError::Disconnected,
                AskError::Cut(why) => PublishError::Cut(why),
                AskError::TimedOut(limit) => PublishError::TimedOut(limit),
                AskError::Closed(reason) => PublishError::Closed(reason),
            })?;
    Ok(interested && Instant::now() + SECOND_ATTEMPT_MIN <= deadline)
}

async fn acknowledged(
    shared: &Arc<Shared>,
    outbound: &mut Outbound<'_>,
    limit: Duration,
) -> Result<u32, PublishError> {
    let request = shared.next_request();
    outbound.request = Some(request);
    let (done, answer) = oneshot::channel();
    shared
        .pending
        .lock()
        .wait(request, Waiter::Answer(done))
        .map_err(PublishError::Closed)?;
    let _slot = ask::Slot::new(shared, request, false);
    let exchange = async {
        shared.push(outbound).await?;
        match answer.await {
            Ok(Ok(Answer::Published(outcome))) => outcome.map_err(PublishError::Refused),
            Ok(Err(lost)) => Err(lost.into()),
            // An answer of another kind is the broker's mistake; the driver drops it, and with it the sender.
            Ok(Ok(_)) | Err(_) => Err(PublishError::Disconnected),
        }
    };
    tokio::time::timeout(limit, exchange)
        .await
        .unwrap_or(Err(PublishError::TimedOut(limit)))
}
