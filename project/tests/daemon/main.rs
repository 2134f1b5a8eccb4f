//! A project on a real broker, with real processes, terminals and files.
//!
//! Nothing sleeps: a test waits for an answer, for output, or for a process to end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "tests spawn tasks of their own")]

mod chunks;
mod connection;
mod exec;
mod files;
mod functions;
mod raw;
mod servers;
mod site;
mod terminals;
mod transfers;
