//! The pages as a browser meets them: real HTTP, a real database, the functions of a real hub.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

mod account;
mod attacks;
mod entry;
mod projects;
mod world;
