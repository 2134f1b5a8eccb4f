//! The task of one Socket.IO client: between its WebSocket and a connection in memory to the broker.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use dialtone_protocol::codec;
use dialtone_transport::{Connection, Info, Lane, Reader, SLICES_MAX, Writer, memory};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::broker::Broker;
use crate::registry::{Member, Seat};
use crate::session::{Broken, Session};
use crate::websocket::{Deframer, Piece, WebSocketError};

/// What is read from a client at once, in bytes.
const READ_LEN: usize = 64 << 10;
/// What is read from the broker at once, in bytes.
const FRAMES_LEN: usize = 64 << 10;
/// Reads of a client in one turn, so that its neighbours have theirs.
const READS_PER_TURN: usize = 4;
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
    /// What they read from their clients into; all of it is initialised.
    static FROM_CLIENTS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
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
    /// Longest WebSocket message that is read, in bytes.
    pub(crate) payload_max: usize,
    pub(crate) info: Info,
    pub(crate) session: Session,
    pub(crate) seat: Seat,
    pub(crate) broker: Arc<dyn Broker>,
}

/// Serves a client until it or the broker leaves.
pub(crate) async fn serve<S>(parts: Parts<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let deadline = parts.session.next_deadline();
    let mut task = Task {
        deframer: Deframer::new(parts.payload_max),
        socket: parts.stream,
        inbound: Vec::new(),
        inbound_waits: false,
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
        End::WebSocket(error) => tracing::debug!(id = task.member.id(), %error, "closed"),
        End::Failed(error) => tracing::debug!(id = task.member.id(), %error, "closed"),
    }
    // The broker hears at once that nobody is there any more.
    task.peer = None;
    drop(parts.seat);
    task.session.output().close(ended.close_code());
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
    WebSocket(WebSocketError),
    Failed(io::Error),
}

impl End {
    /// What the WebSocket ends with (RFC 6455 §7.4.1).
    fn close_code(&self) -> u16 {
        match self {
            Self::Over | Self::Left | Self::Failed(_) => 1000,
            Self::Broken(_) => 1008,
            Self::WebSocket(error) => error.close_code(),
        }
    }
}

impl From<Broken> for End {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

struct Task<S> {
    socket: S,
    deframer: Deframer,
    /// What was read from the client and not taken.
    inbound: Vec<u8>,
    /// All that waits there is the beginning of something, of which more must be read.
    inbound_waits: bool,
    /// Something was written that is not flushed.
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
        for _ in 0..READS_PER_TURN {
            if !self.session.may_read_client() || self.session.is_over() {
                break;
            }
            if self.inbound.is_empty() || self.inbound_waits {
                match self.read(cx)? {
                    Poll::Ready(()) => progress = true,
                    Poll::Pending => break,
                }
            } else {
                let mut inbound = std::mem::take(&mut self.inbound);
                let taken = self.take(&mut inbound)?;
                inbound.drain(..taken);
                self.inbound = inbound;
                progress = true;
            }
        }
        Ok(progress)
    }

    /// Reads once, and takes what it can of that.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, End> {
        let mut scratch = FROM_CLIENTS.take();
        let waiting = self.inbound.len();
        if scratch.len() < waiting + READ_LEN {
            scratch.resize(waiting + READ_LEN, 0);
        }
        let mut buffer = ReadBuf::new(scratch.get_mut(waiting..).unwrap_or_default());
        let read = Pin::new(&mut self.socket).poll_read(cx, &mut buffer);
        let read_len = buffer.filled().len();
        let outcome = match read {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Err(error)) => Err(End::Failed(error)),
            Poll::Ready(Ok(())) if read_len == 0 => Err(End::Left),
            Poll::Ready(Ok(())) => {
                let (begin, _) = scratch.split_at_mut(waiting);
                begin.copy_from_slice(&self.inbound);
                self.inbound.clear();
                let bytes = scratch.get_mut(..waiting + read_len).unwrap_or_default();
                self.take(bytes).map(|taken| {
                    self.inbound
                        .extend_from_slice(bytes.get(taken..).unwrap_or_default());
                    Poll::Ready(())
                })
            }
        };
        if scratch.len() <= SCRATCH_LEN_MAX {
            FROM_CLIENTS.set(scratch);
        }
        if self.inbound.is_empty() {
            self.inbound = Vec::new();
        }
        outcome
    }

    /// Takes what a client says, as long as it may say something; returns how many bytes that was.
    fn take(&mut self, bytes: &mut [u8]) -> Result<usize, End> {
        let now = now();
        let mut at = 0;
        self.inbound_waits = false;
        while self.session.may_read_client() && !self.session.is_over() {
            match self.deframer.next(bytes, &mut at).map_err(End::WebSocket)? {
                None => {
                    self.inbound_waits = true;
                    break;
                }
                Some(Piece::Text(text)) => self.session.on_text(&text, now)?,
                Some(Piece::Binary(bytes)) => self.session.on_binary(bytes, now)?,
                Some(Piece::Ping(payload)) => self.session.output().pong(payload),
                Some(Piece::Close) => return Err(End::Left),
            }
        }
        self.session.heard(now);
        Ok(at)
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
        let waited = self.session.output().len();
        let written = self.poll_write(cx).map_err(End::Failed)?;
        // Whoever takes a part is there as well; with a backlog its answers to pings are not read.
        if written.is_ready() || self.session.output().len() < waited {
            self.unblock();
        }
        self.blocked |= written.is_pending();
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        let output = self.session.output();
        let mut taken = false;
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let batch = output.batch();
            let count = batch.fill(&mut slices, usize::MAX);
            let slices = slices.get(..count).unwrap_or_default();
            match Pin::new(&mut self.socket).poll_write_vectored(cx, slices)? {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => batch.advance(written),
            }
            taken = true;
        }
        self.unflushed |= taken;
        if self.unflushed {
            output.release();
            if Pin::new(&mut self.socket).poll_flush(cx)?.is_pending() {
                return Ok(Poll::Pending);
            }
            self.unflushed = false;
        }
        Ok(Poll::Ready(()))
    }

    /// A client that takes again what had to wait for it is there, even if it is not read from.
    fn unblock(&mut self) {
        if std::mem::take(&mut self.blocked) {
            self.session.heard(now());
        }
    }

    /// Writes what is due, tells the client that nothing follows, and waits until it leaves as well, since what it has
    /// not read would be lost otherwise.
    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx)?);
        ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
        let mut ignored = [0; 1_024];
        loop {
            let mut buffer = ReadBuf::new(&mut ignored);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
