//! Durable streams and key-value stores: a client of the broker that keeps what must survive.
//!
//! ```text
//!   persist.<scope>.call                                   answers, when as durable as asked for
//!          │                                                            ▲
//!          ▼                                                            │
//!   service: decode, authorize, bounds                                  │
//!          │                                                            │
//!          ▼                      commit                  done          │
//!   stream: one writer ──▶ core ─────────▶ Backend ─────────────▶ what waited
//!             (lock)      decides           stores
//! ```
//!
//! The core decides numbers, expectations, limits and retention; it does no I/O and gets the time as an argument. A
//! backend stores what the core decided and knows no semantics.

#[cfg(feature = "archive")]
pub mod archive;
pub mod backend;
pub mod clock;
pub mod config;
pub mod core;
pub mod counters;
pub mod disk;
pub mod latency;
pub mod node;
pub mod placement;
mod service;
mod stream;

pub use backend::Backend;
pub use clock::Clock;
pub use config::{Config, Quota, Quotas, Store};
pub use node::Node;
pub use placement::{Alone, Place, Placement};
pub use service::{BindError, Handle, Persist};
