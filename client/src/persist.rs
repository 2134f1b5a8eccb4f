//! Durable streams: what a program says to the persist service, and what the service answers.
//!
//! [`wire`] has the requests and answers as data; `docs/persist.md` says what they mean.

mod call;
mod consumer;
mod error;
mod handle;
mod ids;
pub mod kv;
pub mod name;
pub mod object;
pub mod presence;
mod read;
mod record;
mod stream;
mod watch;
pub mod wire;

pub use consumer::{Consumer, Job};
pub use error::{AckError, AppendError, CallError, OpenError};
pub use handle::Persist;
pub use name::{NameError, Owner, StreamName};
pub use read::{ReadOptions, Records};
pub use stream::Stream;
pub use watch::{Event, WatchError, WatchOptions, Watcher, cursor_at};
