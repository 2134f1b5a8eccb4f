//! Which node has which stream, when nodes come, go, stand still and cannot be reached.
#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]
#![expect(
    clippy::disallowed_methods,
    reason = "tasks of a test end with its runtime"
)]

mod cluster;
mod exclusion;
mod leases;
mod model;
mod site;
