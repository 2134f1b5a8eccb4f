//! What a stream is, without I/O: the only place that decides.
//!
//! [`state::State`] is one stream. It is told what is asked for and what time it is, says what becomes of it, and
//! gathers the changes in a [`commit::Commit`], which somebody else stores.

pub mod check;
pub mod commit;
mod consume;
pub mod consumer;
pub mod feed;
pub mod history;
pub mod ids;
pub mod limits;
pub mod rate;
pub mod records;
mod removal;
mod restore;
pub mod state;
mod verdict;
mod writes;
