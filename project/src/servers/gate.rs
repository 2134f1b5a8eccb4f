//! The door of a named server: a port that asks for the project's token and leads to where the server listens.
//!
//! Every user of a machine reaches every port of its loopback, and named servers ask for no password. So they listen at a
//! socket in a folder that is closed to others, and only who shows the token, as the proxy does, is passed on. Each
//! request is looked at: one connection may carry requests of several people.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, COOKIE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::patient::Patient;
use crate::raw;

/// How long a client may take for the head of a request.
const HEAD_MAX: Duration = Duration::from_secs(30);

/// How long is waited before a connection is accepted again when that failed, for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Behind {
    /// At a socket in a folder of which others see nothing.
    Socket(PathBuf),
    /// At a port of the loopback, where everybody reaches it who knows this secret: it is added as a cookie.
    Port {
        addr: SocketAddr,
        cookie: &'static str,
        secret: String,
    },
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Behind {
    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Socket(path) => Box::new(UnixStream::connect(path).await?),
            Self::Port { addr, .. } => Box::new(TcpStream::connect(addr).await?),
        })
    }

    /// Whether it accepts connections.
    pub(super) async fn answers(&self) -> bool {
        self.connect().await.is_ok()
    }

    /// Takes our token off, and puts the server's secret on.
    fn rewrite(&self, headers: &mut HeaderMap) -> Result<(), http::header::InvalidHeaderValue> {
        headers.remove(raw::TOKEN_HEADER);
        let Self::Port { cookie, secret, .. } = self else {
            return Ok(());
        };
        let mut all: Vec<u8> = format!("{cookie}={secret}").into_bytes();
        for given in headers.get_all(COOKIE) {
            all.extend_from_slice(b"; ");
            all.extend_from_slice(given.as_bytes());
        }
        headers.insert(COOKIE, HeaderValue::from_bytes(&all)?);
        Ok(())
    }
}

/// A door that is not open yet: who connects before waits.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) listener: TcpListener,
    pub(super) behind: Behind,
    /// `None` lets everybody in.
    pub(super) token: Option<String>,
    /// Connections at once.
    pub(super) connections_max: usize,
    /// How long a client may take nothing of an answer.
    pub(super) stall_max: Duration,
}

#[derive(Debug)]
struct Shared {
    behind: Behind,
    token: Option<String>,
    stall_max: Duration,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Gate {
    /// Serves until it is stopped; what is under way then ends.
    pub(super) async fn run(self, tasks: TaskTracker, stop: CancellationToken) {
        let connections = Arc::new(Semaphore::new(self.connections_max));
        let shared = Arc::new(Shared {
            behind: self.behind,
            token: self.token,
            stall_max: self.stall_max,
            tasks,
            stop: stop.clone(),
        });
        let listener = self.listener;
        let accepting = async {
            // It is never closed.
            while let Ok(permit) = Arc::clone(&connections).acquire_owned().await {
                match listener.accept().await {
                    Ok((socket, _peer)) => {
                        let serving = Arc::clone(&shared);
                        drop(shared.tasks.spawn(async move {
                            let stop = serving.stop.clone();
                            tokio::select! {
                                () = serve(socket, serving) => {}
                                () = stop.cancelled() => {}
                            }
                            drop(permit);
                        }));
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a connection cannot be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    let socket = Patient::new(socket, shared.stall_max);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to a named server broke off");
    }
}

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Body> {
    if let Some(token) = &shared.token
        && !raw::shows(request.headers(), token)
    {
        return said(
            StatusCode::UNAUTHORIZED,
            "this server belongs to a project: open it through the site, by its name\n",
        );
    }
    pass_on(shared, request).await.unwrap_or_else(|error| {
        tracing::debug!(error = error.as_ref(), "a named server does not answer");
        said(
            StatusCode::BAD_GATEWAY,
            "the server does not answer, or has just ended; try again\n",
        )
    })
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn pass_on(
    shared: &Shared,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, BoxError> {
    shared.behind.rewrite(request.headers_mut())?;
    let stream = TokioIo::new(shared.behind.connect().await?);
    let (mut sender, connection) = client::handshake(stream).await?;
    let stop = shared.stop.clone();
    drop(shared.tasks.spawn(async move {
        tokio::select! {
            ended = connection.with_upgrades() => if let Err(error) = ended {
                tracing::debug!(%error, "a connection of a named server broke off");
            },
            () = stop.cancelled() => {}
        }
    }));
    let ours = hyper::upgrade::on(&mut request);
    let mut response = sender.send_request(request).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let theirs = hyper::upgrade::on(&mut response);
        let stop = shared.stop.clone();
        drop(shared.tasks.spawn(async move {
            tokio::select! {
                joined = join(ours, theirs) => if let Err(error) = joined {
                    tracing::debug!(%error, "a connection to a named server broke off");
                },
                () = stop.cancelled() => {}
            }
        }));
    }
    Ok(response.map(http_body_util::BodyExt::boxed_unsync))
}

/// Passes bytes both ways until both ends have ended.
async fn join(
    ours: hyper::upgrade::OnUpgrade,
    theirs: hyper::upgrade::OnUpgrade,
) -> Result<(), BoxError> {
    let (ours, theirs) = tokio::try_join!(ours, theirs)?;
    let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
    tokio::io::copy_bidirectional(&mut ours, &mut theirs).await?;
    Ok(())
}

fn said(status: StatusCode, what: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from_static(what.as_bytes()))
        .map_err(|never: Infallible| match never {})
        .boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_sees_its_own_secret_and_never_ours() {
        let mut headers = HeaderMap::new();
        headers.insert(raw::TOKEN_HEADER, HeaderValue::from_static("t"));
        headers.insert(COOKIE, HeaderValue::from_static("a=b"));
        let socket = Behind::Socket("/s".into());
        let mut plain = headers.clone();
        socket.rewrite(&mut plain).unwrap();
        assert_eq!(plain.len(), 1);
        assert_eq!(plain[COOKIE], "a=b");
        let port = Behind::Port {
            addr: SocketAddr::from(([127, 0, 0, 1], 1)),
            cookie: "secret",
            secret: "s".to_owned(),
        };
        port.rewrite(&mut headers).unwrap();
        assert_eq!(headers.len(), 1);
        assert_eq!(headers[COOKIE], "secret=s; a=b");
    }
}
