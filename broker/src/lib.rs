//! The broker: passes each message to everyone who asked for it.
//!
//! ```text
//!  publisher's socket                                        subscriber's socket
//!         │                                                           ▲
//!         ▼ bytes                                                     │ one write per batch
//!  transport::Reader                                          transport::Writer
//!         │                                                           ▲
//!         ▼                                                           │
//!  protocol::session::server   Step (in its place, in limits)   outbox::Outbox::flush
//!         │                                                           ▲
//!         ▼                                                           │
//!  router::Router::resolve     Route (cached by subject)        outbox::Outbox::push
//!         └──────────────── connection.rs: read turn ─────────────────┘
//! ```
//!
//! A turn reads what is there, appends every message to its receivers' outboxes, and then writes
//! those outboxes to their sockets on the same thread, without waiting: no message is handed to
//! another thread. Only when a socket takes no more is its owner woken to finish.
//!
//! The broker never reads a payload or a header, and never knows what a project is.

pub mod config;
pub use config::{Config, Listen, OutboxConfig};

pub mod broker;
pub use broker::{Broker, Handle};

pub mod auth;
pub mod chance;
pub mod cluster;
pub mod error;
pub mod monitor;
pub mod status;

mod accept;
mod connection;
mod interest;
mod metrics;
mod outbox;
mod peer;
mod registry;
mod report;
pub mod router;
mod shards;
mod sys;
