//! The functions of the hub, as they are called: every function by every kind of caller, over a real broker, and on both
//! databases.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test is to end it")]

mod broker;
mod callers;
mod query;
mod stored;
mod world;
