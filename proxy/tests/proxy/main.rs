//! The proxy between real clients and real servers, over real sockets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

mod access;
mod bodies;
mod files;
mod forwarding;
mod hostile;
mod http2;
mod secure;
mod separate;
mod smuggling;
mod stopping;
mod uploads;
mod websocket;
