//! Which node has which stream.
//!
//! [`Alone`] is a node by itself, [`Fixed`] one of several that are always the same. With [`Leased`], nodes come and go:
//! those that are there form a *view*, which has a number and is kept by a store that all of them share. A node is in
//! the view while its *lease* lasts, which it renews long before it ends. The owner of a stream follows from the view by
//! rendezvous hashing, so that nothing is kept per stream, and a node that comes or goes moves no more streams than it
//! must. Three rules make it safe:
//!
//! 1. A node serves a stream while it owns it in the view that it knows, and its lease lasts by its own clock.
//! 2. It says which view it acts on when it has let go of what it lost by it. A stream that was another node's is not
//!    served before every node of the view has said so, or its lease has ended by the clock of the store.
//! 3. Writes carry the number of the view under which the stream was taken as a *fencing number*; the backend refuses a
//!    lower one than it has seen. So a node that stood still, and does not know that its lease has ended, writes
//!    nothing.

use std::fmt;

mod fixed;
mod follow;
mod keeper;
mod leased;
mod leases;
mod rendezvous;
mod state;

pub use fixed::Fixed;
pub use follow::run_leased;
pub use keeper::{Keeper, KeeperConfig};
pub use leased::{Leased, Route};
pub use leases::{LeaseError, Leases, NodeLease, Renew, Renewed};
pub use rendezvous::View;

use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::Fault;
use futures_util::future::BoxFuture;

/// Where a stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// This node may write it, and no other one. Every commit carries the number, which grows with each change of the
    /// node.
    Here {
        /// The fencing number of the lease.
        fence: u64,
    },
    /// Another node has it.
    There {
        /// Its name.
        node: String,
    },
}

/// Decides which node has which stream. A node asks before it opens a stream; when it may no longer have one, the
/// placement says so through [`Handle::release`](crate::Handle::release).
pub trait Placement: Send + Sync + fmt::Debug + 'static {
    /// Where a stream is. If it is here, it stays here until it is released.
    ///
    /// # Errors
    /// `unavailable` when nobody can tell at the moment.
    fn locate<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Place, Fault>>;

    /// The stream was closed here: another node may have it.
    fn left(&self, stream: &StreamName);

    /// Whether this node may use a stream that it has open. It is asked for every request, and must be cheap: an answer
    /// counts as given at the moment of the question.
    fn holds(&self, _stream: &StreamName) -> bool {
        true
    }

    /// The lease of this node, where it needs one.
    fn lease(&self) -> Option<NodeLease> {
        None
    }

    /// The names of all nodes that are known, this one among them.
    fn nodes(&self) -> BoxFuture<'_, Result<Vec<String>, Fault>>;
}

/// One node that has every stream.
#[derive(Debug, Clone)]
pub struct Alone {
    node: String,
}

impl Alone {
    /// A node by itself.
    pub fn new(node: impl Into<String>) -> Self {
        Self { node: node.into() }
    }
}

impl Placement for Alone {
    fn locate<'a>(&'a self, _stream: &'a StreamName) -> BoxFuture<'a, Result<Place, Fault>> {
        Box::pin(std::future::ready(Ok(Place::Here { fence: 0 })))
    }

    fn left(&self, _stream: &StreamName) {}

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        Box::pin(std::future::ready(Ok(vec![self.node.clone()])))
    }
}
