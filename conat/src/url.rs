//! Where Socket.IO is served: `socketio+http://HOST:PORT/BASE` and `socketio+https://…`.

use std::fmt;
use std::str::FromStr;

use dialtone_transport::{Endpoint, EndpointError};
use thiserror::Error;

/// The TCP port where none is given; the predecessor has the same.
pub const PORT_DEFAULT: u16 = 3000;

/// A place at which Socket.IO clients connect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    /// Over TLS.
    pub tls: bool,
    /// Name or address; an IPv6 address without its brackets.
    pub host: String,
    /// TCP port; 0 lets the listener choose.
    pub port: u16,
    /// The path in front of `/conat/`: empty, or with a slash at its beginning and none at its end.
    pub base_path: String,
}

/// Why a text is no such place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UrlError {
    /// Another scheme.
    #[error("{0:?} is not socketio+http://HOST:PORT or socketio+https://HOST:PORT")]
    Scheme(String),
    /// The rest is no address.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The path has a query.
    #[error("the base path {0:?} must not have a query")]
    Query(String),
}

/// What the schemes begin with.
pub const SCHEME_PREFIX: &str = "socketio+";

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let wrong = || UrlError::Scheme(text.chars().take(64).collect());
        let rest = text.strip_prefix(SCHEME_PREFIX).ok_or_else(wrong)?;
        let (scheme, address) = rest.split_once("://").ok_or_else(wrong)?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(wrong()),
        };
        let without_port = !has_port(address);
        // The rules for hosts, ports and paths are those of a WebSocket.
        let endpoint: Endpoint = format!("ws://{address}").parse()?;
        let Endpoint::Ws { host, port, path } = endpoint else {
            return Err(wrong());
        };
        if path.contains('?') {
            return Err(UrlError::Query(path));
        }
        let trimmed = path.trim_end_matches('/');
        let base_path = trimmed.strip_suffix("/conat").unwrap_or(trimmed);
        Ok(Self {
            tls,
            host,
            port: if without_port { PORT_DEFAULT } else { port },
            base_path: base_path.to_owned(),
        })
    }
}

fn has_port(address: &str) -> bool {
    let authority = address.split('/').next().unwrap_or_default();
    let behind = authority
        .rsplit_once(']')
        .map_or(authority, |(_, rest)| rest);
    behind.contains(':')
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME_PREFIX}{}", self.address())
    }
}

impl Url {
    /// What a client is given: `http://HOST:PORT/BASE`.
    pub fn address(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let (host, port, base) = (&self.host, self.port, &self.base_path);
        if host.contains(':') {
            format!("{scheme}://[{host}]:{port}{base}")
        } else {
            format!("{scheme}://{host}:{port}{base}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_written() {
        for (text, written, address) in [
            (
                "socketio+http://127.0.0.1:9001",
                "socketio+http://127.0.0.1:9001",
                "http://127.0.0.1:9001",
            ),
            (
                "socketio+https://[::1]/base/",
                "socketio+https://[::1]:3000/base",
                "https://[::1]:3000/base",
            ),
            (
                "socketio+http://h:0/a/b/conat/",
                "socketio+http://h:0/a/b",
                "http://h:0/a/b",
            ),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!(
                (url.to_string().as_str(), url.address().as_str()),
                (written, address)
            );
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "http://a:1",
            "socketio+ws://a:1",
            "socketio+http:a",
            "socketio+http://",
            "socketio+http://a:99999",
            "socketio+http://a:1/x?y=1",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }
}
