//! A log, its archive, and what is restored from it.
#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]
#![expect(
    clippy::disallowed_methods,
    reason = "tasks of a test end with its runtime"
)]

mod faulty;
mod node;
mod pass;
mod random;
mod s3;
mod site;
mod stopping;
