//! Names of streams, whose they are, and the subjects at which the service is asked.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name of a stream, in bytes.
pub const STREAM_NAME_LEN_MAX: usize = 4_000;

/// Longest name of a node, in bytes.
pub const NODE_NAME_LEN_MAX: usize = 64;

/// The queue group that all nodes join at [`Owner::call_subject`].
pub const QUEUE_GROUP: &str = "persist";

/// The pattern of [`Owner::call_subject`] for every owner.
pub const CALL_PATTERN: &str = "persist.*.call";

/// Length of a UUID in its usual form.
const UUID_LEN: usize = 36;

/// Why a text is not the name of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has no character.
    #[error("the name of a stream must not be empty")]
    Empty,
    /// It is longer than [`STREAM_NAME_LEN_MAX`].
    #[error("a stream's name of {len} bytes is longer than the limit of {STREAM_NAME_LEN_MAX}")]
    TooLong {
        /// Its length, in bytes.
        len: usize,
    },
    /// It begins or ends with a slash, or has an empty, `.` or `..` segment.
    #[error(
        "the name of a stream is a normalised path: no slash at its ends, no empty, `.` or `..` segment"
    )]
    NotNormalised,
    /// It contains a control character.
    #[error("the name of a stream must not contain control characters")]
    Control,
}

/// The name of a stream: a normalised path of at most [`STREAM_NAME_LEN_MAX`] bytes. Cloning costs a reference count.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName(Arc<str>);

impl StreamName {
    /// Checks a name.
    ///
    /// # Errors
    /// When it breaks one of the rules of [`NameError`].
    pub fn new(text: impl AsRef<str> + Into<Arc<str>>) -> Result<Self, NameError> {
        check(text.as_ref())?;
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whose stream it is; [`Owner::Hub`] for every path that is not below an account or a project.
    pub fn owner(&self) -> Owner {
        let mut segments = self.0.split('/');
        match (segments.next(), segments.next(), segments.next()) {
            (Some("accounts"), Some(id), Some(_)) if id.len() == UUID_LEN => {
                Owner::Account(id.into())
            }
            (Some("projects"), Some(id), Some(_)) if id.len() == UUID_LEN => {
                Owner::Project(id.into())
            }
            _ => Owner::Hub,
        }
    }
}

/// Whether a path is below the folder of an id.
fn is_below(path: &str, kind: &str, id: &str) -> bool {
    path.strip_prefix(kind)
        .and_then(|rest| rest.strip_prefix(id))
        .is_some_and(|rest| rest.starts_with('/'))
}

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > STREAM_NAME_LEN_MAX {
        return Err(NameError::TooLong { len: text.len() });
    }
    if text
        .split('/')
        .any(|segment| matches!(segment, "" | "." | ".."))
    {
        return Err(NameError::NotNormalised);
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    Ok(())
}

impl std::borrow::Borrow<str> for StreamName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl std::str::FromStr for StreamName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl Serialize for StreamName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for StreamName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl serde::de::Visitor<'_> for Text {
            type Value = StreamName;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the name of a stream")
            }

            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<StreamName, E> {
                StreamName::new(v).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// Who asks, and whose stream it is: the second segment of the service's subjects, which the broker's permissions guard.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// The site itself; it may use every stream.
    Hub,
    /// An account, by its UUID; it may use `accounts/<id>/…`.
    Account(Box<str>),
    /// A project, by its UUID; it may use `projects/<id>/…`.
    Project(Box<str>),
}

impl Owner {
    /// The owner of a segment of a subject: `hub`, `account-<uuid>`, `project-<uuid>`.
    pub fn from_scope(scope: &str) -> Option<Self> {
        if scope == "hub" {
            return Some(Self::Hub);
        }
        let (kind, id) = scope.split_once('-')?;
        if id.len() != UUID_LEN
            || !id
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
        {
            return None;
        }
        match kind {
            "account" => Some(Self::Account(id.into())),
            "project" => Some(Self::Project(id.into())),
            _ => None,
        }
    }

    /// The segment of a subject, the inverse of [`from_scope`](Self::from_scope).
    pub fn scope(&self) -> String {
        match self {
            Self::Hub => "hub".to_owned(),
            Self::Account(id) => format!("account-{id}"),
            Self::Project(id) => format!("project-{id}"),
        }
    }

    /// What the names of its streams begin with; empty for the hub.
    pub fn prefix(&self) -> String {
        match self {
            Self::Hub => String::new(),
            Self::Account(id) => format!("accounts/{id}/"),
            Self::Project(id) => format!("projects/{id}/"),
        }
    }

    /// Whether this owner may use a stream.
    pub fn may_use(&self, stream: &StreamName) -> bool {
        match self {
            Self::Hub => true,
            Self::Account(id) => is_below(stream.as_str(), "accounts/", id),
            Self::Project(id) => is_below(stream.as_str(), "projects/", id),
        }
    }

    /// Where requests for this owner's streams go; any node may receive them.
    pub fn call_subject(&self) -> String {
        format!("persist.{}.call", self.scope())
    }

    /// Where requests go that a certain node is to answer.
    pub fn node_subject(&self, node: &str) -> String {
        format!("persist.{}.on.{node}", self.scope())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "5f3a2c51-7d2e-4c39-9d4b-5a0d0c3f7b11";

    #[test]
    fn names_are_normalised_paths() {
        for good in ["a", "a/b", "..foo", "a/..b/c.", "ä/ b"] {
            StreamName::new(good).unwrap();
        }
        let long = "x".repeat(STREAM_NAME_LEN_MAX + 1);
        let bad = [
            ("", NameError::Empty),
            ("/a", NameError::NotNormalised),
            ("a/", NameError::NotNormalised),
            ("a//b", NameError::NotNormalised),
            ("a/../b", NameError::NotNormalised),
            ("./a", NameError::NotNormalised),
            ("a\n", NameError::Control),
            (&long, NameError::TooLong { len: 4_001 }),
        ];
        for (text, error) in bad {
            assert_eq!(StreamName::new(text), Err(error), "{text}");
        }
    }

    #[test]
    fn owners_use_their_own_streams_alone() {
        let project = Owner::from_scope(&format!("project-{ID}")).unwrap();
        let name = |text: String| StreamName::new(text).unwrap();
        let own = name(format!("projects/{ID}/notes"));
        assert!(project.may_use(&own) && Owner::Hub.may_use(&own));
        let account = Owner::from_scope(&format!("account-{ID}")).unwrap();
        assert!(!account.may_use(&own));
        let others = [
            format!("projects/{ID}x/notes"),
            format!("projects/{ID}"),
            format!("accounts/{ID}/notes"),
            "shared".to_owned(),
        ];
        for other in others {
            assert!(!project.may_use(&name(other.clone())), "{other}");
        }
        for scope in [
            "",
            "hubs",
            "project-",
            "account-x",
            &format!("project-{ID}x"),
        ] {
            assert_eq!(Owner::from_scope(scope), None, "{scope}");
        }
        for owner in [Owner::Hub, account, project] {
            assert_eq!(Owner::from_scope(&owner.scope()), Some(owner));
        }
    }
}
