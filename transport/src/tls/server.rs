//! The listener's side: a certificate that can be replaced while connections live.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::RwLock;
use rustls::RootCertStore;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
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
    current: Arc<Current>,
    tcp: Arc<rustls::ServerConfig>,
    quic: Arc<rustls::ServerConfig>,
}

/// Where the certificate comes from, and comes from again on reload.
#[derive(Debug)]
enum Source {
    Files { certificates: PathBuf, key: PathBuf },
    Development { dir: Option<PathBuf> },
}

impl Source {
    fn load(&self) -> Result<CertifiedKey, TlsError> {
        match self {
            Self::Files { certificates, key } => pem::certified_key(certificates, key),
            Self::Development { dir } => development::load_or_generate(dir.as_deref()),
        }
    }
}

/// The certificate that new handshakes use.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

impl ServerTls {
    /// A certificate chain (leaf first) and its key from PEM files.
    ///
    /// With `client_ca`, clients may offer a certificate, which must then be signed by one in that file; it appears in
    /// [`Info::client_certificates`](crate::Info::client_certificates). A change of the client CA needs a new listener.
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
        let current = Arc::new(Current(RwLock::new(Arc::new(source.load()?))));
        let verifier = match client_ca {
            Some(path) => client_verifier(path)?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let tcp = config(
            &current,
            Arc::clone(&verifier),
            rustls::DEFAULT_VERSIONS,
            b"http/1.1",
        )?;
        let quic = config(&current, verifier, &[&TLS13], ALPN)?;
        Ok(Self(Arc::new(Inner {
            source,
            current,
            tcp,
            quic,
        })))
    }

    /// The SHA-256 of the leaf certificate in use.
    ///
    /// # Panics
    /// Never: a chain that was loaded has a leaf.
    pub fn fingerprint(&self) -> Fingerprint {
        let current = Arc::clone(&self.0.current.0.read());
        Fingerprint::of(
            current
                .end_entity_cert()
                .expect("a chain that was loaded has a leaf"),
        )
    }

    /// Until when the leaf certificate in use is valid; `None` if it cannot be told.
    pub fn valid_until(&self) -> Option<SystemTime> {
        let current = Arc::clone(&self.0.current.0.read());
        let leaf = current.end_entity_cert().ok()?;
        authority::lifetime(leaf).ok().map(|(_, end)| end)
    }

    /// Reads the files again (or renews a development certificate that nears its end); for all clones and listeners,
    /// without disturbing connections.
    ///
    /// # Errors
    /// If they cannot be used; the certificate in use stays then.
    pub fn reload(&self) -> Result<(), TlsError> {
        let fresh = Arc::new(self.0.source.load()?);
        *self.0.current.0.write() = fresh;
        Ok(())
    }

    pub(crate) fn tcp_config(&self) -> Arc<rustls::ServerConfig> {
        Arc::clone(&self.0.tcp)
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

    pub(crate) fn quic_config(&self) -> Arc<rustls::ServerConfig> {
        Arc::clone(&self.0.quic)
    }
}

fn client_verifier(ca: &Path) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(ca)? {
        roots.add(certificate)?;
    }
    Ok(
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()?,
    )
}

fn config(
    current: &Arc<Current>,
    verifier: Arc<dyn ClientCertVerifier>,
    versions: &[&'static rustls::SupportedProtocolVersion],
    alpn: &[u8],
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let resolver: Arc<dyn ResolvesServerCert> = Arc::<Current>::clone(current);
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.ignore_client_order = true;
    config.alpn_protocols = vec![alpn.to_vec()];
    // Connections live long; resumption would cost memory and two messages in each handshake.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
