//! Connections to servers, kept for the next request. Each shard has its own, so that a request stays on its thread.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use ahash::RandomState;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::{Limits, Timing};
use crate::upstream::Connection;

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
    servers: HashMap<SocketAddr, Vec<(Connection, Instant)>, RandomState>,
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

    /// The connection that was used last, of those that their server still keeps.
    pub(crate) fn take(&self, addr: SocketAddr) -> Option<Connection> {
        let mut idle = self.idle.lock();
        let fresh = Instant::now().checked_sub(self.idle_max);
        loop {
            let (connection, since) = idle.servers.get_mut(&addr)?.pop()?;
            idle.count -= 1;
            if fresh.is_none_or(|fresh| since >= fresh) && connection.is_usable() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection, if there is room.
    pub(crate) fn put(&self, addr: SocketAddr, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.is_closed || idle.count >= self.max {
            return;
        }
        let server = idle.servers.entry(addr).or_default();
        if server.len() < self.per_server_max {
            server.push((connection, Instant::now()));
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
            server.retain(|(connection, since)| *since >= fresh && connection.is_usable());
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
