//! How browsers reach a hub, from flags and environment: encrypted or not, and where the servers of projects are.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dialtone_proxy::separate::Hosts;
use dialtone_transport::tls::{ServerTls, TlsError};
use tokio::sync::Notify;

use crate::args::Edge as Args;
use crate::config::{Span, Strings};
use crate::exit::Failure;

/// How browsers reach a hub.
#[derive(Debug, Clone, Default)]
pub(crate) struct Edge {
    /// With what it is encrypted.
    pub(crate) certificate: Option<Certificate>,
    /// Where browsers are led to https.
    pub(crate) http: Option<SocketAddr>,
    /// How long they then come by https only.
    pub(crate) hsts: Option<Duration>,
    /// Where the servers of projects are, if not at the site's own host.
    pub(crate) hosts: Option<Hosts>,
    /// Where people find the site, if that was said.
    pub(crate) site: Option<String>,
    /// Has the certificate read again.
    pub(crate) reload: Arc<Notify>,
}

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// From files.
    Files {
        /// The chain.
        chain: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// Made for this machine, and kept in this folder.
    Development(PathBuf),
}

impl Certificate {
    /// Reads it.
    pub(crate) fn open(&self) -> Result<ServerTls, TlsError> {
        match self {
            Self::Files { chain, key } => ServerTls::from_pem_files(chain, key, None),
            Self::Development(folder) => ServerTls::development(Some(folder)),
        }
    }
}

impl Edge {
    /// What flags and environment say.
    ///
    /// # Errors
    /// When something is no host, address or time, or does not go together.
    pub(crate) fn of(args: &Args, strings: &dyn Strings) -> Result<Self, Failure> {
        let path = |given: &Option<PathBuf>, name: &str| -> Option<PathBuf> {
            given.clone().or_else(|| strings.get(name).map(Into::into))
        };
        let chain = path(&args.https_cert, "DIALTONE_HTTPS_CERT");
        let key = path(&args.https_key, "DIALTONE_HTTPS_KEY");
        let folder = path(&args.https_dev, "DIALTONE_HTTPS_DEV");
        let certificate = match (chain, key, folder) {
            (Some(chain), Some(key), _) => Some(Certificate::Files { chain, key }),
            (None, None, folder) => folder.map(Certificate::Development),
            (Some(_), None, _) | (None, Some(_), _) => {
                return Err(Failure::usage(
                    "a certificate and its key belong together: --https-cert and --https-key, or DIALTONE_HTTPS_CERT and DIALTONE_HTTPS_KEY",
                ));
            }
        };
        let http = match args.http_listen {
            Some(http) => Some(http),
            None => parsed(strings, "DIALTONE_HTTP_LISTEN", "an address as 0.0.0.0:80")?,
        };
        let hsts = match args.hsts {
            Some(hsts) => Some(hsts),
            None => parsed::<Span>(strings, "DIALTONE_HSTS", "a time as 8760h")?,
        };
        let hosts = args.projects_host.clone();
        let hosts = hosts.or_else(|| strings.get("DIALTONE_PROJECTS_HOST"));
        let hosts = hosts.map(|text| text.parse::<Hosts>().map_err(Failure::usage));
        let site = args.site_url.clone();
        let site = site.or_else(|| strings.get("DIALTONE_SITE_URL"));
        let edge = Self {
            certificate,
            http,
            hsts: hsts.map(Span::get).filter(|hsts| !hsts.is_zero()),
            hosts: hosts.transpose()?,
            site: site.map(|site| site_url(&site)).transpose()?,
            reload: Arc::default(),
        };
        edge.check()?;
        Ok(edge)
    }

    fn check(&self) -> Result<(), Failure> {
        if self.certificate.is_none() && (self.http.is_some() || self.hsts.is_some()) {
            let text = "--http-listen and --hsts are for a hub that speaks https";
            return Err(Failure::usage(text)
                .hint("--https-cert and --https-key name a certificate, --https-dev makes one"));
        }
        match (&self.hosts, &self.site) {
            (Some(hosts), Some(site)) => hosts.check_site(site).map_err(Failure::usage),
            (None, _) | (_, None) => Ok(()),
        }
    }

    /// Whether anything was said of it that needs the proxy.
    pub(crate) fn needs_proxy(&self) -> bool {
        self.certificate.is_some() || self.hosts.is_some()
    }

    /// The scheme of the hub's address.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.certificate.is_some() {
            "https"
        } else {
            "http"
        }
    }
}

fn parsed<T: std::str::FromStr>(
    strings: &dyn Strings,
    name: &str,
    what: &str,
) -> Result<Option<T>, Failure> {
    let Some(text) = strings.get(name) else {
        return Ok(None);
    };
    let wrong = |_error| Failure::usage(format_args!("{name} must be {what}, not {text:?}"));
    text.parse().map(Some).map_err(wrong)
}

/// The origin of the site, without a slash at its end.
fn site_url(text: &str) -> Result<String, Failure> {
    let origin = text.trim_end_matches('/');
    let host = origin
        .strip_prefix("https://")
        .or_else(|| origin.strip_prefix("http://"));
    let is_host = |host: &str| {
        !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
    };
    if host.is_some_and(is_host) {
        Ok(origin.to_ascii_lowercase())
    } else {
        Err(Failure::usage(format_args!(
            "--site-url must be an address without a path as https://hub.example.org, not {text:?}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn edge(args: &Args, strings: &[(&str, &str)]) -> Result<Edge, String> {
        let strings: BTreeMap<String, String> = strings
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Edge::of(args, &strings).map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn flags_go_before_the_environment() {
        let args = Args {
            projects_host: Some("{project}.a.example".to_owned()),
            https_dev: Some("/flag".into()),
            ..Args::default()
        };
        let strings = [
            ("DIALTONE_PROJECTS_HOST", "b.example"),
            ("DIALTONE_HTTPS_DEV", "/variable"),
            ("DIALTONE_SITE_URL", "https://Hub.Example/"),
            ("DIALTONE_HSTS", "1h"),
            ("DIALTONE_HTTP_LISTEN", "127.0.0.1:80"),
        ];
        let edge = edge(&args, &strings).unwrap();
        assert_eq!(edge.hosts.unwrap().to_string(), "{project}.a.example");
        let folder = Certificate::Development("/flag".into());
        assert_eq!(edge.certificate, Some(folder));
        assert_eq!(edge.site.as_deref(), Some("https://hub.example"));
        assert_eq!(edge.hsts, Some(Duration::from_hours(1)));
        assert_eq!(edge.http, "127.0.0.1:80".parse().ok());
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for strings in [
            &[("DIALTONE_HTTPS_CERT", "/a")][..],
            &[("DIALTONE_HTTPS_KEY", "/a")],
            &[("DIALTONE_HSTS", "1h")],
            &[("DIALTONE_HTTP_LISTEN", "127.0.0.1:80")],
            &[("DIALTONE_HTTPS_DEV", "/a"), ("DIALTONE_HSTS", "soon")],
            &[("DIALTONE_PROJECTS_HOST", "a/b")],
            &[("DIALTONE_SITE_URL", "hub.example")],
            &[("DIALTONE_SITE_URL", "https://hub.example/path")],
            &[
                ("DIALTONE_SITE_URL", "https://hub.example"),
                ("DIALTONE_PROJECTS_HOST", "hub.example"),
            ],
        ] {
            assert!(edge(&Args::default(), strings).is_err(), "{strings:?}");
        }
    }
}
