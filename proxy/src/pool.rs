//! Connections to servers, kept for the next request. Each shard has its own, so that a request stays on its thread.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ahash::RandomState;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::body::Upload;
use crate::config::{Limits, Timing};

/// Sends requests over one connection.
pub(crate) type Sender = http1::SendRequest<Upload>;

/// What the connections of one thread share.
pub(crate) struct Shard {
    pub(crate) pool: Pool,
}

/// Connections without a request.
pub(crate) struct Pool {
    idle: Mutex<Idle>,
    idle_max: Duration,
    per_server_max: usize,
    max: usize,
}

#[derive(Default)]
struct Idle {
    servers: HashMap<SocketAddr, Vec<(Sender, Instant)>, RandomState>,
    count: usize,
    /// Nothing is kept any longer.
    is_closed: bool,
}

impl Pool {
    pub(crate) fn new(timing: &Timing, limits: &Limits) -> Self {
        let count = |max: u32| usize::try_from(max).unwrap_or(usize::MAX);
        Self {
            idle: Mutex::default(),
            idle_max: timing.pool_idle,
            per_server_max: count(limits.pool_per_server_max),
            max: count(limits.pool_max),
        }
    }

    /// The connection that was used last.
    pub(crate) fn take(&self, addr: SocketAddr) -> Option<Sender> {
        let mut idle = self.idle.lock();
        let fresh = Instant::now().checked_sub(self.idle_max);
        loop {
            let (sender, since) = idle.servers.get_mut(&addr)?.pop()?;
            idle.count -= 1;
            if !sender.is_closed() && fresh.is_none_or(|fresh| since >= fresh) {
                return Some(sender);
            }
        }
    }

    /// Keeps a connection, if there is room.
    pub(crate) fn put(&self, addr: SocketAddr, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.is_closed || idle.count >= self.max {
            return;
        }
        let server = idle.servers.entry(addr).or_default();
        if server.len() < self.per_server_max {
            server.push((sender, Instant::now()));
            idle.count += 1;
        }
    }

    /// Closes what has not been used for long.
    pub(crate) fn sweep(&self) {
        let Some(fresh) = Instant::now().checked_sub(self.idle_max) else {
            return;
        };
        let mut idle = self.idle.lock();
        let mut count = 0;
        idle.servers.retain(|_, server| {
            server.retain(|(sender, since)| *since >= fresh && !sender.is_closed());
            count += server.len();
            !server.is_empty()
        });
        idle.count = count;
    }

    /// Closes everything, and what comes back later.
    pub(crate) fn close(&self) {
        *self.idle.lock() = Idle {
            is_closed: true,
            ..Idle::default()
        };
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    Timeout,
    Refused(io::Error),
}

/// A new connection to a server. With `upgrades`, it may become something else than HTTP.
pub(crate) async fn connect(
    addr: SocketAddr,
    timing: &Timing,
    limits: &Limits,
    tracker: &TaskTracker,
    upgrades: bool,
) -> Result<Sender, ConnectError> {
    let connecting = timeout(timing.connect, TcpStream::connect(addr)).await;
    let stream = connecting
        .map_err(|_late| ConnectError::Timeout)?
        .map_err(ConnectError::Refused)?;
    stream.set_nodelay(true).map_err(ConnectError::Refused)?;
    let buffer = usize::try_from(limits.buffer_len_max).unwrap_or(usize::MAX);
    let head = usize::try_from(limits.answer_head_len_max).unwrap_or(usize::MAX);
    let made = http1::Builder::new()
        .max_buf_size(buffer.max(head))
        .max_header_size(head)
        .max_headers(limits.answer_headers_max.into())
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) =
        made.map_err(|error| ConnectError::Refused(io::Error::other(error)))?;
    if upgrades {
        tracker.spawn(async move { ended(connection.with_upgrades().await) });
    } else {
        tracker.spawn(async move { ended(connection.await) });
    }
    Ok(sender)
}

fn ended(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a connection to a server failed");
    }
}
