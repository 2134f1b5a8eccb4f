//! How browsers reach a hub: the flags that `up` and `hub` share.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::config::Span;

const BROWSERS: &str = "Browsers";

/// Encrypted or not, and where the servers of projects are.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Edge {
    /// Speak https (and HTTP/2) at the hub's address with this certificate chain, as PEM; read again when the file changes, and on SIGHUP [env: DIALTONE_HTTPS_CERT]
    #[arg(long, value_name = "FILE", help_heading = BROWSERS)]
    pub(crate) https_cert: Option<PathBuf>,
    /// The private key of that certificate, as PEM [env: DIALTONE_HTTPS_KEY]
    #[arg(long, value_name = "FILE", help_heading = BROWSERS)]
    pub(crate) https_key: Option<PathBuf>,
    /// Speak https with a certificate made for this machine and kept in this folder, for development [env: DIALTONE_HTTPS_DEV]
    #[arg(long, value_name = "DIR", help_heading = BROWSERS, conflicts_with = "https_cert")]
    pub(crate) https_dev: Option<PathBuf>,
    /// Address at which browsers that come without encryption are led to https [env: DIALTONE_HTTP_LISTEN]
    #[arg(long, value_name = "ADDR", help_heading = BROWSERS)]
    pub(crate) http_listen: Option<SocketAddr>,
    /// Have browsers come by https only, for so long after each visit, such as 8760h [env: DIALTONE_HSTS]
    #[arg(long, value_name = "TIME", help_heading = BROWSERS)]
    pub(crate) hsts: Option<Span>,
    /// Host of the servers of projects, which keeps their pages from acting as whoever opens them: `{project}.example.org`, one for each, or one for all [env: DIALTONE_PROJECTS_HOST]
    #[arg(long, value_name = "HOST", help_heading = BROWSERS)]
    pub(crate) projects_host: Option<String>,
    /// Where people find the site, as `https://hub.example.org` [env: DIALTONE_SITE_URL] [default: the setting dns, else the hub's address]
    #[arg(long, value_name = "URL", help_heading = BROWSERS)]
    pub(crate) site_url: Option<String>,
}
