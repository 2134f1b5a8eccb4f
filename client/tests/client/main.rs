//! What the client does with its broker, played by a peer that says exactly what each test needs.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test is to end it")]
#![expect(clippy::disallowed_methods, reason = "tests spawn tasks of their own")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else comes ends the test alike"
)]

mod closing;
mod handshake;
mod messages;
mod peer;
mod questions;
mod reconnecting;
mod relay;
mod services;
mod sockets;
mod subscriptions;
