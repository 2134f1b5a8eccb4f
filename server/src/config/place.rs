//! Where a broker listens: for peers that speak its own protocol, and for Socket.IO clients.

use std::fmt;
use std::str::FromStr;

use dialtone_transport::Endpoint;

/// One place to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// For peers.
    Peers(Endpoint),
    /// For Socket.IO clients.
    SocketIo(dialtone_conat::Url),
}

impl Place {
    /// Where peers are served.
    pub(crate) fn peers(&self) -> Option<&Endpoint> {
        match self {
            Self::Peers(endpoint) => Some(endpoint),
            Self::SocketIo(_) => None,
        }
    }

    /// Where Socket.IO clients are served.
    pub(crate) fn socketio(&self) -> Option<&dialtone_conat::Url> {
        match self {
            Self::Peers(_) => None,
            Self::SocketIo(url) => Some(url),
        }
    }

    /// Whether what is sent there is encrypted on its way.
    pub(crate) fn is_encrypted(&self) -> bool {
        match self {
            Self::Peers(endpoint) => endpoint.is_encrypted(),
            Self::SocketIo(url) => url.tls,
        }
    }

    /// The name or address of this machine, where there is one.
    pub(crate) fn host(&self) -> Option<&str> {
        match self {
            Self::Peers(endpoint) => endpoint.host_port().map(|(host, _)| host),
            Self::SocketIo(url) => Some(&url.host),
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with(dialtone_conat::url::SCHEME_PREFIX) {
            let url = text.parse::<dialtone_conat::Url>();
            return url.map(Self::SocketIo).map_err(|error| error.to_string());
        }
        let endpoint = text.parse::<Endpoint>();
        endpoint.map(Self::Peers).map_err(|error| error.to_string())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peers(endpoint) => endpoint.fmt(f),
            Self::SocketIo(url) => url.fmt(f),
        }
    }
}
