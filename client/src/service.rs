//! The other side of a request: subscribe in a group, bound what runs at once, answer, stop in good order.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use dialtone_protocol::Code;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::error::{EncodeError, RespondError, SubscribeError};
use crate::headers::Headers;
use crate::message::Message;
use crate::payload::{Encoding, Payload};
use crate::subscription::Subscription;

/// How many requests a service works on at once by default.
pub const CONCURRENCY_MAX: usize = 64;

/// `MessagePack` for nothing, the payload of an answer that is an error.
const NIL: &[u8] = &[0xc0];

/// What a handler answers.
#[derive(Debug, Clone)]
pub struct Answer {
    headers: Headers,
    encoding: Encoding,
    payload: Payload<'static>,
}

impl Answer {
    /// Bytes, to be read as `encoding` says.
    pub fn new(encoding: Encoding, payload: impl Into<Payload<'static>>) -> Self {
        Self {
            headers: Headers::new(),
            encoding,
            payload: payload.into(),
        }
    }

    /// A value as JSON.
    ///
    /// # Errors
    /// When JSON cannot hold the value.
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        Ok(Self::new(Encoding::Json, serde_json::to_vec(value)?))
    }

    /// A value as `MessagePack` with named fields.
    ///
    /// # Errors
    /// When `MessagePack` cannot hold the value.
    pub fn msgpack<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        Ok(Self::new(
            Encoding::MessagePack,
            rmp_serde::to_vec_named(value)?,
        ))
    }

    /// Sets the headers.
    pub fn headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }
}

/// An answer that is an error: it travels as the headers `error` and `code`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} ({code})")]
pub struct ServiceError {
    /// A number for programs, in the manner of HTTP.
    pub code: u16,
    /// What went wrong, for people.
    pub text: String,
}

impl ServiceError {
    /// An error with its code.
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

impl From<EncodeError> for ServiceError {
    fn from(error: EncodeError) -> Self {
        Self::new(Code::Internal.number(), error.to_string())
    }
}

impl From<crate::error::PayloadError> for ServiceError {
    fn from(error: crate::error::PayloadError) -> Self {
        Self::new(Code::BadFrame.number(), error.to_string())
    }
}

impl Message {
    /// The message itself, or the error that its headers say it is.
    ///
    /// # Errors
    /// When the message has the header `error`.
    pub fn into_result(self) -> Result<Self, ServiceError> {
        // Headers that nobody can read cannot say that this is an error.
        let headers = self.headers().unwrap_or_default();
        let Some(text) = headers.get("error") else {
            return Ok(self);
        };
        let text = text
            .as_str()
            .map_or_else(|| text.to_string(), str::to_owned);
        let code = headers.get("code").and_then(serde_json::Value::as_u64);
        let code = code
            .and_then(|code| u16::try_from(code).ok())
            .unwrap_or_else(|| Code::Internal.number());
        Err(ServiceError { code, text })
    }
}

type Handler = dyn Fn(Message) -> BoxFuture<'static, Result<Answer, ServiceError>> + Send + Sync;

/// What a service is made with.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// The queue group in which the instances of the service share the requests; `0` by default.
    pub group: String,
    /// How many requests are worked on at once; [`CONCURRENCY_MAX`] by default. Others wait in the subscription.
    pub concurrency_max: usize,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            group: "0".to_owned(),
            concurrency_max: CONCURRENCY_MAX,
        }
    }
}

/// A running service. Dropping it lets it stop by itself; [`stop`](Self::stop) waits for that.
pub struct Service {
    /// Dropped to ask for the end.
    stop: Option<oneshot::Sender<()>>,
    stopped: watch::Receiver<()>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl Service {
    /// Takes no more requests, answers those that were received, and ends.
    pub async fn stop(mut self) {
        self.stop = None;
        self.stopped().await;
    }

    /// Waits until the service has ended: it was stopped, the broker ended its subscription, or the client has ended.
    pub async fn stopped(&mut self) {
        // The sender is never used; the service's task drops it at its end.
        while self.stopped.changed().await.is_ok() {}
    }
}

impl Client {
    /// Answers requests to a pattern, sharing them with the other members of a queue group.
    ///
    /// A handler that fails or panics answers with an error; a message that is not a request is handled, and what the
    /// handler says is dropped.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub async fn service<H, F>(
        &self,
        pattern: impl Into<String>,
        group: impl Into<String>,
        handler: H,
    ) -> Result<Service, SubscribeError>
    where
        H: Fn(Message) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Answer, ServiceError>> + Send + 'static,
    {
        let options = ServiceOptions {
            group: group.into(),
            ..ServiceOptions::default()
        };
        self.service_with(pattern, options, handler).await
    }

    /// As [`service`](Self::service), with everything that can be set.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub async fn service_with<H, F>(
        &self,
        pattern: impl Into<String>,
        options: ServiceOptions,
        handler: H,
    ) -> Result<Service, SubscribeError>
    where
        H: Fn(Message) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Answer, ServiceError>> + Send + 'static,
    {
        let subscription = self
            .subscription(pattern)
            .group(options.group)
            .subscribe()
            .await?;
        let handler: Arc<Handler> = Arc::new(move |message| handler(message).boxed());
        let (stop, stopping) = oneshot::channel();
        let (running, stopped) = watch::channel(());
        let concurrency_max = options.concurrency_max.max(1);
        let runtime = self.shared().runtime.clone();
        drop(runtime.spawn(async move {
            serve(subscription, &handler, concurrency_max, stopping).await;
            drop(running);
        }));
        Ok(Service {
            stop: Some(stop),
            stopped,
        })
    }
}

async fn serve(
    mut subscription: Subscription,
    handler: &Arc<Handler>,
    concurrency_max: usize,
    mut stopping: oneshot::Receiver<()>,
) {
    let mut running = JoinSet::new();
    loop {
        while running.try_join_next().is_some() {}
        if running.len() >= concurrency_max {
            // Tasks catch panics themselves, so that there is nothing to learn from the result.
            drop(running.join_next().await);
        }
        tokio::select! {
            message = subscription.next() => match message {
                Some(message) => drop(running.spawn(handle(Arc::clone(handler), message))),
                None => break,
            },
            _ = &mut stopping => break,
        }
    }
    subscription.drain().await;
    while let Some(message) = subscription.next().await {
        if running.len() >= concurrency_max {
            drop(running.join_next().await);
        }
        drop(running.spawn(handle(Arc::clone(handler), message)));
    }
    while running.join_next().await.is_some() {}
}

async fn handle(handler: Arc<Handler>, message: Message) {
    // Calling the handler may panic as well as what it returns.
    let request = message.clone();
    let result = AssertUnwindSafe(async move { handler(request).await })
        .catch_unwind()
        .await;
    if !message.is_request() {
        return;
    }
    let answered = match result {
        Ok(Ok(answer)) => {
            message
                .respond_with(&answer.headers, answer.encoding, answer.payload)
                .await
        }
        Ok(Err(error)) => respond_error(&message, &error).await,
        Err(_panic) => respond_panic(&message).await,
    };
    if let Err(error) = answered {
        tracing::warn!(subject = %message.subject(), error = &error as &dyn std::error::Error, "cannot answer");
    }
}

async fn respond_panic(message: &Message) -> Result<(), RespondError> {
    tracing::error!(subject = %message.subject(), "the handler of a service panicked");
    let error = ServiceError::new(Code::Internal.number(), "the handler failed");
    respond_error(message, &error).await
}

async fn respond_error(message: &Message, error: &ServiceError) -> Result<(), RespondError> {
    let headers = Headers::new()
        .with("error", error.text.as_str())
        .with("code", error.code);
    message
        .respond_with(&headers, Encoding::MessagePack, NIL)
        .await
}
