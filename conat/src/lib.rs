//! Existing Conat clients, served by a Dialtone broker.
//!
//! ```text
//!   Socket.IO client ── WebSocket ──▶ connection ── memory ──▶ broker
//!                                        │
//!                         session: packets ⇄ frames, no I/O
//! ```
//!
//! Each Socket.IO client is a peer of the broker like all others, over a connection in memory: permissions, counts,
//! queue groups, interest and the bounds of slow receivers are the broker's. What is here translates.

mod address;
pub mod broker;
pub mod cluster;
pub mod config;
mod connection;
pub mod event;
pub mod gateway;
pub mod headers;
mod json;
pub mod listener;
pub mod packet;
pub mod partial;
pub mod patterns;
pub mod registry;
pub mod service;
pub mod session;
pub mod socket;
pub mod storage;
pub mod sys;
pub mod time;
pub mod url;
pub mod user;
mod websocket;

pub use broker::Broker;
pub use config::Config;
pub use gateway::Gateway;
pub use listener::Listener;
pub use session::Node;
pub use url::Url;
