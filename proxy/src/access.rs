//! Who may pass: the credentials of a request, and whoever decides about them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use thiserror::Error;

use crate::project::ProjectId;

/// What a request brought to prove who sends it. Never logged, never passed on.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The cookies that are ours, as `name=value`, in the order of the request.
    pub cookies: Vec<String>,
    /// The key of `Authorization: Bearer`, where it is one of ours.
    pub key: Option<String>,
}

impl Credentials {
    /// Whether there is nothing to be checked.
    pub fn is_empty(&self) -> bool {
        self.cookies.is_empty() && self.key.is_none()
    }

    /// The value of one of the cookies.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let value = |cookie: &'_ str| {
            cookie
                .split_once('=')
                .filter(|(n, _)| *n == name)
                .map(|(_, v)| v.len())
        };
        self.cookies.iter().find_map(|cookie| {
            let len = value(cookie)?;
            cookie.get(cookie.len() - len..)
        })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("cookies", &self.cookies.len())
            .field("key", &self.key.is_some())
            .finish()
    }
}

/// What a request does to the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// It reads: a file is downloaded.
    Read,
    /// It may do everything that the project's servers can do.
    Write,
}

/// The answer to a question for access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may, as this identity; the empty one stands for whoever comes to a public project.
    Allowed {
        /// Under which access ends together; shown in the access log.
        identity: Arc<str>,
    },
    /// The credentials are known and do not suffice, or there is no such project: nobody is told which.
    Denied,
    /// There are no credentials, or they are not valid: whoever sends it should sign in.
    SignIn,
}

/// It cannot be told at present whether a request may pass.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("access cannot be checked: {0}")]
pub struct AccessError(pub String);

/// An answer that may take a moment.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Decides who may pass.
///
/// Answers are kept for [`Config::access_ttl`](crate::Config::access_ttl). Whoever owns the decision calls
/// [`Handle::access_changed`](crate::Handle::access_changed) when one of them changes; the time is the backstop.
pub trait Access: Send + Sync + 'static {
    /// Whether these credentials may do this to the project.
    fn check<'a>(
        &'a self,
        project: ProjectId,
        credentials: &'a Credentials,
        level: Level,
    ) -> Answer<'a, Result<Verdict, AccessError>>;
}

/// Whose access has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Everybody's.
    All,
    /// One identity's, to all projects.
    Identity(Arc<str>),
    /// Everybody's, to one project.
    Project(ProjectId),
}

impl Whose {
    /// Whether it concerns this identity in this project.
    pub fn concerns(&self, identity: &str, project: ProjectId) -> bool {
        match self {
            Self::All => true,
            Self::Identity(changed) => **changed == *identity,
            Self::Project(changed) => *changed == project,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_show_nothing_of_themselves() {
        let credentials = Credentials {
            cookies: vec!["remember_me=secret=1".to_owned()],
            key: Some("sk-secret".to_owned()),
        };
        assert!(!format!("{credentials:?}").contains("secret"));
        assert_eq!(credentials.cookie("remember_me"), Some("secret=1"));
        assert_eq!(credentials.cookie("remember"), None);
    }
}
