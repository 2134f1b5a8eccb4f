//! Signed-in browsers: what is in their cookie, what is stored of it, and when it ends.

use std::fmt;
use std::time::Duration;

use super::password::legacy;
use super::token::Token;
use crate::id::AccountId;
use crate::time::Time;

/// How somebody came to a session, which decides how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// With a password.
    Password,
    /// By another site that vouches for them.
    Sso,
    /// With a token, in the place of the account's owner.
    Impersonation,
    /// With nothing, in an account that ends by itself.
    Ephemeral,
}

impl Kind {
    /// Its name in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Sso => "sso",
            Self::Impersonation => "impersonation",
            Self::Ephemeral => "ephemeral",
        }
    }

    /// The longest life of such a session. One in an account that ends does not outlive it.
    pub fn lifetime(self, account_ends_in: Option<Duration>) -> Duration {
        let longest = match self {
            Self::Password | Self::Sso | Self::Ephemeral => LIFETIME,
            Self::Impersonation => LIFETIME_IMPERSONATION,
        };
        account_ends_in.map_or(longest, |ends| ends.min(longest))
    }
}

/// How long a browser stays signed in: 180 days, as in the original.
pub const LIFETIME: Duration = Duration::from_hours(4320);

/// How long somebody may be in the place of another: 12 hours, as in the original.
pub const LIFETIME_IMPERSONATION: Duration = Duration::from_hours(12);

/// The secret of a session, new or as a cookie offers it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    Ours(Token),
    /// One of the original, known by what is stored of it.
    Imported {
        hash: String,
    },
}

/// A cookie that is no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid remember me cookie")]
pub struct Malformed;

impl Secret {
    /// A new one and the text for its cookie.
    pub fn random() -> (Self, String) {
        let token = Token::random();
        let text = token.reveal().to_owned();
        (Self(Form::Ours(token)), text)
    }

    /// The one that a cookie offers.
    ///
    /// # Errors
    /// When it can be neither one of ours nor one of the original.
    pub fn offered(cookie: &str) -> Result<Self, Malformed> {
        if cookie.contains('$') {
            let hash = legacy::session_hash(cookie).map_err(|legacy::Malformed| Malformed)?;
            return Ok(Self(Form::Imported { hash }));
        }
        Token::offered(cookie)
            .map(|token| Self(Form::Ours(token)))
            .ok_or(Malformed)
    }

    /// What is stored of it, and what it is found by.
    pub fn hash(&self) -> String {
        match &self.0 {
            Form::Ours(token) => token.hash(),
            Form::Imported { hash } => hash.clone(),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A session as the store has it, with what decides about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Whose it is.
    pub account: AccountId,
    /// When it ends.
    pub expire: Time,
    /// Whether the account is banned.
    pub banned: bool,
    /// Whether the account is deleted.
    pub deleted: bool,
}

/// Why somebody with a session is not let in. The text is the same for all of them: what happened to an account is not
/// for everybody who has an old cookie of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("remember me cookie expired")]
pub enum Ended {
    /// There is none with that hash: somebody signed out, or changed the password.
    Unknown,
    /// Its time is over.
    Expired,
    /// Its account is banned.
    Banned,
    /// Its account is deleted.
    Deleted,
}

/// Whether a session that was found still holds, and for whom.
///
/// # Errors
/// When it does not.
pub fn judge(found: Option<Stored>, now: Time) -> Result<AccountId, Ended> {
    let stored = found.ok_or(Ended::Unknown)?;
    match stored {
        Stored { banned: true, .. } => Err(Ended::Banned),
        Stored { deleted: true, .. } => Err(Ended::Deleted),
        Stored { expire, .. } if expire <= now => Err(Ended::Expired),
        Stored { account, .. } => Ok(account),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_by_the_cookie_that_was_given() {
        let (secret, cookie) = Secret::random();
        assert_eq!(Secret::offered(&cookie), Ok(secret.clone()));
        assert_ne!(secret.hash(), Secret::random().0.hash());
        assert_ne!(secret.hash(), cookie);
        let imported = Secret::offered("sha512$abcd$1000$6a9ad7b6-5e7d-4d3c-8f53-0c2a1d5a3c11");
        assert!(imported.unwrap().hash().starts_with("sha512$abcd$1000$"));
        for wrong in ["", "a b", "$", "sha512$a$b$c", "sha512$a$99999$c"] {
            assert_eq!(Secret::offered(wrong), Err(Malformed), "{wrong}");
        }
    }

    #[test]
    fn a_session_ends_with_its_time_and_with_its_account() {
        let account = AccountId::random();
        let now = Time::from_millis(1_000_000_000);
        let holds = Stored {
            account,
            expire: Time::from_millis(1_000_000_001),
            banned: false,
            deleted: false,
        };
        assert_eq!(judge(Some(holds), now), Ok(account));
        assert_eq!(judge(None, now), Err(Ended::Unknown));
        assert_eq!(
            judge(
                Some(Stored {
                    banned: true,
                    ..holds
                }),
                now
            ),
            Err(Ended::Banned)
        );
        assert_eq!(
            judge(
                Some(Stored {
                    deleted: true,
                    ..holds
                }),
                now
            ),
            Err(Ended::Deleted)
        );
        // Compared as text, 9 would be later than 1000000000.
        for expire in [9, 999_999_999, 1_000_000_000] {
            let stored = Stored {
                expire: Time::from_millis(expire),
                ..holds
            };
            assert_eq!(judge(Some(stored), now), Err(Ended::Expired));
        }
    }

    #[test]
    fn sessions_last_as_long_as_they_may() {
        let short = Some(Duration::from_mins(1));
        assert_eq!(Kind::Password.lifetime(None), LIFETIME);
        assert_eq!(Kind::Impersonation.lifetime(None), LIFETIME_IMPERSONATION);
        for kind in [
            Kind::Password,
            Kind::Sso,
            Kind::Impersonation,
            Kind::Ephemeral,
        ] {
            assert_eq!(kind.lifetime(short), Duration::from_mins(1));
        }
    }
}
