//! What the broker of this process does for Socket.IO clients.

use dialtone_transport::Connection;

/// The broker in this process: each Socket.IO client is one more connection to it.
pub trait Broker: Send + Sync + std::fmt::Debug + 'static {
    /// Serves a connection, on the runtime of the caller.
    fn serve(&self, connection: Connection);
}
