//! One connection: its two ends, what was read and not understood yet, and what is being written.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use dialtone_protocol::codec::missing;
use dialtone_protocol::frame::{Close, Frame};
use dialtone_protocol::limits::{HEADERS_LEN_MAX, HELLO_LEN_MAX, TEXT_LEN_MAX};
use dialtone_protocol::{Code, Limits};
use dialtone_transport::{Batch, Endpoint, Error, Lane, Reader, Writer};
use tokio::time::Instant;

use super::Opened;
use crate::error::ConnectError;
use crate::shared::Shared;

/// Room that is offered to each read, in bytes.
const READ_LEN: usize = 64 << 10;

/// A read buffer that has grown beyond this is given back when it is empty.
const READ_KEEP_MAX: usize = 1 << 20;

/// Most bytes that are handed to the transport as one batch, so that each batch is one WebSocket message.
const BATCH_LEN_MAX: usize = 1 << 20;

/// Most batches that are written before other work has its turn.
const BATCHES_MAX: usize = 32;

/// What a frame may have beyond its payload: subjects and headers.
const FRAME_EXTRA: usize = HEADERS_LEN_MAX + (32 << 10);

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    endpoint: Endpoint,
    reader: Reader,
    writer: Writer,
    has_bulk: bool,
    has_datagrams: bool,
    since: Instant,
    frame_len_max: u32,
    fragment_len_max: usize,
    out: Batch,
    out_bulk: Batch,
    /// A transport that could not write everything may hold bytes of its own after the batch is empty: it is asked again
    /// until it is ready.
    interactive_blocked: bool,
    bulk_blocked: bool,
    pub(super) interactive: Vec<u8>,
    pub(super) bulk: Vec<u8>,
}

impl Link {
    pub(super) fn new(opened: Opened, limits: &Limits, now: Instant) -> Self {
        let endpoint = opened.endpoint().clone();
        let (reader, writer) = (opened.connection.reader, opened.connection.writer);
        // What the broker accepts in one frame is what it sends, plus the longer head of a delivery.
        let frame_len_max = limits
            .frame_len_max
            .max(HELLO_LEN_MAX)
            .saturating_add(1_024);
        Self {
            has_bulk: reader.has_lane(Lane::Bulk),
            has_datagrams: reader.has_datagrams(),
            fragment_len_max: limits.fragment_len_max as usize,
            endpoint,
            reader,
            writer,
            since: now,
            frame_len_max,
            out: Batch::new(),
            out_bulk: Batch::new(),
            interactive_blocked: false,
            bulk_blocked: false,
            interactive: opened.rest,
            bulk: Vec::new(),
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    pub(super) fn frame_len_max(&self) -> u32 {
        self.frame_len_max
    }

    pub(super) fn has_bulk(&self) -> bool {
        self.has_bulk
    }

    pub(super) fn datagram_len_max(&self) -> Option<usize> {
        if self.has_datagrams {
            self.writer.datagram_len_max()
        } else {
            None
        }
    }

    /// Whether everything that was taken from the queue was written.
    pub(super) fn is_idle(&self) -> bool {
        self.is_written() && self.out_bulk.is_empty() && !self.bulk_blocked
    }

    /// Whether everything on the interactive lane was written.
    fn is_written(&self) -> bool {
        self.out.is_empty() && !self.interactive_blocked
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only a close that says why is the broker's word"
    )]
    pub(super) fn failed(&self, source: Error) -> ConnectError {
        let endpoint = self.endpoint.clone();
        match source {
            // The last frame of a connection that is cut off may be lost; its code travels beside it.
            Error::Closed { code, reason } if code != Code::Normal.number() => {
                ConnectError::Refused {
                    endpoint,
                    code: Code::from_number(code),
                    text: reason,
                }
            }
            source => ConnectError::Transport { endpoint, source },
        }
    }

    /// Reads once from a lane; whether anything came.
    pub(super) fn poll_lane(
        &mut self,
        cx: &mut Context<'_>,
        lane: Lane,
    ) -> Poll<Result<(), ConnectError>> {
        let buf = match lane {
            // Clients have no control lane.
            Lane::Interactive | Lane::Control => &mut self.interactive,
            Lane::Bulk => &mut self.bulk,
        };
        if buf.is_empty() && buf.capacity() > READ_KEEP_MAX {
            *buf = Vec::new();
        }
        buf.reserve(missing(buf).max(READ_LEN));
        match self.reader.poll_recv(cx, lane, buf) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => Poll::Ready(Err(ConnectError::Ended {
                endpoint: self.endpoint.clone(),
            })),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(source)) => Poll::Ready(Err(self.failed(source))),
        }
    }

    /// The next datagram.
    pub(super) fn poll_datagram(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Bytes, ConnectError>> {
        if !self.has_datagrams {
            return Poll::Pending;
        }
        self.reader
            .poll_datagram(cx)
            .map_err(|source| self.failed(source))
    }

    /// Writes what waits until nothing waits or the transport takes no more. With `paused`, only `control` and what was
    /// taken already.
    pub(super) fn write(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
        control: &mut Vec<u8>,
        paused: bool,
    ) -> Result<(), ConnectError> {
        for _ in 0..BATCHES_MAX {
            self.refill(shared, control, paused)?;
            let mut progressed = false;
            if !self.is_written() {
                progressed |= self.poll_send(cx, Lane::Interactive)?;
            }
            if !self.out_bulk.is_empty() || self.bulk_blocked {
                progressed |= self.poll_send(cx, Lane::Bulk)?;
            }
            if !progressed {
                return Ok(());
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, lane: Lane) -> Result<bool, ConnectError> {
        let (batch, blocked) = match lane {
            Lane::Interactive | Lane::Control => (&mut self.out, &mut self.interactive_blocked),
            Lane::Bulk => (&mut self.out_bulk, &mut self.bulk_blocked),
        };
        let sent = self.writer.poll_send(cx, lane, batch);
        *blocked = sent.is_pending();
        match sent {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(source)) => Err(self.failed(source)),
        }
    }

    /// Takes the next batch from the queue. Only once the last one is written: a batch is whole frames, and the
    /// transport makes one WebSocket message of it.
    fn refill(
        &mut self,
        shared: &Shared,
        control: &mut Vec<u8>,
        paused: bool,
    ) -> Result<(), ConnectError> {
        let is_written = self.is_written();
        if is_written && !control.is_empty() {
            self.out.push(std::mem::take(control).into());
        }
        if paused {
            return Ok(());
        }
        let mut outgoing = shared.outgoing.lock();
        let mut has_room = false;
        if is_written {
            let with_bulk = !self.has_bulk && outgoing.has_bulk();
            let reserved = if with_bulk {
                self.fragment_len_max + FRAME_EXTRA
            } else {
                0
            };
            has_room |= outgoing.fill(
                &mut self.out,
                BATCH_LEN_MAX.saturating_sub(reserved),
                with_bulk,
            );
        }
        if self.has_bulk && self.out_bulk.is_empty() && !self.bulk_blocked && outgoing.has_bulk() {
            // A ping that marks the end of what was sent before it is answered on the lane it belongs to.
            let batch = if outgoing.next_is_ping() {
                &mut self.out
            } else {
                &mut self.out_bulk
            };
            has_room |= outgoing.fill_bulk(batch);
        }
        let mut datagrams = Vec::new();
        if self.has_datagrams {
            outgoing.set_datagram_len_max(self.writer.datagram_len_max());
            datagrams.extend(std::iter::from_fn(|| outgoing.next_datagram()));
        }
        drop(outgoing);
        if has_room {
            shared.changed.notify_waiters();
        }
        for datagram in datagrams {
            let sent = self
                .writer
                .send_datagram(datagram)
                .map_err(|source| self.failed(source))?;
            if !sent {
                tracing::trace!("an unreliable message did not fit into a datagram any more");
            }
        }
        Ok(())
    }

    /// Appends the last frame.
    pub(super) fn push_close(&mut self, code: Code, text: &str) {
        let text = text.chars().take(TEXT_LEN_MAX / 4).collect();
        self.out
            .push(Frame::Close(Close { code, text }).to_vec().into());
    }

    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.writer.poll_close(cx, 0, "")
    }

    pub(super) fn abort(&mut self) {
        self.writer.abort(0, "");
    }

    /// Says why the connection ends, as far as that is possible without waiting.
    pub(super) fn say_goodbye(&mut self, code: Code, text: &str) {
        let mut cx = Context::from_waker(Waker::noop());
        self.push_close(code, text);
        let sent = self
            .writer
            .poll_send(&mut cx, Lane::Interactive, &mut self.out);
        let closed = sent.is_ready()
            && self
                .writer
                .poll_close(&mut cx, code.number(), text)
                .is_ready();
        if !closed {
            self.writer.abort(code.number(), text);
        }
    }
}
