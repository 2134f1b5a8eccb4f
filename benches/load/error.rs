//! What can go wrong while load is made.

use std::io;
use std::path::PathBuf;

/// Why a run ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The target's URL cannot be used.
    #[error("{url:?} is no target: {why}")]
    Target {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A system call failed.
    #[error("cannot {what}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The peer said something that the load generator did not expect, or refused.
    #[error("the server answered unexpectedly: {0}")]
    Peer(String),
    /// The peer did not answer in time.
    #[error("the server did not answer within {secs} s while waiting for {what}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        secs: u64,
    },
    /// TLS could not be set up.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// QUIC could not be set up.
    #[error("cannot set up QUIC: {0}")]
    Quic(String),
    /// A certificate could not be read.
    #[error("cannot read certificates from {path:?}: {why}")]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The server process is not there or cannot be observed.
    #[error("cannot observe process {pid}")]
    Process {
        /// Its number.
        pid: u32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A server could not be started.
    #[error("cannot start {program:?}{hint}")]
    Start {
        /// The program.
        program: String,
        /// What helps, as a sentence part that begins with its own separator.
        hint: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A server ended or stayed silent before it could be used.
    #[error("{program:?} did not become ready at {url}: {why}")]
    NotReady {
        /// The program.
        program: String,
        /// Where it should listen.
        url: String,
        /// What happened instead, with the end of what it printed.
        why: String,
    },
    /// The transport or protocol cannot do what the scenario needs.
    #[error("{0}")]
    Unsupported(String),
    /// A worker thread panicked.
    #[error("a worker of the load generator panicked")]
    Worker,
}

impl LoadError {
    /// For `map_err`: names what was being done.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

impl From<rustix::io::Errno> for LoadError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Io {
            what: "wait for sockets",
            source: errno.into(),
        }
    }
}
