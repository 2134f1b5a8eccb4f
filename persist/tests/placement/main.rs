//! Which node has which stream, when nodes come, go, stand still and cannot be reached.
#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

mod cluster;
mod exclusion;
mod leases;
mod model;
mod site;
