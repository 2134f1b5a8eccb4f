//! Where nodes of a cluster may be found: a URL, a name with addresses, or a name with services.

use std::fmt;
use std::str::FromStr;

use dialtone_transport::{Endpoint, EndpointError};

/// The port of links between nodes where none is given, for UDP and TCP alike.
pub(crate) const PORT_CLUSTER: u16 = dialtone_broker::cluster::PORT;

/// Where nodes may be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seed {
    /// One node.
    Url(Link),
    /// `dns://HOST:PORT`: every address of a name is a node, over QUIC.
    Addresses {
        /// The name.
        host: String,
        /// The port of all of them.
        port: u16,
    },
    /// `srv://NAME`: every service of a name is a node.
    Services {
        /// The name, such as `_dialtone._udp.example.org`.
        name: String,
    },
}

impl Seed {
    /// Whether names must be looked up for it.
    pub(crate) fn is_name(&self) -> bool {
        self.url().is_none()
    }

    /// The one node that it is.
    pub(crate) fn url(&self) -> Option<&Link> {
        match self {
            Self::Url(link) => Some(link),
            Self::Addresses { .. } | Self::Services { .. } => None,
        }
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(link) => link.fmt(f),
            Self::Addresses { host, port } if host.contains(':') => {
                write!(f, "dns://[{host}]:{port}")
            }
            Self::Addresses { host, port } => write!(f, "dns://{host}:{port}"),
            Self::Services { name } => write!(f, "srv://{name}"),
        }
    }
}

impl FromStr for Seed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("dns://") {
            return match link(&format!("quic://{rest}"))? {
                Endpoint::Quic { port: 0, .. } => Err("port 0 cannot be dialled".to_owned()),
                Endpoint::Quic { host, port } => Ok(Self::Addresses { host, port }),
                Endpoint::Ws { .. } | Endpoint::Wss { .. } | Endpoint::Memory(_) => {
                    Err(format!("{text:?} is not dns://NAME:PORT"))
                }
            };
        }
        if let Some(name) = text.strip_prefix("srv://") {
            return services(name);
        }
        let link: Link = text.parse()?;
        if link.0.host_port().is_none_or(|(_, port)| port == 0) {
            return Err(format!("{text:?} cannot be dialled"));
        }
        Ok(Self::Url(link))
    }
}

fn services(name: &str) -> Result<Seed, String> {
    let name = name.trim_end_matches('/');
    // The parser of endpoints knows what a host name is.
    let parsed: Result<Endpoint, _> = format!("quic://{name}:1").parse();
    let labels: Vec<&str> = name.split('.').collect();
    let protocol = labels.get(1).copied().unwrap_or_default();
    if parsed.is_err() || labels.len() < 3 || !matches!(protocol, "_udp" | "_tcp") {
        return Err(format!(
            "{name:?} is no name of a service; write srv://_dialtone._udp.example.org (QUIC) or srv://_dialtone._tcp.example.org (wss)"
        ));
    }
    Ok(Seed::Services {
        name: name.to_owned(),
    })
}

/// The URL of a node, for other nodes. Its port is [`PORT_CLUSTER`] where none is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link(pub(crate) Endpoint);

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Link {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match link(text)? {
            Endpoint::Memory(_) => Err("memory endpoints exist within a process only".to_owned()),
            endpoint @ (Endpoint::Quic { .. } | Endpoint::Ws { .. } | Endpoint::Wss { .. }) => {
                Ok(Self(endpoint))
            }
        }
    }
}

fn link(text: &str) -> Result<Endpoint, String> {
    let endpoint: Endpoint = text
        .parse()
        .map_err(|error: EndpointError| error.to_string())?;
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    let after_address = authority
        .rsplit_once(']')
        .map_or(authority, |(_, after)| after);
    Ok(if after_address.contains(':') {
        endpoint
    } else {
        endpoint.with_port(PORT_CLUSTER)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_read_and_shown() {
        for (text, shown) in [
            ("quic://10.0.0.1:5000", "quic://10.0.0.1:5000"),
            ("quic://n1.example.org", "quic://n1.example.org:4434"),
            ("quic://[::1]", "quic://[::1]:4434"),
            ("quic://[::1]:7", "quic://[::1]:7"),
            ("wss://n1/link", "wss://n1:4434/link"),
            ("dns://dialtone.prod.svc", "dns://dialtone.prod.svc:4434"),
            ("dns://dialtone:99", "dns://dialtone:99"),
            (
                "srv://_dialtone._udp.example.org",
                "srv://_dialtone._udp.example.org",
            ),
            ("srv://_d._tcp.a.b/", "srv://_d._tcp.a.b"),
        ] {
            let seed: Seed = text.parse().unwrap();
            assert_eq!(seed.to_string(), shown, "{text}");
            assert_eq!(shown.parse::<Seed>().unwrap(), seed);
        }
    }

    #[test]
    fn what_is_no_seed_is_refused() {
        for (text, part) in [
            ("10.0.0.1:5000", "has no scheme"),
            ("http://a", "not known"),
            ("memory:a", "within a process"),
            ("quic://a:0", "cannot be dialled"),
            ("dns://a:0", "cannot be dialled"),
            ("dns://", "names no host"),
            ("srv://example.org", "no name of a service"),
            ("srv://_dialtone._sctp.example.org", "no name of a service"),
            ("srv://_dialtone._udp.exa mple", "no name of a service"),
        ] {
            let error = text.parse::<Seed>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
