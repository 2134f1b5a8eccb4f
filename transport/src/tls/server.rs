//! The listener's side: a certificate and a client CA that can be replaced while connections live.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::RwLock;
use quinn::crypto::rustls::QuicServerConfig;
use rustls::RootCertStore;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;

use sha2::{Digest as _, Sha256};

use super::{Fingerprint, TlsError, authority, development, pem, provider};
use crate::ALPN;

/// A certificate with its key, and whose certificates are asked for. Clones share all of it.
#[derive(Clone, Debug)]
pub struct ServerTls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Source,
    client_ca: Option<PathBuf>,
    current: RwLock<Arc<Current>>,
}

/// Where the certificate comes from, and comes from again on reload.
#[derive(Debug)]
enum Source {
    Files { certificates: PathBuf, key: PathBuf },
    Development { dir: Option<PathBuf> },
}

/// What new handshakes use. All of it is replaced at once.
struct Current {
    fingerprint: Fingerprint,
    lifetime: Option<(SystemTime, SystemTime)>,
    tcp: Arc<rustls::ServerConfig>,
    http: Arc<rustls::ServerConfig>,
    quic: Arc<QuicServerConfig>,
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl Source {
    fn load(&self) -> Result<CertifiedKey, TlsError> {
        match self {
            Self::Files { certificates, key } => pem::certified_key(certificates, key),
            Self::Development { dir } => development::load_or_generate(dir.as_deref()),
        }
    }
}

impl ServerTls {
    /// A certificate chain (leaf first) and its key from PEM files.
    ///
    /// With `client_ca`, clients may offer a certificate, which must then be signed by one in that file; it appears in
    /// [`Info::client_certificates`](crate::Info::client_certificates).
    ///
    /// # Errors
    /// If a file cannot be read or does not hold what it should.
    pub fn from_pem_files(
        certificates: &Path,
        key: &Path,
        client_ca: Option<&Path>,
    ) -> Result<Self, TlsError> {
        let source = Source::Files {
            certificates: certificates.to_owned(),
            key: key.to_owned(),
        };
        Self::new(source, client_ca)
    }

    /// A self-signed certificate for this machine, for clients that trust its [`fingerprint`](Self::fingerprint).
    ///
    /// ECDSA P-256, valid for 13 days, for `localhost`, `127.0.0.1`, `::1` and the host name, which is what browsers
    /// ask of certificates pinned by hash. With a directory it is kept there (the key readable for its owner only) and
    /// used again until a day before it ends.
    ///
    /// # Errors
    /// If the directory cannot be used.
    pub fn development(dir: Option<&Path>) -> Result<Self, TlsError> {
        Self::new(
            Source::Development {
                dir: dir.map(Path::to_owned),
            },
            None,
        )
    }

    fn new(source: Source, client_ca: Option<&Path>) -> Result<Self, TlsError> {
        let current = RwLock::new(Arc::new(Current::load(&source, client_ca)?));
        Ok(Self(Arc::new(Inner {
            source,
            client_ca: client_ca.map(Path::to_owned),
            current,
        })))
    }

    /// The SHA-256 of the leaf certificate in use.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.current.read().fingerprint
    }

    /// The files that a reload reads; none where the certificate was made here and is kept nowhere.
    pub fn files(&self) -> Vec<&Path> {
        let client_ca = self.0.client_ca.as_deref();
        match &self.0.source {
            Source::Files { certificates, key } => {
                let own = [certificates.as_path(), key.as_path()];
                own.into_iter().chain(client_ca).collect()
            }
            Source::Development { .. } => client_ca.into_iter().collect(),
        }
    }

    /// From when and until when the leaf certificate in use is valid; `None` if it cannot be told.
    pub fn lifetime(&self) -> Option<(SystemTime, SystemTime)> {
        self.0.current.read().lifetime
    }

    /// Until when the leaf certificate in use is valid; `None` if it cannot be told.
    pub fn valid_until(&self) -> Option<SystemTime> {
        self.lifetime().map(|(_, end)| end)
    }

    /// Whether the certificate was made for development.
    pub fn is_development(&self) -> bool {
        matches!(self.0.source, Source::Development { .. })
    }

    /// Reads the files again, that of the client CA among them (or renews a development certificate that nears its
    /// end); for all clones and listeners, without disturbing connections.
    ///
    /// # Errors
    /// If one of them cannot be used; all that is in use stays then.
    pub fn reload(&self) -> Result<(), TlsError> {
        let fresh = Current::load(&self.0.source, self.0.client_ca.as_deref())?;
        *self.0.current.write() = Arc::new(fresh);
        Ok(())
    }

    /// For the next handshake of a server that speaks HTTP/2 and HTTP/1.1.
    pub fn http_config(&self) -> Arc<rustls::ServerConfig> {
        Arc::clone(&self.0.current.read().http)
    }

    /// For the next handshake.
    pub fn tcp_config(&self) -> Arc<rustls::ServerConfig> {
        Arc::clone(&self.0.current.read().tcp)
    }

    /// For the next handshake.
    pub(crate) fn quic_config(&self) -> Arc<QuicServerConfig> {
        Arc::clone(&self.0.current.read().quic)
    }

    /// A secret that stays the same as long as the private key does; a new one each time where the key is in no file.
    pub(crate) fn reset_key(&self) -> [u8; 32] {
        let path = match &self.0.source {
            Source::Files { key, .. } => Some(key.clone()),
            Source::Development { dir } => dir.as_deref().map(development::key_file),
        };
        let Some(Ok(key)) = path.map(std::fs::read) else {
            return rand::random();
        };
        Sha256::new()
            .chain_update("dialtone stateless reset")
            .chain_update(key)
            .finalize()
            .into()
    }
}

impl Current {
    fn load(source: &Source, client_ca: Option<&Path>) -> Result<Self, TlsError> {
        let certificate = source.load()?;
        let verifier = match client_ca {
            Some(path) => client_verifier(path)?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let leaf = certificate.end_entity_cert()?;
        let fingerprint = Fingerprint::of(leaf);
        let lifetime = authority::lifetime(leaf).ok();
        let resolver = Arc::new(SingleCertAndKey::from(certificate));
        let tcp = config(
            Arc::clone(&resolver),
            Arc::clone(&verifier),
            rustls::DEFAULT_VERSIONS,
            &[b"http/1.1"],
        )?;
        let http = config(
            Arc::clone(&resolver),
            Arc::clone(&verifier),
            rustls::DEFAULT_VERSIONS,
            &[b"h2", b"http/1.1"],
        )?;
        let quic = config(resolver, verifier, &[&TLS13], &[ALPN])?;
        let quic = QuicServerConfig::try_from(quic).map_err(|_no_suite| TlsError::NoQuicSuite)?;
        Ok(Self {
            fingerprint,
            lifetime,
            tcp,
            http,
            quic: Arc::new(quic),
        })
    }
}

fn client_verifier(ca: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let unusable = |source| TlsError::ClientCa {
        path: ca.to_owned(),
        source,
    };
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(ca)? {
        roots
            .add(certificate)
            .map_err(|error| unusable(error.into()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| unusable(error.into()))
}

fn config(
    resolver: Arc<SingleCertAndKey>,
    verifier: Arc<dyn ClientCertVerifier>,
    versions: &[&'static rustls::SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.ignore_client_order = true;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // Connections live long; resumption would cost memory and two messages in each handshake.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
