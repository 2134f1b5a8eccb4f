//! One direction of a tunnel.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::ReadBuf;

use super::Io;
use super::pipe::Pipe;

/// How much is read at once where bytes come to user space.
const SCRATCH_LEN: usize = 64 << 10;

/// After so many reads that filled the scratch buffer, bytes stay in the kernel.
const FULL_READS: u32 = 2;

/// A move of fewer bytes than this costs more than copying them.
const SPLICE_MIN: usize = 16 << 10;

/// How often a direction is served before the other has its turn.
const TURNS_MAX: u32 = 16;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_LEN]);
}

/// What is under way.
enum Carry {
    Nothing,
    /// Read, and not yet written.
    Bytes(Bytes),
    /// Bytes pass through this pipe.
    Pipe(Pipe),
    /// Everything was taken by a connection that encrypts, and may still be there.
    Flushing,
    /// Everything is written, and the other end is being told so.
    Closing,
    Closed,
}

/// One direction.
pub(super) struct Direction {
    carry: Carry,
    full_reads: u32,
    passed: u64,
}

impl Direction {
    pub(super) fn new(first: Bytes) -> Self {
        let carry = if first.is_empty() {
            Carry::Nothing
        } else {
            Carry::Bytes(first)
        };
        Self {
            carry,
            full_reads: 0,
            passed: 0,
        }
    }

    /// The bytes that were written.
    pub(super) fn passed(&self) -> u64 {
        self.passed
    }

    fn count(&mut self, len: usize) {
        self.passed += u64::try_from(len).unwrap_or(u64::MAX);
    }

    /// Passes bytes on while there are some; ready when there are no more and the other end knows.
    pub(super) fn poll<F: Io, T: Io>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
    ) -> Poll<io::Result<()>> {
        for _ in 0..TURNS_MAX {
            match std::mem::replace(&mut self.carry, Carry::Nothing) {
                Carry::Nothing => ready!(self.next(cx, from, to))?,
                Carry::Bytes(bytes) => ready!(self.write(cx, bytes, to))?,
                Carry::Pipe(pipe) => ready!(self.splice(cx, pipe, from, to))?,
                Carry::Flushing => {
                    self.carry = Carry::Flushing;
                    ready!(Pin::new(&mut *to).poll_flush(cx))?;
                    self.carry = Carry::Nothing;
                }
                Carry::Closing => {
                    self.carry = Carry::Closing;
                    let shut = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                    self.carry = Carry::Closed;
                    return Poll::Ready(shut.or_else(gone_is_closed));
                }
                Carry::Closed => {
                    self.carry = Carry::Closed;
                    return Poll::Ready(Ok(()));
                }
            }
        }
        // There is more, but others wait as well.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Through a pipe while there is much, else through user space.
    fn next<F: Io, T: Io>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
    ) -> Poll<io::Result<()>> {
        if self.full_reads >= FULL_READS && from.plain().is_some() && to.plain().is_some() {
            match Pipe::take() {
                Ok(pipe) => return self.splice(cx, pipe, from, to),
                // Without a pipe, bytes are copied.
                Err(error) => tracing::debug!(%error, "there is no pipe"),
            }
            self.full_reads = 0;
        }
        self.copy(cx, from, to)
    }

    /// Reads once, and writes what was read as far as the other end takes it.
    fn copy<F: Io, T: Io>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
    ) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut buf))?;
            let mut read = buf.filled();
            if read.is_empty() {
                self.carry = Carry::Closing;
                return Poll::Ready(Ok(()));
            }
            self.full_reads = if read.len() == SCRATCH_LEN {
                self.full_reads + 1
            } else {
                0
            };
            while !read.is_empty() {
                match Pin::new(&mut *to).poll_write(cx, read) {
                    Poll::Ready(written) => {
                        let len = some(written?)?;
                        self.count(len);
                        read.advance(len);
                    }
                    Poll::Pending => {
                        self.carry = Carry::Bytes(Bytes::copy_from_slice(read));
                        return Poll::Pending;
                    }
                }
            }
            self.carry = written(to);
            Poll::Ready(Ok(()))
        })
    }

    fn write<T: Io>(
        &mut self,
        cx: &mut Context<'_>,
        mut bytes: Bytes,
        to: &mut T,
    ) -> Poll<io::Result<()>> {
        while !bytes.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, &bytes) {
                Poll::Ready(written) => {
                    let len = some(written?)?;
                    self.count(len);
                    bytes.advance(len);
                }
                Poll::Pending => {
                    self.carry = Carry::Bytes(bytes);
                    return Poll::Pending;
                }
            }
        }
        self.carry = written(to);
        Poll::Ready(Ok(()))
    }

    /// Moves bytes through the pipe until one of the sockets has to be waited for.
    fn splice<F: Io, T: Io>(
        &mut self,
        cx: &mut Context<'_>,
        mut pipe: Pipe,
        from: &F,
        to: &T,
    ) -> Poll<io::Result<()>> {
        let (Some(source), Some(sink)) = (from.plain(), to.plain()) else {
            return Poll::Ready(Err(io::Error::other(
                "a pipe between connections that are not plain",
            )));
        };
        if pipe.len() == 0 {
            match pipe.fill(source) {
                Ok(0) => {
                    self.carry = Carry::Closing;
                    pipe.give_back();
                    return Poll::Ready(Ok(()));
                }
                Ok(len) if len < SPLICE_MIN => self.full_reads = 0,
                Ok(_) => self.full_reads = FULL_READS,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let ready = source.poll_read_ready(cx);
                    // Who waits holds no pipe.
                    if ready.is_pending() {
                        pipe.give_back();
                        return Poll::Pending;
                    }
                    self.carry = Carry::Pipe(pipe);
                    return ready;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        while pipe.len() > 0 {
            match pipe.drain(sink) {
                Ok(len) => self.count(some(len)?),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let ready = sink.poll_write_ready(cx);
                    self.carry = Carry::Pipe(pipe);
                    return ready;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if self.full_reads == 0 {
            pipe.give_back();
        } else {
            self.carry = Carry::Pipe(pipe);
        }
        Poll::Ready(Ok(()))
    }
}

/// What comes after everything was written.
fn written<T: Io>(to: &T) -> Carry {
    if to.plain().is_some() {
        Carry::Nothing
    } else {
        Carry::Flushing
    }
}

/// A write that takes nothing, and does not say why, would be tried for ever.
fn some(len: usize) -> io::Result<usize> {
    if len == 0 {
        Err(io::ErrorKind::WriteZero.into())
    } else {
        Ok(len)
    }
}

/// An end that has gone need not be told that there is no more.
fn gone_is_closed(error: io::Error) -> io::Result<()> {
    let is_gone = [
        io::ErrorKind::NotConnected,
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::ConnectionReset,
    ]
    .contains(&error.kind());
    if is_gone { Ok(()) } else { Err(error) }
}
