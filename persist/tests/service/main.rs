//! What users rely on, asked over a broker as users ask it, in simulated time.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![expect(
    clippy::disallowed_methods,
    reason = "what a test spawns it awaits, or it ends with the test's runtime"
)]

mod consuming;
mod expiring;
mod failing;
mod reading;
mod releasing;
mod scene;
mod streams;
mod watching;
mod withdrawn;
mod writing;
