//! The byte streams that carry a WebSocket, chosen by enum so that plain TCP pays for nothing else.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::TlsStream;
use tokio_util::io::poll_read_buf;

use super::buffered::Buffered;

/// A byte stream of any kind, as hyper's upgrade gives it in somebody else's server.
pub(crate) type AnyRead = Box<dyn AsyncRead + Send + Unpin>;
/// The writing side of [`AnyRead`].
pub(crate) type AnyWrite = Box<dyn AsyncWrite + Send + Unpin>;

/// The plaintext of a record, in bytes.
const RECORD_LEN: usize = 16 << 10;

/// A TLS stream that reader and writer share, since both may have to read and to write.
type SharedTls = Arc<Mutex<TlsStream<Buffered>>>;

/// Where a WebSocket reads.
pub(crate) enum ReadIo {
    Tcp(OwnedReadHalf),
    Tls(SharedTls),
    Any(AnyRead),
}

/// Where a WebSocket writes.
pub(crate) enum WriteIo {
    Tcp(TcpWrite),
    Tls(SharedTls),
    Any(AnyWrite),
}

pub(crate) fn split_tcp(stream: TcpStream) -> (ReadIo, WriteIo) {
    let (read, write) = stream.into_split();
    (ReadIo::Tcp(read), WriteIo::Tcp(TcpWrite(Some(write))))
}

pub(crate) fn split_tls(stream: TlsStream<Buffered>) -> (ReadIo, WriteIo) {
    let shared = Arc::new(Mutex::new(stream));
    (ReadIo::Tls(Arc::clone(&shared)), WriteIo::Tls(shared))
}

pub(crate) fn split_any(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> (ReadIo, WriteIo) {
    let (read, write) = tokio::io::split(stream);
    (ReadIo::Any(Box::new(read)), WriteIo::Any(Box::new(write)))
}

/// The writing side of a TCP socket. tokio's would be shut down when dropped, a system call that closing the socket
/// makes superfluous.
pub(crate) struct TcpWrite(Option<OwnedWriteHalf>);

impl TcpWrite {
    fn half(&mut self) -> io::Result<&mut OwnedWriteHalf> {
        self.0
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for TcpWrite {
    fn drop(&mut self) {
        if let Some(half) = self.0.take() {
            half.forget();
        }
    }
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
            Self::Tls(io) => poll_read_tls(&mut io.lock(), cx, buf),
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
            Self::Tcp(io) => poll_write_tcp(io.half()?, cx, slices),
            Self::Tls(io) => Pin::new(&mut *io.lock()).poll_write_vectored(cx, slices),
            Self::Any(io) => Pin::new(io).poll_write_vectored(cx, slices),
        }
    }

    /// Hands what TLS holds back to the operating system.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Tls(io) => Pin::new(&mut *io.lock()).poll_flush(cx),
            Self::Any(io) => Pin::new(io).poll_flush(cx),
        }
    }

    /// Ends the stream in this direction.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(io) => Pin::new(io.half()?).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(&mut *io.lock()).poll_shutdown(cx),
            Self::Any(io) => Pin::new(io).poll_shutdown(cx),
        }
    }

    /// Whether many small chunks cost more than copying them together.
    pub(crate) const fn prefers_large_chunks(&self) -> bool {
        !matches!(self, Self::Tcp(_))
    }
}

/// Reads all records that have arrived, since whoever reads writes as much at once as was read at once.
fn poll_read_tls(
    io: &mut TlsStream<Buffered>,
    cx: &mut Context<'_>,
    buf: &mut Vec<u8>,
) -> Poll<io::Result<usize>> {
    let mut total = 0;
    loop {
        match poll_read_buf(Pin::new(&mut *io), cx, buf) {
            Poll::Ready(Ok(read)) => {
                total += read;
                let room = buf.capacity() - buf.len();
                if read == 0 || room < RECORD_LEN || !io.get_ref().0.has_more() {
                    return Poll::Ready(Ok(total));
                }
            }
            // What has been read comes first. A stream that has failed goes on failing.
            Poll::Ready(Err(_)) | Poll::Pending if total > 0 => return Poll::Ready(Ok(total)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
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
