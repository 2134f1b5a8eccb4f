//! What other parts of a program do with a node's cluster.

use std::sync::Arc;

use dialtone_transport::Endpoint;

use super::Cluster;
use super::status::Status;

/// A node's cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    cluster: Arc<Cluster>,
}

/// A node cannot be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgetError {
    /// No node of this name is known.
    #[error("no node {node:?} is known here")]
    Unknown {
        /// What was asked for.
        node: String,
    },
    /// It is linked, so that it would come back at once.
    #[error("node {node:?} is linked; let it leave, or stop it first")]
    Linked {
        /// What was asked for.
        node: String,
    },
}

impl Handle {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.cluster.config.name
    }

    /// Where the node listens for other nodes, with the ports that were chosen.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.cluster.listeners.read().clone()
    }

    /// Replaces the seeds, which are dialled until nodes answer there; those beyond the configured
    /// bound are left out. For discovery, which calls it whenever its answer changes.
    pub fn set_seeds(&self, seeds: Vec<Endpoint>) {
        self.cluster.set_seeds(seeds);
    }

    /// Dials a node now, and goes on until it answers; also ends a [`leave`](Self::leave).
    pub fn join(&self, endpoint: Endpoint) {
        self.cluster.join(endpoint);
    }

    /// Leaves the cluster: all members are told, links end, and none is made or accepted until
    /// [`join`](Self::join). Clients stay.
    pub fn leave(&self) {
        self.cluster.leave();
    }

    /// Forgets a node that is gone for good, here and on all members, instead of dialling it until
    /// [`forget_after`](super::config::Timing::forget_after).
    ///
    /// # Errors
    /// When it is not known, or is linked.
    pub fn forget(&self, node: &str) -> Result<(), ForgetError> {
        self.cluster.forget(node)
    }

    /// Members, links and interest at this moment.
    pub fn status(&self) -> Status {
        self.cluster.status()
    }
}
