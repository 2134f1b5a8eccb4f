//! A socket that is read in large pieces: the TLS library asks for 4 KiB at a time, and a record has four times as much.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

/// How much is asked of the socket at once, in bytes: four records.
const READ_LEN: usize = 64 << 10;

/// How many buffers a thread keeps for the next reads. One is in use at a time, unless peers were sent more than is read.
const SPARE_MAX: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A TCP socket with what was read and not asked for yet. Where nothing was, it holds no memory.
#[derive(Debug)]
pub(crate) struct Buffered {
    io: TcpStream,
    read: Vec<u8>,
    at: usize,
}

impl Buffered {
    pub(crate) const fn new(io: TcpStream) -> Self {
        Self {
            io,
            read: Vec::new(),
            at: 0,
        }
    }

    /// Whether the next read is served without the socket.
    pub(crate) const fn has_more(&self) -> bool {
        self.at < self.read.len()
    }

    /// Reads as much as there is; at the end of the stream, nothing.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut block = SPARE
            .with_borrow_mut(Vec::pop)
            .unwrap_or_else(|| Vec::with_capacity(READ_LEN));
        let read = poll_read_buf(Pin::new(&mut self.io), cx, &mut block);
        if block.is_empty() {
            give_back(block);
        } else {
            self.read = block;
        }
        read.map_ok(|_len| ())
    }
}

fn give_back(mut block: Vec<u8>) {
    block.clear();
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARE_MAX {
            spare.push(block);
        }
    });
}

impl Borrow<TcpStream> for Buffered {
    fn borrow(&self) -> &TcpStream {
        &self.io
    }
}

impl AsyncRead for Buffered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.has_more() {
            ready!(self.poll_fill(cx))?;
        }
        let rest = self.read.get(self.at..).unwrap_or_default();
        let len = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..len]);
        self.at += len;
        if !self.has_more() {
            let read = std::mem::take(&mut self.read);
            self.at = 0;
            give_back(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Buffered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_is_read_in_small_pieces_is_what_was_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let mut buffered = Buffered::new(listener.accept().await.unwrap().0);
        let sent: Vec<u8> = (0..200_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        let (written, got) = tokio::join!(
            async {
                let written = sender.write_all(&sent).await;
                drop(sender);
                written
            },
            async {
                let (mut got, mut piece) = (Vec::new(), [0; 4_001]);
                loop {
                    let len = buffered.read(&mut piece).await.unwrap();
                    if len == 0 {
                        return got;
                    }
                    got.extend_from_slice(&piece[..len]);
                }
            }
        );
        written.unwrap();
        assert!(got == sent, "bytes differ");
        assert_eq!(buffered.read.capacity(), 0, "it holds no memory at the end");
    }
}
