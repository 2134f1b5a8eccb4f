//! One connection of the load generator: a link, its framing, and the first exchange of words.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dialtone_protocol::codec::LEN_FIELD;
use dialtone_protocol::frame::handshake::MAGIC;
use dialtone_protocol::frame::{Credentials, Hello, Pong};
use dialtone_protocol::{Frame, Limits, VERSION, VERSION_MIN};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::LoadError;
use crate::link::{ANSWER_MAX, Lane, Link};
use crate::target::Target;
use crate::wire::socketio::Said;
use crate::wire::split::Kind;
use crate::wire::websocket::{self, Deframer, Piece};
use crate::wire::{FENCE, Format, Splitter, socketio};

/// The receive buffer that a thread lends to its connections, in bytes.
pub(crate) const SCRATCH_LEN: usize = 256 << 10;

/// Numbers the connections of this process, so that each has an inbox of its own.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// A connection that has been welcomed.
#[derive(Debug)]
pub(crate) struct Conn {
    link: Link,
    format: Format,
    websocket: Option<Deframer>,
    /// For the interactive and the bulk lane.
    splitters: [Splitter; 2],
    /// What must be sent before anything else, already framed; never holds more than answers and
    /// what the scenario has in flight.
    pending: Vec<u8>,
    /// How much of the caller's buffer was taken, for each stream of bytes that there is; other
    /// bytes must not come in between.
    taken: [usize; 2],
    welcomed: bool,
    fenced: bool,
    inbox: String,
    limits: Limits,
}

impl Conn {
    /// Connects, and returns once the server has accepted.
    pub(crate) fn open(target: &Target, scratch: &mut [u8]) -> Result<Self, LoadError> {
        let mut greeting = Vec::new();
        let link = Link::connect(target, &mut greeting)?;
        let format = target.scheme.format();
        let mut conn = Self {
            link,
            format,
            websocket: None,
            splitters: [Splitter::new(format), Splitter::new(format)],
            pending: Vec::new(),
            taken: [0; 2],
            welcomed: false,
            fenced: false,
            inbox: String::new(),
            limits: Limits::default(),
        };
        conn.wait("the transport's handshake", scratch, |conn| {
            conn.link.is_up()
        })?;
        if target.scheme.is_websocket() {
            conn.upgrade(target, scratch)?;
        }
        match format {
            Format::Nats => conn.greet_nats(target, scratch)?,
            Format::Dialtone => conn.greet_dialtone(scratch)?,
            Format::SocketIo => conn.greet_socketio(target, scratch)?,
        }
        Ok(conn)
    }

    fn greet_nats(&mut self, target: &Target, scratch: &mut [u8]) -> Result<(), LoadError> {
        let tls = target.tls.is_some();
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"tls_required\":{tls},\"name\":\"load\",\
             \"lang\":\"rust\",\"version\":\"1\",\"protocol\":1}}\r\n"
        );
        self.post(hello.as_bytes())?;
        // Only the answer to a ping tells that the connection was accepted.
        self.fence(scratch)?;
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        self.inbox = format!("_INBOX.load{}x{number}", std::process::id());
        Ok(())
    }

    fn greet_dialtone(&mut self, scratch: &mut [u8]) -> Result<(), LoadError> {
        let hello = Hello {
            magic: MAGIC,
            version_min: VERSION_MIN,
            version_max: VERSION,
            client: concat!("dialtone-load ", env!("CARGO_PKG_VERSION")).to_owned(),
            credentials: Credentials::None,
        };
        self.post(&Frame::Hello(hello).to_vec())?;
        self.wait("the welcome", scratch, |conn| conn.welcomed)
    }

    /// Waits until the server has said who this client is; the packets on the way there are answered in
    /// [`on_socketio_frame`](Self::on_socketio_frame).
    fn greet_socketio(&mut self, target: &Target, scratch: &mut [u8]) -> Result<(), LoadError> {
        let request = socketio::upgrade_request(&target.address.to_string());
        let early = self.exchange_upgrade(&request, scratch)?;
        let mut controls = Vec::new();
        let [first, _] = &mut self.splitters;
        first.feed(&early, &mut |_, frame| controls.push(frame.to_vec()))?;
        for frame in controls {
            self.on_socketio_frame(&frame)?;
        }
        self.wait("the welcome", scratch, |conn| conn.welcomed)?;
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        self.inbox = format!("_INBOX.load{}x{number}", std::process::id());
        Ok(())
    }

    fn upgrade(&mut self, target: &Target, scratch: &mut [u8]) -> Result<(), LoadError> {
        let request = websocket::upgrade_request(&target.address.to_string());
        let early = self.exchange_upgrade(&request, scratch)?;
        let mut deframer = Deframer::default();
        deframer.feed(&early, &mut |piece| match piece {
            Piece::Ping(payload) => {
                websocket::pong(&mut self.pending, payload);
                Ok(())
            }
            Piece::Data(_) => Err(LoadError::Peer(
                "the server spoke before the hello".to_owned(),
            )),
            Piece::Close(why) => Err(LoadError::Peer(format!("closed: {why}"))),
        })?;
        self.websocket = Some(deframer);
        Ok(())
    }

    /// Asks for a WebSocket; returns what came behind the answer.
    fn exchange_upgrade(
        &mut self,
        request: &str,
        scratch: &mut [u8],
    ) -> Result<Vec<u8>, LoadError> {
        self.pending.extend_from_slice(request.as_bytes());
        self.flush()?;
        let end = Instant::now() + ANSWER_MAX;
        let mut answer = Vec::new();
        let len = loop {
            if let Some(len) = websocket::upgrade_response_len(&answer)? {
                break len;
            }
            self.poll(end, "the upgrade to WebSocket")?;
            self.link.read(scratch, &mut |_, bytes| {
                answer.extend_from_slice(bytes);
                Ok(())
            })?;
        };
        Ok(answer.split_off(len))
    }

    /// How frames look here.
    pub(crate) const fn format(&self) -> Format {
        self.format
    }

    /// Subjects under this one lead here.
    pub(crate) fn inbox(&self) -> &str {
        &self.inbox
    }

    /// What the server granted.
    pub(crate) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Sends frames, or keeps what the socket has no room for until [`flush`](Self::flush).
    pub(crate) fn post(&mut self, frames: &[u8]) -> Result<(), LoadError> {
        if self.websocket.is_some() {
            websocket::wrap(&mut self.pending, frames);
        } else {
            self.pending.extend_from_slice(frames);
        }
        self.flush()
    }

    /// Sends what is kept.
    pub(crate) fn flush(&mut self) -> Result<(), LoadError> {
        self.link.flush().map_err(LoadError::io("send"))?;
        while self.may_flush() {
            let sent = self
                .link
                .write(Lane::Interactive, &self.pending)
                .map_err(LoadError::io("send"))?;
            if sent == 0 {
                break;
            }
            self.pending.drain(..sent);
        }
        Ok(())
    }

    /// Whether something is kept that may go next on the interactive lane.
    const fn may_flush(&self) -> bool {
        let [interactive, _] = self.taken;
        interactive == 0 && !self.pending.is_empty()
    }

    /// Whether to wait until the socket has room. A UDP socket nearly always has: there, what waits
    /// for the peer's consent goes on when something is received.
    pub(crate) fn wants_room(&self) -> bool {
        let waits = self.taken.iter().any(|&taken| taken > 0) || !self.pending.is_empty();
        self.link.wants_write() || (waits && !self.link.is_quic())
    }

    /// Frames as [`send`](Self::send) takes them.
    pub(crate) fn chunk(&self, frames: Vec<u8>) -> Vec<u8> {
        if self.websocket.is_none() {
            return frames;
        }
        let mut wrapped = Vec::with_capacity(frames.len() + 14);
        websocket::wrap(&mut wrapped, &frames);
        wrapped
    }

    /// Goes on sending `chunk`, which must be the same until `true` says that all of it was taken.
    pub(crate) fn send(&mut self, lane: Lane, chunk: &[u8]) -> Result<bool, LoadError> {
        // Only QUIC has a second stream; elsewhere both lanes are one.
        let stream = usize::from(lane == Lane::Bulk && self.link.is_quic());
        let mut taken = self.taken.get(stream).copied().unwrap_or(0);
        if taken == 0 {
            self.flush()?;
            if stream == 0 && !self.pending.is_empty() {
                return Ok(false);
            }
        }
        while let Some(rest) = chunk.get(taken..)
            && !rest.is_empty()
        {
            let sent = self.link.write(lane, rest).map_err(LoadError::io("send"))?;
            if sent == 0 {
                break;
            }
            taken += sent;
        }
        let done = taken == chunk.len();
        if let Some(slot) = self.taken.get_mut(stream) {
            *slot = if done { 0 } else { taken };
        }
        Ok(done)
    }

    /// Reads once what is there; `on` is called with each delivery, whole.
    pub(crate) fn recv(
        &mut self,
        scratch: &mut [u8],
        mut on: impl FnMut(&[u8]),
    ) -> Result<(), LoadError> {
        let mut heard = Heard::default();
        let (websocket, splitters) = (&mut self.websocket, &mut self.splitters);
        let mut cut = |lane: Lane, bytes: &[u8]| {
            let splitter = match (lane, &mut *splitters) {
                (Lane::Interactive, [first, _]) => first,
                (Lane::Bulk, [_, second]) => second,
            };
            splitter.feed(bytes, &mut |kind, frame| match kind {
                Kind::Delivery => on(frame),
                Kind::Control => heard.controls.push(frame.to_vec()),
            })
        };
        let read = match websocket {
            None => self.link.read(scratch, &mut cut),
            Some(deframer) => self.link.read(scratch, &mut |lane, bytes| {
                deframer.feed(bytes, &mut |piece| match piece {
                    Piece::Data(bytes) => cut(lane, bytes),
                    Piece::Ping(payload) => {
                        websocket::pong(&mut self.pending, payload);
                        Ok(())
                    }
                    Piece::Close(why) => Err(LoadError::Peer(format!("closed: {why}"))),
                })
            }),
        };
        // What was said last explains why the stream ended, so it is heard first.
        for frame in heard.controls {
            self.on_control(&frame)?;
        }
        read?;
        if self.may_flush() || self.link.wants_write() {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn on_control(&mut self, frame: &[u8]) -> Result<(), LoadError> {
        match self.format {
            Format::Nats => self.on_nats_line(frame),
            Format::Dialtone => self.on_dialtone_frame(frame),
            Format::SocketIo => self.on_socketio_frame(frame),
        }
    }

    fn on_socketio_frame(&mut self, frame: &[u8]) -> Result<(), LoadError> {
        let mut answer = Vec::new();
        match socketio::said(frame) {
            Said::Opened => socketio::put_text(&mut answer, "40"),
            Said::Info(number) => {
                socketio::put_text(&mut answer, &format!("43{number}[]"));
                self.welcomed = true;
            }
            Said::Fenced => self.fenced = true,
            Said::Ping => socketio::put_text(&mut answer, "3"),
            Said::WebSocketPing(payload) => websocket::pong(&mut answer, payload),
            Said::Over(why) => return Err(LoadError::Peer(why)),
            Said::Else => {}
        }
        if answer.is_empty() {
            return Ok(());
        }
        self.post(&answer)
    }

    fn on_nats_line(&mut self, line: &[u8]) -> Result<(), LoadError> {
        match line {
            b"PING\r\n" => self.post(b"PONG\r\n"),
            b"PONG\r\n" => {
                self.fenced = true;
                Ok(())
            }
            _ if line.starts_with(b"-ERR") => Err(LoadError::Peer(
                String::from_utf8_lossy(line).trim().to_owned(),
            )),
            _ => Ok(()),
        }
    }

    fn on_dialtone_frame(&mut self, frame: &[u8]) -> Result<(), LoadError> {
        let body = frame.get(LEN_FIELD..).unwrap_or_default();
        let refused = |what: &dyn std::fmt::Debug| Err(LoadError::Peer(format!("{what:?}")));
        match Frame::decode(body).map_err(|error| LoadError::Peer(error.to_string()))? {
            Frame::Welcome(welcome) => {
                self.inbox = welcome.inbox;
                self.limits = welcome.limits;
                self.welcomed = true;
                Ok(())
            }
            Frame::Ping(ping) => self.post(&Frame::Pong(Pong { token: ping.token }).to_vec()),
            Frame::Pong(pong) => {
                self.fenced |= pong.token == FENCE;
                Ok(())
            }
            Frame::Subscribed(subscribed) if !subscribed.refused.is_empty() => refused(&subscribed),
            Frame::Close(close) => refused(&close),
            Frame::Denied(denied) => refused(&denied),
            Frame::Ended(ended) => refused(&ended),
            Frame::Hello(_)
            | Frame::Subscribe(_)
            | Frame::Subscribed(_)
            | Frame::Unsubscribe(_)
            | Frame::Unsubscribed(_)
            | Frame::Publish(_)
            | Frame::Published(_)
            | Frame::Deliver(_)
            | Frame::Interest(_)
            | Frame::Interested(_)
            | Frame::List(_)
            | Frame::Listed(_)
            | Frame::Dropped(_)
            | Frame::Drain(_)
            | Frame::Addresses(_)
            | Frame::Cancel(_)
            | Frame::Link(_) => Ok(()),
        }
    }

    /// Returns once the server has handled everything that was sent before. Deliveries that arrive
    /// meanwhile are dropped.
    pub(crate) fn fence(&mut self, scratch: &mut [u8]) -> Result<(), LoadError> {
        self.fenced = false;
        let mut ping = Vec::new();
        self.format.fence(&mut ping);
        self.post(&ping)?;
        self.wait("a pong", scratch, |conn| conn.fenced)
    }

    /// Reads and writes until `done`.
    fn wait(
        &mut self,
        what: &'static str,
        scratch: &mut [u8],
        done: impl Fn(&Self) -> bool,
    ) -> Result<(), LoadError> {
        let end = Instant::now() + ANSWER_MAX;
        while !done(self) {
            self.poll(end, what)?;
            self.recv(scratch, |_| {})?;
            self.flush()?;
        }
        Ok(())
    }

    /// Waits for the socket, or for a timer of the transport.
    fn poll(&mut self, end: Instant, what: &'static str) -> Result<(), LoadError> {
        let now = Instant::now();
        if now >= end {
            return Err(LoadError::Timeout {
                what,
                secs: ANSWER_MAX.as_secs(),
            });
        }
        let due = self.link.deadline().filter(|&due| due < end);
        let mut flags = PollFlags::IN;
        if self.wants_room() {
            flags |= PollFlags::OUT;
        }
        let timeout = timespec(due.unwrap_or(end).saturating_duration_since(now));
        poll(&mut [PollFd::new(&self.link, flags)], Some(&timeout))?;
        self.on_deadline()
    }

    /// When [`on_deadline`](Self::on_deadline) must be called at the latest.
    pub(crate) fn deadline(&mut self) -> Option<Instant> {
        self.link.deadline()
    }

    /// Does what the transport has due.
    pub(crate) fn on_deadline(&mut self) -> Result<(), LoadError> {
        if self
            .link
            .deadline()
            .is_some_and(|due| due <= Instant::now())
        {
            self.link.on_deadline().map_err(LoadError::io("send"))?;
        }
        Ok(())
    }

    /// Says goodbye and closes.
    pub(crate) fn close(mut self) {
        // The peer may have closed first, which is as good.
        let _closed = self.link.close();
    }
}

impl AsFd for Conn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

/// Control frames of one read. They are few, so they are copied out of the way of deliveries.
#[derive(Default)]
struct Heard {
    controls: Vec<Vec<u8>>,
}

/// A duration as system calls take it.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
