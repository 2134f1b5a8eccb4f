//! What is kept of an attempt between its beginning and its end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Refused;
use crate::auth::token::{self, Token};
use crate::entry::vouched::Session;
use crate::store::{Error, Transaction, passports};

/// How long somebody may take at the other site.
pub const LIFETIME: Duration = Duration::from_mins(15);

/// Longest path to go to afterwards, in bytes.
pub const TARGET_LEN_MAX: usize = 2000;

/// An attempt under way.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Flow {
    /// By which way to sign in: an answer of another one is not taken.
    pub(super) strategy: String,
    /// The hash of the cookie that the browser was given.
    pub(super) cookie_hash: String,
    /// What the proof must repeat.
    pub(super) nonce: String,
    /// The secret behind what the other site was shown (RFC 7636).
    pub(super) verifier: String,
    /// Who was signed in when it was begun.
    pub(super) session: Option<Session>,
    /// Whether the other site should vouch for the account of that session.
    pub(super) link: bool,
    /// Where to go afterwards.
    pub(super) target: String,
}

/// Without the secrets.
impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow")
            .field("strategy", &self.strategy)
            .finish_non_exhaustive()
    }
}

fn key(state: &str) -> String {
    format!("sso/{}", token::hash(state))
}

impl Flow {
    /// Keeps it under its state.
    pub(super) async fn keep(&self, on: &mut Transaction, state: &str) -> Result<(), Error> {
        let value = serde_json::to_value(self)
            .map_err(|error| Error::Mistake(format!("an attempt to sign in: {error}")))?;
        passports::keep(on, &key(state), &value, LIFETIME).await
    }

    /// Takes the one with this state, if it is not over.
    pub(super) async fn take(on: &mut Transaction, state: &str) -> Result<Option<Self>, Error> {
        let taken = passports::take(on, &key(state)).await?;
        // One of a newer version cannot be finished by this one, and is begun again.
        Ok(taken.and_then(|value| serde_json::from_value(value).ok()))
    }

    /// Whether it was begun for this way to sign in, in the browser with this cookie.
    pub(super) fn belongs_to(&self, strategy: &str, cookie: Option<&str>) -> bool {
        let cookie = cookie.and_then(Token::offered);
        let same = cookie.is_some_and(|cookie| token::is_same(&cookie.hash(), &self.cookie_hash));
        same && self.strategy == strategy
    }
}

/// A path of this site, `/` being the default.
///
/// Browsers take `\` for `/` and drop line feeds and tabs, so that a path with these, or with two slashes at its
/// beginning, may lead to another site.
pub(super) fn checked_target(target: Option<&str>) -> Result<String, Refused> {
    let Some(target) = target.filter(|target| !target.is_empty()) else {
        return Ok("/".to_owned());
    };
    let odd = |c: char| c == '\\' || c.is_control() || c.is_whitespace();
    let local = target.starts_with('/') && !target.starts_with("//") && !target.contains(odd);
    if !local || target.len() > TARGET_LEN_MAX {
        return Err(Refused::Target);
    }
    Ok(target.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_goes_to_paths_of_this_site_only() {
        for (target, expected) in [
            (None, "/"),
            (Some(""), "/"),
            (Some("/projects?open=1#x"), "/projects?open=1#x"),
            (Some("/a//b"), "/a//b"),
        ] {
            assert_eq!(checked_target(target).unwrap(), expected);
        }
        for wrong in [
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/\t/evil.example",
            "/a\nb",
            " /a",
            "evil",
            "///evil.example",
        ] {
            assert!(
                matches!(checked_target(Some(wrong)), Err(Refused::Target)),
                "{wrong:?}"
            );
        }
        assert!(checked_target(Some(&format!("/{}", "x".repeat(TARGET_LEN_MAX)))).is_err());
    }
}
