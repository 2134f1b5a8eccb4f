//! Where a proxy listens: `http://IP:PORT` or `https://IP:PORT`.

use std::fmt;
use std::net::SocketAddr;

use crate::config::Value;

/// The port of a proxy that nobody has told another one.
const PORT: u16 = 4470;

/// An address with its scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    /// The address.
    pub(crate) addr: SocketAddr,
    /// Whether it is encrypted.
    pub(crate) encrypted: bool,
}

impl Default for At {
    fn default() -> Self {
        Self {
            addr: ([127, 0, 0, 1], PORT).into(),
            encrypted: false,
        }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.encrypted { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.addr)
    }
}

impl Value for At {
    const NAME: &'static str = "URL";

    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected http://IP:PORT or https://IP:PORT, found {text:?}");
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let encrypted = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(wrong()),
        };
        let addr = rest
            .trim_end_matches('/')
            .parse()
            .map_err(|_error| wrong())?;
        Ok(Self { addr, encrypted })
    }

    fn to_toml(&self) -> toml::Value {
        self.to_string().into()
    }
}
