//! What a listener and a dialler give: a connection, its two ends and what is known about the peer.

use std::borrow::Borrow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::batch::Batch;
use crate::error::Error;
use crate::lane::Lane;
use crate::stream::Lanes;
use crate::{memory, quic, stream, websocket};

/// What a reader reserves if its caller has not.
const RESERVE: usize = 4 << 10;

/// A peer on the other end of a transport.
#[derive(Debug)]
pub struct Connection {
    /// What is known about the peer; may be dropped to save memory.
    pub info: Info,
    /// What the peer sends.
    pub reader: Reader,
    /// What is sent to the peer.
    pub writer: Writer,
}

/// The transport of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// QUIC over UDP.
    Quic,
    /// WebSocket over TCP or TLS.
    WebSocket,
    /// Socket.IO over a WebSocket, whose packets somebody in this process translates; in memory from there on.
    SocketIo,
    /// In this process, or a stream plugged in by [`Connection::from_parts`].
    Memory,
}

/// The label under which [`Info::channel_binding`] is derived.
pub const CHANNEL_BINDING_LABEL: &[u8] = b"EXPORTER-dialtone-channel-binding";

/// What is known about a peer when the handshake is done.
#[derive(Clone, Debug)]
pub struct Info {
    /// The transport.
    pub kind: Kind,
    /// Whether nobody on the way can read along.
    pub encrypted: bool,
    /// The peer's address at the time of the handshake.
    pub remote: Option<SocketAddr>,
    /// The address at this end.
    pub local: Option<SocketAddr>,
    /// The headers of the upgrade request at the server's end, without those of the WebSocket itself; else empty.
    pub headers: HeaderMap,
    /// The certificates the peer has proved to own, verified where a client CA is configured; leaf first.
    pub client_certificates: Vec<CertificateDer<'static>>,
    /// A secret that both ends of this TLS session know and nobody else (RFC 5705, label [`CHANNEL_BINDING_LABEL`]), to
    /// bind proofs to it; `None` where nothing is encrypted.
    pub channel_binding: Option<[u8; 32]>,
    /// Moves this connection to another UDP socket; only at the dialling end of QUIC.
    pub rebind: Option<quic::Rebind>,
}

/// The two ends of an accepted socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) remote: SocketAddr,
    pub(crate) local: Option<SocketAddr>,
}

/// The reading end. Poll each lane from one task at a time.
#[derive(Debug)]
pub struct Reader(ReaderKind);

#[derive(Debug)]
enum ReaderKind {
    WebSocket(websocket::Receiver),
    Quic(Box<quic::Receiver>),
    Memory(memory::Receiver),
    Stream(stream::Receiver),
}

/// The writing end.
///
/// Dropping it without [`poll_close`](Self::poll_close) ends the connection abruptly; on QUIC, what the peer has not
/// acknowledged is then lost.
#[derive(Debug)]
pub struct Writer(WriterKind);

#[derive(Debug)]
enum WriterKind {
    WebSocket(Arc<Mutex<websocket::Sender>>),
    Quic(Box<quic::Sender>),
    Memory(memory::Sender),
    Stream(stream::Sender),
}

impl Connection {
    /// A connection over any pair of byte streams, for a simulated link. Its kind is [`Kind::Memory`].
    pub fn from_parts(
        info: Info,
        read: Box<dyn AsyncRead + Send + Unpin>,
        write: Box<dyn AsyncWrite + Send + Unpin>,
    ) -> Self {
        let (receiver, sender) = stream::over(read, write);
        Self {
            info,
            reader: Reader(ReaderKind::Stream(receiver)),
            writer: Writer(WriterKind::Stream(sender)),
        }
    }

    /// As [`from_parts`](Self::from_parts), with two lanes and datagrams. Its kind is [`Kind::Quic`].
    pub fn from_lanes(info: Info, lanes: Lanes) -> Self {
        let (receiver, sender) = stream::over_lanes(lanes);
        Self {
            info: Info {
                kind: Kind::Quic,
                ..info
            },
            reader: Reader(ReaderKind::Stream(receiver)),
            writer: Writer(WriterKind::Stream(sender)),
        }
    }

    pub(crate) const fn websocket(
        info: Info,
        receiver: websocket::Receiver,
        sender: Arc<Mutex<websocket::Sender>>,
    ) -> Self {
        Self {
            info,
            reader: Reader(ReaderKind::WebSocket(receiver)),
            writer: Writer(WriterKind::WebSocket(sender)),
        }
    }

    pub(crate) fn quic(info: Info, receiver: quic::Receiver, sender: quic::Sender) -> Self {
        let (receiver, sender) = (Box::new(receiver), Box::new(sender));
        Self {
            info,
            reader: Reader(ReaderKind::Quic(receiver)),
            writer: Writer(WriterKind::Quic(sender)),
        }
    }

    pub(crate) fn memory(receiver: memory::Receiver, sender: memory::Sender) -> Self {
        Self {
            info: Info::new(Kind::Memory),
            reader: Reader(ReaderKind::Memory(receiver)),
            writer: Writer(WriterKind::Memory(sender)),
        }
    }
}

impl Info {
    /// About a peer of whom nothing is known but the transport.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            encrypted: kind == Kind::Quic,
            remote: None,
            local: None,
            headers: HeaderMap::new(),
            client_certificates: Vec::new(),
            channel_binding: None,
            rebind: None,
        }
    }

    pub(crate) fn of_tcp(kind: Kind, stream: &TcpStream) -> Self {
        Self {
            remote: stream.peer_addr().ok(),
            local: stream.local_addr().ok(),
            ..Self::new(kind)
        }
    }

    pub(crate) fn of_tls(kind: Kind, stream: &TlsStream<impl Borrow<TcpStream>>) -> Self {
        let (tcp, tls) = stream.get_ref();
        let mut binding = [0; 32];
        let bound = match stream {
            TlsStream::Client(stream) => {
                let tls = stream.get_ref().1;
                tls.export_keying_material(&mut binding, CHANNEL_BINDING_LABEL, None)
                    .is_ok()
            }
            TlsStream::Server(stream) => {
                let tls = stream.get_ref().1;
                tls.export_keying_material(&mut binding, CHANNEL_BINDING_LABEL, None)
                    .is_ok()
            }
        };
        let certificates = tls.peer_certificates().unwrap_or_default();
        let client_certificates = certificates
            .iter()
            .map(|cert| cert.clone().into_owned())
            .collect();
        Self {
            encrypted: true,
            client_certificates,
            channel_binding: bound.then_some(binding),
            ..Self::of_tcp(kind, tcp.borrow())
        }
    }
}

impl Reader {
    /// Appends received application bytes of a lane to `buf`, up to its spare capacity.
    ///
    /// Reserve before calling; with no spare capacity at all, 4 KiB are reserved. `Ok(0)` is the orderly end of the
    /// connection. A lane that the transport lacks is pending for ever and wakes nobody.
    ///
    /// # Errors
    /// If the connection failed, the peer closed with a code, or broke the transport's rules. It cannot be used then.
    pub fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        lane: Lane,
        buf: &mut Vec<u8>,
    ) -> Poll<Result<usize, Error>> {
        if buf.capacity() == buf.len() {
            buf.reserve(RESERVE);
        }
        match (&mut self.0, lane) {
            (ReaderKind::WebSocket(receiver), Lane::Interactive) => receiver.poll_recv(cx, buf),
            (ReaderKind::Quic(receiver), Lane::Interactive) => receiver.poll_interactive(cx, buf),
            (ReaderKind::Quic(receiver), Lane::Bulk) => receiver.poll_bulk(cx, buf),
            (ReaderKind::Quic(receiver), Lane::Control) => receiver.poll_control(cx, buf),
            (ReaderKind::Memory(receiver), Lane::Interactive) => receiver.poll_recv(cx, buf),
            (ReaderKind::Stream(receiver), Lane::Interactive) => receiver.poll_recv(cx, buf),
            (ReaderKind::Stream(receiver), Lane::Bulk) => receiver.poll_bulk(cx, buf),
            (ReaderKind::WebSocket(_) | ReaderKind::Memory(_), Lane::Bulk | Lane::Control)
            | (ReaderKind::Stream(_), Lane::Control) => Poll::Pending,
        }
    }

    /// The next datagram; pending for ever where there are none.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn poll_datagram(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Error>> {
        match &mut self.0 {
            ReaderKind::Quic(receiver) => receiver.poll_datagram(cx),
            ReaderKind::Stream(receiver) => receiver.poll_datagram(cx),
            ReaderKind::WebSocket(_) | ReaderKind::Memory(_) => Poll::Pending,
        }
    }

    /// Whether anything ever arrives on this lane.
    pub const fn has_lane(&self, lane: Lane) -> bool {
        match (lane, &self.0) {
            (Lane::Interactive, _) | (Lane::Bulk, ReaderKind::Quic(_)) => true,
            (Lane::Control, ReaderKind::Quic(receiver)) => receiver.has_control_lane(),
            (Lane::Bulk, ReaderKind::Stream(receiver)) => receiver.has_lanes(),
            (Lane::Bulk | Lane::Control, ReaderKind::WebSocket(_) | ReaderKind::Memory(_))
            | (Lane::Control, ReaderKind::Stream(_)) => false,
        }
    }

    /// Whether datagrams may arrive.
    pub const fn has_datagrams(&self) -> bool {
        match &self.0 {
            ReaderKind::Quic(_) => true,
            ReaderKind::Stream(receiver) => receiver.has_lanes(),
            ReaderKind::WebSocket(_) | ReaderKind::Memory(_) => false,
        }
    }
}

impl Writer {
    /// Writes until `batch` is empty and handed to the operating system (ready), or the transport cannot take more.
    ///
    /// After `Pending`, call again with the same batch, even if it is empty: a transport that copies may still hold
    /// bytes. More may have been pushed meanwhile. The lane must be one that the transport has, or shares the
    /// interactive one.
    ///
    /// With a waker that does nothing this is a non-blocking attempt and may be made from any thread; the one who
    /// means to wait must call again with its own waker, even if it did before.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        lane: Lane,
        batch: &mut Batch,
    ) -> Poll<Result<(), Error>> {
        match &mut self.0 {
            WriterKind::WebSocket(sender) => sender.lock().poll_send(cx, batch),
            WriterKind::Quic(sender) => sender.poll_send(cx, lane, batch),
            WriterKind::Memory(sender) => sender.poll_send(cx, batch),
            WriterKind::Stream(sender) => sender.poll_send(cx, lane, batch),
        }
    }

    /// The longest datagram that is taken at the moment, in bytes; `None` where there are none.
    pub fn datagram_len_max(&self) -> Option<usize> {
        match &self.0 {
            WriterKind::Quic(sender) => sender.datagram_len_max(),
            WriterKind::Stream(sender) => sender.datagram_len_max(),
            WriterKind::WebSocket(_) | WriterKind::Memory(_) => None,
        }
    }

    /// Sends a datagram, or returns `false` if it does not fit or there are none on this connection.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn send_datagram(&mut self, datagram: Bytes) -> Result<bool, Error> {
        match &mut self.0 {
            WriterKind::Quic(sender) => sender.send_datagram(datagram),
            WriterKind::Stream(sender) => sender.send_datagram(datagram),
            WriterKind::WebSocket(_) | WriterKind::Memory(_) => Ok(false),
        }
    }

    /// Ends the connection in good order, when [`poll_send`](Self::poll_send) is ready on all lanes: the peer reads
    /// everything, then the end, which is [`Error::Closed`] for it unless `code` is 0.
    ///
    /// Waits until the peer has taken what was sent, so bound it in time and [`abort`](Self::abort) after that. On
    /// WebSocket the code is at most 999 and travels as 4000 + code; the reason is cut at 123 bytes. Keep reading until
    /// the end where it matters that the peer gets the last bytes: closing a TCP socket with unread input resets it.
    ///
    /// # Errors
    /// If the connection has ended otherwise.
    pub fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        code: u16,
        reason: &str,
    ) -> Poll<Result<(), Error>> {
        match &mut self.0 {
            WriterKind::WebSocket(sender) => sender.lock().poll_close(cx, code, reason),
            WriterKind::Quic(sender) => sender.poll_close(cx, code, reason),
            WriterKind::Memory(sender) => {
                sender.close(code, reason);
                Poll::Ready(Ok(()))
            }
            WriterKind::Stream(sender) => sender.poll_close(cx),
        }
    }

    /// Ends the connection at once, for a peer that does not read: what waits is lost, and the code is told if that is
    /// possible without waiting. Drop both ends after it.
    pub fn abort(&mut self, code: u16, reason: &str) {
        match &mut self.0 {
            WriterKind::WebSocket(sender) => {
                let mut cx = Context::from_waker(std::task::Waker::noop());
                // Best effort by contract: a full or broken socket cannot be told anything.
                drop(sender.lock().poll_close(&mut cx, code, reason));
            }
            WriterKind::Quic(sender) => sender.abort(code, reason),
            WriterKind::Memory(sender) => sender.close(code, reason),
            WriterKind::Stream(sender) => sender.abort(),
        }
    }
}
