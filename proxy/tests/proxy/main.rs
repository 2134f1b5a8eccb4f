//! The proxy between real clients and real servers, over real sockets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

mod access;
mod bodies;
mod files;
mod forwarding;
mod hostile;
mod smuggling;
mod stopping;
mod websocket;
