//! The log against a model: whatever is written, whatever crashes, whatever is compacted.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod compaction;
mod concurrency;
mod crash;
mod damage;
mod history;
mod node;
