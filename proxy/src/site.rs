//! What all connections share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use http::HeaderValue;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::files::Files;
use crate::grant::Grants;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::places::Places;
use crate::separate::Tickets;

/// The proxy as its connections see it.
pub(crate) struct Site {
    pub(crate) config: Config,
    pub(crate) grants: Grants,
    pub(crate) places: Places,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) log: Option<Log>,
    /// The identity of requests that are nobody's.
    pub(crate) nobody: Arc<str>,
    /// The brokers behind `{base}/conat/`.
    pub(crate) brokers: RwLock<Arc<[SocketAddr]>>,
    /// Which broker is next.
    pub(crate) broker: AtomicUsize,
    /// What tells browsers to come encrypted.
    pub(crate) hsts: Option<HeaderValue>,
    /// The tickets for projects' hosts that were shown.
    pub(crate) tickets: Tickets,
    /// Everything that runs.
    pub(crate) tracker: TaskTracker,
    /// Ends everything at once.
    pub(crate) cut: CancellationToken,
}
