//! The byte streams that carry a WebSocket, chosen by enum so that plain TCP pays for nothing else.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::TlsStream;
use tokio_util::io::poll_read_buf;

/// A byte stream of any kind, as hyper's upgrade gives it in somebody else's server.
pub(crate) type AnyRead = Box<dyn AsyncRead + Send + Unpin>;
/// The writing side of [`AnyRead`].
pub(crate) type AnyWrite = Box<dyn AsyncWrite + Send + Unpin>;

/// Where a WebSocket reads.
pub(crate) enum ReadIo {
    Tcp(OwnedReadHalf),
    Tls(ReadHalf<TlsStream<TcpStream>>),
    Any(AnyRead),
}

/// Where a WebSocket writes.
pub(crate) enum WriteIo {
    Tcp(OwnedWriteHalf),
    Tls(WriteHalf<TlsStream<TcpStream>>),
    Any(AnyWrite),
}

pub(crate) fn split_tcp(stream: TcpStream) -> (ReadIo, WriteIo) {
    let (read, write) = stream.into_split();
    (ReadIo::Tcp(read), WriteIo::Tcp(write))
}

pub(crate) fn split_tls(stream: TlsStream<TcpStream>) -> (ReadIo, WriteIo) {
    let (read, write) = tokio::io::split(stream);
    (ReadIo::Tls(read), WriteIo::Tls(write))
}

pub(crate) fn split_any(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> (ReadIo, WriteIo) {
    let (read, write) = tokio::io::split(stream);
    (ReadIo::Any(Box::new(read)), WriteIo::Any(Box::new(write)))
}

impl ReadIo {
    /// Reads into the spare capacity of `buf`, of which there must be some; 0 is the end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(buf.capacity() > buf.len(), "no room to read into");
        match self {
            Self::Tcp(io) => poll_read_buf(Pin::new(io), cx, buf),
            Self::Tls(io) => poll_read_buf(Pin::new(io), cx, buf),
            Self::Any(io) => poll_read_buf(Pin::new(io), cx, buf),
        }
    }
}

impl WriteIo {
    /// Writes some of the slices.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(io) => poll_write_tcp(io, cx, slices),
            Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, slices),
            Self::Any(io) => Pin::new(io).poll_write_vectored(cx, slices),
        }
    }

    /// Hands what TLS holds back to the operating system.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
            Self::Any(io) => Pin::new(io).poll_flush(cx),
        }
    }

    /// Ends the stream in this direction.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
            Self::Any(io) => Pin::new(io).poll_shutdown(cx),
        }
    }

    /// Whether many small chunks cost more than copying them together.
    pub(crate) const fn prefers_large_chunks(&self) -> bool {
        !matches!(self, Self::Tcp(_))
    }
}

/// Tries the socket before asking whether it is ready, so that a write that succeeds costs one system call and leaves
/// the waker of whoever waits alone.
fn poll_write_tcp(
    io: &OwnedWriteHalf,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    loop {
        match io.try_write_vectored(slices) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
        if cx.waker().will_wake(Waker::noop()) {
            return Poll::Pending;
        }
        ready!(io.as_ref().poll_write_ready(cx))?;
    }
}

impl fmt::Debug for ReadIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "ReadIo::Tcp",
            Self::Tls(_) => "ReadIo::Tls",
            Self::Any(_) => "ReadIo::Any",
        })
    }
}

impl fmt::Debug for WriteIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "WriteIo::Tcp",
            Self::Tls(_) => "WriteIo::Tls",
            Self::Any(_) => "WriteIo::Any",
        })
    }
}
