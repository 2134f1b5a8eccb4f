//! tokio as quinn needs it, with UDP sockets that wake nobody for having sent.
//!
//! The kernel tells whoever watches a UDP socket for room that there is some each time a packet has left it. Where
//! sockets are watched both ways, as tokio's and quinn's own are, each packet that is sent therefore wakes the thread
//! that receives on the socket, for nothing. Here a socket is watched for what arrives, and for room only while it is
//! full.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncTimer, AsyncUdpSocket, TokioRuntime, UdpPoller};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use super::driver::Driver;

/// See the module.
#[derive(Debug)]
pub(super) struct Runtime;

impl quinn::Runtime for Runtime {
    fn new_timer(&self, i: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(i)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(Box::pin(Driver::spawned(future)));
    }

    fn wrap_udp_socket(&self, t: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Ok(Arc::new(Socket {
            state: UdpSocketState::new((&t).into())?,
            io: watch(t, Interest::READABLE)?,
            full: AtomicBool::new(false),
            home: Handle::current(),
        }))
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

/// Watches a socket, of which nobody else has the descriptor.
#[expect(
    deprecated,
    reason = "its successor is unsafe, for types that do not keep the descriptor that they name; a socket of the standard \
              library does, and is never replaced here"
)]
fn watch(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(socket, interest)
}

#[derive(Debug)]
struct Socket {
    state: UdpSocketState,
    /// Watched for what arrives alone.
    io: AsyncFd<UdpSocket>,
    /// The latest packet found no room.
    full: AtomicBool,
    /// Where it is watched, whoever sends.
    home: Handle,
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Room {
            socket: self,
            waiting: None,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.state.send(self.io.get_ref().into(), transmit);
        if matches!(&sent, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            self.full.store(true, Ordering::Release);
        }
        sent
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.io.poll_read_ready(cx))?;
            let received = ready.try_io(|io| self.state.recv(io.get_ref().into(), bufs, meta));
            // An error is that of some packet sent before, which reading takes off the socket; it must not end the
            // endpoint with all of its connections. A socket that is empty is waited for in the next round.
            if let Ok(Ok(count)) = received {
                return Poll::Ready(Ok(count));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }
}

/// Waits for room in a socket, by a descriptor of its own that there is only meanwhile.
struct Room {
    socket: Arc<Socket>,
    waiting: Option<AsyncFd<UdpSocket>>,
}

impl UdpPoller for Room {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.socket.full.load(Ordering::Acquire) {
            self.waiting = None;
            return Poll::Ready(Ok(()));
        }
        if self.waiting.is_none() {
            // Whether there is room by now is told as soon as it is watched.
            let socket = self.socket.io.get_ref().try_clone()?;
            let waiting = {
                let _home = self.socket.home.enter();
                watch(socket, Interest::WRITABLE)?
            };
            self.waiting = Some(waiting);
        }
        if let Some(waiting) = &self.waiting {
            drop(ready!(waiting.poll_write_ready(cx))?);
        }
        self.waiting = None;
        self.socket.full.store(false, Ordering::Release);
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room")
            .field("is_waiting", &self.waiting.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use quinn::Runtime as _;

    use super::*;

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    #[tokio::test]
    async fn a_socket_that_was_full_is_waited_for_and_then_has_room() {
        let state = UdpSocketState::new((&socket()).into()).unwrap();
        let io = watch(socket(), Interest::READABLE).unwrap();
        let socket = Arc::new(Socket {
            state,
            io,
            full: AtomicBool::new(true),
            home: Handle::current(),
        });
        let mut room = Arc::clone(&socket).create_io_poller();
        poll_fn(|cx| room.as_mut().poll_writable(cx)).await.unwrap();
        assert!(!socket.full.load(Ordering::Acquire));
        // Nobody is waited for while there is room.
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(room.as_mut().poll_writable(&mut cx).is_ready());
    }

    #[tokio::test]
    async fn what_one_socket_sends_another_one_receives() {
        let [one, other] =
            [socket(), socket()].map(|socket| Runtime.wrap_udp_socket(socket).unwrap());
        let transmit = Transmit {
            destination: other.local_addr().unwrap(),
            ecn: None,
            contents: b"hello",
            segment_size: None,
            src_ip: None,
        };
        one.try_send(&transmit).unwrap();
        let (mut buffer, mut meta) = ([0; 2_000], [RecvMeta::default()]);
        let count =
            poll_fn(|cx| other.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta));
        assert_eq!(count.await.unwrap(), 1);
        assert_eq!(&buffer[..meta[0].len], b"hello");
        assert_eq!(meta[0].addr, one.local_addr().unwrap());
    }
}
