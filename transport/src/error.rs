//! What can go wrong, one type per operation.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use crate::endpoint::Endpoint;
use crate::tls::TlsError;
use crate::websocket::{UpgradeError, Violation};

/// Why an established connection ended, or a listener cannot accept.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system's word, or that of the TLS layer.
    #[error("input or output failed")]
    Io(#[from] io::Error),
    /// The peer closed with a code of the application other than 0.
    #[error("peer closed with code {code}: {reason}")]
    Closed {
        /// What the peer gave to [`poll_close`](crate::Writer::poll_close).
        code: u16,
        /// Its explanation; may be empty.
        reason: String,
    },
    /// The peer ended the connection for a reason of the transport's.
    #[error("peer aborted the connection: {0}")]
    Aborted(String),
    /// The peer broke the rules of the WebSocket protocol; it was told so.
    #[error("peer broke the WebSocket protocol")]
    Violation(#[from] Violation),
    /// The connection ended without a word.
    #[error("connection ended without being closed")]
    Reset,
    /// Nothing was heard from the peer for the idle timeout.
    #[error("peer has not been heard for too long")]
    TimedOut,
    /// This end has closed the connection.
    #[error("connection was closed at this end")]
    ClosedHere,
}

/// Why a listener could not be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// The host has no address.
    #[error("cannot resolve {host}")]
    Resolve {
        /// The name looked up.
        host: String,
        /// The resolver's answer.
        #[source]
        source: io::Error,
    },
    /// The address is taken, or not of this machine, or forbidden.
    #[error("cannot listen on {endpoint} ({addr})")]
    Socket {
        /// What was asked for.
        endpoint: Endpoint,
        /// The address tried last.
        addr: SocketAddr,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// `wss://` and `quic://` without [`ListenOptions::tls`](crate::ListenOptions::tls).
    #[error("{0} needs a certificate")]
    NoCertificate(Endpoint),
    /// The certificate cannot be used for this transport.
    #[error("certificate does not work")]
    Tls(#[from] TlsError),
    /// `memory:` without [`ListenOptions::hub`](crate::ListenOptions::hub).
    #[error("{0} needs a memory hub")]
    NoHub(Endpoint),
    /// Somebody listens at this name already.
    #[error("memory name {0:?} is taken")]
    NameTaken(String),
}

/// Why an accepted socket did not become a connection. Nobody else is affected.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer was too slow.
    #[error("handshake took too long")]
    TimedOut,
    /// The socket failed.
    #[error("socket failed during the handshake")]
    Io(#[from] io::Error),
    /// TLS could not be agreed on.
    #[error("TLS handshake failed")]
    Tls(#[source] io::Error),
    /// What came is not HTTP.
    #[error("not a valid HTTP request")]
    Http(#[from] hyper::Error),
    /// The request was answered with an HTTP error.
    #[error("not upgraded to a WebSocket")]
    Upgrade(#[from] UpgradeError),
    /// The peer left before it had asked for anything.
    #[error("peer left before the upgrade request")]
    Left,
    /// The QUIC handshake failed.
    #[error("QUIC handshake failed")]
    Quic(#[from] quinn::ConnectionError),
}

/// Why dialling failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nothing was reached, or the handshake not finished, in time.
    #[error("{0} did not answer in time")]
    TimedOut(Endpoint),
    /// The host has no address.
    #[error("cannot resolve {host}")]
    Resolve {
        /// The name looked up.
        host: String,
        /// The resolver's answer.
        #[source]
        source: io::Error,
    },
    /// Nobody listens there, or the way is barred.
    #[error("cannot reach {endpoint}")]
    Connect {
        /// What was dialled.
        endpoint: Endpoint,
        /// The operating system's answer, for the address tried last.
        #[source]
        source: io::Error,
    },
    /// The TLS options cannot be used.
    #[error("TLS options do not work")]
    Tls(#[from] TlsError),
    /// TLS was not agreed on; most often the certificate is not trusted.
    #[error("TLS handshake failed")]
    TlsHandshake(#[source] io::Error),
    /// The server answered the upgrade request with something else.
    #[error("server answered {status}: {text}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        text: String,
    },
    /// The server's answer to the upgrade request makes no sense.
    #[error("server does not speak this WebSocket protocol: {0}")]
    BadUpgrade(&'static str),
    /// QUIC could not be started.
    #[error("cannot dial over QUIC")]
    QuicConnect(#[from] quinn::ConnectError),
    /// The QUIC handshake failed; most often the certificate is not trusted.
    #[error("QUIC handshake failed")]
    Quic(#[from] quinn::ConnectionError),
    /// `memory:` without [`DialOptions::hub`](crate::DialOptions::hub).
    #[error("{0} needs a memory hub")]
    NoHub(Endpoint),
    /// Nobody listens at this memory name, or too many wait there.
    #[error("nobody accepts at memory name {0:?}")]
    NotListening(String),
}
