//! Reaching a listener, whatever the transport.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::connection::Connection;
use crate::endpoint::Endpoint;
use crate::error::DialError;
use crate::tls::ClientTls;
use crate::{memory, quic, websocket};

/// How to dial.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// Whom to trust, and who we are, on `wss` and `quic`.
    pub tls: ClientTls,
    /// Bounds name resolution, connecting and handshakes together. Default 10 s.
    pub timeout: Duration,
    /// The name that the listener's certificate must have, where that is not the host that is dialled.
    pub server_name: Option<String>,
    /// Sent with the upgrade request of a WebSocket, for example cookies.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The local UDP address for QUIC; any by default.
    pub quic_local: Option<SocketAddr>,
    /// Settings of QUIC connections.
    pub quic: quic::Settings,
    /// Where `memory:` names are looked up.
    pub hub: Option<memory::Hub>,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            tls: ClientTls::default(),
            timeout: Duration::from_secs(10),
            server_name: None,
            headers: Vec::new(),
            quic_local: None,
            // The dialling end keeps connections alive, so that a listener with very many idle ones has nothing to do, and
            // notices a peer that vanished or was restarted.
            quic: quic::Settings {
                keep_alive: Some(Duration::from_secs(15)),
                ..quic::Settings::default()
            },
            hub: None,
        }
    }
}

/// Connects to a listener.
///
/// # Errors
/// If nobody is reached, the handshake fails, or it takes longer than [`DialOptions::timeout`].
pub async fn dial(endpoint: &Endpoint, options: &DialOptions) -> Result<Connection, DialError> {
    let dialling = async {
        match endpoint {
            Endpoint::Quic { host, port } => quic::dial(endpoint, host, *port, options).await,
            Endpoint::Ws { path, .. } | Endpoint::Wss { path, .. } => {
                websocket::dial(endpoint, path, options).await
            }
            Endpoint::Memory(name) => options
                .hub
                .as_ref()
                .ok_or_else(|| DialError::NoHub(endpoint.clone()))?
                .dial(name),
        }
    };
    match tokio::time::timeout(options.timeout, dialling).await {
        Ok(result) => result,
        Err(_elapsed) => Err(DialError::TimedOut(endpoint.clone())),
    }
}

/// The addresses of a host, in the resolver's order.
pub(crate) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
    match tokio::net::lookup_host((host, port)).await {
        Ok(addrs) => Ok(addrs.collect()),
        Err(source) => Err(DialError::Resolve {
            host: host.to_owned(),
            source,
        }),
    }
}
