//! Durable streams: what a program says to the persist service, and what the service answers.
//!
//! [`wire`] has the requests and answers as data; `docs/persist.md` says what they mean.

pub mod name;
pub mod wire;

pub use name::{NameError, Owner, StreamName};
