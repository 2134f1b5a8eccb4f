//! HTTP and WebSocket to the right project.
//!
//! ```text
//!   client ──▶ serve ──▶ forward ──▶ target     which project, which server (pure)
//!                          │    ├──▶ headers    what passes, what does not (pure)
//!                          │    ├──▶ grant      who may: asks Access, remembers, ends what may not go on
//!                          │    ├──▶ places     where: asks Targets, remembers
//!                          │    └──▶ files      a file itself
//!                          ▼
//!                        upstream ──▶ the project's server    connections are kept in pool
//!                          │
//!                          └─▶ upgrade ──▶ tunnel    a WebSocket: bytes, spliced where there are many
//! ```
//!
//! The proxy knows no database and no hub: [`Access`] says who may pass, [`Targets`] where servers are, and [`Files`]
//! opens files. [`fixed`] answers all three from a table. Bodies are passed on as they come, both ways, and never held
//! whole; whoever is slow slows down the other side and nobody else.

pub mod headers;
pub mod path;
pub mod project;
pub mod target;

pub mod access;
pub mod fixed;
mod grant;
mod places;
pub mod separate;
pub mod targets;

mod config;
mod error;
mod page;
mod proxy;
mod serve;
mod site;
mod socket;

mod body;
mod forward;
mod pool;
mod quiet;
mod tunnel;
mod upgrade;
mod upstream;

pub mod files;
pub mod log;
mod metrics;
pub mod monitor;
mod record;

pub use access::{Access, Whose};
pub use config::{Config, Limits, Listen, Timing};
pub use error::Refusal;
pub use files::Files;
pub use metrics::Metrics;
pub use project::ProjectId;
pub use proxy::{BindError, Handle, Proxy, Services};
pub use targets::Targets;
