//! Accounts, projects and their API: the coordinator, a client of the broker.
//!
//! ```text
//!   hub             starts the rest, says whether it is well, ends in good order
//!       │
//!   services        accounts, settings, singleton, background, maintenance, feed      decide; know no SQL
//!       │
//!     store         one function per question, on either database           the only SQL
//!       │
//!   PostgreSQL or SQLite
//! ```
//!
//! A service opens a transaction ([`store::Store::write`]), asks repositories for what it needs and tells them what to
//! change, and commits. What was changed is told by the [outbox](store::outbox) in the same transaction, so that every
//! cache and every reader that follows it hears of each committed change, in order.

pub mod accounts;
pub mod agent;
pub mod api;
pub mod auth;
pub mod background;
pub mod bookmarks;
pub mod caller;
mod causes;
pub mod clock;
pub mod control;
pub mod copy;
pub mod creation;
pub mod email;
pub mod entry;
pub mod feed;
pub mod functions;
pub mod gate;
pub mod health;
pub mod hub;
pub mod id;
pub mod identity;
pub mod joined;
pub mod kernels;
pub mod letters;
pub mod line;
pub mod maintenance;
pub mod members;
pub mod models;
pub mod path;
pub mod permission;
pub mod query;
pub mod settings;
pub mod setup;
pub mod singleton;
pub mod sso;
pub mod stats;
pub mod store;
pub mod time;
pub mod web;

pub use hub::{Config, Handle, Hub};
