//! The functions of the hub on the broker.
//!
//! Requests to `hub.*.*.api` are shared by all hubs, in the queue group `0`. Who wants to cancel a call gives it an
//! `id` and says that id to `hub.<kind>.<own id>.cancel`, which all hubs hear.

use std::sync::Arc;

use dialtone_client::service::Answer;
use dialtone_client::{
    Client, Encoding, Message, Service, ServiceError, ServiceOptions, SubscribeError,
};
use serde::Deserialize;
use serde_json::Value as Json;

use super::dispatch::Api;
use super::error::{Code, Error};
use super::request::{REQUEST_LEN_MAX, Request};
use crate::caller::{Caller, InvalidSubject};
use crate::permission::Facts;

/// Where requests come in.
pub const PATTERN: &str = "hub.*.*.api";

/// Where calls are cancelled.
pub const CANCEL_PATTERN: &str = "hub.*.*.cancel";

/// The queue group of all hubs.
const GROUP: &str = "0";

/// Cancelling takes no time, so that few at once are enough.
const CANCELS_MAX: usize = 16;

/// A hub's API on a broker.
#[derive(Debug)]
pub struct ApiService {
    requests: Service,
    cancels: Service,
}

#[derive(Deserialize)]
struct Cancel {
    id: String,
}

impl ApiService {
    /// Answers requests until it is stopped. `concurrency_max` is how many it takes from the broker at once; more than
    /// the API lets run, or its refusals would wait behind what runs.
    ///
    /// # Errors
    /// When the broker does not let this client subscribe.
    pub async fn start<F: Facts>(
        client: &Client,
        api: Arc<Api<F>>,
        concurrency_max: usize,
    ) -> Result<Self, SubscribeError> {
        let cancels = {
            let api = Arc::clone(&api);
            // In a group of its own, so that every hub hears it.
            let options = ServiceOptions {
                group: format!("cancel-{}", crate::auth::token::random_text(22)),
                concurrency_max: CANCELS_MAX,
            };
            client
                .service_with(CANCEL_PATTERN, options, move |message| {
                    let cancelled = cancel(&api, &message);
                    async move { cancelled }
                })
                .await?
        };
        let options = ServiceOptions {
            group: GROUP.to_owned(),
            concurrency_max,
        };
        let requests = client
            .service_with(PATTERN, options, move |message| {
                let api = Arc::clone(&api);
                async move { answer(&api, &message).await }
            })
            .await?;
        Ok(Self { requests, cancels })
    }

    /// Waits until the broker has ended one of its subscriptions, or the client has ended.
    pub async fn ended(&mut self) {
        tokio::select! {
            () = self.requests.stopped() => {}
            () = self.cancels.stopped() => {}
        }
    }

    /// Takes no more requests, answers those that were received, and ends.
    pub async fn stop(self) {
        self.requests.stop().await;
        self.cancels.stop().await;
    }
}

/// Errors are answered as values, as clients of the original expect them.
async fn answer<F: Facts>(api: &Api<F>, message: &Message) -> Result<Answer, ServiceError> {
    let done = match read(message) {
        Ok((caller, request)) => api.call(caller, request).await,
        Err(error) => Err(error),
    };
    let value = done.unwrap_or_else(|error| error.to_json());
    Ok(match message.encoding() {
        Encoding::Json => Answer::json(&value)?,
        Encoding::MessagePack | Encoding::Other(_) => Answer::msgpack(&value)?,
    })
}

fn read(message: &Message) -> Result<(Caller, Request), Error> {
    let caller = caller(message.subject().as_str())?;
    let len = message.payload().len();
    if len > REQUEST_LEN_MAX {
        let text = format!("the request is longer than {REQUEST_LEN_MAX} bytes ({len})");
        return Err(Error::new(Code::BadRequest, text));
    }
    let request = message
        .decode()
        .map_err(|error| Error::new(Code::BadRequest, format!("not a request: {error}")))?;
    Ok((caller, request))
}

fn caller(subject: &str) -> Result<Caller, Error> {
    Caller::of_request(subject)
        .map_err(|error: InvalidSubject| Error::new(Code::BadRequest, error.to_string()))
}

fn cancel<F: Facts>(api: &Api<F>, message: &Message) -> Result<Answer, ServiceError> {
    let subject = message.subject().as_str();
    let requests = subject
        .strip_suffix(".cancel")
        .map(|rest| format!("{rest}.api"));
    let cancelled = caller(requests.as_deref().unwrap_or_default()).and_then(|caller| {
        let Cancel { id } = message
            .decode()
            .map_err(|error| Error::new(Code::BadRequest, format!("not an id: {error}")))?;
        api.cancel(caller, &id);
        Ok(Json::Null)
    });
    Ok(Answer::json(
        &cancelled.unwrap_or_else(|error| error.to_json()),
    )?)
}
