//! One end of a socket: a task between the subjects of the socket and the program that uses it.

use std::time::Duration;

use bytes::Bytes;
use dialtone_client::{Answers, Client, Draft, Encoding, Headers, Many, Message, RequestError};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::data::{Data, Options};
use super::link::{Arrived, Receiving, Sending};
use super::{COMMAND, Closed, NOTHING, SEQUENCE, decode, encode, headers};

/// What the other end says.
#[derive(Debug)]
pub enum Inbound {
    /// A message, in its order.
    Data(Data),
    /// A request, to be answered.
    Request(Message),
}

/// One end of a socket. Dropping it closes the socket.
#[derive(Debug)]
pub struct Socket {
    pub(super) subject: String,
    pub(super) inbound: mpsc::Receiver<Inbound>,
    pub(super) writer: Writer,
}

/// The writing half; clones share the socket.
#[derive(Debug, Clone)]
pub struct Writer {
    client: Client,
    /// Where the other end listens.
    peer: std::sync::Arc<str>,
    outbound: mpsc::Sender<Data>,
    closed: CancellationToken,
    /// How many messages were written, and how many of them are acknowledged.
    written: watch::Sender<u64>,
    acknowledged: watch::Receiver<u64>,
}

impl Socket {
    /// The subject at which the server is reached by this client; it says who the client is.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What the other end says next; `None` when the socket has ended.
    pub async fn next(&mut self) -> Option<Inbound> {
        self.inbound.recv().await
    }

    /// For writing from elsewhere.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.writer.closed.cancel();
    }
}

impl Writer {
    /// Sends a message, waiting while too many are not acknowledged.
    ///
    /// # Errors
    /// When the socket has ended.
    pub async fn write(&self, data: Data) -> Result<(), Closed> {
        let permit = self.outbound.reserve().await.map_err(|_gone| Closed)?;
        self.written.send_modify(|written| *written += 1);
        permit.send(data);
        Ok(())
    }

    /// Asks the other end something; the first answer within `limit`.
    ///
    /// # Errors
    /// As with any request of a client: nobody listens, the time is over, or the connection has ended.
    pub async fn request(&self, data: Data, limit: Duration) -> Result<Message, RequestError> {
        self.draft(data).timeout(limit).request().await
    }

    /// Asks the other end something that has several answers.
    ///
    /// # Errors
    /// When the question cannot be sent, or nobody listens.
    pub async fn request_many(&self, data: Data, many: Many) -> Result<Answers, RequestError> {
        self.draft(data).request_many(many).await
    }

    fn draft(&self, data: Data) -> Draft<'_> {
        let draft = self.client.message(&*self.peer).encoding(data.encoding);
        let draft = draft.payload(data.payload);
        if data.headers.is_empty() {
            draft
        } else {
            draft.headers(&data.headers)
        }
    }

    /// Waits until the other end has everything that was written before.
    ///
    /// # Errors
    /// When the socket ends first.
    pub async fn drained(&self) -> Result<(), Closed> {
        let written = *self.written.borrow();
        let mut acknowledged = self.acknowledged.clone();
        let reached = acknowledged.wait_for(|count| *count >= written).await;
        reached.map(drop).map_err(|_gone| Closed)
    }

    /// Closes the socket.
    pub fn close(&self) {
        self.closed.cancel();
    }
}

/// What drives an end.
pub(super) struct Pump {
    pub(super) client: Client,
    /// Where the other end listens.
    pub(super) peer: String,
    pub(super) raw: mpsc::Receiver<Message>,
    pub(super) inbound: mpsc::Sender<Inbound>,
    outbound: mpsc::Receiver<Data>,
    closed: CancellationToken,
    options: Options,
    sending: Sending<Data>,
    acknowledged: watch::Sender<u64>,
    receiving: Receiving<Data>,
    /// When something is sent again, and how long the pause after that is.
    resend: Option<(Instant, Duration)>,
    unacknowledged_since: Option<Instant>,
    tasks: FuturesUnordered<BoxFuture<'static, Done>>,
    asking: bool,
    /// When the other end said something.
    heard: Instant,
}

/// What a question to the other end has come to.
enum Done {
    Alive,
    Dead,
    /// A ping was not answered.
    Silent,
    /// What is missing was not told; what is sent again makes this end ask again.
    Unanswered,
    /// Messages that were missing.
    Recovered(Vec<Data>),
}

/// Why an end stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// This end wants it.
    Here,
    /// The other end has said so.
    There,
    /// The other end does not answer, or what it needs is gone.
    Lost,
}

/// A request of the socket itself.
#[derive(Debug, Deserialize)]
struct Control {
    socket: Ask,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Ask {
    Emitted(u64),
    Missing(Vec<u64>),
}

/// A message that was missing.
#[derive(Debug, Serialize, Deserialize)]
struct Missed {
    encoding: u8,
    raw: dialtone_client::persist::wire::Blob,
    #[serde(default)]
    headers: Option<serde_json::Map<String, Value>>,
}

/// Both halves of an end, and what drives it, for messages that come through `raw`.
pub(super) fn open(
    client: Client,
    subject: String,
    peer: String,
    raw: mpsc::Receiver<Message>,
    options: Options,
) -> (Socket, Pump) {
    let (inbound, inbound_rx) = mpsc::channel(options.inbound_max);
    let (outbound, outbound_rx) = mpsc::channel(16);
    let (acknowledged, acknowledged_rx) = watch::channel(0);
    let closed = CancellationToken::new();
    let socket = Socket {
        subject,
        inbound: inbound_rx,
        writer: Writer {
            client: client.clone(),
            peer: peer.as_str().into(),
            outbound,
            closed: closed.clone(),
            written: watch::Sender::new(0),
            acknowledged: acknowledged_rx,
        },
    };
    let pump = Pump {
        client,
        peer,
        raw,
        inbound,
        outbound: outbound_rx,
        closed,
        sending: Sending::new(options.queue_max),
        acknowledged,
        receiving: Receiving::new(options.inbound_max),
        options,
        resend: None,
        unacknowledged_since: None,
        tasks: FuturesUnordered::new(),
        asking: false,
        heard: Instant::now(),
    };
    (socket, pump)
}

impl Pump {
    /// Goes on until one of the ends is gone.
    pub(super) async fn run(mut self) -> End {
        let mut keep_alive = tokio::time::interval(self.options.keep_alive);
        keep_alive.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let end = loop {
            let resend = self.resend.map(|(at, _)| at);
            let step = tokio::select! {
                biased;
                () = self.closed.cancelled() => break End::Here,
                message = self.raw.recv() => match message {
                    Some(message) => self.on_message(message).await,
                    None => break End::Here,
                },
                Some(done) = self.tasks.next(), if !self.tasks.is_empty() => self.on_done(done).await,
                Some(data) = self.outbound.recv(), if self.sending.has_room() => self.send(data).await,
                () = tokio::time::sleep_until(resend.unwrap_or_else(Instant::now)), if resend.is_some() => {
                    self.send_again().await
                }
                _ = keep_alive.tick() => {
                    self.ping();
                    Ok(())
                }
            };
            if let Err(end) = step {
                break end;
            }
        };
        self.closed.cancel();
        if end != End::There {
            self.command("close", NOTHING.to_vec(), None).await;
        }
        end
    }

    async fn on_message(&mut self, message: Message) -> Result<(), End> {
        self.heard = Instant::now();
        let headers = headers(&message);
        if let Some(command) = headers.text(COMMAND) {
            return self.on_command(command, &message).await;
        }
        if message.is_request() {
            if let Err(refused) = self.inbound.try_send(Inbound::Request(message)) {
                let (mpsc::error::TrySendError::Full(inbound)
                | mpsc::error::TrySendError::Closed(inbound)) = refused;
                if let Inbound::Request(message) = inbound {
                    let error = Headers::new()
                        .with("error", "Error: too many requests wait")
                        .with("code", 429);
                    answer(&message, &error, NOTHING.to_vec()).await;
                }
            }
            return Ok(());
        }
        let Some(seq) = headers
            .get(SEQUENCE)
            .and_then(Value::as_u64)
            .filter(|seq| *seq > 0)
        else {
            tracing::debug!(subject = %message.subject(), "data of a socket without a number");
            return Ok(());
        };
        let data = Data {
            headers,
            encoding: message.encoding(),
            payload: message.payload().clone(),
        };
        self.on_data(seq, data).await
    }

    async fn on_data(&mut self, seq: u64, data: Data) -> Result<(), End> {
        // Without room for it here, the other end sends it again.
        if self.inbound.capacity() == 0 {
            return Ok(());
        }
        match self.receiving.accept(seq, data) {
            Arrived::Again => {}
            Arrived::Early(missing) => {
                self.recover(missing);
                return Ok(());
            }
            Arrived::Next(ready) => {
                for data in ready {
                    self.inbound
                        .send(Inbound::Data(data))
                        .await
                        .map_err(|_gone| End::Here)?;
                }
            }
        }
        // Also of what was there before, since the acknowledgement may have been lost.
        let emitted = self.receiving.emitted();
        let said = encode(&serde_json::json!({ "socket": { "emitted": emitted } }));
        let reply = self.client.inbox().map(|inbox| format!("{inbox}.emitted"));
        self.command("socket", said, reply).await;
        Ok(())
    }

    /// Asks for what is missing; one such question at a time.
    fn recover(&mut self, missing: Vec<u64>) {
        if self.asking || missing.is_empty() {
            return;
        }
        self.asking = true;
        let (client, peer) = (self.client.clone(), self.peer.clone());
        let limit = self.options.command_timeout;
        self.tasks.push(Box::pin(async move {
            let question = encode(&serde_json::json!({ "socket": { "missing": missing } }));
            let headers = Headers::new().with(COMMAND, "socket");
            let asked = client
                .message(peer)
                .headers(&headers)
                .encoding(Encoding::MessagePack)
                .payload(question)
                .timeout(limit)
                .request();
            let Ok(answered) = asked.await else {
                return Done::Unanswered;
            };
            if super::headers(&answered).get("error").is_some() {
                return Done::Dead;
            }
            match decode::<Vec<Missed>>(&answered) {
                Ok(missed) => Done::Recovered(missed.into_iter().map(Into::into).collect()),
                Err(_unreadable) => Done::Dead,
            }
        }));
    }

    async fn on_done(&mut self, done: Done) -> Result<(), End> {
        match done {
            Done::Alive => Ok(()),
            // The ping or its answer was lost with a connection, and the other end has another one.
            Done::Silent if self.heard.elapsed() < self.options.keep_alive_timeout => Ok(()),
            Done::Dead | Done::Silent => Err(End::Lost),
            Done::Unanswered => {
                self.asking = false;
                Ok(())
            }
            Done::Recovered(messages) => {
                self.asking = false;
                for data in messages {
                    if let Some(seq) = data.headers.get(SEQUENCE).and_then(Value::as_u64) {
                        self.on_data(seq, data).await?;
                    }
                }
                Ok(())
            }
        }
    }

    async fn on_command(&mut self, command: &str, message: &Message) -> Result<(), End> {
        match command {
            "connect" => answer(message, &Headers::new(), encode("connected")).await,
            "ping" => answer(message, &Headers::new(), NOTHING.to_vec()).await,
            "close" => {
                answer(message, &Headers::new(), encode("closed")).await;
                return Err(End::There);
            }
            "socket" => self.on_control(message).await,
            other => tracing::debug!(command = other, "a socket command that nobody knows"),
        }
        Ok(())
    }

    async fn on_control(&mut self, message: &Message) {
        match decode::<Control>(message) {
            Ok(Control {
                socket: Ask::Emitted(emitted),
            }) => {
                self.sending.acknowledge(emitted);
                let newest = self.sending.acknowledged();
                self.acknowledged
                    .send_if_modified(|count| std::mem::replace(count, newest) != newest);
                if self.sending.is_drained() {
                    self.resend = None;
                    self.unacknowledged_since = None;
                } else {
                    self.unacknowledged_since = Some(Instant::now());
                }
                let said = encode(&serde_json::json!({ "emitted": emitted }));
                answer(message, &Headers::new(), said).await;
            }
            Ok(Control {
                socket: Ask::Missing(missing),
            }) => {
                let kept: Option<Vec<Missed>> = missing
                    .iter()
                    .map(|seq| self.sending.get(*seq).map(|data| Missed::of(*seq, data)))
                    .collect();
                match kept {
                    Some(kept) => answer(message, &Headers::new(), encode(&kept)).await,
                    None => {
                        let error = Headers::new().with("error", "nodata");
                        answer(message, &error, NOTHING.to_vec()).await;
                    }
                }
            }
            Err(error) => tracing::debug!(error, "a socket request that cannot be read"),
        }
    }

    async fn send(&mut self, data: Data) -> Result<(), End> {
        let seq = self.sending.push(data.clone());
        if self.resend.is_none() {
            let pause = self.options.resend_min;
            self.resend = Some((Instant::now() + pause, pause));
            self.unacknowledged_since = Some(Instant::now());
        }
        self.publish(seq, data).await
    }

    #[expect(
        clippy::needless_pass_by_ref_mut,
        reason = "with a shared reference the task could not move between threads"
    )]
    async fn publish(&mut self, seq: u64, data: Data) -> Result<(), End> {
        let headers = data.headers.with(SEQUENCE, seq);
        let in_fragments = data.payload.len() > self.client.limits().fragment_len_max as usize;
        let draft = self
            .client
            .message(self.peer.as_str())
            .headers(&headers)
            .encoding(data.encoding)
            .payload(data.payload);
        // What follows a large message is not to overtake it: the other end would ask for it again.
        let sent = if in_fragments {
            draft.publish_acked().await.map(drop)
        } else {
            draft.publish().await
        };
        sent.map_err(|error| {
            tracing::debug!(%error, "a socket cannot send");
            End::Lost
        })
    }

    async fn send_again(&mut self) -> Result<(), End> {
        let Some((_, pause)) = self.resend else {
            return Ok(());
        };
        let since = self.unacknowledged_since.unwrap_or_else(Instant::now);
        if since.elapsed() >= self.options.resend_window {
            return Err(End::Lost);
        }
        let longer = (pause * 2).min(self.options.resend_max);
        self.resend = Some((Instant::now() + longer, longer));
        match self.sending.last() {
            Some((seq, data)) => self.publish(seq, data.clone()).await,
            None => Ok(()),
        }
    }

    /// Asks whether the other end is there, and gives it time to come back.
    fn ping(&self) {
        let (client, peer) = (self.client.clone(), self.peer.clone());
        let limit = self.options.keep_alive_timeout;
        self.tasks.push(Box::pin(async move {
            let headers = Headers::new().with(COMMAND, "ping");
            let asked = client
                .message(peer)
                .headers(&headers)
                .encoding(Encoding::MessagePack)
                .payload(NOTHING)
                .wait_for_interest(limit)
                .timeout(limit)
                .request();
            if asked.await.is_ok() {
                Done::Alive
            } else {
                Done::Silent
            }
        }));
    }

    #[expect(
        clippy::needless_pass_by_ref_mut,
        reason = "with a shared reference the task could not move between threads"
    )]
    async fn command(&mut self, name: &str, payload: Vec<u8>, reply: Option<String>) {
        let headers = Headers::new().with(COMMAND, name);
        let mut draft = self
            .client
            .message(self.peer.as_str())
            .headers(&headers)
            .encoding(Encoding::MessagePack)
            .payload(payload);
        if let Some(reply) = reply {
            draft = draft.reply(reply);
        }
        if let Err(error) = draft.publish().await {
            tracing::debug!(%error, name, "a socket command was not sent");
        }
    }
}

impl Missed {
    fn of(seq: u64, data: &Data) -> Self {
        let headers = data.headers.clone().with(SEQUENCE, seq);
        Self {
            encoding: data.encoding.number(),
            raw: data.payload.clone().into(),
            headers: serde_json::from_slice(&headers.to_json()).ok(),
        }
    }
}

impl From<Missed> for Data {
    fn from(missed: Missed) -> Self {
        let mut headers = Headers::new();
        for (name, value) in missed.headers.unwrap_or_default() {
            headers.insert(name, value);
        }
        Self {
            headers,
            encoding: Encoding::from_number(missed.encoding),
            payload: Bytes::copy_from_slice(&missed.raw),
        }
    }
}

/// Answers a request, where an answer is wanted.
pub async fn respond(request: &Message, data: Data) {
    let Ok(draft) = request.answer() else { return };
    let mut draft = draft.encoding(data.encoding).payload(data.payload);
    if !data.headers.is_empty() {
        draft = draft.headers(&data.headers);
    }
    if let Err(error) = draft.publish().await {
        tracing::debug!(%error, "an answer was not sent");
    }
}

/// Answers, where an answer is wanted; one that cannot be sent is its asker's loss.
pub(crate) async fn answer(message: &Message, headers: &Headers, payload: Vec<u8>) {
    let Ok(draft) = message.answer() else { return };
    let mut draft = draft.encoding(Encoding::MessagePack).payload(payload);
    if !headers.is_empty() {
        draft = draft.headers(headers);
    }
    if let Err(error) = draft.publish().await {
        tracing::debug!(%error, "an answer was not sent");
    }
}
