//! A self-signed certificate for this machine, made when it is needed and kept for some days.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{Certificate, CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{TlsError, pem, provider};

/// Browsers accept certificates pinned by hash for 14 days at most; clocks differ.
const VALIDITY: Duration = Duration::from_hours(13 * 24);
/// A stored certificate is replaced this long before its end.
const RENEW_BEFORE: Duration = Duration::from_hours(24);
/// How far a peer's clock may be behind.
const CLOCK_SKEW: Duration = Duration::from_hours(1);

const CERTIFICATE_FILE: &str = "development-cert.pem";
const KEY_FILE: &str = "development-key.pem";

/// Where the key of the development certificate in `dir` is.
pub(super) fn key_file(dir: &Path) -> std::path::PathBuf {
    dir.join(KEY_FILE)
}

/// The certificate of `dir` if it will last, else a new one, which is then stored there.
pub(super) fn load_or_generate(dir: Option<&Path>) -> Result<CertifiedKey, TlsError> {
    let Some(dir) = dir else {
        let (certificate, key) = generate()?;
        return certified(&certificate, &key);
    };
    let (certificate_path, key_path) = (dir.join(CERTIFICATE_FILE), dir.join(KEY_FILE));
    if certificate_path.exists() && key_path.exists() {
        let stored = pem::certified_key(&certificate_path, &key_path)?;
        if stored.end_entity_cert().is_ok_and(lasts) {
            return Ok(stored);
        }
    }
    let (certificate, key) = generate()?;
    fs::create_dir_all(dir).map_err(|source| TlsError::File {
        path: dir.to_owned(),
        source,
    })?;
    store(&key_path, &key.serialize_pem(), 0o600)?;
    store(&certificate_path, &certificate.pem(), 0o644)?;
    certified(&certificate, &key)
}

fn certified(certificate: &Certificate, key: &KeyPair) -> Result<CertifiedKey, TlsError> {
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Ok(CertifiedKey::from_der(
        vec![certificate.der().clone()],
        key,
        &provider(),
    )?)
}

/// Whether a certificate is valid for a while yet.
fn lasts(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let validity = parsed.validity();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    validity.not_before.timestamp() <= seconds(now)
        && seconds(now + RENEW_BEFORE) < validity.not_after.timestamp()
}

/// A new certificate and its key.
fn generate() -> Result<(Certificate, KeyPair), TlsError> {
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let is_name = !host.is_empty()
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
    if is_name && !names.contains(&host) {
        names.push(host);
    }
    let mut params = CertificateParams::new(names)?;
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + VALIDITY - CLOCK_SKEW).into();
    params
        .distinguished_name
        .push(DnType::CommonName, "Dialtone development certificate");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate, key))
}

/// Writes beside the file and renames, so that nobody ever reads half of it.
fn store(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let failed = |source| TlsError::File {
        path: path.to_owned(),
        source,
    };
    let fresh = path.with_extension("new");
    // A leftover of an earlier attempt could have another mode.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&fresh)
        .map_err(failed)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    fs::rename(&fresh, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::tls::{Fingerprint, ServerTls};

    #[test]
    fn stored_certificate_is_used_again_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = ServerTls::development(Some(dir.path())).unwrap();
        let second = ServerTls::development(Some(dir.path())).unwrap();
        assert_eq!(first.fingerprint(), second.fingerprint());
        assert_ne!(
            first.fingerprint(),
            ServerTls::development(None).unwrap().fingerprint()
        );
        let mode = fs::metadata(dir.path().join(KEY_FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn certificate_near_its_end_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let first = ServerTls::development(Some(dir.path())).unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = (SystemTime::now() + RENEW_BEFORE / 2).into();
        let key = KeyPair::generate().unwrap();
        let old = params.self_signed(&key).unwrap();
        store(&dir.path().join(CERTIFICATE_FILE), &old.pem(), 0o644).unwrap();
        store(&dir.path().join(KEY_FILE), &key.serialize_pem(), 0o600).unwrap();
        let renewed = ServerTls::development(Some(dir.path())).unwrap();
        assert_ne!(renewed.fingerprint(), Fingerprint::of(old.der()));
        first.reload().unwrap();
        assert_eq!(first.fingerprint(), renewed.fingerprint());
    }
}
