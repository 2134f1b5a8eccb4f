//! Where the servers of a project are: whoever knows it, and what is known.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use thiserror::Error;

use crate::access::Answer;
use crate::project::ProjectId;
use crate::target::Service;

/// By which a server knows that the proxy asks. Clients' own are removed.
pub const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-dialtone-project-token");

/// Where a server is, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It listens here, and speaks HTTP without encryption.
    At(SocketAddr),
    /// The same, and it answers those alone who show it this in [`TOKEN_HEADER`].
    Guarded {
        /// Where it listens.
        addr: SocketAddr,
        /// What the proxy shows, and nobody behind it.
        token: HeaderValue,
    },
    /// The project or the server is being started because of this question.
    Starting {
        /// When to ask again.
        retry: Duration,
    },
    /// The project does not run, and is not started by being asked for.
    NotRunning,
    /// The project runs, and has no such server.
    NoService,
    /// There is no such project.
    Unknown,
}

/// It cannot be told at present where a server is.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the server's place cannot be told: {0}")]
pub struct TargetsError(pub String);

/// Knows where the servers of projects are.
///
/// Only [`Place::At`] is kept, for [`Config::target_ttl`](crate::Config::target_ttl) or until
/// [`Handle::target_changed`](crate::Handle::target_changed) or a failure to connect.
pub trait Targets: Send + Sync + 'static {
    /// Where the server is; a project or a named server that is not running may be started by that.
    fn place<'a>(
        &'a self,
        project: ProjectId,
        service: &'a Service,
    ) -> Answer<'a, Result<Place, TargetsError>>;
}
