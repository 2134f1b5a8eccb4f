//! Key-value stores.

mod event;
mod replica;

pub use event::{Cause, KvEvent};
