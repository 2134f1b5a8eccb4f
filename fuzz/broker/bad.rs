//! The peer that does what the input says.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use dialtone_broker::Handle;
use dialtone_protocol::Frame;
use dialtone_protocol::codec::split_frame;
use dialtone_transport::{Batch, Connection, Error, Lane, memory};

use super::{Setting, lanes};

const LANES: [Lane; 2] = [Lane::Interactive, Lane::Bulk];

/// A peer that may be gone, may not read, and holds what it is told to say until it can be said.
pub(super) struct Bad {
    connection: Connection,
    batches: [Batch; 2],
    /// Where what it says next goes.
    sends: Sends,
    received: [Vec<u8>; 2],
    /// Nothing follows a close.
    closed: bool,
    gone: bool,
    pub(super) reads: bool,
}

impl Bad {
    pub(super) fn new(setting: Setting, handle: &Handle) -> Self {
        let (connection, there) = if setting.has_lanes() {
            lanes::pair(setting.pipe())
        } else {
            memory::pair(setting.pipe())
        };
        handle.serve(there);
        Self {
            connection,
            batches: [Batch::new(), Batch::new()],
            sends: Sends::On(Lane::Interactive),
            received: [Vec::new(), Vec::new()],
            closed: false,
            gone: false,
            reads: true,
        }
    }

    pub(super) fn push_frame(&mut self, body: &[u8]) {
        let len = u32::try_from(body.len()).expect("inputs are short");
        self.push(&[&len.to_le_bytes(), body].concat());
    }

    pub(super) fn push_length(&mut self, len: usize) {
        let len = u32::try_from(len).expect("inputs are short");
        self.push(&len.to_le_bytes());
    }

    fn push(&mut self, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        match self.sends {
            Sends::On(Lane::Interactive) => self.batches[0].push(bytes),
            Sends::On(Lane::Bulk) => self.batches[1].push(bytes),
            // Lost where there are none, or when the broker is gone.
            Sends::Datagrams => drop(self.connection.writer.send_datagram(bytes)),
        }
    }

    /// Says the rest elsewhere; without lanes, all of it goes one way.
    pub(super) fn turn_to(&mut self, sends: u8) {
        self.sends = match sends % 3 {
            1 if self.connection.reader.has_lane(Lane::Bulk) => Sends::On(Lane::Bulk),
            2 if self.connection.reader.has_datagrams() => Sends::Datagrams,
            _ => Sends::On(Lane::Interactive),
        };
    }

    /// Leaves as it should, with whatever it has not said yet unsaid.
    pub(super) fn say_goodbye(&mut self) {
        self.connection.writer.abort(0, "");
    }

    /// Writes and reads what it can; never done.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Infallible> {
        for (lane, batch) in LANES.into_iter().zip(&mut self.batches) {
            let writer = &mut self.connection.writer;
            if !batch.is_empty()
                && let Poll::Ready(Err(_)) = writer.poll_send(cx, lane, batch)
            {
                // The broker has had enough of it, or it has said goodbye.
                batch.clear();
            }
        }
        for (index, lane) in LANES.into_iter().enumerate() {
            self.poll_lane(cx, lane, index);
        }
        while self.reads
            && let Poll::Ready(Ok(datagram)) = self.connection.reader.poll_datagram(cx)
        {
            let (body, len) = split_frame(&datagram, 1 << 20)
                .expect("the broker keeps to the limit")
                .expect("a datagram is a frame");
            assert_eq!(len, datagram.len(), "a datagram is one frame");
            let frame = Frame::decode(body).expect("the broker writes frames");
            assert!(matches!(frame, Frame::Deliver(deliver) if deliver.unreliable));
        }
        Poll::Pending
    }

    fn poll_lane(&mut self, cx: &mut Context<'_>, lane: Lane, index: usize) {
        while self.reads && !self.gone {
            let (reader, received) = (&mut self.connection.reader, &mut self.received[index]);
            match reader.poll_recv(cx, lane, received) {
                Poll::Ready(Ok(0) | Err(Error::Closed { .. })) => {
                    assert!(received.is_empty(), "the broker ends between frames");
                    self.gone = true;
                }
                Poll::Ready(Ok(_)) => self.check(index),
                Poll::Ready(Err(_)) => self.gone = true,
                Poll::Pending => break,
            }
        }
    }

    /// However bad the peer, the broker speaks the protocol to it.
    fn check(&mut self, index: usize) {
        let mut read = 0;
        let received = &self.received[index];
        let rest = |read| received.get(read..).unwrap_or_default();
        while let Some((body, len)) =
            split_frame(rest(read), 1 << 20).expect("the broker keeps to the limit")
        {
            let frame = Frame::decode(body).expect("the broker writes frames");
            if index == 0 {
                assert!(!self.closed, "nothing follows a close");
                self.closed = matches!(frame, Frame::Close(_));
            } else {
                let fragment =
                    matches!(frame, Frame::Deliver(deliver) if deliver.fragment.is_some());
                assert!(fragment, "the bulk lane carries fragments only");
            }
            read += len;
        }
        self.received[index].drain(..read);
    }
}

/// Where a peer says something.
enum Sends {
    On(Lane),
    Datagrams,
}
