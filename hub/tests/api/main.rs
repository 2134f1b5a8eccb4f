//! The functions of the hub, as they are called: every function by every kind of caller, over a real broker, and on both
//! databases.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test is to end it")]
#![expect(
    clippy::needless_pass_by_value,
    reason = "arguments are written where they are used"
)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else comes ends the test alike"
)]

mod balance;
mod broker;
mod callers;
mod connections;
mod docs;
mod kernels;
mod models;
mod query;
mod stored;
mod world;
