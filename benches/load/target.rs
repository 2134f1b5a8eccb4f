//! Where load goes: a URL, the process behind it, and how its certificate is judged.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;

use rustls::ClientConfig;
use serde::Serialize;

use crate::error::LoadError;
use crate::tls;
use crate::wire::Format;

/// What is spoken to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// NATS text protocol over TCP.
    Nats,
    /// NATS text protocol over TLS.
    NatsTls,
    /// Dialtone over WebSocket.
    Ws,
    /// Dialtone over WebSocket over TLS.
    Wss,
    /// Dialtone over QUIC.
    Quic,
    /// Socket.IO over WebSocket, as existing Conat clients speak it.
    #[serde(rename = "socketio+http")]
    SocketIo,
}

impl Scheme {
    /// As in URLs, without `://`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::NatsTls => "nats+tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Quic => "quic",
            Self::SocketIo => "socketio+http",
        }
    }

    /// How messages look on the wire.
    pub const fn format(self) -> Format {
        match self {
            Self::Nats | Self::NatsTls => Format::Nats,
            Self::Ws | Self::Wss | Self::Quic => Format::Dialtone,
            Self::SocketIo => Format::SocketIo,
        }
    }

    /// Whether frames travel inside WebSocket messages, wherever these begin and end.
    pub const fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    const fn port(self) -> u16 {
        match self {
            Self::Nats | Self::NatsTls => 4222,
            Self::Ws => 4480,
            Self::Wss => 4443,
            Self::Quic => 4433,
            Self::SocketIo => 3000,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [
            Self::Nats,
            Self::NatsTls,
            Self::Ws,
            Self::Wss,
            Self::Quic,
            Self::SocketIo,
        ]
        .into_iter()
        .find(|scheme| scheme.name() == text)
    }
}

/// A server under load.
#[derive(Clone)]
pub struct Target {
    /// What is spoken.
    pub(crate) scheme: Scheme,
    /// Name or address, as it stands in requests and certificates.
    pub(crate) host: String,
    /// Where to connect to.
    pub(crate) address: SocketAddr,
    /// The server's process, if it is on this machine; without it no server figures are reported.
    pub(crate) pid: Option<u32>,
    /// Set for the encrypted schemes.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Target {
    /// Reads `SCHEME://HOST[:PORT]` and resolves the host.
    ///
    /// A server with an encrypted scheme is verified against the certificates in the file `ca`
    /// (PEM). Without one, any certificate is accepted, and only on a loopback address.
    ///
    /// # Errors
    /// When the URL, the host or the certificates cannot be used.
    pub fn new(url: &str, pid: Option<u32>, ca: Option<&Path>) -> Result<Self, LoadError> {
        let wrong = |why: &str| LoadError::Target {
            url: url.to_owned(),
            why: why.to_owned(),
        };
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| wrong("it has no scheme"))?;
        let scheme = Scheme::parse(scheme).ok_or_else(|| {
            wrong("known schemes are nats, nats+tls, ws, wss, quic and socketio+http")
        })?;
        let authority = rest.split('/').next().unwrap_or_default();
        let (host, port) = split_port(authority, scheme.port())
            .ok_or_else(|| wrong("the port is not a number"))?;
        if host.is_empty() {
            return Err(wrong("it names no host"));
        }
        let address = (host, port)
            .to_socket_addrs()
            .map_err(LoadError::io("resolve the host"))?
            .next()
            .ok_or_else(|| wrong("the host has no address"))?;
        let tls = match scheme {
            Scheme::Nats | Scheme::Ws | Scheme::SocketIo => None,
            Scheme::NatsTls | Scheme::Wss | Scheme::Quic => {
                if ca.is_none() && !address.ip().is_loopback() {
                    return Err(wrong(
                        "an encrypted target that is not on this machine needs a CA file",
                    ));
                }
                Some(Arc::new(tls::client_config(scheme, ca)?))
            }
        };
        Ok(Self {
            scheme,
            host: host.to_owned(),
            address,
            pid,
            tls,
        })
    }

    /// What is spoken.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The server's process, if it is known.
    pub const fn pid(&self) -> Option<u32> {
        self.pid
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.address)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self}, pid {:?})", self.pid)
    }
}

/// Host without brackets, and port.
fn split_port(authority: &str, port: u16) -> Option<(&str, u16)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        return match after.strip_prefix(':') {
            Some(text) => Some((host, text.parse().ok()?)),
            None => after.is_empty().then_some((host, port)),
        };
    }
    match authority.rsplit_once(':') {
        Some((host, text)) => Some((host, text.parse().ok()?)),
        None => Some((authority, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        assert_eq!(split_port("a:1", 9), Some(("a", 1)));
        assert_eq!(split_port("a", 9), Some(("a", 9)));
        assert_eq!(split_port("[::1]:7", 9), Some(("::1", 7)));
        assert_eq!(split_port("[::1]", 9), Some(("::1", 9)));
        assert_eq!(split_port("a:b", 9), None);
        let target = Target::new("nats://127.0.0.1", None, None).unwrap();
        assert_eq!(target.to_string(), "nats://127.0.0.1:4222");
        assert!(Target::new("http://127.0.0.1", None, None).is_err());
        assert!(Target::new("127.0.0.1:4222", None, None).is_err());
    }

    #[test]
    fn unverified_certificates_are_for_this_machine_alone() {
        assert!(Target::new("quic://127.0.0.1:4433", None, None).is_ok());
        let error = Target::new("wss://192.0.2.1:443", None, None).unwrap_err();
        assert!(error.to_string().contains("CA file"), "{error}");
    }
}
