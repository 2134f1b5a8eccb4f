//! The peer that does what the input says.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use dialtone_broker::Handle;
use dialtone_protocol::Frame;
use dialtone_protocol::codec::split_frame;
use dialtone_transport::{Batch, Connection, Error, Lane, memory};

use super::Setting;

/// A peer that may be gone, may not read, and holds what it is told to say until it can be said.
pub(super) struct Bad {
    connection: Connection,
    batch: Batch,
    received: Vec<u8>,
    /// Nothing follows a close.
    closed: bool,
    gone: bool,
    pub(super) reads: bool,
}

impl Bad {
    pub(super) fn new(setting: Setting, handle: &Handle) -> Self {
        let (connection, there) = memory::pair(setting.pipe());
        handle.serve(there);
        Self {
            connection,
            batch: Batch::new(),
            received: Vec::new(),
            closed: false,
            gone: false,
            reads: true,
        }
    }

    pub(super) fn push_frame(&mut self, body: &[u8]) {
        self.push_length(body.len());
        self.batch.push(Bytes::copy_from_slice(body));
    }

    pub(super) fn push_length(&mut self, len: usize) {
        let len = u32::try_from(len).expect("inputs are short");
        self.batch.push(Bytes::copy_from_slice(&len.to_le_bytes()));
    }

    /// Leaves as it should, with whatever it has not said yet unsaid.
    pub(super) fn say_goodbye(&mut self) {
        self.connection.writer.abort(0, "");
    }

    /// Writes and reads what it can; never done.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Infallible> {
        let writer = &mut self.connection.writer;
        if let Poll::Ready(Err(_)) = writer.poll_send(cx, Lane::Interactive, &mut self.batch) {
            // The broker has had enough of it, or it has said goodbye.
            self.batch.clear();
        }
        while self.reads && !self.gone {
            let reader = &mut self.connection.reader;
            match reader.poll_recv(cx, Lane::Interactive, &mut self.received) {
                Poll::Ready(Ok(0) | Err(Error::Closed { .. })) => {
                    assert!(self.received.is_empty(), "the broker ends between frames");
                    self.gone = true;
                }
                Poll::Ready(Ok(_)) => self.check(),
                Poll::Ready(Err(_)) => self.gone = true,
                Poll::Pending => break,
            }
        }
        Poll::Pending
    }

    /// However bad the peer, the broker speaks the protocol to it.
    fn check(&mut self) {
        let mut read = 0;
        let rest = |read| self.received.get(read..).unwrap_or_default();
        while let Some((body, len)) =
            split_frame(rest(read), 1 << 20).expect("the broker keeps to the limit")
        {
            assert!(!self.closed, "nothing follows a close");
            let frame = Frame::decode(body).expect("the broker writes frames");
            self.closed = matches!(frame, Frame::Close(_));
            read += len;
        }
        self.received.drain(..read);
    }
}
