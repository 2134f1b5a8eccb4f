//! Reading certificates and keys from PEM files.

use std::fs;
use std::path::Path;

use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::{TlsError, provider};

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File {
        path: path.to_owned(),
        source,
    })
}

/// All certificates of a file, of which there is one at least.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let parsed: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let parsed = parsed.map_err(|source| TlsError::Pem {
        path: path.to_owned(),
        what: "certificate",
        source,
    })?;
    if parsed.is_empty() {
        Err(TlsError::NoCertificate(path.to_owned()))
    } else {
        Ok(parsed)
    }
}

pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|source| TlsError::Pem {
        path: path.to_owned(),
        what: "private key",
        source,
    })
}

/// A certificate chain with its key; they are checked to belong together.
pub(super) fn certified_key(certificates: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = self::certificates(certificates)?;
    CertifiedKey::from_der(chain, private_key(key)?, &provider()).map_err(|source| {
        TlsError::KeyPair {
            certificates: certificates.to_owned(),
            key: key.to_owned(),
            source,
        }
    })
}
