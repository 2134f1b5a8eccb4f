//! The reading end of a QUIC connection: its streams and datagrams.

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
    /// The unidirectional streams in the order in which the peer opens them: bulk, control.
    lanes: [Unidirectional; 2],
    has_control_lane: bool,
    /// Waits for the next of them.
    accepting: Option<BoxFuture<Result<RecvStream, ConnectionError>>>,
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

enum Unidirectional {
    Unopened,
    Open(RecvStream),
    /// The end of the connection is told by the interactive lane.
    Finished,
}

impl Receiver {
    pub(super) fn accepting(
        connection: quinn::Connection,
        slot: SharedSlot,
        has_control_lane: bool,
    ) -> Self {
        let accepted = connection.clone();
        let accepting = Box::pin(async move { accepted.accept_bi().await });
        let interactive = Interactive::Accepting(accepting, slot);
        Self::new(connection, interactive, has_control_lane)
    }

    pub(super) fn opened(
        connection: quinn::Connection,
        stream: RecvStream,
        has_control_lane: bool,
    ) -> Self {
        Self::new(connection, Interactive::Open(stream), has_control_lane)
    }

    fn new(
        connection: quinn::Connection,
        interactive: Interactive,
        has_control_lane: bool,
    ) -> Self {
        Self {
            connection,
            interactive,
            lanes: [Unidirectional::Unopened, Unidirectional::Unopened],
            has_control_lane,
            accepting: None,
            datagram: None,
        }
    }

    pub(crate) const fn has_control_lane(&self) -> bool {
        self.has_control_lane
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
        self.poll_unidirectional(cx, 0, buf)
    }

    pub(crate) fn poll_control(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut Vec<u8>,
    ) -> Poll<Result<usize, Error>> {
        if !self.has_control_lane {
            return Poll::Pending;
        }
        self.poll_unidirectional(cx, 1, buf)
    }

    fn poll_unidirectional(
        &mut self,
        cx: &mut Context<'_>,
        index: usize,
        buf: &mut Vec<u8>,
    ) -> Poll<Result<usize, Error>> {
        loop {
            match self.lanes.get_mut(index) {
                Some(Unidirectional::Unopened) => ready!(self.poll_accept(cx)),
                Some(lane @ Unidirectional::Open(_)) => {
                    let Unidirectional::Open(stream) = lane else {
                        return Poll::Pending;
                    };
                    match ready!(poll_read_buf(Pin::new(stream), cx, buf)) {
                        Ok(0) | Err(_) => *lane = Unidirectional::Finished,
                        Ok(received) => return Poll::Ready(Ok(received)),
                    }
                }
                Some(Unidirectional::Finished) | None => return Poll::Pending,
            }
        }
    }

    /// The peer opens its streams in the order of the lanes.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let connection = &self.connection;
        let accepting = self.accepting.get_or_insert_with(|| {
            let connection = connection.clone();
            Box::pin(async move { connection.accept_uni().await })
        });
        let accepted = ready!(accepting.as_mut().poll(cx));
        self.accepting = None;
        let mut unopened = self
            .lanes
            .iter_mut()
            .filter(|lane| matches!(lane, Unidirectional::Unopened));
        match accepted {
            Ok(stream) => {
                if let Some(lane) = unopened.next() {
                    *lane = Unidirectional::Open(stream);
                }
            }
            Err(_) => unopened.for_each(|lane| *lane = Unidirectional::Finished),
        }
        Poll::Ready(())
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
