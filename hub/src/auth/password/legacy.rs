//! Hashes as the original stores them for passwords, keys and sessions: `algorithm$salt$iterations$hex`.
//!
//! The digest begins as the secret; each iteration replaces it by the hexadecimal HMAC of it with the salt's text as
//! the key. Values with three parts have one iteration. Read for what was imported, and made for nothing.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use crate::auth::token::hex;

/// Most iterations that are made, as in the original; a cookie names their number, so that its sender chooses it.
pub const ITERATIONS_MAX: u32 = 10_000;

/// Longest salt, in bytes; the original makes 32.
const SALT_LEN_MAX: usize = 128;

/// Text that is no such hash, or one that would take too long to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a hash of the form algorithm$salt$iterations$digest")]
pub struct Malformed;

/// Which digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
}

/// What a hash is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Recipe {
    algorithm: Algorithm,
    salt: String,
    iterations: u32,
}

/// A stored hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash {
    recipe: Recipe,
    digest: String,
}

impl Algorithm {
    fn of(name: &str) -> Option<Self> {
        match name {
            "sha1" => Some(Self::Sha1),
            "sha256" => Some(Self::Sha256),
            "sha512" => Some(Self::Sha512),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Hexadecimal digits of its digest.
    fn digest_len(self) -> usize {
        match self {
            Self::Sha1 => 40,
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    fn hmac(self, key: &str, message: &str) -> String {
        macro_rules! digest {
            ($hash:ty) => {{
                let mut mac = Hmac::<$hash>::new_from_slice(key.as_bytes())
                    .expect("HMAC takes keys of any length");
                mac.update(message.as_bytes());
                hex(&mac.finalize().into_bytes())
            }};
        }
        match self {
            Self::Sha1 => digest!(Sha1),
            Self::Sha256 => digest!(Sha256),
            Self::Sha512 => digest!(Sha512),
        }
    }
}

impl Recipe {
    fn parse(algorithm: &str, salt: &str, iterations: u32) -> Result<Self, Malformed> {
        let algorithm = Algorithm::of(algorithm).ok_or(Malformed)?;
        let bounded = salt.len() <= SALT_LEN_MAX && (1..=ITERATIONS_MAX).contains(&iterations);
        if !bounded {
            return Err(Malformed);
        }
        Ok(Self {
            algorithm,
            salt: salt.to_owned(),
            iterations,
        })
    }

    fn digest(&self, secret: &str) -> String {
        (0..self.iterations).fold(secret.to_owned(), |digest, _| {
            self.algorithm.hmac(&self.salt, &digest)
        })
    }
}

impl Hash {
    /// Makes one, as the original would.
    #[cfg(test)]
    pub(crate) fn make(secret: &str, salt: &str, iterations: u32) -> Self {
        let recipe = Recipe::parse("sha512", salt, iterations).unwrap();
        let digest = recipe.digest(secret);
        Self { recipe, digest }
    }

    /// Reads a stored hash.
    ///
    /// # Errors
    /// When it is none, or asks for more than [`ITERATIONS_MAX`].
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let parts: Vec<&str> = text.splitn(5, '$').collect();
        let (recipe, digest) = match *parts {
            [algorithm, salt, digest] => (Recipe::parse(algorithm, salt, 1)?, digest),
            [algorithm, salt, iterations, digest] => {
                let iterations = iterations.parse().map_err(|_error| Malformed)?;
                (Recipe::parse(algorithm, salt, iterations)?, digest)
            }
            _ => return Err(Malformed),
        };
        let whole = digest.len() == recipe.algorithm.digest_len()
            && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !whole {
            return Err(Malformed);
        }
        Ok(Self {
            recipe,
            digest: digest.to_ascii_lowercase(),
        })
    }

    /// Whether it is the hash of this secret.
    pub fn is_of(&self, secret: &str) -> bool {
        let digest = self.recipe.digest(secret);
        digest.as_bytes().ct_eq(self.digest.as_bytes()).into()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recipe {
            algorithm,
            salt,
            iterations,
        } = &self.recipe;
        write!(
            f,
            "{}${salt}${iterations}${}",
            algorithm.name(),
            self.digest
        )
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash(…)")
    }
}

/// How many characters of a session's hash the original keeps.
const SESSION_HASH_LEN: usize = 127;

/// What the original stores of the session in a cookie `algorithm$salt$iterations$session`.
///
/// # Errors
/// When the cookie is none of that form.
pub fn session_hash(cookie: &str) -> Result<String, Malformed> {
    let parts: Vec<&str> = cookie.splitn(5, '$').collect();
    let [algorithm, salt, iterations, session] = *parts else {
        return Err(Malformed);
    };
    let iterations = iterations.parse().map_err(|_error| Malformed)?;
    let recipe = Recipe::parse(algorithm, salt, iterations)?;
    let bounded = (1..=SALT_LEN_MAX).contains(&session.len());
    if !bounded {
        return Err(Malformed);
    }
    let digest = recipe.digest(session);
    Ok(Hash { recipe, digest }
        .to_string()
        .chars()
        .take(SESSION_HASH_LEN)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's `hmac`, from the description above.
    const KNOWN: &[(&str, &str)] = &[
        (
            "correct horse",
            "sha512$00112233445566778899aabbccddeeff$1000$64934cbc34af327ea444a0c981b6b3ec53b3231776275abb10ceda6d5b816c6718b3190ad02843dcbf4a93255f93216ae8f005c6320b250098d55935b264c5ed",
        ),
        (
            "pässword",
            "sha512$a$1$eca0260a1577782ab36698d9acfb88b0207f4123ae0ad5ddd9127250d4b8cb13c7cde486168bd20a1734e32e72ebdb9044bdfae1714afab32f37cd00f9a3136a",
        ),
        (
            "x",
            "sha256$salt$3$46beb4b8e40bc68066bdd12f6118c79320f97ac6b247bc87dc664228fef2bcd0",
        ),
        (
            "hunter2",
            "sha1$salt$2$580447799d2572b01da2d1727161c55b90702952",
        ),
        (
            "old",
            "sha512$pepper$62f2696b225ad9cef81da29b5699e76afc8229d5c06be244c080198f2c0695ddcfd65429eb9deb0a0ddaa1a3ffef7d5ccf81a9c19faeb5ef8cb16bf212a1f06a",
        ),
    ];

    #[test]
    fn known_hashes_are_of_their_secrets_alone() {
        for (secret, text) in KNOWN {
            let hash = Hash::parse(text).unwrap();
            assert!(hash.is_of(secret), "{text}");
            assert!(!hash.is_of("other") && !hash.is_of(""), "{text}");
        }
    }

    #[test]
    fn a_new_hash_of_the_original_has_173_characters() {
        let text = Hash::make("secret", "00112233445566778899aabbccddeeff", 1_000).to_string();
        assert_eq!(text.len(), 173);
        assert!(Hash::parse(&text).unwrap().is_of("secret"));
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        let digest = "0".repeat(128);
        let long = "s".repeat(SALT_LEN_MAX + 1);
        for text in [
            String::new(),
            "sha512".to_owned(),
            format!("md5$salt$1${digest}"),
            format!("sha512$salt$0${digest}"),
            format!("sha512$salt$10001${digest}"),
            format!("sha512$salt$-1${digest}"),
            format!("sha512$salt$1${digest}0"),
            "sha512$salt$1$".to_owned(),
            format!("sha512$salt$1$x{}", "0".repeat(127)),
            format!("sha512$salt$1${digest}$"),
            format!("sha512${long}$1${digest}"),
        ] {
            assert_eq!(Hash::parse(&text), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn sessions_are_found_by_a_cut_hash() {
        let cookie = "sha512$abcd$1000$6a9ad7b6-5e7d-4d3c-8f53-0c2a1d5a3c11";
        let hash = session_hash(cookie).unwrap();
        assert_eq!(hash.len(), 127);
        assert!(hash.starts_with("sha512$abcd$1000$"));
        for wrong in [
            "",
            "x",
            "sha512$abcd$1000",
            "sha512$abcd$10001$x",
            "sha512$abcd$1000$",
            "sha512$a$1$b$c",
        ] {
            assert_eq!(session_hash(wrong), Err(Malformed), "{wrong}");
        }
    }
}
