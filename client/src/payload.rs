//! What a publisher hands over: the subject, the payload and how it is to be read.

use bytes::Bytes;
use dialtone_protocol::Subject;

/// How a payload is to be read. The broker passes it on and never looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// 0.
    #[default]
    MessagePack,
    /// 1.
    Json,
    /// A number of the users' own.
    Other(u8),
}

impl Encoding {
    /// The number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::MessagePack => 0,
            Self::Json => 1,
            Self::Other(number) => number,
        }
    }

    /// The encoding of a number from the wire.
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::MessagePack,
            1 => Self::Json,
            other => Self::Other(other),
        }
    }
}

/// The bytes of a message: borrowed ones are copied once, owned ones are not copied when they are large.
#[derive(Debug, Clone)]
pub enum Payload<'a> {
    /// Borrowed.
    Slice(&'a [u8]),
    /// Owned; cloning costs a reference count.
    Bytes(Bytes),
}

impl Payload<'_> {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Slice(slice) => slice,
            Self::Bytes(bytes) => bytes,
        }
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        match self {
            Self::Slice(slice) => Bytes::copy_from_slice(slice),
            Self::Bytes(bytes) => bytes.clone(),
        }
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(slice: &'a [u8]) -> Self {
        Self::Slice(slice)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Payload<'a> {
    fn from(slice: &'a [u8; N]) -> Self {
        Self::Slice(slice)
    }
}

impl<'a> From<&'a str> for Payload<'a> {
    fn from(text: &'a str) -> Self {
        Self::Slice(text.as_bytes())
    }
}

impl<'a> From<&'a Vec<u8>> for Payload<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self::Slice(bytes)
    }
}

impl From<Vec<u8>> for Payload<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<String> for Payload<'_> {
    fn from(text: String) -> Self {
        Self::Bytes(text.into())
    }
}

impl From<Bytes> for Payload<'_> {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<&Bytes> for Payload<'_> {
    fn from(bytes: &Bytes) -> Self {
        Self::Bytes(bytes.clone())
    }
}

/// A subject to publish to: a text, which is checked when it is used for the first time in a while, or a [`Subject`],
/// which has been checked.
#[derive(Debug, Clone)]
pub enum To<'a> {
    /// Not checked yet.
    Text(&'a str),
    /// Not checked yet.
    Owned(String),
    /// Checked.
    Subject(&'a Subject),
    /// Checked.
    OwnedSubject(Subject),
}

impl To<'_> {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Owned(text) => text,
            Self::Subject(subject) => subject.as_str(),
            Self::OwnedSubject(subject) => subject.as_str(),
        }
    }

    pub(crate) const fn is_checked(&self) -> bool {
        matches!(self, Self::Subject(_) | Self::OwnedSubject(_))
    }
}

impl<'a> From<&'a str> for To<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for To<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl From<String> for To<'_> {
    fn from(text: String) -> Self {
        Self::Owned(text)
    }
}

impl<'a> From<&'a Subject> for To<'a> {
    fn from(subject: &'a Subject) -> Self {
        Self::Subject(subject)
    }
}

impl From<Subject> for To<'_> {
    fn from(subject: Subject) -> Self {
        Self::OwnedSubject(subject)
    }
}
