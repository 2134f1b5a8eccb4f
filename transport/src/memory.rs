//! Two ends in one process: a bounded pipe each way, and a hub of names to dial.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::batch::Batch;
use crate::connection::Connection;
use crate::error::{BindError, DialError, Error};

/// What a pipe of a connection made through a [`Hub`] holds in each direction, in bytes.
pub const CAPACITY: usize = 256 << 10;
/// The most chunks a pipe holds, whatever their size.
const CHUNKS_MAX: usize = 1024;
/// Connections that wait at a name to be accepted.
const BACKLOG: usize = 1024;

/// Two connected ends. Each direction holds at most `capacity` bytes (at least 1) and 1024 chunks.
pub fn pair(capacity: usize) -> (Connection, Connection) {
    let pipes = [Pipe::new(capacity), Pipe::new(capacity)];
    let [there, back] = pipes.map(|pipe| Arc::new(Mutex::new(pipe)));
    let end = |read: &Shared, write: &Shared| {
        Connection::memory(Receiver(Arc::clone(read)), Sender(Arc::clone(write)))
    };
    (end(&back, &there), end(&there, &back))
}

type Shared = Arc<Mutex<Pipe>>;

#[derive(Debug)]
struct Pipe {
    chunks: VecDeque<Bytes>,
    len: usize,
    capacity: usize,
    end: Option<End>,
    /// The reader is gone, so that writing makes no sense.
    unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Debug)]
enum End {
    Closed { code: u16, reason: String },
    Dropped,
}

impl Pipe {
    fn new(capacity: usize) -> Self {
        Self {
            chunks: VecDeque::new(),
            len: 0,
            capacity: capacity.max(1),
            end: None,
            unread: false,
            reader: None,
            writer: None,
        }
    }

    const fn room(&self) -> usize {
        self.capacity - self.len
    }

    /// Ends the stream once; what is in it can still be read.
    fn end(&mut self, end: End) -> Option<Waker> {
        if self.end.is_none() {
            self.end = Some(end);
        }
        self.reader.take()
    }
}

/// Keeps a waker to call later. One that does nothing does not displace one that waits.
fn keep(slot: &mut Option<Waker>, cx: &Context<'_>) {
    if !cx.waker().will_wake(Waker::noop()) {
        match slot {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *slot = Some(cx.waker().clone()),
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The reading end of a pipe.
#[derive(Debug)]
pub(crate) struct Receiver(Shared);

impl Receiver {
    /// Copies into the spare capacity of `buf`, of which there is some.
    pub(crate) fn poll_recv(
        &self,
        cx: &Context<'_>,
        buf: &mut Vec<u8>,
    ) -> Poll<Result<usize, Error>> {
        let mut pipe = self.0.lock();
        let mut received = 0;
        while buf.capacity() > buf.len() {
            let spare = buf.capacity() - buf.len();
            let Some(chunk) = pipe.chunks.front_mut() else {
                break;
            };
            let part = chunk.len().min(spare);
            buf.extend_from_slice(&chunk[..part]);
            chunk.advance(part);
            if chunk.is_empty() {
                pipe.chunks.pop_front();
            }
            pipe.len -= part;
            received += part;
        }
        if received > 0 {
            let writer = pipe.writer.take();
            drop(pipe);
            wake(writer);
            return Poll::Ready(Ok(received));
        }
        match &pipe.end {
            None => {
                keep(&mut pipe.reader, cx);
                Poll::Pending
            }
            Some(End::Closed { code: 0, .. }) => Poll::Ready(Ok(0)),
            Some(End::Closed { code, reason }) => Poll::Ready(Err(Error::Closed {
                code: *code,
                reason: reason.clone(),
            })),
            Some(End::Dropped) => Poll::Ready(Err(Error::Reset)),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut pipe = self.0.lock();
        pipe.unread = true;
        pipe.chunks = VecDeque::new();
        pipe.len = 0;
        let writer = pipe.writer.take();
        drop(pipe);
        wake(writer);
    }
}

/// The writing end of a pipe.
#[derive(Debug)]
pub(crate) struct Sender(Shared);

impl Sender {
    /// Moves chunks over until the pipe is full; the last one may be cut.
    pub(crate) fn poll_send(&self, cx: &Context<'_>, batch: &mut Batch) -> Poll<Result<(), Error>> {
        if batch.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut pipe = self.0.lock();
        if pipe.end.is_some() {
            return Poll::Ready(Err(Error::ClosedHere));
        }
        if pipe.unread {
            return Poll::Ready(Err(Error::Reset));
        }
        let before = pipe.len;
        while pipe.room() > 0 && pipe.chunks.len() < CHUNKS_MAX {
            let Some(chunk) = batch.pop_limited(pipe.room()) else {
                break;
            };
            pipe.len += chunk.len();
            pipe.chunks.push_back(chunk);
        }
        let full = !batch.is_empty();
        if full {
            keep(&mut pipe.writer, cx);
        }
        let reader = if pipe.len > before {
            pipe.reader.take()
        } else {
            None
        };
        drop(pipe);
        wake(reader);
        if full {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    }

    /// Ends the stream after what is in the pipe.
    pub(crate) fn close(&self, code: u16, reason: &str) {
        let reader = self.0.lock().end(End::Closed {
            code,
            reason: reason.to_owned(),
        });
        wake(reader);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let reader = self.0.lock().end(End::Dropped);
        wake(reader);
    }
}

/// The names at which `memory:NAME` is served. Clones share the names; separate hubs know nothing of each other.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    names: Arc<Mutex<HashMap<String, mpsc::Sender<Connection>>>>,
}

impl Hub {
    /// A hub without names.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn bind(&self, name: &str) -> Result<Accepting, BindError> {
        let mut names = self.names.lock();
        if names.contains_key(name) {
            return Err(BindError::NameTaken(name.to_owned()));
        }
        let (sender, queue) = mpsc::channel(BACKLOG);
        names.insert(name.to_owned(), sender);
        Ok(Accepting {
            hub: self.clone(),
            name: name.to_owned(),
            queue: tokio::sync::Mutex::new(queue),
        })
    }

    pub(crate) fn dial(&self, name: &str) -> Result<Connection, DialError> {
        let queue = self.names.lock().get(name).cloned();
        let nobody = || DialError::NotListening(name.to_owned());
        let (here, there) = pair(CAPACITY);
        queue
            .ok_or_else(nobody)?
            .try_send(there)
            .map_err(|_full_or_gone| nobody())?;
        Ok(here)
    }
}

/// A name that is served until this is dropped.
#[derive(Debug)]
pub(crate) struct Accepting {
    hub: Hub,
    pub(crate) name: String,
    queue: tokio::sync::Mutex<mpsc::Receiver<Connection>>,
}

impl Accepting {
    pub(crate) async fn accept(&self) -> Result<Connection, Error> {
        // The hub holds a sender for as long as this exists.
        self.queue
            .lock()
            .await
            .recv()
            .await
            .ok_or(Error::ClosedHere)
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.hub.names.lock().remove(&self.name);
    }
}
