//! The dialling side: whom we trust, and the certificate we show.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::{Fingerprint, TlsError, pem, provider};
use crate::ALPN;

/// Whose certificates are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    /// Those that the operating system trusts.
    #[default]
    Platform,
    /// Those signed by a certificate in this PEM file.
    Pem(PathBuf),
    /// Exactly the certificate with this fingerprint, whatever its name and validity.
    Fingerprint(Fingerprint),
    /// Any. Whoever is on the way can read and change everything.
    Insecure,
}

/// A certificate that tells the server who we are.
#[derive(Debug)]
pub struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// Where they came from, and come from again on reload.
    files: (PathBuf, PathBuf),
}

impl ClientCertificate {
    /// A certificate chain (leaf first) and its key from PEM files.
    ///
    /// # Errors
    /// If a file cannot be read or does not hold what it should.
    pub fn from_pem_files(certificates: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            chain: pem::certificates(certificates)?,
            key: pem::private_key(key)?,
            files: (certificates.to_owned(), key.to_owned()),
        })
    }

    /// What the files hold now, if certificate and key belong together.
    fn again(&self) -> Result<Self, TlsError> {
        let (certificates, key) = &self.files;
        pem::certified_key(certificates, key)?;
        Self::from_pem_files(certificates, key)
    }
}

/// Trust and identity of a dialler. Clones share the configuration, which is built when first used.
#[derive(Clone, Debug, Default)]
pub struct ClientTls(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    roots: Roots,
    certificate: Mutex<Option<ClientCertificate>>,
    tcp: Mutex<Option<Arc<rustls::ClientConfig>>>,
    quic: Mutex<Option<Arc<rustls::ClientConfig>>>,
}

impl ClientTls {
    /// Trusts `roots` and shows no certificate.
    pub fn new(roots: Roots) -> Self {
        Self::with_certificate(roots, None)
    }

    /// Trusts `roots` and shows `certificate` to servers that ask.
    pub fn with_certificate(roots: Roots, certificate: Option<ClientCertificate>) -> Self {
        Self(Arc::new(Inner {
            roots,
            certificate: Mutex::new(certificate),
            tcp: Mutex::new(None),
            quic: Mutex::new(None),
        }))
    }

    /// Reads the files of the certificate and of the roots again, for all clones and without disturbing connections;
    /// those made from here on use what was read.
    ///
    /// # Errors
    /// If they cannot be used; what was in use stays then.
    pub fn reload(&self) -> Result<(), TlsError> {
        let mut certificate = self.0.certificate.lock();
        let fresh = certificate.as_ref().map(ClientCertificate::again);
        let fresh = fresh.transpose()?;
        verifier(&self.0.roots)?;
        *certificate = fresh;
        drop(certificate);
        *self.0.tcp.lock() = None;
        *self.0.quic.lock() = None;
        Ok(())
    }

    pub(crate) fn tcp_config(&self) -> Result<Arc<rustls::ClientConfig>, TlsError> {
        cached(&self.0.tcp, || {
            self.build(rustls::DEFAULT_VERSIONS, b"http/1.1")
        })
    }

    pub(crate) fn quic_config(&self) -> Result<Arc<rustls::ClientConfig>, TlsError> {
        cached(&self.0.quic, || self.build(&[&TLS13], ALPN))
    }

    fn build(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        alpn: &[u8],
    ) -> Result<rustls::ClientConfig, TlsError> {
        let builder = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(verifier(&self.0.roots)?);
        let mut config = match &*self.0.certificate.lock() {
            Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key())?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        // Our servers give no tickets.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn cached(
    slot: &Mutex<Option<Arc<rustls::ClientConfig>>>,
    build: impl FnOnce() -> Result<rustls::ClientConfig, TlsError>,
) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let mut slot = slot.lock();
    if let Some(config) = &*slot {
        return Ok(Arc::clone(config));
    }
    let config = Arc::new(build()?);
    *slot = Some(Arc::clone(&config));
    Ok(config)
}

fn verifier(roots: &Roots) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    Ok(match roots {
        Roots::Platform => Arc::new(rustls_platform_verifier::Verifier::new(provider())?),
        Roots::Pem(path) => {
            let mut store = RootCertStore::empty();
            for certificate in pem::certificates(path)? {
                store.add(certificate)?;
            }
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider())
                .build()
                .map_err(|error| no_roots(&error))?
        }
        Roots::Fingerprint(fingerprint) => Arc::new(Pinned(Some(*fingerprint))),
        Roots::Insecure => Arc::new(Pinned(None)),
    })
}

fn no_roots(error: &rustls::server::VerifierBuilderError) -> TlsError {
    TlsError::Rustls(rustls::Error::General(error.to_string()))
}

/// Trusts one certificate, or any if there is none; that the peer owns its key is checked all the same.
#[derive(Debug)]
struct Pinned(Option<Fingerprint>);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self
            .0
            .is_none_or(|pinned| pinned == Fingerprint::of(end_entity))
        {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
