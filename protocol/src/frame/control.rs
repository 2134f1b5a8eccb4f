//! Frames about the connection itself (§8).

use serde::{Deserialize, Serialize};

use crate::error::Code;

/// Are you there? The peer answers with a [`Pong`] at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Ping {
    /// Returned in the answer.
    pub token: u64,
}

/// Yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Pong {
    /// From the ping.
    pub token: u64,
}

/// What a permission is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Action {
    /// Publishing, and asking for interest.
    Publish,
    /// Subscribing.
    Subscribe,
}

/// A message without acknowledgement was not permitted or not valid and went nowhere. Said once
/// per subject and connection, so that a mistaken publisher is not flooded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Denied {
    /// What was tried.
    pub action: Action,
    /// On which subject.
    pub subject: String,
    /// Why.
    pub code: Code,
    /// Why, for people.
    pub text: String,
}

/// The broker will close this connection; the client should move before that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Drain {
    /// Where to go, most preferred first; empty where there is nowhere else.
    pub addresses: Vec<String>,
    /// How long until the connection is closed, in milliseconds.
    pub grace_ms: u32,
}

/// The last frame: nothing follows it in this direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Close {
    /// Why.
    pub code: Code,
    /// Why, for people.
    pub text: String,
}
