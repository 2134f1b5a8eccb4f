//! The store that the nodes share: who is there, and until when.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::View;
use crate::backend;

/// A store of leases. Times are by its own clock alone: nodes tell it durations.
pub trait Leases: Send + Sync + std::fmt::Debug + 'static {
    /// Takes or renews a lease, and removes those that have ended: one step, which no other comes between.
    ///
    /// # Errors
    /// See [`LeaseError`].
    fn renew(&self, renew: Renew) -> BoxFuture<'_, Result<Renewed, LeaseError>>;

    /// Gives a lease back; without one nothing happens.
    ///
    /// # Errors
    /// When the store cannot be reached; the lease then ends by itself.
    fn leave<'a>(&'a self, node: &'a str, session: u64) -> BoxFuture<'a, Result<(), LeaseError>>;

    /// Waits until the view may have changed, or a node has said which view it acts on. It may return early, and never
    /// fails: leases are renewed in any case.
    fn changed(&self) -> BoxFuture<'_, ()>;
}

/// A lease that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renew {
    /// The name of the node.
    pub node: Arc<str>,
    /// The session that the lease was taken under; `None` to take one.
    pub session: Option<u64>,
    /// The view that the node acts on; 0 for none yet.
    pub seen: u64,
    /// How long it is to last from now on.
    pub lease: Duration,
}

/// A lease, and what the store knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// The session of this node.
    pub session: u64,
    /// The number of the view.
    pub view: u64,
    /// The nodes of the view.
    pub nodes: Vec<NodeLease>,
}

/// A node in the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLease {
    /// Its name.
    pub name: Arc<str>,
    /// How long its lease lasts yet.
    pub left: Duration,
    /// The view that it acts on.
    pub seen: u64,
}

impl Renewed {
    /// The view.
    pub fn view(&self) -> View {
        View::new(
            self.view,
            self.nodes.iter().map(|node| Arc::clone(&node.name)),
        )
    }

    /// Up to which view every node has let go of what it lost.
    pub fn seen_by_all(&self) -> u64 {
        self.nodes.iter().map(|node| node.seen).min().unwrap_or(0)
    }
}

/// Why there is no lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The lease had ended before it was renewed.
    #[error("the lease has ended")]
    Lost,
    /// Somebody else has a lease under this name. A node that was killed leaves one behind.
    #[error("a node of this name has a lease for another {} ms", left.as_millis())]
    Taken {
        /// How long it lasts yet.
        left: Duration,
    },
    /// The store cannot be asked.
    #[error("the leases cannot be reached: {0}")]
    Store(#[source] backend::Error),
}
