//! The writing end of a QUIC connection: its streams and datagrams.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use quinn::{ConnectionError, SendDatagramError, SendStream, VarInt, WriteError};

use super::driver::{AT_ONCE_LEN_MAX, Driver};
use super::{SharedSlot, ended};
use crate::batch::Batch;
use crate::error::Error;
use crate::lane::Lane;

/// Priority of the control stream, which is sent before all others.
const CONTROL_PRIORITY: i32 = 2;
/// Priority of the interactive stream; the bulk stream has 0 and is sent only when there is room left.
const INTERACTIVE_PRIORITY: i32 = 1;
/// Chunks below this are copied together, because quinn searches its chunks from the front for each packet.
const SMALL_CHUNK: usize = 2 << 10;
/// What they are copied together to.
const BLOCK: usize = 32 << 10;
/// How many turns the connection's task gets to send the goodbye.
const GOODBYE_TURNS_MAX: u8 = 64;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + Sync>>;

/// The writing end.
pub(crate) struct Sender {
    connection: quinn::Connection,
    /// Sends what is written; unknown where quinn's own runtime has it.
    driver: Option<Arc<Driver>>,
    interactive: Interactive,
    bulk: Unidirectional,
    control: Unidirectional,
    closing: Closing,
}

enum Interactive {
    Accepting(SharedSlot),
    Open(SendStream),
}

enum Unidirectional {
    Unopened,
    Opening(BoxFuture<Result<SendStream, ConnectionError>>),
    Open(SendStream),
}

enum Closing {
    No,
    /// Waits until the peer has acknowledged everything.
    Finishing(BoxFuture<()>),
    /// Closed; waits for the goodbye to leave.
    Closed(u8),
}

impl Sender {
    pub(super) fn accepting(
        connection: quinn::Connection,
        slot: SharedSlot,
        driver: Option<Arc<Driver>>,
    ) -> Self {
        Self::new(connection, Interactive::Accepting(slot), driver)
    }

    pub(super) fn opened(
        connection: quinn::Connection,
        stream: SendStream,
        driver: Option<Arc<Driver>>,
    ) -> Self {
        prioritise(&stream, INTERACTIVE_PRIORITY);
        Self::new(connection, Interactive::Open(stream), driver)
    }

    const fn new(
        connection: quinn::Connection,
        interactive: Interactive,
        driver: Option<Arc<Driver>>,
    ) -> Self {
        Self {
            connection,
            driver,
            interactive,
            bulk: Unidirectional::Unopened,
            control: Unidirectional::Unopened,
            closing: Closing::No,
        }
    }

    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        lane: Lane,
        batch: &mut Batch,
    ) -> Poll<Result<(), Error>> {
        if batch.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let at_once = self
            .driver
            .as_ref()
            .filter(|driver| batch.len() <= AT_ONCE_LEN_MAX && driver.is_to_be_run_here());
        match at_once.map(Arc::clone) {
            Some(driver) => driver.run_behind(|| self.poll_write(cx, lane, batch)),
            None => self.poll_write(cx, lane, batch),
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        lane: Lane,
        batch: &mut Batch,
    ) -> Poll<Result<(), Error>> {
        let stream = match lane {
            Lane::Interactive => ready!(self.poll_interactive(cx))?,
            Lane::Bulk => ready!(self.bulk.poll(cx, &self.connection))?,
            Lane::Control => ready!(self.poll_control(cx))?,
        };
        while !batch.is_empty() {
            batch.coalesce(SMALL_CHUNK, BLOCK);
            let written = {
                let write = pin!(stream.write_chunks(batch.contiguous_mut()));
                // The waker stays registered with the stream, not with this future.
                ready!(write.poll(cx))
            };
            match written {
                Ok(written) => batch.consumed(written.chunks, written.bytes),
                Err(error) => return Poll::Ready(Err(self.failed(error))),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_interactive(&mut self, cx: &Context<'_>) -> Poll<Result<&mut SendStream, Error>> {
        if let Interactive::Accepting(slot) = &self.interactive {
            let mut waiting = slot.lock();
            if let Some(stream) = waiting.stream.take() {
                drop(waiting);
                prioritise(&stream, INTERACTIVE_PRIORITY);
                self.interactive = Interactive::Open(stream);
            } else if let Some(reason) = self.connection.close_reason() {
                return Poll::Ready(Err(ended(reason)));
            } else if !cx.waker().will_wake(Waker::noop()) {
                waiting.writer = Some(cx.waker().clone());
            }
        }
        match &mut self.interactive {
            Interactive::Open(stream) => Poll::Ready(Ok(stream)),
            Interactive::Accepting(_) => Poll::Pending,
        }
    }

    /// The bulk lane is opened as well, because the peer tells the two apart by their order.
    fn poll_control(&mut self, cx: &mut Context<'_>) -> Poll<Result<&mut SendStream, Error>> {
        if !matches!(self.control, Unidirectional::Open(_)) {
            ready!(self.bulk.poll(cx, &self.connection))?;
            let stream = ready!(self.control.poll(cx, &self.connection))?;
            prioritise(stream, CONTROL_PRIORITY);
        }
        self.control.poll(cx, &self.connection)
    }

    /// Prefers the connection's reason to the stream's.
    fn failed(&self, error: WriteError) -> Error {
        match (self.connection.close_reason(), error) {
            (Some(reason), _) | (None, WriteError::ConnectionLost(reason)) => ended(reason),
            (None, WriteError::Stopped(_) | WriteError::ZeroRttRejected) => Error::Reset,
            (None, WriteError::ClosedStream) => Error::ClosedHere,
        }
    }

    pub(crate) fn datagram_len_max(&self) -> Option<usize> {
        self.connection.max_datagram_size()
    }

    pub(crate) fn send_datagram(&self, datagram: Bytes) -> Result<bool, Error> {
        match self.connection.send_datagram(datagram) {
            Ok(()) => Ok(true),
            Err(
                SendDatagramError::TooLarge
                | SendDatagramError::UnsupportedByPeer
                | SendDatagramError::Disabled,
            ) => Ok(false),
            Err(SendDatagramError::ConnectionLost(reason)) => Err(ended(reason)),
        }
    }

    /// Finishes the streams, waits for the acknowledgement of everything, then closes with the code.
    pub(crate) fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        code: u16,
        reason: &str,
    ) -> Poll<Result<(), Error>> {
        loop {
            match &mut self.closing {
                Closing::No => self.closing = Closing::Finishing(self.finish()),
                Closing::Finishing(acknowledged) => {
                    ready!(acknowledged.as_mut().poll(cx));
                    self.abort(code, reason);
                }
                Closing::Closed(turns) => {
                    let sent = self.connection.stats().frame_tx.connection_close > 0;
                    if sent || *turns >= GOODBYE_TURNS_MAX {
                        return Poll::Ready(Ok(()));
                    }
                    // A process that ends right away would take the goodbye with it.
                    *turns += 1;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }

    fn finish(&mut self) -> BoxFuture<()> {
        if let Interactive::Accepting(slot) = &self.interactive {
            let stream = slot.lock().stream.take();
            if let Some(stream) = stream {
                self.interactive = Interactive::Open(stream);
            }
        }
        let interactive = match &mut self.interactive {
            Interactive::Open(stream) => finish_stream(stream),
            Interactive::Accepting(_) => None,
        };
        let [bulk, control] = [&mut self.bulk, &mut self.control].map(|lane| match lane {
            Unidirectional::Open(stream) => finish_stream(stream),
            Unidirectional::Unopened | Unidirectional::Opening(_) => None,
        });
        Box::pin(async move {
            for acknowledged in [interactive, bulk, control].into_iter().flatten() {
                acknowledged.await;
            }
        })
    }

    /// Closes at once; what is not acknowledged may be lost.
    pub(crate) fn abort(&mut self, code: u16, reason: &str) {
        self.connection
            .close(VarInt::from(u32::from(code)), reason.as_bytes());
        self.closing = Closing::Closed(0);
    }
}

impl Unidirectional {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &quinn::Connection,
    ) -> Poll<Result<&mut SendStream, Error>> {
        if matches!(self, Self::Unopened) {
            let connection = connection.clone();
            *self = Self::Opening(Box::pin(async move { connection.open_uni().await }));
        }
        if let Self::Opening(opening) = self {
            *self = Self::Open(ready!(opening.as_mut().poll(cx)).map_err(ended)?);
        }
        match self {
            Self::Open(stream) => Poll::Ready(Ok(stream)),
            Self::Unopened | Self::Opening(_) => Poll::Pending,
        }
    }
}

/// Finishes a stream; resolves when the peer has everything, or wants no more, or is gone.
fn finish_stream(stream: &mut SendStream) -> Option<BoxFuture<()>> {
    stream.finish().ok()?;
    let stopped = stream.stopped();
    Some(Box::pin(async move { drop(stopped.await) }))
}

fn prioritise(stream: &SendStream, priority: i32) {
    if stream.set_priority(priority).is_err() {
        tracing::debug!("a stream was stopped by the peer before it was used");
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("quic::Sender")
            .field("remote", &self.connection.remote_address())
            .finish_non_exhaustive()
    }
}
