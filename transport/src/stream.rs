//! A connection over any byte streams, without framing: what a simulated link plugs in. With one stream each way it is
//! like a WebSocket, with two and datagrams like QUIC.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite as _;
use tokio::sync::mpsc;
use tokio_util::io::poll_read_buf;

use crate::batch::{Batch, SLICES_MAX};
use crate::error::Error;
use crate::lane::Lane;
use crate::websocket::{AnyRead, AnyWrite};

/// The longest datagram of a connection with lanes, in bytes: what fits into the packets of most networks.
const DATAGRAM_LEN_MAX: usize = 1_200;

/// What a connection with lanes is made of.
pub struct Lanes {
    /// What arrives on the interactive lane, and where it is written.
    pub interactive: (AnyRead, AnyWrite),
    /// The same for the bulk lane.
    pub bulk: (AnyRead, AnyWrite),
    /// Datagrams that arrive, and where they are sent; those that find no room are lost.
    pub datagrams: (mpsc::Receiver<Bytes>, mpsc::Sender<Bytes>),
}

/// The reading end.
pub(crate) struct Receiver {
    interactive: AnyRead,
    more: Option<Box<(AnyRead, mpsc::Receiver<Bytes>)>>,
}

/// The writing end.
pub(crate) struct Sender {
    interactive: AnyWrite,
    more: Option<Box<(AnyWrite, mpsc::Sender<Bytes>)>>,
    closed: bool,
}

pub(crate) fn over(read: AnyRead, write: AnyWrite) -> (Receiver, Sender) {
    (
        Receiver {
            interactive: read,
            more: None,
        },
        Sender {
            interactive: write,
            more: None,
            closed: false,
        },
    )
}

pub(crate) fn over_lanes(lanes: Lanes) -> (Receiver, Sender) {
    let (mut receiver, mut sender) = over(lanes.interactive.0, lanes.interactive.1);
    receiver.more = Some(Box::new((lanes.bulk.0, lanes.datagrams.0)));
    sender.more = Some(Box::new((lanes.bulk.1, lanes.datagrams.1)));
    (receiver, sender)
}

impl Receiver {
    pub(crate) fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut Vec<u8>,
    ) -> Poll<Result<usize, Error>> {
        poll_read_buf(Pin::new(&mut self.interactive), cx, buf).map_err(Error::Io)
    }

    /// Pending for ever without lanes, and after the end of this one: it says nothing about the connection.
    pub(crate) fn poll_bulk(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut Vec<u8>,
    ) -> Poll<Result<usize, Error>> {
        let Some(more) = &mut self.more else {
            return Poll::Pending;
        };
        match ready!(poll_read_buf(Pin::new(&mut more.0), cx, buf)) {
            Ok(0) => Poll::Pending,
            result => Poll::Ready(result.map_err(Error::Io)),
        }
    }

    /// Pending for ever without lanes, and when the other end sends none any more.
    pub(crate) fn poll_datagram(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Error>> {
        let Some(more) = &mut self.more else {
            return Poll::Pending;
        };
        match ready!(more.1.poll_recv(cx)) {
            Some(datagram) => Poll::Ready(Ok(datagram)),
            None => Poll::Pending,
        }
    }

    pub(crate) const fn has_lanes(&self) -> bool {
        self.more.is_some()
    }
}

impl Sender {
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        lane: Lane,
        batch: &mut Batch,
    ) -> Poll<Result<(), Error>> {
        let io = match (lane, &mut self.more) {
            (Lane::Bulk, Some(more)) => &mut more.0,
            _ => &mut self.interactive,
        };
        if self.closed && !batch.is_empty() {
            return Poll::Ready(Err(Error::ClosedHere));
        }
        while !batch.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = batch.fill(&mut slices, usize::MAX);
            let written = ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices[..filled]))?;
            if written == 0 {
                return Poll::Ready(Err(Error::Io(io::ErrorKind::WriteZero.into())));
            }
            batch.advance(written);
        }
        Pin::new(io).poll_flush(cx).map_err(Error::Io)
    }

    pub(crate) fn datagram_len_max(&self) -> Option<usize> {
        self.more.as_ref().map(|_| DATAGRAM_LEN_MAX)
    }

    pub(crate) fn send_datagram(&self, datagram: Bytes) -> Result<bool, Error> {
        if self.closed {
            return Err(Error::ClosedHere);
        }
        let fits = datagram.len() <= DATAGRAM_LEN_MAX;
        let sent = self.more.as_ref().filter(|_| fits);
        Ok(sent.is_some_and(|more| more.1.try_send(datagram).is_ok()))
    }

    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.closed = true;
        Pin::new(&mut self.interactive)
            .poll_shutdown(cx)
            .map_err(Error::Io)
    }

    pub(crate) fn abort(&mut self) {
        // Best effort by contract: nobody waits for the answer.
        drop(self.poll_close(&mut Context::from_waker(Waker::noop())));
    }
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stream::Lanes")
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
