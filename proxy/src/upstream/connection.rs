//! A connection to a server without a request on it.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
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
pub(crate) struct Connection<S = TcpStream> {
    pub(super) stream: S,
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

    /// The reading side with what has been read, and the writing side.
    pub(super) fn split(self) -> (Connection<OwnedReadHalf>, OwnedWriteHalf) {
        let (stream, write) = self.stream.into_split();
        let reading = Connection {
            stream,
            read: self.read,
            read_len: self.read_len,
            read_len_max: self.read_len_max,
            head_len_max: self.head_len_max,
            headers_max: self.headers_max,
        };
        (reading, write)
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

impl<S: AsyncRead + Unpin> Connection<S> {
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
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (timing, limits) = (Timing::default(), Limits::default());
        let opened = Connection::open(addr, &timing, &limits);
        let (connection, accepted) = tokio::join!(opened, listener.accept());
        (connection.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn where_nobody_listens_there_is_no_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);
        let opened = Connection::open(addr, &Timing::default(), &Limits::default()).await;
        let refused = opened.unwrap_err();
        let ConnectError::Refused(error) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_connection_that_says_something_by_itself_is_of_no_use() {
        let (connection, mut server) = pair().await;
        assert!(connection.is_usable());
        server
            .write_all(b"HTTP/1.1 408 Too Late\r\n\r\n")
            .await
            .unwrap();
        connection.stream.readable().await.unwrap();
        assert!(!connection.is_usable());
        let (connection, server) = pair().await;
        drop(server);
        connection.stream.readable().await.unwrap();
        assert!(!connection.is_usable(), "nor one that is closed");
    }

    #[tokio::test]
    async fn reads_grow_with_what_comes_and_shrink_at_rest() {
        let (mut connection, mut server) = pair().await;
        let len = 4 * READ_LEN_MIN;
        let writing = async {
            server.write_all(&vec![b'x'; len]).await.unwrap();
            server
        };
        let reading = async {
            while connection.read.len() < len {
                assert_ne!(poll_fn(|cx| connection.poll_read(cx)).await.unwrap(), 0);
            }
        };
        let (server, ()) = tokio::join!(writing, reading);
        assert_eq!(connection.read.len(), len);
        connection.read.clear();
        connection.rest();
        assert_eq!(connection.read_len, READ_LEN_MIN);
        assert!(connection.read.capacity() <= READ_LEN_MIN);
        drop(server);
        assert_eq!(poll_fn(|cx| connection.poll_read(cx)).await.unwrap(), 0);
    }
}
