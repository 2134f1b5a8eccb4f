//! A web server that has nothing but Socket.IO, for a broker that stands alone.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dialtone_transport::tls::ServerTls;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gateway::{Gateway, Peer};
use crate::url::Url;

/// How long a listener rests when the process has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Headers of a request, at most.
const HEADERS_MAX: usize = 64;

/// The longest head of a request, in bytes.
const HEAD_LEN_MAX: usize = 64 << 10;

/// A socket at which clients arrive.
#[derive(Debug)]
pub struct Listener {
    url: Url,
    socket: TcpListener,
    tls: Option<ServerTls>,
}

/// Why one cannot listen.
#[derive(Debug, Error)]
pub enum BindError {
    /// TLS needs a certificate.
    #[error("{0} needs a certificate")]
    NoCertificate(Url),
    /// The address cannot be had.
    #[error("cannot listen on {url}")]
    Socket {
        /// Where.
        url: Url,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Listener {
    /// Listens, on the runtime of the caller.
    ///
    /// # Errors
    /// When the address cannot be had, or a certificate is needed and there is none.
    pub async fn bind(url: &Url, tls: Option<ServerTls>) -> Result<Self, BindError> {
        if url.tls && tls.is_none() {
            return Err(BindError::NoCertificate(url.clone()));
        }
        let failed = |source| BindError::Socket {
            url: url.clone(),
            source,
        };
        let socket = TcpListener::bind((url.host.as_str(), url.port))
            .await
            .map_err(failed)?;
        let port = socket.local_addr().map_err(failed)?.port();
        Ok(Self {
            url: Url {
                port,
                ..url.clone()
            },
            socket,
            tls: tls.filter(|_| url.tls),
        })
    }

    /// Where it listens, with the port that was chosen.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Accepts clients until `stop`; their connections go on, on `shards` in turn, or on the runtime of the caller
    /// where there are none.
    pub async fn run(self, gateway: Gateway, shards: Vec<Handle>, stop: CancellationToken) {
        let handshakes = Arc::new(Semaphore::new(gateway.config().handshakes_max));
        let tasks = TaskTracker::new();
        let mut next = 0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = accept(&self.socket, &handshakes) => accepted,
            };
            let (stream, remote, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections at the moment");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let visitor = Visitor {
                gateway: gateway.clone(),
                tls: self.tls.clone(),
                remote,
                permit,
            };
            match shards.get(next) {
                None => drop(tasks.spawn(async move { visitor.serve(stream).await })),
                Some(shard) => {
                    next = (next + 1) % shards.len();
                    // A socket belongs to the runtime on which it is made.
                    let Ok(stream) = stream.into_std() else {
                        continue;
                    };
                    let task = async move {
                        match TcpStream::from_std(stream) {
                            Ok(stream) => visitor.serve(stream).await,
                            Err(error) => tracing::debug!(%error, "a connection was lost"),
                        }
                    };
                    drop(tasks.spawn_on(task, shard));
                }
            }
        }
    }
}

async fn accept(
    socket: &TcpListener,
    handshakes: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(handshakes)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    loop {
        match socket.accept().await {
            Ok((stream, remote)) => return Ok((stream, remote, permit)),
            // The client has left before it was accepted, which is no fault of the listener.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) => {}
            Err(error) => return Err(error),
        }
    }
}

/// A client that has been accepted and has said nothing.
struct Visitor {
    gateway: Gateway,
    tls: Option<ServerTls>,
    remote: SocketAddr,
    /// Returned when the handshake is over.
    permit: OwnedSemaphorePermit,
}

impl Visitor {
    async fn serve(self, stream: TcpStream) {
        let Self {
            gateway,
            tls,
            remote,
            permit,
        } = self;
        let peer = Peer {
            remote,
            local: stream.local_addr().ok(),
            encrypted: tls.is_some(),
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "small packets may be late");
        }
        let timeout = gateway.config().handshake_timeout;
        let Some(tls) = tls else {
            return exchange(stream, gateway, peer, permit).await;
        };
        let acceptor = TlsAcceptor::from(tls.tcp_config());
        match tokio::time::timeout(timeout, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => exchange(stream, gateway, peer, permit).await,
            Ok(Err(error)) => tracing::debug!(%error, "the TLS handshake failed"),
            Err(_elapsed) => tracing::debug!("the TLS handshake took too long"),
        }
    }
}

/// Answers requests until one is upgraded or the client leaves.
async fn exchange<S>(stream: S, gateway: Gateway, peer: Peer, permit: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let timeout = gateway.config().handshake_timeout;
    let service = service_fn(move |request| {
        let response = answer(&gateway, request, peer);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let mut http = http1::Builder::new();
    http.max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_LEN_MAX)
        .timer(TokioTimer::new())
        .header_read_timeout(timeout);
    let served = http
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = served.await {
        tracing::debug!(%error, "a request could not be answered");
    }
    drop(permit);
}

fn answer(gateway: &Gateway, request: Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if gateway.is_at(path) {
        return gateway.handle(request, peer);
    }
    let (status, text) = match path {
        "/healthz" => (StatusCode::OK, "healthy\n".to_owned()),
        _ => (
            StatusCode::NOT_FOUND,
            format!(
                "Socket.IO is served at {}/ and nothing else\n",
                gateway.config().path()
            ),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}
