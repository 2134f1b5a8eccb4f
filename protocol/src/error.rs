//! What can be wrong with bytes and with behaviour, and the codes that are said on the wire.

use serde::{Deserialize, Serialize};

use crate::limits::TEXT_LEN_MAX;
use crate::subject::SubjectError;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)+) => {
        /// A stable number that says what happened. Numbers are never given a second meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)+
            /// A code that this version does not know; peers may be newer.
            Other(u16),
        }

        impl Code {
            /// The number on the wire.
            pub fn number(self) -> u16 {
                match self {
                    $(Self::$name => $number,)+
                    Self::Other(number) => number,
                }
            }

            /// The code of a number from the wire.
            pub fn from_number(number: u16) -> Self {
                match number {
                    $($number => Self::$name,)+
                    other => Self::Other(other),
                }
            }

            /// A short name for people and metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                    Self::Other(_) => "unknown code",
                }
            }
        }
    };
}

codes! {
    /// The connection ends because its owner wants it to.
    Normal = 0, "normal";
    /// A frame that cannot be read, or that has no place here.
    BadFrame = 400, "bad frame";
    /// The credentials were not accepted.
    Unauthenticated = 401, "unauthenticated";
    /// The principal may not do this.
    Denied = 403, "permission denied";
    /// Nothing was heard, or nothing answered, for too long.
    Timeout = 408, "timeout";
    /// The identifier is already in use.
    Conflict = 409, "conflict";
    /// The broker is going away; others can take over.
    Draining = 410, "draining";
    /// A frame, message, header or batch is larger than the limit.
    TooLarge = 413, "too large";
    /// Not a valid subject or pattern.
    InvalidSubject = 422, "invalid subject";
    /// The peer speaks no version that this end speaks.
    UnsupportedVersion = 426, "unsupported version";
    /// A limit on number or rate was reached.
    TooMany = 429, "too many";
    /// The receiver did not read fast enough.
    SlowConsumer = 470, "slow consumer";
    /// An administrator or a changed permission ended the connection.
    Kicked = 471, "kicked";
    /// A fault of the broker's own.
    Internal = 500, "internal error";
    /// Nobody subscribes to the subject.
    NoSubscribers = 503, "no subscribers";
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name(), self.number())
    }
}

#[cfg(feature = "arbitrary")]
impl arbitrary::Arbitrary<'_> for Code {
    /// From a number, since a number that has a name is never [`Code::Other`].
    fn arbitrary(u: &mut arbitrary::Unstructured<'_>) -> arbitrary::Result<Self> {
        u16::arbitrary(u).map(Self::from_number)
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.number())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u16::deserialize(deserializer).map(Self::from_number)
    }
}

/// Bytes that are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The length field promises more than the limit.
    #[error("a frame of {len} bytes is longer than the limit of {max}")]
    TooLong {
        /// What the length field says, in bytes.
        len: u32,
        /// The limit, in bytes.
        max: u32,
    },
    /// A frame without a head.
    #[error("a frame must not be empty")]
    Empty,
    /// A kind of frame that this version does not know.
    #[error("unknown frame kind {kind}")]
    UnknownKind {
        /// The number found.
        kind: u8,
    },
    /// The head of a frame ends too early, has a wrong value, or goes on too long.
    #[error("malformed {kind} frame")]
    Malformed {
        /// Which kind of frame it claims to be.
        kind: &'static str,
    },
    /// The first frame does not start with the magic bytes of §2.1.
    #[error("the peer does not speak the Dialtone protocol")]
    NotDialtone,
}

/// A peer that breaks the rules: the connection ends with this code and text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {text}")]
pub struct Violation {
    /// What is said on the wire.
    pub code: Code,
    /// What was wrong and where, for people.
    pub text: String,
}

impl Violation {
    /// A violation with its text, shortened to [`TEXT_LEN_MAX`] bytes.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            text: shortened(text.into()),
        }
    }
}

/// A text for people that fits into a frame whatever subject it quotes.
pub(crate) fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_LEN_MAX));
    text
}

impl From<DecodeError> for Violation {
    fn from(error: DecodeError) -> Self {
        let code = match error {
            DecodeError::TooLong { .. } => Code::TooLarge,
            DecodeError::Empty
            | DecodeError::UnknownKind { .. }
            | DecodeError::Malformed { .. }
            | DecodeError::NotDialtone => Code::BadFrame,
        };
        Self::new(code, error.to_string())
    }
}

impl From<SubjectError> for Violation {
    fn from(error: SubjectError) -> Self {
        Self::new(Code::InvalidSubject, error.to_string())
    }
}
