//! The connection of a client, plain or encrypted, which is given up when it takes nothing for too long.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;

/// How long a client may take to read its answer while it goes on sending: as nginx, per connection.
const LINGER_MAX: Duration = Duration::from_secs(30);

/// How much of that is read at once, and how often before others have their turn.
const LINGER_READ_LEN: usize = 8 << 10;
const LINGER_READS_MAX: u32 = 16;

/// The bytes themselves.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Whether a client is still sending what nobody takes any more. Closing its connection then would have the client's
/// system throw away the answer that is on its way: what comes is taken and dropped until the client has read it.
#[derive(Debug, Default)]
pub(crate) struct Lingering(AtomicBool);

impl Lingering {
    /// The client sends something that is not taken.
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Stream,
    /// `None` once it speaks no HTTP any more.
    lingering: Option<Arc<Lingering>>,
    /// Runs from when everything was sent and no more is taken.
    closing: Option<Pin<Box<Sleep>>>,
    stall_max: Duration,
    /// Runs while the client takes nothing.
    stall: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(crate) fn new(stream: Stream, stall_max: Duration, lingering: Arc<Lingering>) -> Self {
        Self {
            stream,
            lingering: Some(lingering),
            closing: None,
            stall_max,
            stall: None,
        }
    }

    /// The socket itself, where nothing stands between it and the bytes.
    pub(crate) fn plain(&self) -> Option<&TcpStream> {
        match &self.stream {
            Stream::Plain(stream) => Some(stream),
            Stream::Tls(_) => None,
        }
    }

    /// From here on both directions are somebody else's to close.
    pub(crate) fn leaves_http(&mut self) {
        self.lingering = None;
    }

    /// Takes and drops what comes until the client closes its side, or it has had time enough to read its answer.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let closing = self
            .closing
            .get_or_insert_with(|| Box::pin(sleep(LINGER_MAX)));
        if closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut scratch = [const { MaybeUninit::uninit() }; LINGER_READ_LEN];
        for _ in 0..LINGER_READS_MAX {
            let mut buf = ReadBuf::uninit(&mut scratch);
            // How it ends makes no difference any more.
            let read = ready!(self.stream.poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(());
            }
        }
        // There is more, but others wait as well.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// What a write gave, unless the client has taken nothing for too long.
    fn watched<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let stall_max = self.stall_max;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(stall_max)));
        ready!(stall.as_mut().poll(cx));
        let text = "the client takes nothing";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().stream.poll_read(cx, buf)
    }
}

impl Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        this.watched(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        this.watched(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        this.watched(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.closing.is_none() {
            let shut = match &mut this.stream {
                Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
                Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            };
            ready!(this.watched(cx, shut))?;
        }
        let lingers = |lingering: &Arc<Lingering>| lingering.0.load(Ordering::Relaxed);
        if this.lingering.as_ref().is_some_and(lingers) {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
