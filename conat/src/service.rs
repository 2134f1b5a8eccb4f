//! Services in the two conventions of existing clients, answered and called.
//!
//! | | request | result | error |
//! |---|---|---|---|
//! | [`Convention::Named`] | `{name, args}` | the value | `{error: "Error: …"}` |
//! | [`Convention::Listed`] | `[name, args]` | the value | nothing, with the header `error: "Error: …"` |
//!
//! In the first one `"ping"` is answered with `"pong"`, by which clients wait for a service.

use std::time::Duration;

use dialtone_client::{Client, Encoding, Headers, Message, RequestError, SubscribeError};
use serde_json::{Value, json};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::socket::{NOTHING, answer, decode, encode, headers};

/// How requests and answers look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Convention {
    /// `{name, args}`.
    Named,
    /// `[name, args]`.
    Listed,
}

/// The queue group in which services of existing clients share their requests.
pub const GROUP: &str = "0";

/// A request to a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Where it came, which says who asks.
    pub subject: String,
    /// The function.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<Value>,
}

impl Call {
    fn parse(message: &Message, convention: Convention) -> Result<Self, String> {
        let (name, arguments) = match (convention, decode(message)?) {
            (Convention::Listed, Value::Array(mut parts)) if parts.len() == 2 => {
                (parts.swap_remove(0), parts.swap_remove(0))
            }
            (Convention::Named, Value::Object(mut parts)) => (
                parts.remove("name").unwrap_or_default(),
                parts.remove("args").unwrap_or_else(|| json!([])),
            ),
            (Convention::Listed | Convention::Named, _) => {
                return Err(
                    "a request must have the name of a function and its arguments".to_owned(),
                );
            }
        };
        let (Value::String(name), Value::Array(arguments)) = (name, arguments) else {
            return Err(
                "the name of a function is a text, and its arguments are an array".to_owned(),
            );
        };
        Ok(Self {
            subject: message.subject().as_str().to_owned(),
            name,
            arguments,
        })
    }
}

/// Answers the requests at a subject one after the other, until `stop` or until the client ends. Several that serve the
/// same subject share its requests.
///
/// # Errors
/// When the subject cannot be subscribed to.
pub async fn serve<F>(
    client: &Client,
    subject: &str,
    convention: Convention,
    stop: CancellationToken,
    mut perform: F,
) -> Result<(), SubscribeError>
where
    F: AsyncFnMut(Call) -> Result<Value, String>,
{
    let mut requests = client
        .subscription(subject)
        .group(GROUP)
        .subscribe()
        .await?;
    loop {
        let request = tokio::select! {
            request = requests.next() => request,
            () = stop.cancelled() => None,
        };
        let Some(request) = request else {
            return Ok(());
        };
        if convention == Convention::Named && decode::<String>(&request).as_deref() == Ok("ping") {
            answer(&request, &Headers::new(), encode("pong")).await;
            continue;
        }
        let outcome = match Call::parse(&request, convention) {
            Ok(call) => match stop.run_until_cancelled(perform(call)).await {
                Some(outcome) => outcome,
                None => return Ok(()),
            },
            Err(error) => Err(error),
        };
        reply(&request, convention, outcome).await;
    }
}

async fn reply(request: &Message, convention: Convention, outcome: Result<Value, String>) {
    match (outcome, convention) {
        (Ok(value), _) => answer(request, &Headers::new(), encode(&value)).await,
        (Err(text), Convention::Named) => {
            let error = json!({ "error": format!("Error: {text}") });
            answer(request, &Headers::new(), encode(&error)).await;
        }
        (Err(text), Convention::Listed) => {
            let error = Headers::new().with("error", format!("Error: {text}"));
            answer(request, &error, NOTHING.to_vec()).await;
        }
    }
}

/// Why a call has no result.
#[derive(Debug, Error)]
pub enum CallError {
    /// There was no answer.
    #[error("{subject} does not answer")]
    Request {
        /// Who was asked.
        subject: String,
        /// What came of it.
        #[source]
        source: RequestError,
    },
    /// The service says so.
    #[error("{0}")]
    Refused(String),
    /// The answer cannot be read.
    #[error("an answer that cannot be read: {0}")]
    Unreadable(String),
}

/// Calls a function of a service of an existing client, or of one of ours.
///
/// # Errors
/// When nobody answers within `limit`, or the service refuses.
pub async fn call(
    client: &Client,
    subject: &str,
    convention: Convention,
    (name, arguments): (&str, &[Value]),
    limit: Duration,
) -> Result<Value, CallError> {
    let request = match convention {
        Convention::Named => json!({ "name": name, "args": arguments }),
        Convention::Listed => json!([name, arguments]),
    };
    let asked = client
        .message(subject)
        .encoding(Encoding::MessagePack)
        .payload(encode(&request))
        .wait_for_interest(limit)
        .timeout(limit);
    let answered = asked.request().await.map_err(|source| CallError::Request {
        subject: subject.to_owned(),
        source,
    })?;
    let refused = |text: &str| {
        let text = text.strip_prefix("Error: ").unwrap_or(text);
        Err(CallError::Refused(text.to_owned()))
    };
    if let Some(text) = headers(&answered).text("error") {
        return refused(text);
    }
    let value: Value = decode(&answered).map_err(CallError::Unreadable)?;
    if convention == Convention::Named
        && let Some(text) = value.get("error").and_then(Value::as_str)
    {
        return refused(text);
    }
    Ok(value)
}
