//! Commands that clients run: at once, as jobs that are asked for later, and with their output while it is written.

mod options;
mod output;

mod job;

mod jobs;
pub(crate) use jobs::Jobs;

mod stream;
pub(crate) use stream::serve as serve_streams;
