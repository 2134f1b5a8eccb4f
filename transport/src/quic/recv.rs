//! The reading end of a QUIC connection: two streams and datagrams.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use quinn::{ConnectionError, RecvStream, SendStream};
use tokio_util::io::poll_read_buf;

use super::{SharedSlot, ended};
use crate::error::Error;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + Sync>>;

/// The reading end.
pub(crate) struct Receiver {
    connection: quinn::Connection,
    interactive: Interactive,
    bulk: Bulk,
    /// Waits for a datagram; kept between polls, because quinn forgets the waker of a future that is dropped.
    datagram: Option<BoxFuture<Result<Bytes, ConnectionError>>>,
}

enum Interactive {
    /// The peer has not written yet; the stream's other side goes to the slot.
    Accepting(
        BoxFuture<Result<(SendStream, RecvStream), ConnectionError>>,
        SharedSlot,
    ),
    Open(RecvStream),
    /// The peer has finished the stream and will close the connection with its code.
    Finished(BoxFuture<ConnectionError>),
}

enum Bulk {
    Accepting(BoxFuture<Result<RecvStream, ConnectionError>>),
    Open(RecvStream),
    /// The end of the connection is told by the interactive lane.
    Finished,
}

impl Receiver {
    pub(super) fn accepting(connection: quinn::Connection, slot: SharedSlot) -> Self {
        let accepted = connection.clone();
        let accepting = Box::pin(async move { accepted.accept_bi().await });
        Self::new(connection, Interactive::Accepting(accepting, slot))
    }

    pub(super) fn opened(connection: quinn::Connection, stream: RecvStream) -> Self {
        Self::new(connection, Interactive::Open(stream))
    }

    fn new(connection: quinn::Connection, interactive: Interactive) -> Self {
        let accepted = connection.clone();
        let bulk = Bulk::Accepting(Box::pin(async move { accepted.accept_uni().await }));
        Self {
            connection,
            interactive,
            bulk,
            datagram: None,
        }
    }

    pub(crate) fn poll_interactive(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut Vec<u8>,
    ) -> Poll<Result<usize, Error>> {
        loop {
            match &mut self.interactive {
                Interactive::Accepting(accepting, slot) => {
                    let accepted = ready!(accepting.as_mut().poll(cx));
                    let mut waiting = slot.lock();
                    let writer = waiting.writer.take();
                    let opened = accepted.map(|(send, recv)| {
                        waiting.stream = Some(send);
                        recv
                    });
                    drop(waiting);
                    match opened {
                        Ok(stream) => self.interactive = Interactive::Open(stream),
                        Err(_) => self.finish(),
                    }
                    // It gets the stream, or sees that there will be none.
                    if let Some(writer) = writer {
                        writer.wake();
                    }
                }
                Interactive::Open(stream) => match ready!(poll_read_buf(Pin::new(stream), cx, buf))
                {
                    Ok(0) => self.finish(),
                    Ok(received) => return Poll::Ready(Ok(received)),
                    Err(_) => {
                        return Poll::Ready(
                            self.connection
                                .close_reason()
                                .map_or(Err(Error::Reset), orderly),
                        );
                    }
                },
                Interactive::Finished(closed) => {
                    let error = ready!(closed.as_mut().poll(cx));
                    // Asked again, it says the same again.
                    self.finish();
                    return Poll::Ready(orderly(error));
                }
            }
        }
    }

    fn finish(&mut self) {
        let connection = self.connection.clone();
        self.interactive =
            Interactive::Finished(Box::pin(async move { connection.closed().await }));
    }

    pub(crate) fn poll_bulk(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut Vec<u8>,
    ) -> Poll<Result<usize, Error>> {
        loop {
            match &mut self.bulk {
                Bulk::Accepting(accepting) => match ready!(accepting.as_mut().poll(cx)) {
                    Ok(stream) => self.bulk = Bulk::Open(stream),
                    Err(_) => self.bulk = Bulk::Finished,
                },
                Bulk::Open(stream) => match ready!(poll_read_buf(Pin::new(stream), cx, buf)) {
                    Ok(0) | Err(_) => self.bulk = Bulk::Finished,
                    Ok(received) => return Poll::Ready(Ok(received)),
                },
                Bulk::Finished => return Poll::Pending,
            }
        }
    }

    pub(crate) fn poll_datagram(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Error>> {
        if self.datagram.is_none() {
            // The common case under load: one is there, and nothing has to be allocated.
            if let Poll::Ready(result) = pin!(self.connection.read_datagram()).poll(cx) {
                return Poll::Ready(result.map_err(ended));
            }
        }
        let connection = &self.connection;
        let waiting = self.datagram.get_or_insert_with(|| {
            let connection = connection.clone();
            Box::pin(async move { connection.read_datagram().await })
        });
        let result = ready!(waiting.as_mut().poll(cx));
        self.datagram = None;
        Poll::Ready(result.map_err(ended))
    }
}

/// The end of the stream, or the reason why it is none.
fn orderly(error: ConnectionError) -> Result<usize, Error> {
    let error = ended(error);
    if matches!(error, Error::Closed { code: 0, .. }) {
        Ok(0)
    } else {
        Err(error)
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("quic::Receiver")
            .field("remote", &self.connection.remote_address())
            .finish_non_exhaustive()
    }
}
