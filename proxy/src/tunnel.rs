//! Bytes in both directions between two connections, until one of them has no more.
//!
//! ```text
//!   few bytes:   read ──▶ scratch of the thread ──▶ write          an idle tunnel holds no buffer
//!   many bytes:  splice ──▶ pipe ──▶ splice                        they never come to user space
//!                            what cannot be written yet waits where it is
//! ```
//!
//! A direction reads only when nothing of it waits to be written, so that whoever is slow slows down the other end.

mod direction;
mod pipe;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

use self::direction::Direction;
use crate::quiet::Quiet;
use crate::socket::Socket;

/// How long one direction may go on after the other has ended.
const LINGER: Duration = Duration::from_secs(10);

/// How long a direction is watched for where tunnels may be silent for ever.
const FOREVER: Duration = Duration::from_hours(24 * 365);

/// One end of a tunnel.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin {
    /// The socket itself, where its bytes are the ones that pass.
    fn plain(&self) -> Option<&TcpStream>;
}

impl Io for Socket {
    fn plain(&self) -> Option<&TcpStream> {
        Self::plain(self)
    }
}

impl Io for TcpStream {
    fn plain(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

/// An end with what was read of it already.
pub(crate) struct Side<S> {
    io: S,
    first: Bytes,
}

impl<S> Side<S> {
    pub(crate) fn new(io: S, first: Bytes) -> Self {
        Self { io, first }
    }
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both ends said that they have no more.
    Closed,
    /// A connection failed, or one end went on long after the other had gone.
    Broken,
    /// Nothing passed for too long.
    Silent,
    /// Access ended.
    Access,
}

/// What has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) from_client: u64,
    pub(crate) from_server: u64,
    pub(crate) end: End,
}

/// Passes bytes on; both ends are closed when it returns. `idle_max` zero: silence is no reason to end.
pub(crate) async fn pass<C: Io, S: Io>(
    client: Side<C>,
    server: Side<S>,
    idle_max: Duration,
    ended: &CancellationToken,
) -> Passed {
    let idle_max = if idle_max.is_zero() {
        FOREVER
    } else {
        idle_max
    };
    let mut tunnel = Tunnel {
        client: client.io,
        server: server.io,
        out: Direction::new(client.first),
        back: Direction::new(server.first),
        idle_max,
        timer: Box::pin(sleep(idle_max)),
        seen: 0,
        is_lingering: false,
    };
    let mut over = Quiet::new(ended.clone().cancelled_owned());
    let end = poll_fn(|cx| match tunnel.poll(cx) {
        Poll::Ready(end) => Poll::Ready(end),
        Poll::Pending => Pin::new(&mut over).poll(cx).map(|()| End::Access),
    })
    .await;
    Passed {
        from_client: tunnel.out.passed(),
        from_server: tunnel.back.passed(),
        end,
    }
}

struct Tunnel<C, S> {
    client: C,
    server: S,
    out: Direction,
    back: Direction,
    idle_max: Duration,
    timer: Pin<Box<Sleep>>,
    /// The bytes that had passed when the timer was set.
    seen: u64,
    is_lingering: bool,
}

impl<C: Io, S: Io> Tunnel<C, S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let out = self.out.poll(cx, &mut self.client, &mut self.server);
        let back = self.back.poll(cx, &mut self.server, &mut self.client);
        match (settled(out), settled(back)) {
            (Some(Err(error)), _) | (_, Some(Err(error))) => {
                tracing::debug!(%error, "a WebSocket's connection failed");
                return Poll::Ready(End::Broken);
            }
            (Some(Ok(())), Some(Ok(()))) => return Poll::Ready(End::Closed),
            (None, None) => {}
            (Some(Ok(())), None) | (None, Some(Ok(()))) => self.linger(),
        }
        self.poll_timer(cx)
    }

    fn linger(&mut self) {
        if !self.is_lingering {
            self.is_lingering = true;
            self.timer.as_mut().reset(Instant::now() + LINGER);
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.is_lingering {
                return Poll::Ready(End::Broken);
            }
            let passed = self.out.passed() + self.back.passed();
            if passed == self.seen {
                return Poll::Ready(End::Silent);
            }
            self.seen = passed;
            self.timer.as_mut().reset(Instant::now() + self.idle_max);
        }
        Poll::Pending
    }
}

fn settled(poll: Poll<io::Result<()>>) -> Option<io::Result<()>> {
    match poll {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests;
