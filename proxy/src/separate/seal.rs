//! Texts that only proxies of the same site can make and read.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// Bytes of a secret, and of the digest of one.
const SECRET_LEN: usize = 32;

/// The same as text.
const SECRET_TEXT_LEN: usize = 43;

/// Bytes in front of a sealed text: the number that is used once (NIST SP 800-38D §8.2.2).
const NONCE_LEN: usize = 12;

/// By which texts are sealed. Shows nothing of itself.
#[derive(Clone)]
pub struct Key([u8; SECRET_LEN]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// From a secret that all proxies of the site have, and that cannot be guessed.
    pub fn of(secret: &str) -> Self {
        let digest = Sha256::new()
            .chain_update(b"dialtone projects 1\0")
            .chain_update(secret);
        Self(digest.finalize().into())
    }

    /// One that nobody else has.
    pub fn random() -> Self {
        Self(random())
    }

    /// Seals a text for one purpose.
    pub(super) fn seal(&self, purpose: &str, text: &str) -> String {
        let sealed = self.cipher().and_then(|cipher| {
            let mut sealed = text.as_bytes().to_vec();
            let aad = Aad::from(purpose.as_bytes());
            let nonce = cipher.seal_in_place_append_tag(aad, &mut sealed).ok()?;
            let mut out = nonce.as_ref().to_vec();
            out.extend_from_slice(&sealed);
            Some(out)
        });
        URL_SAFE_NO_PAD
            .encode(sealed.expect("a key of this length and a text in memory can be sealed"))
    }

    /// The text, if it was sealed by this key for this purpose.
    pub(super) fn open(&self, purpose: &str, sealed: &str) -> Option<String> {
        let mut bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, text) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let aad = Aad::from(purpose.as_bytes());
        let text = self.cipher()?.open_in_place(nonce, aad, text).ok()?;
        String::from_utf8(text.to_vec()).ok()
    }

    fn cipher(&self) -> Option<RandomizedNonceKey> {
        RandomizedNonceKey::new(&AES_256_GCM, &self.0).ok()
    }
}

/// A secret as text.
pub(super) fn secret() -> String {
    URL_SAFE_NO_PAD.encode(random())
}

/// Whether a text has the form of a secret, or of the digest of one.
pub(super) fn is_secret(text: &str) -> bool {
    text.len() == SECRET_TEXT_LEN
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// What can be told of a secret.
pub(super) fn digest(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(secret))
}

fn random() -> [u8; SECRET_LEN] {
    let mut bytes = [0; SECRET_LEN];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_read_by_the_same_key_for_the_same_purpose() {
        let key = Key::of("site");
        let sealed = key.seal("a", "text");
        assert_eq!(Key::of("site").open("a", &sealed).as_deref(), Some("text"));
        assert_ne!(sealed, key.seal("a", "text"), "each is another one");
        assert_eq!(key.open("b", &sealed), None);
        assert_eq!(Key::of("other").open("a", &sealed), None);
        for cut in 0..sealed.len() {
            assert_eq!(key.open("a", sealed.split_at(cut).0), None, "{cut}");
        }
        let mut changed = sealed.into_bytes();
        changed[20] ^= 1;
        assert_eq!(key.open("a", &String::from_utf8_lossy(&changed)), None);
    }

    #[test]
    fn secrets_and_their_digests_have_one_form() {
        let secret = secret();
        assert!(
            is_secret(&secret) && is_secret(&digest(&secret)),
            "{secret}"
        );
        assert_ne!(digest(&secret), secret);
        assert!(!is_secret("") && !is_secret(&"=".repeat(SECRET_TEXT_LEN)));
        assert_eq!(format!("{:?}", Key::random()), "Key(…)");
    }
}
