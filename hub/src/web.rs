//! What a hub says over HTTP about itself, to orchestrators and load balancers.
//!
//! | path | 200 | otherwise |
//! |---|---|---|
//! | `/alive` | the process should go on | 404 |
//! | `/healthcheck` | the same, with a line per check | 404 |
//! | `/concurrent` | how many requests are at the database | |
//! | `/concurrent-warn` | the same | 404 if these are too many, or the database is away |
//! | `/healthz` | the process answers | |
//! | `/readyz` | it should get work | 503 with the reason |
//! | `/metrics` | counters in the Prometheus text format, version 0.0.4 | |
//!
//! The first four are those of CoCalc's hub, with its codes. They ask for no credentials: a hub without [`Pages`]
//! should listen where only operators reach it, and before one with them a load balancer keeps `/metrics` to itself.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::health::Health;

mod answer;

mod body;
pub use body::read as read_body;

mod cookies;
pub use cookies::set_cookie;

mod entry;
pub use entry::{EntryPages, origin, status};

mod first_admin;
pub use first_admin::{FirstAdminPages, PREFIX as FIRST_ADMIN_PREFIX};

mod sso;
pub use sso::{Asked, SsoPages};

/// Most connections; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1_024;

/// Longest request line and headers, in bytes.
const HEAD_LEN_MAX: usize = 16 << 10;

/// How long a request's head may take to arrive.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a connection may be used; clients open another one.
const CONNECTION_AGE_MAX: Duration = Duration::from_mins(1);

/// How long a connection may go on when it should end.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait after a failure to accept, which mostly is a lack of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What is answered.
pub type Answer = Response<Full<Bytes>>;

/// Pages besides those about the hub itself.
pub trait Pages: fmt::Debug + Send + Sync + 'static {
    /// Answers a request to a path that is its own; gives back any other.
    ///
    /// # Errors
    /// The request, if the path is not its own.
    #[expect(
        clippy::result_large_err,
        reason = "what is given back is what was handed in"
    )]
    fn answer(
        &self,
        request: Request<Incoming>,
        from: From,
    ) -> Result<BoxFuture<'static, Answer>, Request<Incoming>>;
}

/// From where a request comes, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct From {
    /// Who asks: the address of the connection, or what a proxy on this machine says.
    pub ip: IpAddr,
    /// Whether nobody on the way to the browser can read along, as that proxy says.
    pub encrypted: bool,
}

impl From {
    /// Headers are believed if the connection comes from this machine: others could say anything.
    fn of(connection: SocketAddr, headers: &HeaderMap) -> Self {
        let ip = connection.ip().to_canonical();
        if !ip.is_loopback() {
            return Self {
                ip,
                encrypted: false,
            };
        }
        let last = |name: &str| {
            let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
            Some(value.rsplit(',').next().unwrap_or(value).trim().to_owned())
        };
        // Proxies of this machine, one behind the other, are not who asks.
        let forwarded = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(','))
            .filter_map(|text| text.trim().parse::<IpAddr>().ok())
            .map(|ip| ip.to_canonical())
            .rfind(|ip| !ip.is_loopback());
        Self {
            ip: forwarded.unwrap_or(ip),
            encrypted: last("x-forwarded-proto").is_some_and(|text| text == "https"),
        }
    }
}

/// What a server answers with.
#[derive(Debug)]
struct Site {
    health: Arc<Health>,
    pages: Vec<Arc<dyn Pages>>,
}

impl Site {
    async fn answer(&self, mut request: Request<Incoming>, connection: SocketAddr) -> Answer {
        let from = From::of(connection, request.headers());
        for pages in &self.pages {
            match pages.answer(request, from) {
                Ok(answer) => return answer.await,
                Err(back) => request = back,
            }
        }
        answer::answer(&self.health, &request)
    }
}

/// The server, listening but not yet answering.
#[derive(Debug)]
pub struct Web {
    listener: TcpListener,
    addr: SocketAddr,
}

impl Web {
    /// Listens; port 0 takes any.
    ///
    /// # Errors
    /// When the address is taken, not of this machine, or forbidden.
    pub async fn bind(addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        Ok(Self {
            addr: listener.local_addr()?,
            listener,
        })
    }

    /// Where it listens, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers until it is told to stop; then finishes what has begun, for a few seconds at most.
    pub async fn run(
        self,
        health: Arc<Health>,
        pages: Vec<Arc<dyn Pages>>,
        stop: CancellationToken,
    ) {
        let site = Arc::new(Site { health, pages });
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let tracker = TaskTracker::new();
        while let Some(accepted) = stop
            .run_until_cancelled(accept(&self.listener, &slots))
            .await
        {
            match accepted {
                Ok((stream, from, slot)) => {
                    let site = Arc::clone(&site);
                    tracker.spawn(serve(stream, from, slot, site, stop.child_token()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the web server of the hub cannot accept a connection");
                    stop.run_until_cancelled(sleep(ACCEPT_RETRY)).await;
                }
            }
        }
        drop(self.listener);
        tracker.close();
        tracker.wait().await;
    }
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, from) = listener.accept().await?;
    Ok((stream, from, slot))
}

/// Answers one connection's requests.
async fn serve(
    stream: TcpStream,
    from: SocketAddr,
    slot: OwnedSemaphorePermit,
    site: Arc<Site>,
    stop: CancellationToken,
) {
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(site.answer(request, from).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_LEN_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stop.cancelled() => None,
        () = sleep(CONNECTION_AGE_MAX) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the web server of the hub failed");
    }
    drop(slot);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_of_this_machine_say_who_asks() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "9.9.9.9, 203.0.113.7".parse().unwrap());
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        let near = From::of("127.0.0.1:1".parse().unwrap(), &headers);
        assert_eq!(near.ip, "203.0.113.7".parse::<IpAddr>().unwrap());
        assert!(near.encrypted);
        let far = From::of("198.51.100.1:1".parse().unwrap(), &headers);
        assert_eq!(far.ip, "198.51.100.1".parse::<IpAddr>().unwrap());
        assert!(!far.encrypted);
    }
}
