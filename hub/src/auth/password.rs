//! Hashing and checking passwords: argon2id for all that is stored, the original's hashes for what was imported.
//!
//! Checking a password costs memory and time on purpose. [`Hasher`] bounds how many are worked on at once and how many
//! wait, so that guessing at many accounts takes the hub no memory, and a slow answer to whoever signs in is all that
//! it causes.

use std::fmt;
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{ARGON2ID_IDENT, Argon2, Params};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub mod legacy;

/// Longest password that is hashed, in bytes. Rules for new ones are in [`strength`](super::strength).
pub const PASSWORD_LEN_MAX: usize = 1_024;

/// Most memory that checking one stored password may take, in KiB.
const MEMORY_KIB_MAX: u32 = 256 << 10;

/// Most passes over the memory that checking one stored password may take.
const PASSES_MAX: u32 = 64;

/// Most lanes that a stored password may ask for.
const LANES_MAX: u32 = 16;

/// Bounds of what is hashed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Passwords that are hashed at once, each with some 19 MiB of memory and a thread; 4 by default.
    pub concurrency_max: usize,
    /// Passwords that wait for that; 256 by default. Others are refused at once.
    pub waiting_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            concurrency_max: 4,
            waiting_max: 256,
        }
    }
}

/// Why nothing was hashed or checked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More wait than may.
    #[error("too many passwords are checked at the same time; try again later")]
    Busy,
    /// The password is longer than [`PASSWORD_LEN_MAX`].
    #[error("a password has at most {PASSWORD_LEN_MAX} bytes")]
    TooLong,
    /// What is stored is no hash that is known here.
    #[error("the stored hash of a password cannot be read")]
    Malformed,
    /// No randomness, no memory, or the program is ending.
    #[error("cannot hash a password")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What checking a password says.
#[derive(Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is another one, or there is none.
    Wrong,
    /// It is the one.
    Right,
    /// It is the one, and what is stored is to be replaced by this, if it is still the same.
    RightOld(String),
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wrong => "Wrong",
            Self::Right => "Right",
            Self::RightOld(_) => "RightOld(…)",
        })
    }
}

/// Hashes and checks a bounded number of passwords at once. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hasher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    working: Arc<Semaphore>,
    waiting: Semaphore,
    /// The hash of a password that nobody knows, checked where there is none.
    decoy: String,
}

impl Hasher {
    /// With these bounds. Hashes once, so that it takes some 20 ms.
    ///
    /// # Errors
    /// [`Error::Broken`] when the system gives no randomness.
    pub fn new(config: Config) -> Result<Self, Error> {
        Ok(Self {
            shared: Arc::new(Shared {
                working: Arc::new(Semaphore::new(config.concurrency_max.max(1))),
                waiting: Semaphore::new(config.waiting_max),
                decoy: hash_now(&super::token::random_text(32))?,
            }),
        })
    }

    /// What is to be stored for a password.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn hash(&self, password: &str) -> Result<String, Error> {
        let password = bounded(password)?;
        self.work(move || hash_now(&password)).await
    }

    /// Whether that was stored for this password. With nothing stored, it takes as long and says that it is wrong, so
    /// that nobody learns whether there is an account.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn check(&self, password: &str, stored: Option<&str>) -> Result<Verdict, Error> {
        let password = bounded(password)?;
        let exists = stored.is_some();
        let stored = stored.unwrap_or(&self.shared.decoy).to_owned();
        let verdict = self.work(move || check_now(&password, &stored)).await?;
        Ok(if exists { verdict } else { Verdict::Wrong })
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let permit = self.permit().await?;
        let done = tokio::task::spawn_blocking(move || {
            // The permit lives as long as the memory does, also when nobody awaits the outcome.
            let outcome = work();
            drop(permit);
            outcome
        });
        done.await.map_err(|failed| Error::Broken(failed.into()))?
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Error> {
        let working = Arc::clone(&self.shared.working);
        if let Ok(permit) = Arc::clone(&working).try_acquire_owned() {
            return Ok(permit);
        }
        let _waiting = self
            .shared
            .waiting
            .try_acquire()
            .map_err(|_full| Error::Busy)?;
        working
            .acquire_owned()
            .await
            .map_err(|closed| Error::Broken(closed.into()))
    }
}

fn bounded(password: &str) -> Result<String, Error> {
    if password.len() > PASSWORD_LEN_MAX {
        return Err(Error::TooLong);
    }
    Ok(password.to_owned())
}

fn hash_now(password: &str) -> Result<String, Error> {
    let hash = Argon2::default()
        .hash_password(password.as_bytes())
        .map_err(|error| Error::Broken(error.into()))?;
    Ok(hash.to_string())
}

fn check_now(password: &str, stored: &str) -> Result<Verdict, Error> {
    if !stored.starts_with("$argon2") {
        let hash = legacy::Hash::parse(stored).map_err(|legacy::Malformed| Error::Malformed)?;
        if hash.is_of(password) {
            return Ok(Verdict::RightOld(hash_now(password)?));
        }
        return Ok(Verdict::Wrong);
    }
    let hash = PasswordHash::new(stored).map_err(|_detail| Error::Malformed)?;
    let params = Params::try_from(&hash).map_err(|_detail| Error::Malformed)?;
    if !is_affordable(&hash, &params) {
        return Err(Error::Malformed);
    }
    match Argon2::default().verify_password(password.as_bytes(), &hash) {
        Ok(()) if is_weaker(&params) => Ok(Verdict::RightOld(hash_now(password)?)),
        Ok(()) => Ok(Verdict::Right),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(Verdict::Wrong),
        Err(error) => Err(Error::Broken(error.into())),
    }
}

/// A hash without its end would be that of every password.
fn is_affordable(hash: &PasswordHash, params: &Params) -> bool {
    hash.algorithm == ARGON2ID_IDENT
        && hash.salt.is_some()
        && hash.hash.is_some()
        && params.m_cost() <= MEMORY_KIB_MAX
        && params.t_cost() <= PASSES_MAX
        && params.p_cost() <= LANES_MAX
}

/// Whether less was spent on it than on new ones.
fn is_weaker(params: &Params) -> bool {
    let new = Params::default();
    u64::from(params.m_cost()) * u64::from(params.t_cost())
        < u64::from(new.m_cost()) * u64::from(new.t_cost())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hasher() -> Hasher {
        Hasher::new(Config::default()).unwrap()
    }

    #[tokio::test]
    async fn a_password_is_checked_against_its_hash() {
        let hasher = hasher();
        let stored = hasher.hash("correct horse").await.unwrap();
        assert!(
            stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{stored}"
        );
        assert_ne!(stored, hasher.hash("correct horse").await.unwrap());
        for (password, verdict) in [
            ("correct horse", Verdict::Right),
            ("correct horsf", Verdict::Wrong),
            ("", Verdict::Wrong),
        ] {
            assert_eq!(
                hasher.check(password, Some(&stored)).await.unwrap(),
                verdict
            );
        }
    }

    #[tokio::test]
    async fn without_a_hash_every_password_is_wrong() {
        assert_eq!(hasher().check("x", None).await.unwrap(), Verdict::Wrong);
    }

    #[tokio::test]
    async fn hashes_of_the_original_and_weak_ones_are_replaced() {
        let hasher = hasher();
        let old =
            legacy::Hash::make("hunter22", "00112233445566778899aabbccddeeff", 1_000).to_string();
        let weak = Argon2::new(
            argon2::Algorithm::Argon2id,
            argon2::Version::V0x13,
            Params::new(8_192, 1, 1, None).unwrap(),
        )
        .hash_password(b"hunter22")
        .unwrap()
        .to_string();
        for stored in [old, weak] {
            assert_eq!(
                hasher.check("hunter23", Some(&stored)).await.unwrap(),
                Verdict::Wrong
            );
            let Verdict::RightOld(new) = hasher.check("hunter22", Some(&stored)).await.unwrap()
            else {
                panic!("{stored} is to be replaced");
            };
            assert_eq!(
                hasher.check("hunter22", Some(&new)).await.unwrap(),
                Verdict::Right
            );
        }
    }

    #[tokio::test]
    async fn what_is_no_hash_is_an_error_and_never_right() {
        let hasher = hasher();
        let whole = hasher.hash("x").await.unwrap();
        let cut = whole.rsplit_once('$').unwrap().0.to_owned();
        let costly = whole.replace("m=19456", "m=4000000");
        let lanes = whole.replace("p=1", "p=200");
        for stored in ["", "x", "$argon2id$", "sha512$salt", &cut, &costly, &lanes] {
            let outcome = hasher.check("x", Some(stored)).await;
            assert!(
                matches!(outcome, Err(Error::Malformed)),
                "{stored}: {outcome:?}"
            );
        }
        let long = "x".repeat(PASSWORD_LEN_MAX + 1);
        assert!(matches!(hasher.hash(&long).await, Err(Error::TooLong)));
        assert!(matches!(
            hasher.check(&long, None).await,
            Err(Error::TooLong)
        ));
    }

    #[tokio::test]
    async fn a_bounded_number_waits() {
        let hasher = Hasher::new(Config {
            concurrency_max: 1,
            waiting_max: 0,
        })
        .unwrap();
        let held = hasher.permit().await.unwrap();
        assert!(matches!(hasher.hash("x").await, Err(Error::Busy)));
        drop(held);
        assert!(hasher.hash("x").await.is_ok());
    }

    #[test]
    fn verdicts_do_not_show_hashes() {
        let shown = format!("{:?}", Verdict::RightOld("secret".to_owned()));
        assert!(!shown.contains("secret"));
    }
}
