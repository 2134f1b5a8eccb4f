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
//! The first four are those of CoCalc's hub, with its codes. There are no credentials: it should listen where only
//! operators reach it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::health::Health;

mod answer;

mod sso;
pub use sso::{Asked, SsoPages};

/// Most connections; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;

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
    pub async fn run(self, health: Arc<Health>, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let tracker = TaskTracker::new();
        while let Some(accepted) = stop
            .run_until_cancelled(accept(&self.listener, &slots))
            .await
        {
            match accepted {
                Ok((stream, slot)) => {
                    let health = Arc::clone(&health);
                    tracker.spawn(serve(stream, slot, health, stop.child_token()));
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
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

/// Answers one connection's requests.
async fn serve(
    stream: TcpStream,
    slot: OwnedSemaphorePermit,
    health: Arc<Health>,
    stop: CancellationToken,
) {
    let service = service_fn(move |request| {
        let answer = answer::answer(&health, &request);
        async move { Ok::<_, Infallible>(answer) }
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
