//! A byte stream between two clients: in order, end-to-end flow-controlled, over subjects.
//!
//! ```text
//! opener                                             listener
//!   │  request to the subject: address, window          │
//!   │ ───────────────────────────────────────────────▶ │
//!   │  answer: address, window                          │
//!   │ ◀─────────────────────────────────────────────── │
//!   │  data, credit, ping, end … to each other's inbox  │
//!   │ ◀──────────────────────────────────────────────▶ │
//! ```
//!
//! Both addresses are in the inboxes of the two connections, so that nothing is subscribed and nobody else can listen.
//! A socket therefore ends with either connection: it does not survive a reconnect, and says so. Nothing is sent twice;
//! a gap in the numbers is an error ([`SocketError::Gap`]), never silence.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::client::Client;
use crate::error::{PublishError, RequestError, RespondError, SubscribeError};
use crate::message::Message;
use crate::payload::Encoding;
use crate::pending::Recipient;
use crate::queue::{Bounds, Ending, Overflow, Queue};
use crate::service::ServiceError;
use crate::subscription::Subscription;

mod flow;
use flow::{Flow, Kind, Packet};

/// Bytes that may be under way or unread in one direction, small pieces counted as a little more than they are.
pub const WINDOW: u32 = 1 << 20;

/// The smallest and the largest window that a peer may ask for, in bytes.
const WINDOW_RANGE: std::ops::RangeInclusive<u32> = 65_536..=64 << 20;

/// Longest piece that is sent as one message, in bytes.
const PIECE_LEN_MAX: usize = 48 << 10;

/// A peer that was silent for this long is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// A peer that was silent for this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// Why a socket ended before its time.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The request that opens it failed.
    #[error("the socket was not opened")]
    Open(#[from] RequestError),
    /// The other side does not want it.
    #[error("the socket was refused")]
    Refused(#[from] ServiceError),
    /// A connection was lost, here.
    #[error("the connection was lost, and the socket with it")]
    Disconnected,
    /// The peer was silent for too long.
    #[error("the peer of the socket is gone")]
    Gone,
    /// A message was lost on the way.
    #[error("piece {expected} of the stream was lost, piece {found} came")]
    Gap {
        /// Which should have come.
        expected: u64,
        /// Which came.
        found: u64,
    },
    /// The peer sent more than it may, or something that is no part of a stream.
    #[error("the peer of the socket broke the rules: {0}")]
    Violation(&'static str),
    /// The peer gave the stream up.
    #[error("the peer reset the socket: {0}")]
    Reset(String),
    /// This end has said that it sends no more.
    #[error("the socket was finished at this end")]
    Finished,
    /// A piece could not be sent.
    #[error("the stream cannot be sent")]
    Publish(#[from] PublishError),
}

/// What the two sides say about themselves.
#[derive(Debug, Serialize, Deserialize)]
struct Greeting {
    address: String,
    window: u32,
}

impl Greeting {
    fn check(&self) -> Result<(), SocketError> {
        if WINDOW_RANGE.contains(&self.window) {
            return Ok(());
        }
        Err(SocketError::Violation("the window is out of range"))
    }
}

/// Accepts sockets on a subject.
#[derive(Debug)]
pub struct SocketListener {
    client: Client,
    subscription: Subscription,
}

impl SocketListener {
    /// The next socket; `None` when the subscription has ended. What does not ask for a socket is told so and skipped.
    pub async fn accept(&mut self) -> Option<Socket> {
        loop {
            let message = self.subscription.next().await?;
            match answer(&self.client, &message).await {
                Ok(socket) => return Some(socket),
                Err(error) => {
                    tracing::debug!(subject = %message.subject(), error = &error as &dyn std::error::Error, "no socket");
                }
            }
        }
    }

    /// Accepts no more; open sockets stay.
    pub async fn close(self) {
        self.subscription.unsubscribe().await;
    }
}

async fn answer(client: &Client, message: &Message) -> Result<Socket, SocketError> {
    let greeting = message
        .json::<Greeting>()
        .map_err(|_error| SocketError::Violation("not a request for a socket"))?;
    greeting.check()?;
    let (local, number, queue) = inbox(client)?;
    let subject = message.subject().as_str();
    let socket = Socket::start(client, subject, number, queue, &greeting);
    let payload = serde_json::to_vec(&Greeting {
        address: local,
        window: WINDOW,
    })
    .unwrap_or_default();
    let headers = crate::headers::Headers::new();
    match message
        .respond_with(&headers, Encoding::Json, payload)
        .await
    {
        Ok(()) => Ok(socket),
        Err(RespondError::NotARequest) => {
            Err(SocketError::Violation("a socket is opened by a request"))
        }
        Err(RespondError::Publish(error)) => Err(error.into()),
    }
}

/// A place in this connection's inbox.
fn inbox(client: &Client) -> Result<(String, u32, Arc<Queue>), SocketError> {
    let number = client.shared().next_number();
    let address = client
        .shared()
        .outgoing
        .lock()
        .inbox_address(number)
        .ok_or(SocketError::Disconnected)?;
    // Larger than the window, which an honest peer keeps to.
    let bounds = Bounds {
        messages_max: 65_536,
        bytes_max: 4 * WINDOW as usize,
        overflow: Overflow::Block,
    };
    let queue = Arc::new(Queue::new(bounds));
    let recipient = Recipient::Many(Arc::clone(&queue));
    client
        .shared()
        .pending
        .lock()
        .wait_inbox(number, recipient)
        .map_err(PublishError::Closed)?;
    Ok((address, number, queue))
}

impl Client {
    /// Accepts sockets on a pattern, sharing them with other listeners of the same queue group.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub async fn listen_socket(
        &self,
        pattern: impl Into<String>,
    ) -> Result<SocketListener, SubscribeError> {
        let subscription = self
            .subscription(pattern)
            .group("socket")
            .subscribe()
            .await?;
        Ok(SocketListener {
            client: self.clone(),
            subscription,
        })
    }

    /// Opens a socket to one of those who listen on a subject.
    ///
    /// # Errors
    /// When nobody listens, nobody answers in time, or the listener refuses.
    pub async fn open_socket(&self, subject: &str) -> Result<Socket, SocketError> {
        let (local, number, queue) = inbox(self)?;
        // Frees the place if the opening is given up.
        let place = Place {
            client: self.clone(),
            number,
            queue: Arc::clone(&queue),
        };
        let greeting = serde_json::to_vec(&Greeting {
            address: local,
            window: WINDOW,
        })
        .unwrap_or_default();
        let request = self
            .message(subject)
            .payload(greeting)
            .encoding(Encoding::Json)
            .request();
        let answer = request.await?.into_result()?;
        let greeting = answer
            .json::<Greeting>()
            .map_err(|_error| SocketError::Violation("not an answer about a socket"))?;
        greeting.check()?;
        place.keep();
        Ok(Socket::start(self, subject, number, queue, &greeting))
    }
}

/// A place in the inbox that is given back when it is dropped.
struct Place {
    client: Client,
    number: u32,
    queue: Arc<Queue>,
}

impl Place {
    fn keep(self) {
        // The socket's task holds a place of its own for the same number.
        let mut this = self;
        this.number = 0;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.number != 0 {
            self.client
                .shared()
                .pending
                .lock()
                .forget_inbox(self.number);
            if self.queue.abandon() {
                self.client.shared().driver.wake();
            }
        }
    }
}

/// One end of a byte stream in both directions. Dropping it before it was finished resets the peer.
#[derive(Debug)]
pub struct Socket {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    subject: String,
    remote: String,
    state: Mutex<State>,
    /// Held from taking a number to handing its piece over, so that no piece overtakes another.
    sending: tokio::sync::Mutex<()>,
    /// Something can be received, or the end.
    readable: Notify,
    /// There is credit, or the end.
    writable: Notify,
    /// The handle is gone.
    dropped: Notify,
}

#[derive(Debug)]
struct State {
    flow: Flow,
    received: VecDeque<Bytes>,
    failed: Option<SocketError>,
    finished: bool,
}

impl Socket {
    fn start(
        client: &Client,
        subject: &str,
        number: u32,
        queue: Arc<Queue>,
        greeting: &Greeting,
    ) -> Self {
        let flow = Flow::new(WINDOW, greeting.window, Instant::now().into_std());
        let inner = Arc::new(Inner {
            client: client.clone(),
            subject: subject.to_owned(),
            remote: greeting.address.clone(),
            state: Mutex::new(State {
                flow,
                received: VecDeque::new(),
                failed: None,
                finished: false,
            }),
            sending: tokio::sync::Mutex::default(),
            readable: Notify::new(),
            writable: Notify::new(),
            dropped: Notify::new(),
        });
        let place = Place {
            client: client.clone(),
            number,
            queue,
        };
        drop(
            client
                .shared()
                .runtime
                .spawn(attend(Arc::clone(&inner), place)),
        );
        Self { inner }
    }

    /// The subject under which it was opened: of a listener with wildcards, which of its subjects was meant.
    pub fn subject(&self) -> &str {
        &self.inner.subject
    }

    /// Sends bytes, waiting until the peer has room for them.
    ///
    /// When several tasks send, each of them waits for its turn.
    ///
    /// # Errors
    /// When the stream has ended; how much of `bytes` arrived is then unknown.
    pub async fn send(&self, bytes: impl Into<Bytes>) -> Result<(), SocketError> {
        let mut bytes: Bytes = bytes.into();
        let _turn = self.inner.sending.lock().await;
        let piece_len_max = PIECE_LEN_MAX
            .min(self.inner.client.limits().fragment_len_max as usize / 2)
            .max(1);
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(piece_len_max));
            let number = self.inner.wait_for(&self.inner.writable, |state| {
                if state.finished {
                    return Some(Err(SocketError::Finished));
                }
                state.flow.take_credit(piece.len()).map(Ok)
            });
            let number = number.await?;
            self.inner.say(Kind::Data, number, &piece).await?;
        }
        Ok(())
    }

    /// The next bytes; `None` when the peer has finished.
    ///
    /// # Errors
    /// When the stream ended before the peer had finished.
    pub async fn recv(&self) -> Result<Option<Bytes>, SocketError> {
        let next = self.inner.wait_for(&self.inner.readable, |state| {
            let Some(bytes) = state.received.pop_front() else {
                return state.flow.has_peer_finished().then_some(Ok((None, None)));
            };
            let credit = state.flow.consumed(bytes.len());
            Some(Ok((Some(bytes), credit)))
        });
        let (bytes, credit) = next.await?;
        if let Some(credit) = credit {
            self.inner.say(Kind::Credit, credit, &[]).await?;
        }
        Ok(bytes)
    }

    /// Says that nothing more will be sent; what the peer sends can still be received.
    ///
    /// # Errors
    /// When the stream has ended.
    pub async fn finish(&self) -> Result<(), SocketError> {
        let _turn = self.inner.sending.lock().await;
        let number = {
            let mut state = self.inner.state.lock();
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if std::mem::replace(&mut state.finished, true) {
                return Ok(());
            }
            state.flow.pieces_sent()
        };
        self.inner.say(Kind::End, number, &[]).await
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.inner.dropped.notify_one();
    }
}

impl Inner {
    /// Waits until `ready` gives something; what was received before a failure still counts.
    async fn wait_for<T>(
        &self,
        changed: &Notify,
        mut ready: impl FnMut(&mut State) -> Option<Result<T, SocketError>>,
    ) -> Result<T, SocketError> {
        loop {
            let mut notified = std::pin::pin!(changed.notified());
            notified.as_mut().enable();
            {
                let mut state = self.state.lock();
                if let Some(result) = ready(&mut state) {
                    return result;
                }
                if let Some(error) = &state.failed {
                    return Err(error.clone());
                }
            }
            notified.await;
        }
    }

    async fn say(&self, kind: Kind, number: u64, bytes: &[u8]) -> Result<(), SocketError> {
        let packet = Packet {
            kind,
            number,
            bytes,
        }
        .encode();
        let draft = self
            .client
            .message(&self.remote)
            .encoding(flow::ENCODING)
            .payload(packet);
        Ok(draft.publish().await?)
    }

    fn fail(&self, error: SocketError) {
        self.state.lock().failed.get_or_insert(error);
        self.readable.notify_waiters();
        self.writable.notify_waiters();
    }

    /// Takes in what the peer said; the answer to it, if one is due.
    fn on_message(&self, message: &Message) -> Result<Option<(Kind, u64)>, SocketError> {
        let payload = message.payload();
        let packet = Packet::decode(payload).ok_or(SocketError::Violation("not a packet"))?;
        let mut state = self.state.lock();
        state.flow.heard(Instant::now().into_std());
        match packet.kind {
            Kind::Data => {
                state.flow.on_data(packet.number, packet.bytes.len())?;
                let bytes = payload.slice_ref(packet.bytes);
                state.received.push_back(bytes);
                drop(state);
                self.readable.notify_waiters();
            }
            Kind::Credit => {
                state.flow.on_credit(packet.number)?;
                drop(state);
                self.writable.notify_waiters();
            }
            Kind::End => {
                state.flow.on_end(packet.number)?;
                drop(state);
                self.readable.notify_waiters();
            }
            Kind::Ping => return Ok(Some((Kind::Pong, packet.number))),
            Kind::Pong => {}
            Kind::Reset => {
                return Err(SocketError::Reset(
                    String::from_utf8_lossy(packet.bytes).into_owned(),
                ));
            }
        }
        Ok(None)
    }
}

/// Listens to the peer until both ends are done, or one is gone.
async fn attend(inner: Arc<Inner>, place: Place) {
    let mut taken = VecDeque::new();
    loop {
        let deadline = inner.state.lock().flow.heard_at() + KEEPALIVE;
        let driver = &place.client.shared().driver;
        let step = tokio::select! {
            more = poll_fn(|cx| place.queue.poll_take(cx, &mut taken, || driver.wake())) => {
                if more { on_messages(&inner, &mut taken).await } else { Err(ended(&place.queue)) }
            }
            () = tokio::time::sleep_until(Instant::from_std(deadline).max(Instant::now() + KEEPALIVE / 3)) => {
                ask(&inner).await
            }
            () = inner.dropped.notified() => {
                leave(&inner).await;
                return;
            }
        };
        if let Err(error) = step {
            let text = error.to_string();
            let peer_knows = matches!(
                error,
                SocketError::Reset(_) | SocketError::Disconnected | SocketError::Publish(_)
            );
            inner.fail(error);
            if !peer_knows && inner.say(Kind::Reset, 0, text.as_bytes()).await.is_err() {
                tracing::debug!("the peer of a socket cannot be told about its end");
            }
            return;
        }
    }
}

async fn on_messages(inner: &Inner, taken: &mut VecDeque<Message>) -> Result<(), SocketError> {
    for message in taken.drain(..) {
        if let Some((kind, number)) = inner.on_message(&message)? {
            inner.say(kind, number, &[]).await?;
        }
    }
    Ok(())
}

async fn ask(inner: &Inner) -> Result<(), SocketError> {
    let silence = Instant::now()
        .into_std()
        .saturating_duration_since(inner.state.lock().flow.heard_at());
    if silence >= SILENCE_MAX {
        return Err(SocketError::Gone);
    }
    inner.say(Kind::Ping, 0, &[]).await
}

/// The handle was dropped: unless both directions have come to their end, the peer must not wait for more.
async fn leave(inner: &Inner) {
    let is_over = {
        let state = inner.state.lock();
        state.failed.is_some() || state.finished && state.flow.has_peer_finished()
    };
    if !is_over
        && inner
            .say(Kind::Reset, 0, b"the socket was dropped")
            .await
            .is_err()
    {
        tracing::debug!("the peer of a socket cannot be told about its end");
    }
}

fn ended(queue: &Queue) -> SocketError {
    match queue.ending() {
        Some(Ending::Closed(reason)) => PublishError::Closed(reason).into(),
        Some(
            Ending::Disconnected
            | Ending::Cut(_)
            | Ending::Withdrawn(_)
            | Ending::Caller
            | Ending::Refused(_),
        )
        | None => SocketError::Disconnected,
    }
}
