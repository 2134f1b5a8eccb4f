//! Who somebody is: cookies, passwords, sessions, keys and tokens, as rules that know neither clock nor store.
//!
//! | | |
//! |---|---|
//! | [`cookie`] | what a browser or program offers, and what it is given |
//! | [`password`] | hashing in bounded numbers; the original's hashes, and their replacement |
//! | [`strength`] | which passwords are accepted |
//! | [`token`] | random secrets, and the hashes by which they are known |
//! | [`session`] | signed-in browsers |
//! | [`api_key`] | keys of accounts and projects |
//! | [`throttle`] | how often something may be tried |
//! | [`registration`] | tokens with which one may sign up |
//!
//! Secrets are compared in constant time or by the hash of a random secret, never logged, and never returned a second
//! time.

pub mod api_key;
pub mod cookie;
pub mod password;
pub mod registration;
pub mod session;
pub mod strength;
pub mod throttle;
pub mod token;
