//! The first frames of a connection: hello, welcome, and addresses when they change (§2).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::ConnectionId;
use crate::limits::Limits;

/// The first bytes of a hello's fields, so that a peer of another protocol is recognised.
pub const MAGIC: [u8; 4] = *b"DLTN";

pub(super) const KIND_HELLO: u8 = 0;

/// Whether the body of a hello has the magic bytes behind its kind.
pub(super) fn has_magic(body: &[u8]) -> bool {
    body.get(1..)
        .is_some_and(|fields| fields.starts_with(&MAGIC))
}

/// The versions that the body of a hello offers, even where the rest cannot be read: the magic
/// bytes and the two versions stay where they are in every version, so that two ends that share
/// none can say so (§2.2).
pub fn offered_versions(body: &[u8]) -> Option<(u16, u16)> {
    let (&KIND_HELLO, fields) = body.split_first()? else {
        return None;
    };
    postcard::take_from_bytes(fields.strip_prefix(&MAGIC)?)
        .ok()
        .map(|(versions, _rest)| versions)
}

/// What a client says first. Later versions append fields, which older readers skip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Hello {
    /// [`MAGIC`].
    #[cfg_attr(feature = "arbitrary", arbitrary(value = MAGIC))]
    pub magic: [u8; 4],
    /// The oldest version that the client speaks.
    pub version_min: u16,
    /// The newest version that the client speaks.
    pub version_max: u16,
    /// Name and version of the client's software, for people; at most
    /// [`TEXT_LEN_MAX`](crate::limits::TEXT_LEN_MAX) bytes.
    pub client: String,
    /// Who the client claims to be.
    pub credentials: Credentials,
}

/// How a client proves who it is. Cookies and client certificates travel with the transport.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Credentials {
    /// Nothing but what the transport carries.
    None,
    /// An opaque secret that names its bearer.
    Token(String),
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password, in clear; use an encrypted transport.
        password: String,
    },
}

impl fmt::Debug for Credentials {
    /// Leaves the secrets out, since hellos are logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Token(_) => f.write_str("Token(…)"),
            Self::Password { user, .. } => write!(f, "Password {{ user: {user:?}, password: … }}"),
        }
    }
}

/// What the broker answers to a hello that it accepts. Later versions append fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Welcome {
    /// The version that both ends speak from here on.
    pub version: u16,
    /// The connection's number on this node.
    pub connection: ConnectionId,
    /// The node's name.
    pub node: String,
    /// Name and version of the broker's software, for people.
    pub server: String,
    /// Who the broker takes the client for.
    pub identity: String,
    /// Subjects that start with this text and a dot are delivered to this connection without a
    /// subscription; nobody can guess it (§6.4).
    pub inbox: String,
    /// What the connection is granted.
    pub limits: Limits,
    /// How long the broker lets a connection be silent before it asks whether the peer is there,
    /// in milliseconds.
    pub ping_interval_ms: u32,
    /// Where else the broker can be reached.
    pub addresses: Vec<String>,
}

/// Where the broker can be reached, when that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Addresses {
    /// URLs, most preferred first.
    pub addresses: Vec<String>,
}
