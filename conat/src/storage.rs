//! The storage protocol of existing clients, in front of the persist service.
//!
//! ```text
//!   client ──socket at persist.<scope>──▶ session ── client::persist ──▶ persist.<scope>.call
//! ```
//!
//! Each socket is about one stream. Its first message says which; after that come requests whose command is in the
//! headers. Any node may run this: it keeps nothing, and the service behind it decides.

use std::sync::Arc;
use std::time::Duration;

use dialtone_client::{Client, Headers, SubscribeError, Subscription};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::socket::{self, Server};

mod command;
mod config;
mod feed;
mod limits;
mod path;
mod recent;
mod reply;
mod rows;
mod session;

use limits::Usage;
use recent::Streams;

/// How the service is offered.
#[derive(Debug, Clone)]
pub struct Options {
    /// The first segment of its subjects.
    pub service: String,
    /// What clients call this server: one segment of a subject, another one on each node.
    pub id: String,
    /// Most streams that are open for one account or project.
    pub streams_per_scope_max: usize,
    /// Most streams that are open in all.
    pub streams_max: usize,
    /// How long a request may take.
    pub timeout: Duration,
    /// What the sockets are allowed.
    pub socket: socket::Options,
}

impl Options {
    /// Under the name that clients know.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            service: "persist".to_owned(),
            id: id.into(),
            streams_per_scope_max: 500,
            streams_max: 10_000,
            timeout: Duration::from_secs(30),
            socket: socket::Options::default(),
        }
    }
}

/// What the sessions share.
#[derive(Debug)]
struct Shared {
    client: Client,
    options: Options,
    usage: Arc<Usage>,
    streams: Arc<Streams>,
}

/// Offers the service until `stop`, or until the client ends.
///
/// # Errors
/// When its subjects cannot be subscribed to.
pub async fn serve(
    client: Client,
    options: Options,
    stop: CancellationToken,
) -> Result<(), SubscribeError> {
    let tasks = TaskTracker::new();
    let service = options.service.clone();
    // One of several nodes answers, the nearest one.
    let which = client
        .subscription(format!("{service}.*.id"))
        .group("0")
        .subscribe()
        .await?;
    let base = format!("{service}.*");
    let socket = options.socket.clone();
    let mut server = Server::listen(&client, &base, &options.id, socket, &tasks).await?;
    let shared = Arc::new(Shared {
        usage: Arc::new(Usage::new(
            options.streams_max,
            options.streams_per_scope_max,
        )),
        streams: Arc::default(),
        client,
        options,
    });
    let sessions = async {
        while let Some(socket) = server.accept().await {
            tasks.spawn(session::run(
                Arc::clone(&shared),
                socket,
                stop.child_token(),
            ));
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = sessions => {}
        () = tell_id(which, &shared.options.id) => {}
    }
    drop(server);
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// Says which server a client is to use.
async fn tell_id(mut questions: Subscription, id: &str) {
    while let Some(question) = questions.next().await {
        socket::answer(&question, &Headers::new(), socket::encode(id)).await;
    }
}
