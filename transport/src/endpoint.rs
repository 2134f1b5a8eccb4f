//! Where a listener listens and a dialler dials, parsed once: `quic://…`, `ws://…`, `wss://…`, `memory:…`.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

/// The longest endpoint that is parsed, in bytes.
pub const ENDPOINT_LEN_MAX: usize = 2048;
/// The longest host name, in bytes (RFC 1035).
const HOST_LEN_MAX: usize = 253;
/// The UDP port of `quic://` where none is given.
pub const PORT_QUIC: u16 = 4433;
/// The TCP port of `ws://` where none is given.
pub const PORT_WS: u16 = 4480;
/// The TCP port of `wss://` where none is given.
pub const PORT_WSS: u16 = 4443;

/// An address together with the transport that is spoken there.
///
/// Hosts are names or addresses; an IPv6 address is held without its brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// QUIC over UDP.
    Quic {
        /// Name or address.
        host: String,
        /// UDP port; 0 lets a listener choose.
        port: u16,
    },
    /// WebSocket over plain TCP.
    Ws {
        /// Name or address.
        host: String,
        /// TCP port; 0 lets a listener choose.
        port: u16,
        /// Path and query of the upgrade request, with the leading `/`.
        path: String,
    },
    /// WebSocket over TLS.
    Wss {
        /// Name or address.
        host: String,
        /// TCP port; 0 lets a listener choose.
        port: u16,
        /// Path and query of the upgrade request, with the leading `/`.
        path: String,
    },
    /// A name in a [`memory::Hub`](crate::memory::Hub).
    Memory(String),
}

/// Why a text is no endpoint.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EndpointError {
    /// Over [`ENDPOINT_LEN_MAX`].
    #[error("endpoint of {0} bytes is too long (at most {ENDPOINT_LEN_MAX})")]
    TooLong(usize),
    /// Neither `SCHEME://` nor `memory:`.
    #[error(
        "endpoint {0:?} has no scheme; write quic://HOST, ws://HOST, wss://HOST or memory:NAME"
    )]
    NoScheme(String),
    /// A scheme that is not spoken.
    #[error("scheme {0:?} is not known; known are quic, ws, wss and memory")]
    UnknownScheme(String),
    /// Nothing where the host belongs.
    #[error("endpoint {0:?} names no host")]
    NoHost(String),
    /// Not a host name, an IPv4 address or an IPv6 address in brackets.
    #[error("host {0:?} is neither a name, an IPv4 address nor an IPv6 address in brackets")]
    BadHost(String),
    /// Credentials do not belong into an address.
    #[error("endpoint carries a user name before '@'; give credentials separately")]
    UserInfo,
    /// Not a number from 0 to 65535.
    #[error("port {0:?} is not a number from 0 to 65535")]
    BadPort(String),
    /// A path on `quic://`.
    #[error("quic endpoints have no path, but {0:?} was given")]
    UnexpectedPath(String),
    /// Spaces, control characters, `#` or anything beyond ASCII.
    #[error("path {0:?} holds a character that must be percent-encoded, or a fragment")]
    BadPath(String),
    /// A memory endpoint without name.
    #[error("memory endpoint has no name; write memory:NAME")]
    NoName,
}

impl Endpoint {
    /// The word before the colon.
    pub const fn scheme(&self) -> &'static str {
        match self {
            Self::Quic { .. } => "quic",
            Self::Ws { .. } => "ws",
            Self::Wss { .. } => "wss",
            Self::Memory(_) => "memory",
        }
    }

    /// Whether what is sent there is encrypted on its way.
    pub const fn is_encrypted(&self) -> bool {
        matches!(self, Self::Quic { .. } | Self::Wss { .. })
    }

    /// Host and port, where there are such.
    pub fn host_port(&self) -> Option<(&str, u16)> {
        match self {
            Self::Quic { host, port }
            | Self::Ws { host, port, .. }
            | Self::Wss { host, port, .. } => Some((host, *port)),
            Self::Memory(_) => None,
        }
    }

    /// The same endpoint at another port; without effect on memory.
    #[must_use]
    pub fn with_port(mut self, new: u16) -> Self {
        match &mut self {
            Self::Quic { port, .. } | Self::Ws { port, .. } | Self::Wss { port, .. } => *port = new,
            Self::Memory(_) => {}
        }
        self
    }

    /// The same endpoint with the address a listener got.
    pub(crate) fn at(&self, addr: SocketAddr) -> Self {
        self.clone().with_port(addr.port())
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if text.len() > ENDPOINT_LEN_MAX {
            return Err(EndpointError::TooLong(text.len()));
        }
        if let Some(name) = text.strip_prefix("memory:") {
            let name = name.strip_prefix("//").unwrap_or(name);
            return if name.is_empty() {
                Err(EndpointError::NoName)
            } else {
                Ok(Self::Memory(name.to_owned()))
            };
        }
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| EndpointError::NoScheme(text.to_owned()))?;
        let default_port = match scheme {
            "quic" => PORT_QUIC,
            "ws" => PORT_WS,
            "wss" => PORT_WSS,
            other => return Err(EndpointError::UnknownScheme(other.to_owned())),
        };
        let (authority, path) = rest
            .find(['/', '?', '#'])
            .map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = parse_authority(authority, text)?;
        let port = port.unwrap_or(default_port);
        if scheme == "quic" {
            return match path {
                "" | "/" => Ok(Self::Quic { host, port }),
                path => Err(EndpointError::UnexpectedPath(path.to_owned())),
            };
        }
        let path = parse_path(path)?;
        Ok(if scheme == "ws" {
            Self::Ws { host, port, path }
        } else {
            Self::Wss { host, port, path }
        })
    }
}

fn parse_authority(authority: &str, whole: &str) -> Result<(String, Option<u16>), EndpointError> {
    if authority.contains('@') {
        return Err(EndpointError::UserInfo);
    }
    let (host, port) = if let Some(inner) = authority.strip_prefix('[') {
        let (host, after) = inner
            .split_once(']')
            .ok_or_else(|| EndpointError::BadHost(authority.to_owned()))?;
        let address: Ipv6Addr = host
            .parse()
            .map_err(|_not_v6| EndpointError::BadHost(host.to_owned()))?;
        let port = match after {
            "" => None,
            after => Some(
                after
                    .strip_prefix(':')
                    .ok_or_else(|| EndpointError::BadHost(authority.to_owned()))?,
            ),
        };
        (address.to_string(), port)
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (parse_name(host, whole)?, Some(port)),
            None => (parse_name(authority, whole)?, None),
        }
    };
    Ok((host, port.map(parse_port).transpose()?))
}

fn parse_name(host: &str, whole: &str) -> Result<String, EndpointError> {
    if host.is_empty() {
        return Err(EndpointError::NoHost(whole.to_owned()));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.len() > HOST_LEN_MAX || !host.chars().all(allowed) {
        return Err(EndpointError::BadHost(host.to_owned()));
    }
    Ok(host.to_owned())
}

fn parse_port(port: &str) -> Result<u16, EndpointError> {
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let parsed = if digits { port.parse().ok() } else { None };
    parsed.ok_or_else(|| EndpointError::BadPort(port.to_owned()))
}

fn parse_path(path: &str) -> Result<String, EndpointError> {
    if !path.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Err(EndpointError::BadPath(path.to_owned()));
    }
    Ok(match path.strip_prefix('/') {
        Some(_) => path.to_owned(),
        None => format!("/{path}"),
    })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(name) => write!(f, "memory:{name}"),
            Self::Quic { host, port } => write!(f, "quic://{}", Authority(host, *port)),
            Self::Ws { host, port, path } => write!(f, "ws://{}{path}", Authority(host, *port)),
            Self::Wss { host, port, path } => write!(f, "wss://{}{path}", Authority(host, *port)),
        }
    }
}

/// Host and port as they stand in a URL and in a `Host` header.
pub(crate) struct Authority<'a>(pub(crate) &'a str, pub(crate) u16);

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, shown: &str) {
        let endpoint: Endpoint = text.parse().unwrap();
        assert_eq!(endpoint.to_string(), shown);
        assert_eq!(shown.parse::<Endpoint>().unwrap(), endpoint);
    }

    #[track_caller]
    fn refuse(text: &str, why: &str) {
        assert_eq!(text.parse::<Endpoint>().unwrap_err().to_string(), why);
    }

    #[test]
    fn defaults_are_filled_in() {
        check("quic://localhost", "quic://localhost:4433");
        check("quic://localhost:1/", "quic://localhost:1");
        check("ws://10.0.0.1", "ws://10.0.0.1:4480/");
        check(
            "wss://example.org/a/b?c=d",
            "wss://example.org:4443/a/b?c=d",
        );
        check("wss://example.org?c=d", "wss://example.org:4443/?c=d");
        check("ws://[::1]:0/x", "ws://[::1]:0/x");
        check("quic://[0:0::1]", "quic://[::1]:4433");
        check("memory:a", "memory:a");
        check("memory://a", "memory:a");
    }

    #[test]
    fn errors_name_what_is_wrong() {
        refuse(
            "localhost:1",
            "endpoint \"localhost:1\" has no scheme; write quic://HOST, ws://HOST, wss://HOST or memory:NAME",
        );
        refuse(
            "http://x",
            "scheme \"http\" is not known; known are quic, ws, wss and memory",
        );
        refuse("ws://", "endpoint \"ws://\" names no host");
        refuse("ws://:1", "endpoint \"ws://:1\" names no host");
        refuse(
            "ws://a b",
            "host \"a b\" is neither a name, an IPv4 address nor an IPv6 address in brackets",
        );
        refuse("ws://::1", "endpoint \"ws://::1\" names no host");
        refuse(
            "ws://a:65536",
            "port \"65536\" is not a number from 0 to 65535",
        );
        refuse("ws://a:+1", "port \"+1\" is not a number from 0 to 65535");
        refuse("ws://a:", "port \"\" is not a number from 0 to 65535");
        refuse(
            "ws://u:p@a",
            "endpoint carries a user name before '@'; give credentials separately",
        );
        refuse(
            "quic://a/b",
            "quic endpoints have no path, but \"/b\" was given",
        );
        refuse(
            "ws://a/b#c",
            "path \"/b#c\" holds a character that must be percent-encoded, or a fragment",
        );
        refuse("memory:", "memory endpoint has no name; write memory:NAME");
        refuse(
            &"x".repeat(2049),
            "endpoint of 2049 bytes is too long (at most 2048)",
        );
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_display_round_trips(text in "(quic|wss?|memory|x)?(://|:)?\\PC{0,40}") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint);
            }
        }
    }
}
