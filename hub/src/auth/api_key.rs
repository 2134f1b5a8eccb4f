//! Keys with which programs act for an account or a project.
//!
//! ```text
//!   sk-<32 random characters><6 characters: the number of its row, base 62>
//! ```
//!
//! The number finds the row, and the hash of the whole text decides. A key of the original has 16 random characters and is
//! stored as its password hash; both are read, and an imported one gets the new form of hash when it is used.

use std::fmt;

use super::password::legacy;
use super::token;
use crate::id::{AccountId, ProjectId};
use crate::time::Time;

/// What every key begins with.
pub const PREFIX: &str = "sk-";

/// Random characters of a new key; of 62 kinds, so that these are 190 bits.
const SECRET_LEN: usize = 32;

/// Random characters that a key has at least.
const SECRET_LEN_MIN: usize = 16;

/// Digits of the number at the end.
const NUMBER_LEN: usize = 6;

/// Longest text that is looked at as a key, in bytes.
const KEY_LEN_MAX: usize = 128;

/// Most keys of an account, and of a project.
pub const KEYS_MAX: u32 = 1_000;

/// Longest name of a key, in characters.
pub const NAME_LEN_MAX: usize = 128;

/// The highest number of a row, as in the original.
const NUMBER_MAX: i64 = (1 << 31) - 1;

/// A key as somebody offers it, in the form of one.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    text: String,
    number: i64,
}

impl ApiKey {
    /// A new key for the row with this number; `None` if there are too many rows for the form of keys.
    pub fn new(number: i64) -> Option<Self> {
        let digits = u64::try_from(number)
            .ok()
            .filter(|_| number <= NUMBER_MAX)
            .and_then(|number| token::encode62(number, NUMBER_LEN))?;
        let secret = token::random_text(SECRET_LEN);
        Some(Self {
            text: format!("{PREFIX}{secret}{digits}"),
            number,
        })
    }

    /// Reads a key; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?;
        let plausible = text.len() <= KEY_LEN_MAX
            && rest.len() >= SECRET_LEN_MIN + NUMBER_LEN
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let (_secret, digits) = plausible
            .then(|| rest.split_at_checked(rest.len() - NUMBER_LEN))
            .flatten()?;
        let number = i64::try_from(token::decode62(digits)?)
            .ok()
            .filter(|number| *number <= NUMBER_MAX)?;
        Some(Self {
            text: text.to_owned(),
            number,
        })
    }

    /// The number of its row.
    pub fn number(&self) -> i64 {
        self.number
    }

    /// The key itself, which is shown once.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// What is stored of it.
    pub fn hash(&self) -> String {
        token::hash(&self.text)
    }

    /// What is shown of it later: its beginning and its end.
    pub fn trunc(&self) -> String {
        let end = self.text.len() - NUMBER_LEN;
        let digits = self.text.get(end..).unwrap_or_default();
        format!("{PREFIX}...{digits}")
    }

    /// Whether this is the key of which that hash was stored.
    pub fn is(&self, stored: &str) -> Match {
        if token::is_same(&self.hash(), stored) {
            return Match::Same;
        }
        match legacy::Hash::parse(stored) {
            Ok(hash) if hash.is_of(&self.text) => Match::SameOld,
            Ok(_) | Err(legacy::Malformed) => Match::Other,
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({})", self.trunc())
    }
}

/// What comparing a key with a stored hash says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// It is the key.
    Same,
    /// It is the key, and its hash is to be stored in the new form.
    SameOld,
    /// It is another key.
    Other,
}

/// A key as the store has it, with what decides about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Who made it.
    pub account: AccountId,
    /// The project that it is for; otherwise it is for the whole account.
    pub project: Option<ProjectId>,
    /// Its hash.
    pub hash: String,
    /// When it ends.
    pub expire: Option<Time>,
    /// Whether the account that made it may sign in: it is neither banned nor deleted.
    pub account_is_active: bool,
    /// For the key of a project: whether the account that made it is still an owner or collaborator there.
    pub account_is_member: bool,
}

/// What somebody with a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The account.
    Account(AccountId, Match),
    /// The project.
    Project(ProjectId, Match),
    /// Nobody.
    Refused,
    /// Nobody, and the key is of no use any more: it is to be deleted.
    Ended,
}

impl Stored {
    /// Judges a key that was offered. Whoever has not the right one learns nothing about the row.
    pub fn judge(&self, key: &ApiKey, now: Time) -> Verdict {
        let found = key.is(&self.hash);
        if found == Match::Other {
            return Verdict::Refused;
        }
        if self.expire.is_some_and(|expire| expire <= now) {
            return Verdict::Ended;
        }
        match self.project {
            _ if !self.account_is_active => Verdict::Refused,
            Some(_) if !self.account_is_member => Verdict::Ended,
            Some(project) => Verdict::Project(project, found),
            None => Verdict::Account(self.account, found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_made() {
        for number in [0, 1, 62, 4_711, NUMBER_MAX] {
            let key = ApiKey::new(number).unwrap();
            assert_eq!(key.reveal().len(), 3 + SECRET_LEN + NUMBER_LEN);
            let read = ApiKey::parse(key.reveal()).unwrap();
            assert_eq!((read.number(), &read), (number, &key));
            assert_eq!(read.is(&key.hash()), Match::Same);
            assert_eq!(read.is(&ApiKey::new(number).unwrap().hash()), Match::Other);
            assert!(!format!("{key:?}").contains(key.reveal()));
            assert_eq!(key.trunc().len(), 3 + 3 + NUMBER_LEN);
        }
        assert_eq!(ApiKey::new(NUMBER_MAX + 1), None);
        assert_eq!(ApiKey::new(-1), None);
    }

    #[test]
    fn nothing_else_is_a_key() {
        let long = format!("sk-{}", "a".repeat(KEY_LEN_MAX));
        for text in [
            "",
            "sk-",
            "sk-abc",
            "pk-abcdefghijklmnop000001",
            "sk-abcdefghijklmno000001",
            "sk-abcdefghijklmnop00000-",
            "sk-abcdefghijklmnopZZZZZZ",
            "sk-äbcdefghijklmnopqrstuvw000001",
            long.as_str(),
        ] {
            assert_eq!(ApiKey::parse(text), None, "{text}");
        }
    }

    #[test]
    fn keys_of_the_original_are_known_by_their_hash() {
        let text = "sk-abcdefghijklmnop00001a";
        let key = ApiKey::parse(text).unwrap();
        assert_eq!(key.number(), 72);
        assert_eq!(key.trunc(), "sk-...00001a");
        let stored =
            legacy::Hash::make(text, "00112233445566778899aabbccddeeff", 1_000).to_string();
        assert_eq!(key.is(&stored), Match::SameOld);
        let other = ApiKey::parse("sk-abcdefghijklmnoq00001a").unwrap();
        assert_eq!(other.is(&stored), Match::Other);
    }

    #[test]
    fn a_key_ends_with_what_it_was_given_for() {
        let now = Time::from_millis(1_000_000);
        let key = ApiKey::new(7).unwrap();
        let account = AccountId::random();
        let project = ProjectId::random();
        let stored = Stored {
            account,
            project: None,
            hash: key.hash(),
            expire: None,
            account_is_active: true,
            account_is_member: false,
        };
        assert_eq!(
            stored.judge(&key, now),
            Verdict::Account(account, Match::Same)
        );
        let of_project = Stored {
            project: Some(project),
            account_is_member: true,
            ..stored.clone()
        };
        assert_eq!(
            of_project.judge(&key, now),
            Verdict::Project(project, Match::Same)
        );
        let no_member = Stored {
            account_is_member: false,
            ..of_project.clone()
        };
        assert_eq!(no_member.judge(&key, now), Verdict::Ended);
        for stored in [&stored, &of_project, &no_member] {
            let banned = Stored {
                account_is_active: false,
                ..stored.clone()
            };
            assert_eq!(banned.judge(&key, now), Verdict::Refused);
            let other = ApiKey::new(7).unwrap();
            assert_eq!(stored.judge(&other, now), Verdict::Refused);
        }
        // Times are compared as times: a key ends at its last moment, not before.
        for (expire, verdict) in [
            (1_000_001, Verdict::Account(account, Match::Same)),
            (1_000_000, Verdict::Ended),
            (999_999, Verdict::Ended),
            (9, Verdict::Ended),
        ] {
            let stored = Stored {
                expire: Some(Time::from_millis(expire)),
                ..stored.clone()
            };
            assert_eq!(stored.judge(&key, now), verdict, "{expire}");
        }
    }
}
