//! Who asks the hub for something: a typed value, made from the subject of the request alone.
//!
//! The broker lets nobody but an identity itself (and hubs) publish below `hub.account.<id>.` and `hub.project.<id>.`
//! ([`permission`](crate::permission)), so that the subject proves who sent a request. What a request says about its
//! sender is never looked at.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{AccountId, InvalidId, ProjectId};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Caller {
    /// A person, or a program with that person's key.
    Account(AccountId),
    /// A project's own daemon, or a program with a key of that project.
    Project(ProjectId),
    /// Another part of the site, which may do everything.
    Hub,
}

/// A subject that is not one of a request to the hub.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubject {
    /// The second segment is another word.
    #[error("must be project or account")]
    Kind,
    /// The third segment is no identifier.
    #[error("invalid uuid: {0}")]
    Id(#[from] InvalidId),
    /// It has other segments than `hub.<kind>.<id>.api`.
    #[error("requests go to hub.account.<id>.api or hub.project.<id>.api")]
    Shape,
}

impl Caller {
    /// Who is behind a request to `hub.<kind>.<id>.api`.
    ///
    /// # Errors
    /// When the subject is not of that form. An identifier has one written form, in lower case: two subjects are never
    /// the same caller.
    pub fn of_request(subject: &str) -> Result<Self, InvalidSubject> {
        let mut segments = subject.split('.');
        let mut next = || segments.next().unwrap_or_default();
        let (hub, kind, id, api) = (next(), next(), next(), next());
        if hub != "hub" || api != "api" || segments.next().is_some() {
            return Err(InvalidSubject::Shape);
        }
        match kind {
            "account" => Ok(Self::Account(canonical(id)?)),
            "project" => Ok(Self::Project(canonical(id)?)),
            _ => Err(InvalidSubject::Kind),
        }
    }

    /// The subject of this caller's requests; `None` for hubs, which ask nobody.
    pub fn request_subject(self) -> Option<String> {
        match self {
            Self::Account(id) => Some(format!("hub.account.{id}.api")),
            Self::Project(id) => Some(format!("hub.project.{id}.api")),
            Self::Hub => None,
        }
    }

    /// The account, if it is one.
    pub fn account(self) -> Option<AccountId> {
        match self {
            Self::Account(id) => Some(id),
            Self::Project(_) | Self::Hub => None,
        }
    }

    /// The project, if it is one.
    pub fn project(self) -> Option<ProjectId> {
        match self {
            Self::Project(id) => Some(id),
            Self::Account(_) | Self::Hub => None,
        }
    }
}

impl fmt::Display for Caller {
    /// As in subjects and in names of principals: `account-<id>`, `project-<id>`, `hub`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(id) => write!(f, "account-{id}"),
            Self::Project(id) => write!(f, "project-{id}"),
            Self::Hub => f.write_str("hub"),
        }
    }
}

impl FromStr for Caller {
    type Err = InvalidSubject;

    /// Reads what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, InvalidSubject> {
        if let Some(id) = text.strip_prefix("account-") {
            return Ok(Self::Account(canonical(id)?));
        }
        if let Some(id) = text.strip_prefix("project-") {
            return Ok(Self::Project(canonical(id)?));
        }
        match text {
            "hub" => Ok(Self::Hub),
            _ => Err(InvalidSubject::Kind),
        }
    }
}

/// Reads an identifier that is written in its one form. Subjects are compared as text, so that another spelling of an
/// identifier would be another subject for the broker, but the same identity for whoever reads it.
pub(crate) fn canonical<T: FromStr<Err = InvalidId> + fmt::Display>(
    text: &str,
) -> Result<T, InvalidId> {
    let id: T = text.parse()?;
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(InvalidId {
            kind: "an identifier in a subject, in lower case,",
            text: text.to_owned(),
        });
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6a9ad7b6-5e7d-4d3c-8f53-0c2a1d5a3c11";

    #[test]
    fn the_subject_names_the_caller() {
        for caller in [
            Caller::Account(AccountId::random()),
            Caller::Project(ProjectId::random()),
        ] {
            let subject = caller.request_subject().unwrap();
            assert_eq!(Caller::of_request(&subject), Ok(caller));
            assert_eq!(caller.to_string().parse(), Ok(caller));
        }
        assert_eq!("hub".parse(), Ok(Caller::Hub));
        assert_eq!(Caller::Hub.request_subject(), None);
    }

    #[test]
    fn nothing_else_is_a_caller() {
        for subject in [
            String::new(),
            "hub".to_owned(),
            "hub.hub.hub.api".to_owned(),
            format!("hub.hub.{ID}.api"),
            format!("hub.account.{ID}"),
            format!("hub.account.{ID}.api.more"),
            format!("hub.account.{ID}.other"),
            format!("hub.account.{}.api", ID.to_uppercase()),
            format!("hub.accounts.{ID}.api"),
            format!("HUB.account.{ID}.api"),
            "hub.account.*.api".to_owned(),
            "hub.account..api".to_owned(),
        ] {
            assert!(Caller::of_request(&subject).is_err(), "{subject}");
        }
    }
}
