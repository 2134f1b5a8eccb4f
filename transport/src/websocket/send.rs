//! Puts the WebSocket framing around what is sent, and remembers where a partial write stopped.
//!
//! One binary message per batch, up to [`MESSAGE_LEN_MAX`]; the payload stays in the caller's [`Batch`] until the
//! socket has taken it. A client masks, and so copies: the only copy on the way out.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker, ready};

use super::frame::{CONTROL_LEN_MAX, HEADER_LEN_MAX, Header, Opcode, mask_copy, mask_in_place};
use super::io::WriteIo;
use super::{Role, close_code};
use crate::batch::{Batch, SLICES_MAX};
use crate::error::Error;

/// The payload after which a message ends, unless a single chunk is longer.
pub(crate) const MESSAGE_LEN_MAX: usize = 1 << 20;
/// How much a client masks at a time.
const MASKED_LEN_MAX: usize = 64 << 10;
/// Chunks below this are copied together where large chunks are preferred.
const SMALL_CHUNK: usize = 2 << 10;
/// What they are copied together to: the payload of a TLS record.
const BLOCK: usize = 16 << 10;

/// The writing end, shared by the writer and by the reader, who answers pings and closes.
#[derive(Debug)]
pub(crate) struct Sender {
    io: WriteIo,
    role: Role,
    /// The header of the current message, as far as it is not written.
    header: [u8; HEADER_LEN_MAX],
    header_at: usize,
    header_end: usize,
    /// Payload of the current message that is still in the batch.
    left: usize,
    masked: Masked,
    /// Control frames that are on their way, encoded.
    control: Vec<u8>,
    control_at: usize,
    /// A ping to answer at the next boundary between messages.
    pong: Option<Vec<u8>>,
    closing: Closing,
}

/// A client's masked payload on its way; `buf[at..end]` waits.
#[derive(Debug, Default)]
struct Masked {
    buf: Vec<u8>,
    at: usize,
    end: usize,
    key: [u8; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// The close frame is among the control frames, or has been written.
    Said,
    /// A message was cut off, so that no close frame can follow.
    Broken,
    Done,
}

impl Sender {
    pub(crate) const fn new(io: WriteIo, role: Role) -> Self {
        Self {
            io,
            role,
            header: [0; HEADER_LEN_MAX],
            header_at: 0,
            header_end: 0,
            left: 0,
            masked: Masked {
                buf: Vec::new(),
                at: 0,
                end: 0,
                key: [0; 4],
            },
            control: Vec::new(),
            control_at: 0,
            pong: None,
            closing: Closing::No,
        }
    }

    /// Writes until the batch is empty and flushed, or the socket is full.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Batch,
    ) -> Poll<Result<(), Error>> {
        loop {
            if self.at_boundary() {
                ready!(self.poll_control(cx))?;
                if batch.is_empty() {
                    return self.io.poll_flush(cx).map_err(Error::Io);
                }
                if self.closing != Closing::No {
                    return Poll::Ready(Err(Error::ClosedHere));
                }
                self.begin(batch);
            }
            match self.role {
                Role::Server => ready!(self.poll_plain(cx, batch))?,
                Role::Client => ready!(self.poll_masked(cx, batch))?,
            }
        }
    }

    /// Whether no message is half written.
    const fn at_boundary(&self) -> bool {
        self.left == 0 && self.header_at == self.header_end && self.masked.at == self.masked.end
    }

    /// Begins a message with whole chunks from the front of the batch.
    fn begin(&mut self, batch: &mut Batch) {
        if self.role == Role::Server && self.io.prefers_large_chunks() {
            batch.coalesce(SMALL_CHUNK, BLOCK);
        }
        self.left = batch.whole_chunks_within(MESSAGE_LEN_MAX);
        let mask = self.role.new_mask();
        self.masked.key = mask.unwrap_or_default();
        let header = Header {
            fin: true,
            opcode: Opcode::Binary,
            mask,
            len: self.left as u64,
        };
        let (bytes, size) = header.encode();
        self.header = bytes;
        self.header_at = 0;
        self.header_end = size;
    }

    fn header_rest(&self) -> &[u8] {
        &self.header[self.header_at..self.header_end]
    }

    /// Counts `written` bytes against the header first; returns those beyond it.
    fn header_written(&mut self, written: usize) -> usize {
        let header = written.min(self.header_rest().len());
        self.header_at += header;
        written - header
    }

    /// A server's message: header and chunks go out as they lie.
    fn poll_plain(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), Error>> {
        while !self.at_boundary() {
            // Filling 64 slices costs about as much as copying a small message: most batches are a chunk or two.
            let written = if batch.chunks() < 4 {
                ready!(self.poll_write_chunks::<4>(cx, batch))?
            } else {
                ready!(self.poll_write_chunks::<SLICES_MAX>(cx, batch))?
            };
            let payload = self.header_written(written);
            batch.advance(payload);
            self.left -= payload;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_chunks<const N: usize>(
        &mut self,
        cx: &mut Context<'_>,
        batch: &Batch,
    ) -> Poll<Result<usize, Error>> {
        let mut slices = [IoSlice::new(&[]); N];
        let header = &self.header[self.header_at..self.header_end];
        let ahead = usize::from(!header.is_empty());
        if let Some(first) = slices.first_mut() {
            *first = IoSlice::new(header);
        }
        let filled = ahead + batch.fill(&mut slices[ahead..], self.left);
        Poll::Ready(nonzero(ready!(self.io.poll_write(cx, &slices[..filled]))?))
    }

    /// A client's message: masked into a buffer of its own, then written from there.
    fn poll_masked(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> Poll<Result<(), Error>> {
        while !self.at_boundary() {
            if self.masked.at == self.masked.end {
                self.left -= self.masked.fill(batch, self.left);
            }
            let header = &self.header[self.header_at..self.header_end];
            let payload = &self.masked.buf[self.masked.at..self.masked.end];
            let slices = [IoSlice::new(header), IoSlice::new(payload)];
            let slices = if header.is_empty() {
                &slices[1..]
            } else {
                &slices
            };
            let written = nonzero(ready!(self.io.poll_write(cx, slices))?)?;
            self.masked.at += self.header_written(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes the control frames that wait; call at a boundary only.
    fn poll_control(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.control.is_empty() {
            let Some(pong) = self.pong.take() else {
                return Poll::Ready(Ok(()));
            };
            if self.closing == Closing::No {
                self.queue_control(Opcode::Pong, &pong);
            }
        }
        while self.control_at < self.control.len() {
            let slices = [IoSlice::new(&self.control[self.control_at..])];
            self.control_at += nonzero(ready!(self.io.poll_write(cx, &slices))?)?;
        }
        self.control = Vec::new();
        self.control_at = 0;
        Poll::Ready(Ok(()))
    }

    fn queue_control(&mut self, opcode: Opcode, payload: &[u8]) {
        let payload = payload.get(..CONTROL_LEN_MAX).unwrap_or(payload);
        let mask = self.role.new_mask();
        let (header, size) = Header {
            fin: true,
            opcode,
            mask,
            len: payload.len() as u64,
        }
        .encode();
        self.control.extend_from_slice(&header[..size]);
        let at = self.control.len();
        self.control.extend_from_slice(payload);
        if let Some(key) = mask {
            mask_in_place(&mut self.control[at..], key);
        }
    }

    /// Says or continues to say goodbye, and ends the stream in this direction.
    pub(crate) fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        code: u16,
        reason: &str,
    ) -> Poll<Result<(), Error>> {
        self.say_close(close_code(code), reason);
        match self.closing {
            Closing::Said => {
                ready!(self.poll_control(cx))?;
                ready!(self.io.poll_flush(cx))?;
            }
            Closing::Done => return Poll::Ready(Ok(())),
            Closing::No | Closing::Broken => {}
        }
        ready!(self.io.poll_shutdown(cx))?;
        self.closing = Closing::Done;
        Poll::Ready(Ok(()))
    }

    /// Queues a close frame with the WebSocket code `code`, unless one was queued before.
    pub(crate) fn say_close(&mut self, code: u16, reason: &str) {
        if self.closing != Closing::No {
            return;
        }
        if !self.at_boundary() {
            self.closing = Closing::Broken;
            return;
        }
        let mut payload = code.to_be_bytes().to_vec();
        // The rest of the reason is cut off between two characters.
        payload.extend_from_slice(
            &reason.as_bytes()[..reason.floor_char_boundary(CONTROL_LEN_MAX - 2)],
        );
        self.queue_control(Opcode::Close, &payload);
        self.closing = Closing::Said;
    }

    /// Takes a ping to answer.
    pub(crate) fn say_pong(&mut self, payload: Vec<u8>) {
        self.pong = Some(payload);
    }

    /// Writes control frames if that is possible at once; returns whether none is left.
    pub(crate) fn try_control(&mut self) -> Result<bool, Error> {
        if !self.at_boundary() {
            return Ok(false);
        }
        let mut cx = Context::from_waker(Waker::noop());
        match self.poll_control(&mut cx)? {
            Poll::Ready(()) => Ok(self.io.poll_flush(&mut cx)?.is_ready()),
            Poll::Pending => Ok(false),
        }
    }

    /// Whether a goodbye was said at this end.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing != Closing::No
    }
}

impl Masked {
    /// Masks up to `left` bytes from the front of `batch` into the buffer; returns how many.
    fn fill(&mut self, batch: &mut Batch, left: usize) -> usize {
        let total = left.min(MASKED_LEN_MAX);
        if self.buf.len() < total {
            self.buf.resize(total.next_power_of_two(), 0);
        }
        let mut done = 0;
        while done < total {
            let Some(chunk) = batch.front() else { break };
            let part = chunk.get(..total - done).unwrap_or(chunk);
            self.key = mask_copy(&mut self.buf[done..done + part.len()], part, self.key);
            let taken = part.len();
            done += taken;
            batch.advance(taken);
        }
        self.at = 0;
        self.end = done;
        done
    }
}

/// A write of nothing would be tried for ever.
fn nonzero(written: usize) -> Result<usize, Error> {
    if written == 0 {
        Err(Error::Io(io::ErrorKind::WriteZero.into()))
    } else {
        Ok(written)
    }
}
