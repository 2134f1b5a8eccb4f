//! HTTP/1.1 to a project's server: one request at a time over one connection, by whoever waits for its answer.
//!
//! ```text
//!   head, upload ──▶ request::Sending ──▶ socket ──▶ head::parse ──▶ chunks ──▶ frames of the answer
//! ```
//!
//! No task stands between the client's connection and the server's: the task of the client writes the request, reads
//! the answer, and hands the parts of its body on as they come. Only an upload that is not over when its answer begins
//! goes on in a task of its own.

mod chunks;
mod connection;
mod exchange;
mod head;
mod request;
mod uploading;

pub(crate) use connection::{ConnectError, Connection};
pub(crate) use exchange::{Answer, Error, Exchange, Reply};
pub(crate) use uploading::Uploading;
