//! Another cluster in a setting: its name and, unless it is only to reach us, one of its URLs.

use std::fmt;

use dialtone_transport::tls::authority::check_cluster_name;

use super::Value;
use crate::discovery::{Link, Seed};

/// `NAME=URL` or `NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GatewayUrl {
    /// The other cluster's name.
    pub(crate) cluster: String,
    /// One of its nodes.
    pub(crate) url: Option<Link>,
}

impl fmt::Display for GatewayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.url {
            Some(url) => write!(f, "{}={url}", self.cluster),
            None => f.write_str(&self.cluster),
        }
    }
}

impl Value for GatewayUrl {
    const NAME: &'static str = "NAME=URL";

    fn from_text(text: &str) -> Result<Self, String> {
        let (cluster, url) = match text.split_once('=') {
            Some((cluster, url)) => (cluster, Some(url)),
            None => (text, None),
        };
        check_cluster_name(cluster)
            .map_err(|error| format!("expected NAME=URL, found {text:?}: {error}"))?;
        let url = url.map(str::parse::<Seed>).transpose()?;
        let url = match url {
            Some(Seed::Url(link)) => Some(link),
            None => None,
            Some(Seed::Addresses { .. } | Seed::Services { .. }) => {
                return Err(
                    "a gateway has a URL; names are looked up when it is dialled".to_owned(),
                );
            }
        };
        Ok(Self {
            cluster: cluster.to_owned(),
            url,
        })
    }

    fn to_toml(&self) -> toml::Value {
        self.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_read_and_shown() {
        for (text, shown) in [
            ("west=quic://10.0.0.1", "west=quic://10.0.0.1:4434"),
            ("west", "west"),
        ] {
            assert_eq!(GatewayUrl::from_text(text).unwrap().to_string(), shown);
        }
        for (text, part) in [
            ("quic://10.0.0.1", "expected NAME=URL"),
            ("=quic://10.0.0.1", "expected NAME=URL"),
            ("west=", "has no scheme"),
            ("west=dns://a", "has a URL"),
        ] {
            let error = GatewayUrl::from_text(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
