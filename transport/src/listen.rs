//! Listening on an endpoint, whatever the transport, and turning what arrives into connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Handle};
use tokio_rustls::TlsAcceptor;

use crate::connection::{Addresses, Connection};
use crate::endpoint::Endpoint;
use crate::error::{BindError, Error, HandshakeError};
use crate::tls::ServerTls;
use crate::{memory, quic, websocket};

/// How to listen.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// The certificate; needed for `wss` and `quic`.
    pub tls: Option<ServerTls>,
    /// Bounds TLS, HTTP and QUIC handshakes together, for each peer. Default 10 s.
    pub handshake_timeout: Duration,
    /// Origins (`https://example.org`) that may connect with cookies, besides those of the same host.
    ///
    /// `Origin` is looked at only if the upgrade request carries cookies, because only a browser is fooled by a page.
    pub allowed_origins: Vec<String>,
    /// Sends small packets at once (`TCP_NODELAY`). Default true.
    pub nodelay: bool,
    /// TCP connections that may wait to be accepted; the kernel may lower it. Default 4096.
    pub backlog: u32,
    /// The most headers of an upgrade request. Default 64.
    pub headers_max: usize,
    /// The longest head of an upgrade request, in bytes; 8 KiB at least. Default 16 KiB.
    pub header_bytes_max: usize,
    /// Settings of QUIC connections.
    pub quic: quic::Settings,
    /// Where `memory:` names are registered.
    pub hub: Option<memory::Hub>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            tls: None,
            handshake_timeout: Duration::from_secs(10),
            allowed_origins: Vec::new(),
            nodelay: true,
            backlog: 4096,
            headers_max: 64,
            header_bytes_max: 16 << 10,
            quic: quic::Settings::default(),
            hub: None,
        }
    }
}

/// A socket or name at which peers arrive.
#[derive(Debug)]
pub struct Listener {
    endpoint: Endpoint,
    addr: Option<SocketAddr>,
    kind: ListenerKind,
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum ListenerKind {
    Tcp(TcpListener),
    Quic(quinn::Endpoint, Arc<quic::Server>),
    Memory(memory::Accepting),
}

/// What every peer of a listener needs during its handshake.
struct Shared {
    options: ListenOptions,
    tls: Option<ServerTls>,
    path: String,
    addr: Option<SocketAddr>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Listener {
    /// Listens on `endpoint`; with a name of several addresses, on the first that works.
    ///
    /// # Errors
    /// If the address cannot be had, or options lack what the transport needs.
    pub async fn bind(endpoint: &Endpoint, options: &ListenOptions) -> Result<Self, BindError> {
        let no_certificate = || BindError::NoCertificate(endpoint.clone());
        let mut tls = None;
        let mut path = String::new();
        let kind = match endpoint {
            Endpoint::Memory(name) => {
                let hub = options
                    .hub
                    .as_ref()
                    .ok_or_else(|| BindError::NoHub(endpoint.clone()))?;
                ListenerKind::Memory(hub.bind(name)?)
            }
            Endpoint::Quic { .. } => {
                let server_tls = options.tls.as_ref().ok_or_else(no_certificate)?;
                let server = Arc::new(quic::Server::new(server_tls, &options.quic));
                let quinn = bind_first(endpoint, |addr| server.listen(addr)).await?;
                ListenerKind::Quic(quinn, server)
            }
            Endpoint::Ws { path: asked, .. } | Endpoint::Wss { path: asked, .. } => {
                path.clone_from(asked);
                if endpoint.is_encrypted() {
                    let server_tls = options.tls.as_ref().ok_or_else(no_certificate)?;
                    tls = Some(server_tls.clone());
                }
                ListenerKind::Tcp(bind_first(endpoint, |addr| listen_tcp(addr, options)).await?)
            }
        };
        let addr = match &kind {
            ListenerKind::Tcp(listener) => listener.local_addr().ok(),
            ListenerKind::Quic(quinn, _) => quinn.local_addr().ok(),
            ListenerKind::Memory(_) => None,
        };
        let endpoint = addr.map_or_else(|| endpoint.clone(), |addr| endpoint.at(addr));
        Ok(Self {
            endpoint,
            addr,
            kind,
            shared: Arc::new(Shared {
                options: options.clone(),
                tls,
                path,
                addr,
            }),
        })
    }

    /// What was bound, with the real port where 0 was asked for.
    pub const fn local_endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The address of the socket.
    pub const fn local_addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// Waits for a peer. What the peer does afterwards, good or bad, is a matter of its [`Incoming`].
    ///
    /// # Errors
    /// If the listener itself has ended, or the process is out of descriptors; in the latter case it can be called
    /// again, better after a pause.
    pub async fn accept(&self) -> Result<Incoming, Error> {
        let kind = match &self.kind {
            ListenerKind::Tcp(listener) => accept_tcp(listener).await?,
            ListenerKind::Quic(quinn, server) => {
                let incoming = quinn.accept().await.ok_or(Error::ClosedHere)?;
                IncomingKind::Quic(Box::new(incoming), Arc::clone(server))
            }
            ListenerKind::Memory(accepting) => {
                IncomingKind::Memory(Box::new(accepting.accept().await?))
            }
        };
        Ok(Incoming {
            kind,
            shared: Arc::clone(&self.shared),
        })
    }
}

async fn accept_tcp(listener: &TcpListener) -> Result<IncomingKind, Error> {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                return Ok(IncomingKind::Tcp {
                    stream,
                    remote,
                    runtime: Handle::current().id(),
                });
            }
            // The peer has left before it was accepted, which is no fault of the listener.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) =>
            {
                tracing::debug!(%error, "peer left before it was accepted");
            }
            Err(error) => return Err(Error::Io(error)),
        }
    }
}

/// A peer that has arrived but has not shaken hands.
///
/// It may be sent to a thread with another tokio runtime, where its connection then lives.
#[derive(Debug)]
pub struct Incoming {
    kind: IncomingKind,
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum IncomingKind {
    Tcp {
        stream: TcpStream,
        remote: SocketAddr,
        runtime: runtime::Id,
    },
    Quic(Box<quinn::Incoming>, Arc<quic::Server>),
    Memory(Box<Connection>),
}

impl Incoming {
    /// The peer's address; on QUIC it is not proved yet.
    pub fn remote(&self) -> Option<SocketAddr> {
        match &self.kind {
            IncomingKind::Tcp { remote, .. } => Some(*remote),
            IncomingKind::Quic(incoming, _) => Some(incoming.remote_address()),
            IncomingKind::Memory(_) => None,
        }
    }

    /// Shakes hands, within [`ListenOptions::handshake_timeout`].
    ///
    /// # Errors
    /// If the peer is too slow, does not speak the transport's protocol, or has no right to it.
    pub async fn establish(self) -> Result<Connection, HandshakeError> {
        let Self { kind, shared } = self;
        // On the heap, because handshakes are large and are moved several times before they begin.
        let handshake = Box::pin(async {
            match kind {
                IncomingKind::Tcp {
                    stream,
                    remote,
                    runtime,
                } => {
                    let stream = move_here(stream, runtime)?;
                    // Only a listener at every address of the machine must ask at which one this peer arrived.
                    let local = shared.addr.filter(|addr| !addr.ip().is_unspecified());
                    let local = local.or_else(|| stream.local_addr().ok());
                    let addresses = Addresses { remote, local };
                    let tls = shared.tls.as_ref().map(ServerTls::tcp_config);
                    let tls = tls.map(TlsAcceptor::from);
                    websocket::establish(stream, addresses, tls, &shared.path, &shared.options)
                        .await
                }
                IncomingKind::Quic(incoming, server) => {
                    quic::establish(*incoming, &server, shared.addr).await
                }
                IncomingKind::Memory(connection) => Ok(*connection),
            }
        });
        match tokio::time::timeout(shared.options.handshake_timeout, handshake).await {
            Ok(result) => result,
            Err(_elapsed) => Err(HandshakeError::TimedOut),
        }
    }

    /// Turns the peer away without a handshake.
    pub fn refuse(self) {
        match self.kind {
            IncomingKind::Quic(incoming, _) => incoming.refuse(),
            IncomingKind::Tcp { stream, .. } => drop(stream),
            IncomingKind::Memory(mut connection) => connection.writer.abort(0, ""),
        }
    }
}

/// Registers a socket with the runtime of this thread if it belongs to another.
fn move_here(stream: TcpStream, runtime: runtime::Id) -> io::Result<TcpStream> {
    if Handle::current().id() == runtime {
        Ok(stream)
    } else {
        TcpStream::from_std(stream.into_std()?)
    }
}

/// Binds the first of the endpoint's addresses that can be had.
async fn bind_first<T>(
    endpoint: &Endpoint,
    bind: impl Fn(SocketAddr) -> io::Result<T>,
) -> Result<T, BindError> {
    let (host, port) = endpoint.host_port().unwrap_or_default();
    let resolve_error = |source| BindError::Resolve {
        host: host.to_owned(),
        source,
    };
    let mut failure = None;
    for addr in tokio::net::lookup_host((host, port))
        .await
        .map_err(resolve_error)?
    {
        match bind(addr) {
            Ok(bound) => return Ok(bound),
            Err(source) => {
                failure = Some(BindError::Socket {
                    endpoint: endpoint.clone(),
                    addr,
                    source,
                });
            }
        }
    }
    Err(failure.unwrap_or_else(|| resolve_error(io::ErrorKind::NotFound.into())))
}

fn listen_tcp(addr: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted broker must not wait for the connections of its predecessor to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&addr.into())?;
    // Accepted sockets inherit it, which saves a system call for each.
    socket.set_tcp_nodelay(options.nodelay)?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}
