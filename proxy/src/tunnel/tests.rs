//! Tunnels between real sockets.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// Two connected sockets.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap());
    let (one, other) = tokio::join!(one, listener.accept());
    (one.unwrap(), other.unwrap().0)
}

/// A stream that is not plain, as an encrypted one is not.
struct Wrapped(TcpStream);

impl Io for Wrapped {
    fn plain(&self) -> Option<&TcpStream> {
        None
    }
}

impl AsyncRead for Wrapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wrapped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

fn noise(len: usize) -> Vec<u8> {
    (0_u32..)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .take(len)
        .collect()
}

/// Sends much both ways at once, and checks that it arrives as it was.
async fn both_ways<C: Io>(wrap: impl FnOnce(TcpStream) -> C) {
    const LEN: usize = 8 << 20;
    let (client, inner) = pair().await;
    let (outer, server) = pair().await;
    let ended = CancellationToken::new();
    let first = Bytes::from_static(b"first");
    let passing = pass(
        Side::new(wrap(inner), first),
        Side::new(outer, Bytes::new()),
        Duration::ZERO,
        &ended,
    );
    let talk = |mut stream: TcpStream, greeting: &'static [u8]| async move {
        let (mut read, mut write) = stream.split();
        let sent = noise(LEN);
        let mut got = Vec::new();
        let writing = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let (_, ()) = tokio::join!(read.read_to_end(&mut got), writing);
        assert!(
            got.strip_prefix(greeting).is_some_and(|rest| rest == sent),
            "what was sent has arrived"
        );
    };
    let (passed, (), ()) = tokio::join!(passing, talk(client, b""), talk(server, b"first"));
    let len = u64::try_from(LEN).unwrap();
    assert_eq!(
        passed,
        Passed {
            from_client: len + 5,
            from_server: len,
            end: End::Closed
        }
    );
}

#[tokio::test]
async fn much_passes_through_pipes_as_it_was() {
    both_ways(|stream| stream).await;
}

#[tokio::test]
async fn much_passes_through_user_space_as_it_was() {
    both_ways(Wrapped).await;
}

#[tokio::test]
async fn a_slow_reader_stops_the_writer() {
    let (mut client, inner) = pair().await;
    let (outer, mut server) = pair().await;
    let ended = CancellationToken::new();
    let passing = pass(
        Side::new(inner, Bytes::new()),
        Side::new(outer, Bytes::new()),
        Duration::ZERO,
        &ended,
    );
    let chunk = noise(1 << 20);
    let talk = async {
        // Nobody reads: at some point the writer cannot go on, because all buffers between the two are full.
        let mut sent = 0;
        let mut full = std::pin::pin!(async {
            loop {
                sent += client.write(&chunk).await.unwrap();
            }
        });
        let filled = tokio::time::timeout(Duration::from_secs(1), &mut full).await;
        let filled: Result<std::convert::Infallible, _> = filled;
        assert!(filled.is_err());
        assert!(sent < 64 << 20, "{sent} bytes are somewhere");
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), sent);
        server.shutdown().await.unwrap();
    };
    let (passed, ()) = tokio::join!(passing, talk);
    assert_eq!(passed.end, End::Closed);
}

#[tokio::test]
async fn the_end_of_access_closes_both_ends() {
    let (mut client, inner) = pair().await;
    let (outer, mut server) = pair().await;
    let ended = CancellationToken::new();
    let passing = pass(
        Side::new(inner, Bytes::new()),
        Side::new(outer, Bytes::new()),
        Duration::ZERO,
        &ended,
    );
    let talk = async {
        client.write_all(b"a").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'a');
        ended.cancel();
    };
    let (passed, ()) = tokio::join!(passing, talk);
    assert_eq!(
        passed,
        Passed {
            from_client: 1,
            from_server: 0,
            end: End::Access
        }
    );
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_tunnel_and_talk_does_not() {
    let (client, inner) = tokio::io::duplex(64);
    let (outer, server) = tokio::io::duplex(64);
    let (mut client, mut server) = (client, server);
    let ended = CancellationToken::new();
    let idle = Duration::from_mins(1);
    let passing = pass(
        Side::new(Duplex(inner), Bytes::new()),
        Side::new(Duplex(outer), Bytes::new()),
        idle,
        &ended,
    );
    let talk = async {
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(50)).await;
            client.write_all(b"a").await.unwrap();
            assert_eq!(server.read_u8().await.unwrap(), b'a');
        }
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    };
    let (passed, ()) = tokio::join!(passing, talk);
    assert_eq!(passed.end, End::Silent);
}

/// A pipe in memory, so that time can be stopped.
struct Duplex(tokio::io::DuplexStream);

impl Io for Duplex {
    fn plain(&self) -> Option<&TcpStream> {
        None
    }
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
