//! Why the broker could not start.

use dialtone_transport::Endpoint;

/// Why a broker could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The node's name cannot be part of a subject.
    #[error("node name {name:?} must be 1 to 64 letters, digits, - or _")]
    NodeName {
        /// What was configured.
        name: String,
    },
    /// A bound contradicts another one.
    #[error("configuration: {what}")]
    Config {
        /// Which, and how.
        what: String,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {endpoint}")]
    Listen {
        /// Where.
        endpoint: Box<Endpoint>,
        /// Why.
        #[source]
        source: dialtone_transport::BindError,
    },
}
