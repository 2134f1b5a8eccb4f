//! Making and checking the forms in which passwords and tokens are stored.
//!
//! Checking a password costs memory and time on purpose, so [`Gate`] bounds how many are checked at
//! once and how many wait for that.

use std::fmt::Write as _;
use std::sync::Arc;
use std::thread;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{ARGON2ID_IDENT, Argon2, Params};
use dialtone_protocol::limits::CREDENTIAL_LEN_MAX;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

/// Most passwords that are checked at once, each with some 19 MiB of memory; fewer where there are
/// few cores, half of which are left to messages.
const CHECKS_MAX: usize = 4;

/// Most passwords that wait to be checked.
const WAITING_MAX: usize = 1_024;

/// Most memory that checking one stored password may take, in KiB.
const MEMORY_KIB_MAX: u32 = 256 << 10;

/// Most passes over the memory that checking one stored password may take.
const PASSES_MAX: u32 = 64;

/// Most lanes that a stored password may ask for.
const LANES_MAX: u32 = 16;

/// Why no hash was made.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// Nothing to hash.
    #[error("a password must not be empty")]
    Empty,
    /// Longer than a hello can carry.
    #[error("a password must be at most {CREDENTIAL_LEN_MAX} bytes long")]
    TooLong,
    /// No randomness, or no memory.
    #[error("cannot hash the password")]
    Hash(#[source] argon2::password_hash::Error),
}

/// The form of a password to store: an argon2id hash as a PHC string. Takes some 20 ms and 19 MiB.
///
/// # Errors
/// When the password is empty or too long, or the system gives no randomness.
pub fn hash_password(password: &str) -> Result<String, HashError> {
    if password.is_empty() {
        return Err(HashError::Empty);
    }
    if password.len() > CREDENTIAL_LEN_MAX {
        return Err(HashError::TooLong);
    }
    let hash = Argon2::default()
        .hash_password(password.as_bytes())
        .map_err(HashError::Hash)?;
    Ok(hash.to_string())
}

/// The form of a bearer token to store: `sha256:` and 64 hexadecimal digits. One hash is enough only
/// for tokens that nobody can guess: at least 128 random bits.
pub fn hash_token(token: &str) -> String {
    let mut text = TOKEN_PREFIX.to_owned();
    for byte in Sha256::digest(token.as_bytes()) {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}

/// What a stored token begins with.
const TOKEN_PREFIX: &str = "sha256:";

/// A bearer token as it is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoredToken([u8; 32]);

impl StoredToken {
    /// Of a token that was offered.
    pub(super) fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Reads `sha256:<64 hexadecimal digits>`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(TOKEN_PREFIX)?.as_bytes();
        let mut digest = [0; 32];
        if digits.len() != 2 * digest.len() {
            return None;
        }
        for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair)
                .ok()
                .filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()))?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(digest))
    }

    /// Whether both are the same, in a time that does not depend on where they differ.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// The first bytes, to find candidates by. What is learnt from the time of a look-up is some
    /// bits of a hash, which help nobody to the token.
    pub(super) fn prefix(&self) -> u64 {
        u64::from_le_bytes(*self.0.first_chunk().expect("a digest has 32 bytes"))
    }
}

/// A password as it is stored. Reading it checks all that can be wrong with it but the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredPassword(Arc<PasswordHash>);

impl StoredPassword {
    /// Reads a PHC string. The error never repeats the text, which may be a plain password.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.starts_with('$') {
            return Err(
                "is not a hash; passwords are stored hashed, and `dialtone passwd` makes a hash",
            );
        }
        let hash = PasswordHash::new(text)
            .map_err(|_detail| "is not a PHC string; `dialtone passwd` makes one")?;
        if hash.algorithm != ARGON2ID_IDENT {
            return Err("is not an argon2id hash; `dialtone passwd` makes one");
        }
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err("is a hash without its salt or its end; was it cut?");
        }
        let params = Params::try_from(&hash)
            .map_err(|_detail| "is a hash with parameters that are not argon2id's")?;
        if params.m_cost() > MEMORY_KIB_MAX
            || params.t_cost() > PASSES_MAX
            || params.p_cost() > LANES_MAX
        {
            return Err("is a hash that takes too much to check (at most m=262144, t=64, p=16)");
        }
        Ok(Self(Arc::new(hash)))
    }

    /// Checks a password. Takes the time and memory that the hash asks for.
    fn check(&self, password: &str) -> Result<bool, argon2::password_hash::Error> {
        match Argon2::default().verify_password(password.as_bytes(), &*self.0) {
            Ok(()) => Ok(true),
            Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Why a password was not checked.
#[derive(Debug, thiserror::Error)]
pub(super) enum GateError {
    /// Too many wait already.
    #[error("too many logins at the same time")]
    Busy,
    /// The check itself failed, or the runtime is going away.
    #[error("a password cannot be checked")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Lets a bounded number of passwords be checked at once.
#[derive(Debug)]
pub(super) struct Gate {
    checks: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Gate {
    pub(super) fn new() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let checks = Arc::new(Semaphore::new(cores.div_ceil(2).min(CHECKS_MAX)));
        Self {
            checks,
            waiting: Semaphore::new(WAITING_MAX),
        }
    }

    /// Takes all room, so that nothing is checked until the permit is dropped.
    #[cfg(test)]
    pub(super) fn fill(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.waiting
            .try_acquire_many(u32::try_from(WAITING_MAX).unwrap())
            .unwrap()
    }

    /// Checks a password on a thread where nothing else waits.
    pub(super) async fn check(
        &self,
        stored: StoredPassword,
        password: String,
    ) -> Result<bool, GateError> {
        let waiting = self
            .waiting
            .try_acquire()
            .map_err(|_full| GateError::Busy)?;
        let permit = Arc::clone(&self.checks)
            .acquire_owned()
            .await
            .map_err(|closed| GateError::Broken(closed.into()))?;
        drop(waiting);
        let check = tokio::task::spawn_blocking(move || {
            // The permit lives as long as the memory does, also when nobody awaits the outcome.
            let outcome = stored.check(&password);
            drop(permit);
            outcome
        });
        check
            .await
            .map_err(|failed| GateError::Broken(failed.into()))?
            .map_err(|error| GateError::Broken(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_accepted_and_checks_its_password_alone() {
        let text = hash_password("correct horse").unwrap();
        assert!(
            text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{text}"
        );
        let stored = StoredPassword::parse(&text).unwrap();
        assert!(stored.check("correct horse").unwrap());
        assert!(!stored.check("correct horsf").unwrap());
        assert!(!stored.check("").unwrap());
    }

    #[test]
    fn the_same_password_is_hashed_differently_each_time() {
        assert_ne!(hash_password("x").unwrap(), hash_password("x").unwrap());
    }

    #[test]
    fn passwords_have_bounds() {
        assert!(matches!(hash_password(""), Err(HashError::Empty)));
        assert!(matches!(
            hash_password(&"x".repeat(CREDENTIAL_LEN_MAX + 1)),
            Err(HashError::TooLong)
        ));
    }

    #[test]
    fn bad_hashes_are_refused_with_the_reason() {
        let refuse = |text: &str, why: &str| {
            let error = StoredPassword::parse(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        };
        refuse("hunter2", "dialtone passwd");
        refuse("", "dialtone passwd");
        refuse("$", "PHC");
        refuse("$2y$10$abcdefghijklmnopqrstuu", "PHC");
        refuse(
            "$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A",
            "argon2id",
        );
        refuse("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ", "cut");
        refuse(
            "$argon2id$v=19$m=8,t=0,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A",
            "parameters",
        );
        refuse(
            "$argon2id$v=19$m=4000000,t=1,p=1$c29tZXNhbHQ$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A",
            "too much",
        );
    }

    #[test]
    fn tokens_are_compared_by_their_hash() {
        // The digest of "abc" is the first example of FIPS 180-2.
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash_token("abc"), text);
        let stored = StoredToken::parse(text).unwrap();
        assert!(stored.is(&StoredToken::of("abc")));
        assert!(!stored.is(&StoredToken::of("abd")));
        assert!(
            StoredToken::parse(&text.to_uppercase().replace("SHA", "sha"))
                .unwrap()
                .is(&stored)
        );
        let spoilt = [
            "",
            "abc",
            "sha256:",
            "sha256:00",
            &text.replace('b', "g"),
            &text.replace('b', "+"),
            &format!("{text}0"),
        ];
        for text in spoilt {
            assert!(StoredToken::parse(text).is_none(), "{text}");
        }
        assert!(StoredToken::parse(&format!("sha256:{}é", "0".repeat(62))).is_none());
    }

    #[tokio::test]
    async fn the_gate_bounds_what_waits() {
        let gate = Gate::new();
        let stored = StoredPassword::parse(&hash_password("x").unwrap()).unwrap();
        assert!(gate.check(stored.clone(), "x".to_owned()).await.unwrap());
        let all = gate.fill();
        assert!(matches!(
            gate.check(stored.clone(), "x".to_owned()).await,
            Err(GateError::Busy)
        ));
        drop(all);
        assert!(!gate.check(stored, "y".to_owned()).await.unwrap());
    }
}
