//! A load generator over real sockets that speaks Dialtone and NATS.
//!
//! The figure to trust is what a message costs the *server* in CPU time. So the load generator
//! itself must be cheap: raw non-blocking sockets, pre-built buffers, and counting that only looks
//! at the beginning of each frame. It shares no code with the Dialtone client beyond the encoding of
//! frames.
//!
//! ```text
//!  cli ── compare ── servers (child processes), one or a cluster
//!   │        │
//!   └──── scenario ── reactor (epoll, one thread) ── conn ── link (TCP, TLS, QUIC)
//!            │                                         └──── wire (NATS, Dialtone, WebSocket)
//!          meter (/proc), latency, report
//! ```
//!
//! [`run`] makes one run against a server that is there; [`compare`] starts servers and compares
//! them cell by cell.

pub mod error;
pub use error::LoadError;

pub mod target;
pub use target::{Scheme, Target};

pub mod nodes;
pub use nodes::Nodes;

pub mod wire;

mod conn;
mod link;
mod reactor;
mod tls;

pub mod latency;
pub mod meter;
pub mod report;
pub use report::Report;

pub mod scenario;
pub use scenario::{Pace, Scenario, run};

pub mod server;

pub mod cell;
pub mod compare;

pub mod args;
pub mod cli;
pub mod table;
