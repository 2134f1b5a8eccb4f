//! Durable streams and what is built on them.
//!
//! A [`Stream`] is a sequence of records that the persist service keeps: an append that returns is on disk (unless the
//! stream or the write asks for less), under a number that no other record ever gets. Records may have keys, and the
//! newest record of a key is its value.
//!
//! ```no_run
//! use dialtone_client::persist::wire::{Config, Cursor};
//! use dialtone_client::persist::{Event, Persist, ReadOptions, WatchOptions};
//!
//! # async fn example(client: dialtone_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! let notes = Persist::new(&client).open_or_create("notes", Config::default()).await?;
//! let written = notes.append("buy milk").await?;
//! println!("record {} is on disk", written.seq);
//!
//! let mut records = notes.read(ReadOptions::default());
//! while let Some(record) = records.next().await {
//!     println!("{:?}", record?.payload);
//! }
//!
//! let mut news = notes.watch(Cursor::Now, WatchOptions::default()).await?;
//! while let Some(event) = news.next().await {
//!     if let Event::Record { record, .. } = event? {
//!         println!("new: {:?}", record.payload);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | for | there is |
//! |---|---|
//! | records in order | [`Stream`]: append, read, get, remove |
//! | what happens from now on, or since then | [`Stream::watch`] gives a [`Watcher`] |
//! | work that several processes share | [`Stream::consumer`] gives a [`Consumer`] with [`Job`]s |
//! | values under keys, in memory and merged | [`kv::KeyValue`] |
//! | values under keys, asked for each time | [`kv::Bucket`] |
//! | entries in order, in memory, appended without waiting | [`log::Log`] |
//! | files and other large values | [`object::ObjectStore`] |
//! | who is here right now, kept by nobody | [`presence::Presence`] |
//!
//! **Outages.** Connections are made again by the client, and requests that were not carried out, or may be carried out
//! twice, are repeated here and nowhere else, for at most [`Persist::timeout`]. An append gets a message id, so that it
//! is written once even if its answer is lost. An error whose [`CallError::is_unknown`] is true says that a write may
//! have happened. A [`Watcher`] and a [`Consumer`] go on for ever.
//!
//! [`wire`] has the requests and answers as data; `docs/persist.md` says what they mean.

mod call;
mod consumer;
mod error;
mod handle;
mod ids;
pub mod kv;
pub mod log;
pub mod name;
pub mod object;
pub mod presence;
mod read;
mod record;
mod saver;
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
