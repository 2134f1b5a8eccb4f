//! The daemon of a project: one process beside the files of a project, a client of the broker.
//!
//! ```text
//!   broker ──┬─ project.{id}.{csid}.api           api        one request, one answer
//!            ├─ project.{id}.{csid}.exec-stream.-  exec       output while it is written
//!            ├─ project.{id}.{csid}.files:…        transfer   chunks, as existing clients read and write files
//!            ├─ project.{id}.{csid}.files.-        transfer   sockets: flow control, ranges, digests, resuming
//!            └─ project.{id}.{csid}.terminal.*     terminal   sockets: one viewer of a terminal each
//!
//!   proxy ───── raw           HTTP: the files below the project's home
//!          └─── servers       Jupyter and others, started when somebody asks for them
//! ```
//!
//! Reading order: [`Config`] says everything that can be set, [`Project`] binds and runs, [`remote`] is the other side.
//! All that is started here goes through [`processes`], which ends all of it.

pub mod config;
pub mod error;
mod home;
pub mod subjects;

pub mod processes;

mod exec;
mod files;

pub mod frames;
mod transfer;

mod terminal;

mod patient;

mod room;

mod raw;
mod servers;

mod capabilities;
mod status;

mod announce;
mod api;
mod daemon;

pub mod remote;

pub use announce::Announcement;
pub use config::Config;
pub use daemon::{BindError, Handle, Project};
pub use error::{Code, Error};
pub use raw::{TOKEN_HEADER, token_of};
