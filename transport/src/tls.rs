//! rustls configuration: who we are, whom we trust, and certificates that change while we run.
//!
//! The cryptography provider is always named (aws-lc-rs), so that what another library installs as the process's
//! default makes no difference.

pub mod authority;
mod client;
mod development;
mod pem;
mod server;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

pub use self::client::{ClientCertificate, ClientTls, Roots};
pub use self::server::ServerTls;

/// Why certificates, keys or TLS options cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("cannot access {}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds no usable {what}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// The parser's answer.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A file holds no certificate at all.
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// The key does not belong to the certificate, or one of them is of a kind that is not supported.
    #[error("{} and {} cannot be used together", certificates.display(), key.display())]
    KeyPair {
        /// The file of the certificate chain.
        certificates: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// The TLS library's answer.
        #[source]
        source: rustls::Error,
    },
    /// A certificate or key without a file is malformed.
    #[error("certificate or key cannot be used")]
    Rustls(#[from] rustls::Error),
    /// The client CA cannot be used.
    #[error("{} holds no usable client CA", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// The TLS library's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A certificate could not be generated.
    #[error("cannot generate a development certificate")]
    Generate(#[from] rcgen::Error),
    /// The host is no name that a certificate could have.
    #[error("{host:?} cannot be the name in a certificate")]
    ServerName {
        /// The host dialled.
        host: String,
        /// The parser's answer.
        #[source]
        source: InvalidDnsNameError,
    },
    /// No cipher suite for QUIC's first packets; a bug of the build.
    #[error("TLS library lacks the cipher suite that QUIC starts with")]
    NoQuicSuite,
}

/// The SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// A text is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a fingerprint is 64 hexadecimal digits, with or without colons")]
pub struct FingerprintError;

impl Fingerprint {
    /// Of this certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let text = text.strip_prefix("sha256:").unwrap_or(text);
        let value = |c: char| {
            c.to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
                .ok_or(FingerprintError)
        };
        let mut digits = text.chars().filter(|&c| c != ':').map(value);
        let mut digit = || digits.next().ok_or(FingerprintError)?;
        let mut bytes = [0; 32];
        for byte in &mut bytes {
            let high = digit()?;
            *byte = high << 4 | digit()?;
        }
        if digits.next().is_some() {
            Err(FingerprintError)
        } else {
            Ok(Self(bytes))
        }
    }
}

/// aws-lc-rs with AES-128-GCM first: with AES in hardware it is the cheapest, and QUIC pays for it per packet.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = aws_lc_rs::default_provider();
        let first = cipher_suite::TLS13_AES_128_GCM_SHA256.suite();
        provider
            .cipher_suites
            .sort_by_key(|suite| suite.suite() != first);
        Arc::new(provider)
    });
    Arc::clone(&PROVIDER)
}

/// The name or address that the peer's certificate must have.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(host.to_owned()).map_err(|source| TlsError::ServerName {
        host: host.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_round_trip() {
        let fingerprint = Fingerprint::of(&CertificateDer::from(b"abc".to_vec()));
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(fingerprint.to_string(), text);
        assert_eq!(text.parse(), Ok(fingerprint));
        assert_eq!("BA:78".parse::<Fingerprint>(), Err(FingerprintError));
        assert_eq!(
            format!("{text}0").parse::<Fingerprint>(),
            Err(FingerprintError)
        );
    }
}
