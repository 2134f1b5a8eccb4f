//! How a client stands with its broker.

use std::sync::Arc;

use dialtone_transport::Endpoint;

use crate::error::{ConnectError, Reason};

/// Whether there is a connection.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Status {
    /// The first connection is being made.
    Connecting,
    /// Connected.
    Connected {
        /// Where to.
        url: Endpoint,
        /// The name of the node.
        node: String,
        /// Who the broker takes the client for.
        identity: String,
    },
    /// The connection was lost and is being made again.
    Reconnecting {
        /// How many attempts have failed since.
        attempt: u32,
        /// Why the connection was lost, or the last attempt failed.
        error: Arc<ConnectError>,
    },
    /// For good.
    Closed {
        /// Why.
        reason: Reason,
    },
}

impl Status {
    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }
}
