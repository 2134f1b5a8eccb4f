//! Listening for sockets at a subject.

use std::time::Duration;

use dialtone_client::{Client, Message, SubscribeError, Subscription};
use hashbrown::HashMap;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::data::Options;
use super::pump::{self, Socket, answer};
use super::{COMMAND, NOTHING, client_subject, encode, headers};

/// How long is waited until a client listens before it is told that it is connected.
const CLIENT_WAIT_MAX: Duration = Duration::from_secs(5);

/// Most messages of one socket that wait for its task.
const RAW_MAX: usize = 2_048;

/// Most sockets that wait to be accepted.
const BACKLOG: usize = 1_024;

/// Sockets at a subject, which may have wildcards. It ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    accepted: mpsc::Receiver<Socket>,
}

/// What the task of a server has.
struct Listening {
    client: Client,
    id: String,
    options: Options,
    tasks: TaskTracker,
    accepted: mpsc::Sender<Socket>,
    /// The sockets by the subject at which their clients reach the server.
    sockets: HashMap<String, mpsc::Sender<Message>>,
    ended: mpsc::Sender<String>,
}

impl Server {
    /// Listens at `subject` as the server `id`; the tasks of the server and its sockets are `tasks`.
    ///
    /// # Errors
    /// When the subjects cannot be subscribed to.
    pub async fn listen(
        client: &Client,
        subject: &str,
        id: &str,
        options: Options,
        tasks: &TaskTracker,
    ) -> Result<Self, SubscribeError> {
        let status = client.subscribe(format!("{subject}.server.status")).await?;
        let messages = client.subscribe(format!("{subject}.server.{id}.*")).await?;
        let (accepted, accepted_rx) = mpsc::channel(BACKLOG);
        let (ended, ended_rx) = mpsc::channel(BACKLOG);
        let listening = Listening {
            client: client.clone(),
            id: id.to_owned(),
            options,
            tasks: tasks.clone(),
            accepted,
            sockets: HashMap::new(),
            ended,
        };
        tasks.spawn(listening.run(status, messages, ended_rx));
        Ok(Self {
            accepted: accepted_rx,
        })
    }

    /// The next socket; `None` when the client of the broker has ended.
    pub async fn accept(&mut self) -> Option<Socket> {
        self.accepted.recv().await
    }
}

impl Listening {
    async fn run(
        mut self,
        mut status: Subscription,
        mut messages: Subscription,
        mut ended: mpsc::Receiver<String>,
    ) {
        let gone = self.accepted.clone();
        loop {
            tokio::select! {
                () = gone.closed() => return,
                Some(subject) = ended.recv() => {
                    // Meanwhile the client may have connected again under the same subject.
                    if self.sockets.get(&subject).is_some_and(mpsc::Sender::is_closed) {
                        self.sockets.remove(&subject);
                    }
                }
                asked = status.next() => {
                    let Some(asked) = asked else { return };
                    let id = json!({ "id": self.id });
                    answer(&asked, &dialtone_client::Headers::new(), encode(&id)).await;
                }
                message = messages.next() => {
                    let Some(message) = message else { return };
                    self.on_message(message).await;
                }
            }
        }
    }

    async fn on_message(&mut self, message: Message) {
        let subject = message.subject().as_str().to_owned();
        if let Some(socket) = self.sockets.get(&subject) {
            match socket.try_send(message) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(message)) => {
                    // Data that is dropped is sent again, and a request fails in time.
                    tracing::debug!(subject = %message.subject(), "a socket does not keep up");
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(back)) => {
                    self.sockets.remove(&subject);
                    return self.on_unknown(back, subject).await;
                }
            }
        }
        self.on_unknown(message, subject).await;
    }

    /// A message of a socket that is not there: it may want to be.
    async fn on_unknown(&mut self, message: Message, subject: String) {
        let headers = headers(&message);
        match headers.text(COMMAND) {
            Some("connect") => self.connect(message, subject),
            Some("close") => {
                answer(&message, &dialtone_client::Headers::new(), encode("closed")).await;
            }
            Some(_) | None => {
                let Some(peer) = client_subject(&subject) else {
                    return;
                };
                let close = dialtone_client::Headers::new().with(COMMAND, "close");
                let sent = self
                    .client
                    .message(peer)
                    .headers(&close)
                    .encoding(dialtone_client::Encoding::MessagePack)
                    .payload(NOTHING)
                    .publish();
                if let Err(error) = sent.await {
                    tracing::debug!(%error, "a lost client was not told");
                }
            }
        }
    }

    fn connect(&mut self, message: Message, subject: String) {
        let Some(peer) = client_subject(&subject) else {
            return;
        };
        let (raw, raw_rx) = mpsc::channel(RAW_MAX);
        let (socket, pump) = pump::open(
            self.client.clone(),
            subject.clone(),
            peer.clone(),
            raw_rx,
            self.options.clone(),
        );
        self.sockets.insert(subject.clone(), raw);
        let (client, accepted, ended) = (
            self.client.clone(),
            self.accepted.clone(),
            self.ended.clone(),
        );
        self.tasks.spawn(async move {
            // Without a listener the answer still goes to the one who asked.
            if let Err(error) = client.wait_for_interest(&peer, CLIENT_WAIT_MAX).await {
                tracing::debug!(%error, "whether a client listens is not known");
            }
            if accepted.send(socket).await.is_err() {
                return;
            }
            answer(
                &message,
                &dialtone_client::Headers::new(),
                encode("connected"),
            )
            .await;
            pump.run().await;
            // The server may be gone before its sockets.
            drop(ended.send(subject).await);
        });
    }
}
