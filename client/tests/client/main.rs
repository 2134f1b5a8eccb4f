//! What the client does with its broker, played by a peer that says exactly what each test needs.

mod closing;
mod handshake;
mod messages;
mod peer;
mod questions;
mod reconnecting;
mod subscriptions;
