//! Terminals: a program at a pseudo-terminal, and any number of people who look at it.
//!
//! A socket to `terminal.{path}` is one viewer:
//!
//! ```text
//!   viewer                                            project
//!   {open: {rows, cols, command?, args?, …}} ───────▶  starts the program, if none runs for this path
//!                                            ◀───────  {info: {pid, rows, cols, from, …}}
//!                                            ◀───────  bytes: what is kept of its output, then what comes
//!   bytes: what is typed                     ───────▶
//!   {resize: {rows, cols}}                   ───────▶
//!                                            ◀───────  {info: …}, {skipped: n}, {exit: {code, signal}}
//! ```
//!
//! The program waits while the fastest viewer lags by more than [`Limits::lag_max`](crate::config::Limits::lag_max);
//! slower ones are told how much they have missed. Without viewers it runs on, and only the end of its output is kept.

mod history;
mod options;
pub(crate) use options::{Options, Size};

mod session;
pub(crate) use session::ANSWER_LEN_MAX;

mod terminals;
pub(crate) use terminals::Terminals;

mod viewer;
pub(crate) use viewer::serve;
