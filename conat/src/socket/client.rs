//! Connecting to a server of sockets.

use std::time::Duration;

use dialtone_client::{Client, Encoding, Headers, RequestError, SubscribeError};
use serde::Deserialize;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::data::Options;
use super::pump::{self, Socket};
use super::{COMMAND, NOTHING, decode, random_id};

/// Most messages that wait for the task of the socket.
const RAW_MAX: usize = 2_048;

/// Why a socket was not connected.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// No server answers.
    #[error("no server answers at {subject}")]
    NoServer {
        /// Where one would.
        subject: String,
        /// What came of the question.
        #[source]
        source: Box<RequestError>,
    },
    /// The own subject cannot be listened to.
    #[error("cannot listen for the server")]
    Subscribe(#[from] SubscribeError),
    /// The server says something else than that the socket is connected.
    #[error("the server does not connect: {0}")]
    Refused(String),
}

/// Who answers at the status of a server.
#[derive(Debug, Deserialize)]
struct Status {
    id: String,
}

/// Connects to a server at `subject`, which has no wildcards. The task of the socket is one of `tasks`.
///
/// # Errors
/// When no server answers within `limit`, or it refuses.
pub async fn connect(
    client: &Client,
    subject: &str,
    options: Options,
    limit: Duration,
    tasks: &TaskTracker,
) -> Result<Socket, ConnectError> {
    let status = format!("{subject}.server.status");
    let asked = request(client, &status, &Headers::new(), limit).await?;
    let Status { id } = decode(&asked).map_err(ConnectError::Refused)?;
    let own = random_id();
    let server = format!("{subject}.server.{id}.{own}");
    let mut messages = client.subscribe(format!("{subject}.client.{own}")).await?;
    let headers = Headers::new()
        .with(COMMAND, "connect")
        .with("id", own.as_str());
    let answered = request(client, &server, &headers, limit).await?;
    let word: String = decode(&answered).map_err(ConnectError::Refused)?;
    if word != "connected" {
        return Err(ConnectError::Refused(word));
    }
    let (raw, raw_rx) = mpsc::channel(RAW_MAX);
    let (socket, pump) = pump::open(client.clone(), server.clone(), server, raw_rx, options);
    tasks.spawn(async move {
        let forward = async {
            while let Some(message) = messages.next().await {
                if raw.send(message).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            _end = pump.run() => {}
            () = forward => {}
        }
    });
    Ok(socket)
}

async fn request(
    client: &Client,
    subject: &str,
    headers: &Headers,
    limit: Duration,
) -> Result<dialtone_client::Message, ConnectError> {
    let mut draft = client
        .message(subject)
        .encoding(Encoding::MessagePack)
        .payload(NOTHING)
        .wait_for_interest(limit)
        .timeout(limit);
    if !headers.is_empty() {
        draft = draft.headers(headers);
    }
    draft
        .request()
        .await
        .map_err(|source| ConnectError::NoServer {
            subject: subject.to_owned(),
            source: Box::new(source),
        })
}
