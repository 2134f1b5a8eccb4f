//! A connection over any byte stream, without framing: what a simulated link plugs in.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::AsyncWrite as _;
use tokio_util::io::poll_read_buf;

use crate::batch::{Batch, SLICES_MAX};
use crate::error::Error;
use crate::websocket::{AnyRead, AnyWrite};

/// The reading end.
pub(crate) struct Receiver(AnyRead);

/// The writing end.
pub(crate) struct Sender {
    io: AnyWrite,
    closed: bool,
}

pub(crate) fn over(read: AnyRead, write: AnyWrite) -> (Receiver, Sender) {
    (
        Receiver(read),
        Sender {
            io: write,
            closed: false,
        },
    )
}

impl Receiver {
    pub(crate) fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut Vec<u8>,
    ) -> Poll<Result<usize, Error>> {
        poll_read_buf(Pin::new(&mut self.0), cx, buf).map_err(Error::Io)
    }
}

impl Sender {
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Batch,
    ) -> Poll<Result<(), Error>> {
        if self.closed && !batch.is_empty() {
            return Poll::Ready(Err(Error::ClosedHere));
        }
        while !batch.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = batch.fill(&mut slices, usize::MAX);
            let written =
                ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..filled]))?;
            if written == 0 {
                return Poll::Ready(Err(Error::Io(io::ErrorKind::WriteZero.into())));
            }
            batch.advance(written);
        }
        Pin::new(&mut self.io).poll_flush(cx).map_err(Error::Io)
    }

    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.closed = true;
        Pin::new(&mut self.io).poll_shutdown(cx).map_err(Error::Io)
    }

    pub(crate) fn abort(&mut self) {
        // Best effort by contract: nobody waits for the answer.
        drop(self.poll_close(&mut Context::from_waker(Waker::noop())));
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stream::Receiver")
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("stream::Sender")
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
