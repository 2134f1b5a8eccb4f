//! Whom and what the hub knows, by number. Each kind is a type of its own, so that none is taken for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that should be an identifier and is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} must be a UUID, not {text:?}")]
pub struct InvalidId {
    /// Of what it should be the identifier.
    pub kind: &'static str,
    /// The beginning of what was given instead.
    pub text: String,
}

/// How much of a wrong identifier an error repeats, in characters.
const SHOWN_MAX: usize = 64;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Another one, by chance.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// The identifier with this number.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// Its number.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            /// Takes the one form in which identifiers are written: 36 characters, with hyphens.
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let parsed = (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten();
                parsed.map(Self).ok_or_else(|| InvalidId {
                    kind: $kind,
                    text: text.chars().take(SHOWN_MAX).collect(),
                })
            }
        }
    )*};
}

ids! {
    /// Whose account.
    AccountId = "the id of an account";
    /// Which project.
    ProjectId = "the id of a project";
    /// Which organisation.
    OrganizationId = "the id of an organization";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_written_form_is_an_identifier() {
        let id = AccountId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in [
            "",
            "7",
            "not-a-uuid-but-thirty-six-characters",
            "{6a9ad7b6-5e7d-4d3c-8f53-0c2a1d5a3c11}",
            "6a9ad7b65e7d4d3c8f530c2a1d5a3c11",
        ] {
            let error = wrong.parse::<AccountId>().unwrap_err();
            assert_eq!(error.kind, "the id of an account");
            assert_eq!(error.text, wrong);
        }
        let long = "x".repeat(1 << 20);
        assert_eq!(long.parse::<ProjectId>().unwrap_err().text.len(), SHOWN_MAX);
    }
}
