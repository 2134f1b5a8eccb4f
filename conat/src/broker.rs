//! What the broker of this process does for Socket.IO clients.

use dialtone_transport::Connection;

/// The broker in this process: each Socket.IO client is one more connection to it.
pub trait Broker: Send + Sync + std::fmt::Debug + 'static {
    /// Serves a connection, on the runtime of the caller.
    fn serve(&self, connection: Connection);

    /// Links the node with another one.
    ///
    /// # Errors
    /// A text for the administrator who asks for it.
    fn join(&self, address: &str) -> Result<(), String> {
        Err(format!(
            "this node belongs to no cluster, and cannot join {address}"
        ))
    }

    /// Forgets a node that is gone for good.
    ///
    /// # Errors
    /// A text for the administrator who asks for it.
    fn forget(&self, id: &str) -> Result<(), String> {
        Err(format!(
            "this node belongs to no cluster, and does not know {id}"
        ))
    }
}
