//! What users rely on, asked over a broker as users ask it, in simulated time.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![expect(
    clippy::expect_used,
    reason = "a step that fails is a test that fails, and says which"
)]

mod consuming;
mod reading;
mod scene;
mod streams;
mod watching;
mod writing;
