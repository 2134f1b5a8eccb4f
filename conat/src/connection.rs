//! The task of one Socket.IO client: between its WebSocket and a connection in memory to the broker.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use dialtone_protocol::codec;
use dialtone_transport::{Connection, Info, Lane, Reader, Writer, memory};
use futures_util::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use crate::broker::Broker;
use crate::config::Config;
use crate::registry::{Member, Seat};
use crate::session::{Broken, Out, Session};

/// What is read from a client at once, in bytes: some small messages; a connection that is idle holds no more.
const READ_LEN: usize = 8 << 10;
/// What is gathered before it is written, in bytes.
const WRITE_LEN: usize = 32 << 10;
/// What is read from the broker at once, in bytes.
const FRAMES_LEN: usize = 64 << 10;
/// Messages of a client that are taken in one turn, so that its neighbours have theirs.
const MESSAGES_PER_TURN: usize = 64;
/// Rounds of a turn.
const ROUNDS: usize = 8;
/// The longest frame that the broker may send, in bytes; far more than its limits allow.
const FRAME_LEN_MAX: u32 = 64 << 20;
/// How long a client may take to read the last words.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// The largest buffer that a thread keeps, in bytes.
const SCRATCH_LEN_MAX: usize = 256 << 10;

thread_local! {
    /// What the connections of a thread read frames into, one at a time.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Takes the whole frames of a buffer; returns how many bytes they have.
fn take_frames(session: &mut Session, buffer: &[u8]) -> Result<usize, Broken> {
    let now = now();
    let mut taken = 0;
    loop {
        let rest = buffer.get(taken..).unwrap_or_default();
        let split = codec::split_frame(rest, FRAME_LEN_MAX)
            .map_err(|error| Broken::Broker(error.to_string()))?;
        let Some((body, len)) = split else {
            return Ok(taken);
        };
        session.on_frame(body, now)?;
        taken += len;
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// What a connection is made of.
pub(crate) struct Parts<S> {
    pub(crate) stream: S,
    pub(crate) info: Info,
    pub(crate) session: Session,
    pub(crate) seat: Seat,
    pub(crate) broker: Arc<dyn Broker>,
}

/// How a WebSocket is read and written.
pub(crate) fn websocket_config(config: &Config) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_LEN)
        .write_buffer_size(WRITE_LEN)
        .max_message_size(Some(config.max_payload))
        .max_frame_size(Some(config.max_payload))
}

/// Serves a client until it or the broker leaves.
pub(crate) async fn serve<S>(parts: Parts<WebSocketStream<S>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let deadline = parts.session.next_deadline();
    let mut task = Task {
        socket: parts.stream,
        unflushed: false,
        blocked: false,
        info: Some(parts.info),
        session: parts.session,
        member: Arc::clone(parts.seat.member()),
        broker: parts.broker,
        peer: None,
        timer: Box::pin(tokio::time::sleep_until(deadline.into())),
        timer_at: deadline,
    };
    let ended = poll_fn(|cx| task.poll(cx)).await;
    match &ended {
        End::Over => {}
        End::Left => tracing::debug!(id = task.member.id(), "the client left"),
        End::Broken(broken) => tracing::debug!(id = task.member.id(), %broken, "closed"),
        End::Failed(error) => tracing::debug!(id = task.member.id(), %error, "closed"),
    }
    // The broker hears at once that nobody is there any more.
    task.peer = None;
    drop(parts.seat);
    let goodbye = poll_fn(|cx| task.poll_goodbye(cx));
    // Whoever does not read the last words does without.
    drop(tokio::time::timeout(GOODBYE_MAX, goodbye).await);
}

/// Why a connection ended.
enum End {
    /// As both sides want it.
    Over,
    /// The client went away.
    Left,
    Broken(Broken),
    Failed(WsError),
}

impl From<Broken> for End {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

struct Task<S> {
    socket: WebSocketStream<S>,
    /// Something waits in the socket's buffer.
    unflushed: bool,
    /// The client takes nothing at the moment.
    blocked: bool,
    /// Until the broker is told of the client.
    info: Option<Info>,
    session: Session,
    member: Arc<Member>,
    broker: Arc<dyn Broker>,
    peer: Option<Peer>,
    timer: Pin<Box<Sleep>>,
    timer_at: Instant,
}

/// This end of the connection to the broker.
struct Peer {
    reader: Reader,
    writer: Writer,
    received: Vec<u8>,
    gone: bool,
}

impl<S> Task<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// One turn: whatever can be done without waiting, in rounds.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        match self.turn(cx) {
            Ok(true) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Ok(false) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    /// Whether there is more to do at once.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.member.poll_kicked(cx) {
            self.session.kick();
        }
        for _ in 0..ROUNDS {
            self.poll_timer(cx)?;
            let (client, broker) = self.gates();
            let mut progress = self.poll_broker(cx)?;
            progress |= self.poll_client(cx)?;
            self.connect();
            self.send_frames(cx);
            self.write(cx)?;
            if self.session.is_over() && self.session.output().is_empty() && !self.unflushed {
                return Err(End::Over);
            }
            // What was not read because there was no room for it may be read now, and nothing wakes for that.
            let (client_now, broker_now) = self.gates();
            progress |= (client_now && !client) || (broker_now && !broker);
            if !progress {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn gates(&self) -> (bool, bool) {
        (
            self.session.may_read_client(),
            self.session.may_read_broker(),
        )
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        loop {
            let due = self.session.next_deadline();
            if due != self.timer_at {
                self.timer.as_mut().reset(due.into());
                self.timer_at = due;
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.session.on_timeout(now())?;
            if self.session.next_deadline() <= due {
                return Ok(());
            }
        }
    }

    /// Reads what the broker says, as far as the client takes it.
    fn poll_broker(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let Some(peer) = &mut self.peer else {
            return Ok(false);
        };
        if peer.gone || !self.session.may_read_broker() {
            return Ok(false);
        }
        let mut buffer = SCRATCH.take();
        buffer.clear();
        buffer.append(&mut peer.received);
        buffer.reserve(FRAMES_LEN.max(codec::missing(&buffer)));
        let read = peer.reader.poll_recv(cx, Lane::Interactive, &mut buffer);
        let outcome = match read {
            Poll::Pending => Ok((0, false)),
            Poll::Ready(Ok(1..)) => {
                take_frames(&mut self.session, &buffer).map(|taken| (taken, true))
            }
            Poll::Ready(Ok(0) | Err(_)) => {
                peer.gone = true;
                self.session.on_broker_gone();
                Ok((0, true))
            }
        };
        let (taken, progress) = outcome?;
        peer.received
            .extend_from_slice(buffer.get(taken..).unwrap_or_default());
        if buffer.capacity() <= SCRATCH_LEN_MAX {
            SCRATCH.set(buffer);
        }
        Ok(progress)
    }

    /// Reads what the client says, as long as it may say something.
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut progress = false;
        let mut now_read = None;
        for _ in 0..MESSAGES_PER_TURN {
            if !self.session.may_read_client() || self.session.is_over() {
                break;
            }
            let Poll::Ready(message) = Pin::new(&mut self.socket).poll_next(cx) else {
                break;
            };
            progress = true;
            let now = *now_read.get_or_insert_with(now);
            match message {
                Some(Ok(Message::Text(text))) => self.session.on_text(&text, now)?,
                Some(Ok(Message::Binary(bytes))) => self.session.on_binary(bytes, now)?,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Err(End::Left),
                Some(Err(error)) => return Err(End::Failed(error)),
            }
        }
        if let Some(now) = now_read {
            self.session.heard(now);
        }
        Ok(progress)
    }

    /// Tells the broker of the client when the client wants to talk.
    fn connect(&mut self) {
        if !self.session.wants_broker() {
            return;
        }
        let Some(info) = self.info.take() else {
            return;
        };
        let (ours, mut theirs) = memory::pair(memory::CAPACITY);
        theirs.info = info;
        self.broker.serve(theirs);
        let Connection { reader, writer, .. } = ours;
        self.peer = Some(Peer {
            reader,
            writer,
            received: Vec::new(),
            gone: false,
        });
    }

    fn send_frames(&mut self, cx: &mut Context<'_>) {
        let Some(peer) = &mut self.peer else {
            return;
        };
        let frames = self.session.frames();
        if frames.is_empty() {
            return;
        }
        let sent = peer.writer.poll_send(cx, Lane::Interactive, frames);
        if matches!(sent, Poll::Ready(Err(_))) {
            // The reading side learns why.
            frames.clear();
        }
    }

    /// Writes what waits for the client.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        loop {
            if self.session.output().is_empty() {
                break;
            }
            match Pin::new(&mut self.socket).poll_ready(cx) {
                Poll::Pending => {
                    self.blocked = true;
                    return Ok(());
                }
                Poll::Ready(Err(error)) => return Err(End::Failed(error)),
                Poll::Ready(Ok(())) => self.unblock(),
            }
            let Some(out) = self.session.output().pop() else {
                break;
            };
            let message = match out {
                Out::Text(text) => Message::Text(text.into()),
                Out::Binary(bytes) => Message::Binary(bytes),
            };
            Pin::new(&mut self.socket)
                .start_send(message)
                .map_err(End::Failed)?;
            self.unflushed = true;
        }
        if !self.unflushed {
            return Ok(());
        }
        match Pin::new(&mut self.socket).poll_flush(cx) {
            Poll::Pending => {
                self.blocked = true;
                Ok(())
            }
            Poll::Ready(Err(error)) => Err(End::Failed(error)),
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                self.unblock();
                Ok(())
            }
        }
    }

    /// A client that takes again what had to wait for it is there, even if it is not read from.
    fn unblock(&mut self) {
        if std::mem::take(&mut self.blocked) {
            self.session.heard(now());
        }
    }

    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        ready!(Pin::new(&mut self.socket).poll_close(cx))?;
        Poll::Ready(Ok(()))
    }
}
