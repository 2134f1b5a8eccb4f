//! A connection to a server without a request on it.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::io::poll_read_buf;

use crate::config::{Limits, Timing};

/// How much the first read of an answer may take, in bytes: most answers are small.
const READ_LEN_MIN: usize = 8 << 10;

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    Timeout,
    Refused(io::Error),
}

/// A connection, with what has been read of it and not been used.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) read: BytesMut,
    /// How much the next read may take; grows while reads are full.
    read_len: usize,
    read_len_max: usize,
    pub(super) head_len_max: usize,
    pub(super) headers_max: usize,
}

impl Connection {
    /// A new one.
    pub(crate) async fn open(
        addr: SocketAddr,
        timing: &Timing,
        limits: &Limits,
    ) -> Result<Self, ConnectError> {
        let stream = timeout(timing.connect, TcpStream::connect(addr))
            .await
            .map_err(|_late| ConnectError::Timeout)?
            .map_err(ConnectError::Refused)?;
        stream.set_nodelay(true).map_err(ConnectError::Refused)?;
        let len = |len: u32| usize::try_from(len).unwrap_or(usize::MAX);
        Ok(Self {
            stream,
            read: BytesMut::new(),
            read_len: READ_LEN_MIN,
            read_len_max: len(limits.buffer_len_max).max(READ_LEN_MIN),
            head_len_max: len(limits.answer_head_len_max),
            headers_max: limits.answer_headers_max.into(),
        })
    }

    /// Whether it can take a request: the server has neither closed it nor said what nobody has asked for. Costs no
    /// system call while nothing has happened on the socket.
    pub(crate) fn is_usable(&self) -> bool {
        let quiet = |error: io::Error| error.kind() == ErrorKind::WouldBlock;
        self.read.is_empty() && self.stream.try_read(&mut [0]).is_err_and(quiet)
    }

    /// Reads on behind what is there. Zero is the end of the stream.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.read.reserve(self.read_len);
        let polled = poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.read);
        if let Poll::Ready(Ok(len)) = polled
            && len >= self.read_len
        {
            self.read_len = self.read_len.saturating_mul(2).min(self.read_len_max);
        }
        polled
    }

    /// Gives back what an answer took, before it waits for its next request.
    pub(super) fn rest(&mut self) {
        self.read_len = READ_LEN_MIN;
        if self.read.capacity() > READ_LEN_MIN {
            self.read = BytesMut::new();
        }
    }

    /// The socket itself, and what was read of it.
    pub(super) fn into_parts(self) -> (TcpStream, Bytes) {
        (self.stream, self.read.freeze())
    }
}
