//! The id of a project: a UUID of any version, written in any case.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Where the hyphens of a UUID stand.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// The length of a UUID as text.
const LEN: usize = 36;

/// Which project.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectId(u128);

/// A text is no UUID.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a project's id is a UUID such as 7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f")]
pub struct ProjectIdError;

impl ProjectId {
    /// That of no project.
    pub const NIL: Self = Self(0);
}

impl FromStr for ProjectId {
    type Err = ProjectIdError;

    fn from_str(text: &str) -> Result<Self, ProjectIdError> {
        if text.len() != LEN {
            return Err(ProjectIdError);
        }
        let mut number = 0_u128;
        for (at, byte) in text.bytes().enumerate() {
            if HYPHENS.contains(&at) {
                if byte != b'-' {
                    return Err(ProjectIdError);
                }
                continue;
            }
            let digit = char::from(byte).to_digit(16).ok_or(ProjectIdError)?;
            number = number << 4 | u128::from(digit);
        }
        Ok(Self(number))
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(n) = *self;
        let part = |shift: u32, digits: u32| n >> shift & ((1 << (digits * 4)) - 1);
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            part(96, 8),
            part(80, 4),
            part(64, 4),
            part(48, 4),
            part(0, 12)
        )
    }
}

impl fmt::Debug for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_round_trip(number: u128) {
            let id = ProjectId(number);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "7f2c6d1e0b5a4c399d5e1a2b3c4d5e6f",
            "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6",
            "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6g",
            "7f2c6d1e-0b5a-4c39-9d5e+1a2b3c4d5e6f",
            "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5eé",
        ] {
            assert_eq!(text.parse::<ProjectId>(), Err(ProjectIdError), "{text}");
        }
    }
}
