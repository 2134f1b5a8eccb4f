//! What a running broker tells whoever watches it, over HTTP.
//!
//! | path | what |
//! |---|---|
//! | `/healthz` | 200 while the process answers |
//! | `/readyz` | 200 while it takes connections, 503 with the reason otherwise |
//! | `/metrics` | counters and gauges in the Prometheus text format, version 0.0.4 |
//! | `/varz` | the same as JSON |
//! | `/connz` | connections: `offset`, `limit`, `sort`, `identity` |
//! | `/routez` | the cluster: members, links, interest; 404 on a node that stands alone |
//! | `/subsz` | subscriptions: `offset`, `limit`, `match`, `identity`, `connection` |
//!
//! Each [`Part`] of the process has a page of its own, and says whether it is ready. Without a broker there are
//! `/healthz`, `/readyz`, `/metrics` and the pages of the parts.
//!
//! Everything is read-only. There are no credentials: whoever can reach the address may read, so it
//! should be one that only operators reach. `?pretty` indents JSON.

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

use crate::cluster;
use crate::status::{ConnectionStatus, Status, SubscriptionStatus};

mod answer;
use answer::Site;

mod metrics;
mod part;
pub use part::{Histogram, Metric, MetricValue, Part};

mod process;

mod query;
pub use query::{
    BadQuery, ConnectionQuery, ConnectionSort, LIMIT_DEFAULT, LIMIT_MAX, Page, SubscriptionQuery,
    Window,
};

/// Most connections to the monitoring server; further ones wait in the kernel's queue.
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

/// Where the figures come from. Called on threads that may block; must not wait for long.
pub trait Source: Send + Sync + 'static {
    /// The broker as a whole.
    fn status(&self) -> Status;

    /// The node's cluster; `None` where it stands alone.
    fn cluster(&self) -> Option<cluster::status::Status>;

    /// Some of the connections; [`ConnectionQuery::page`] sorts and cuts.
    fn connections(&self, query: &ConnectionQuery) -> Page<ConnectionStatus>;

    /// Some of the subscriptions, in an order that stays the same from page to page as far as
    /// possible; [`SubscriptionQuery::window`] cuts.
    fn subscriptions(&self, query: &SubscriptionQuery) -> Page<SubscriptionStatus>;
}

/// The address of the monitoring server cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve monitoring on {addr}")]
pub struct BindError {
    /// Where it should have listened.
    pub addr: SocketAddr,
    /// The operating system's word.
    #[source]
    pub source: io::Error,
}

/// The monitoring server, listening but not yet answering.
pub struct Monitor {
    listener: TcpListener,
    addr: SocketAddr,
    site: Site,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

impl Monitor {
    /// Listens on `addr`; port 0 takes any.
    ///
    /// # Errors
    /// When the address is taken, not of this machine, or forbidden.
    pub async fn bind(addr: SocketAddr, source: Arc<dyn Source>) -> Result<Self, BindError> {
        Self::listen(addr, Some(source)).await
    }

    /// The same in a process without a broker.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub async fn without_broker(addr: SocketAddr) -> Result<Self, BindError> {
        Self::listen(addr, None).await
    }

    async fn listen(addr: SocketAddr, source: Option<Arc<dyn Source>>) -> Result<Self, BindError> {
        let failed = |source| BindError { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            addr,
            site: Site::new(source),
        })
    }

    /// Watches a part of the process as well.
    #[must_use]
    pub fn with(mut self, part: Arc<dyn Part>) -> Self {
        self.site.parts.push(part);
        self
    }

    /// Where it listens, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers until `stop` is cancelled; then finishes what has begun, for a few seconds at most.
    pub async fn run(self, stop: CancellationToken) {
        let Self { listener, site, .. } = self;
        let site = Arc::new(site);
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let tracker = TaskTracker::new();
        while let Some(accepted) = stop.run_until_cancelled(accept(&listener, &slots)).await {
            match accepted {
                Ok((stream, slot)) => {
                    tracker.spawn(serve(stream, slot, Arc::clone(&site), stop.child_token()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the monitoring server cannot accept a connection");
                    stop.run_until_cancelled(sleep(ACCEPT_RETRY)).await;
                }
            }
        }
        drop(listener);
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
    site: Arc<Site>,
    stop: CancellationToken,
) {
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(site.answer(&request).await) }
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
        tracing::debug!(%error, "a connection to the monitoring server failed");
    }
    drop(slot);
}
