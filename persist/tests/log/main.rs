//! The log against a model: whatever is written, whatever crashes, whatever is compacted.

mod compaction;
mod crash;
mod damage;
mod history;
mod node;
