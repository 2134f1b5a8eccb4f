//! Which node has which stream.

use std::fmt;

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
