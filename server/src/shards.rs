//! The threads that carry connections: each runs a tokio runtime of its own, so that a connection
//! stays on its core and no work is stolen.

use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

/// Running threads. They end with [`stop`](Self::stop).
#[derive(Debug)]
pub(crate) struct Shards {
    handles: Vec<Handle>,
    threads: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Shards {
    /// Starts `count` threads; 0 starts one for each core.
    pub(crate) fn start(count: u16) -> io::Result<Self> {
        let count = match count {
            0 => std::thread::available_parallelism()?.get(),
            given => given.into(),
        };
        without_huge_pages();
        let mut shards = Self {
            handles: Vec::new(),
            threads: Vec::new(),
            stop: CancellationToken::new(),
        };
        for index in 0..count {
            let runtime = current_thread()?;
            shards.handles.push(runtime.handle().clone());
            let stop = shards.stop.clone();
            // Linux cuts names of threads at 15 bytes.
            let thread = std::thread::Builder::new().name(format!("shard-{index}"));
            shards
                .threads
                .push(thread.spawn(move || runtime.block_on(stop.cancelled()))?);
        }
        Ok(shards)
    }

    /// Where to spawn connections.
    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.handles.clone()
    }

    /// Ends the threads and everything that still runs on them.
    pub(crate) fn stop(self) {
        self.stop.cancel();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a shard thread panicked");
            }
        }
    }
}

/// Has the kernel give memory in small pages. Where it gives two megabytes at once, it clears them
/// first, and whoever happens to need the next byte waits for it: a queue that grows for one slow
/// consumer would hold up everybody else on the thread for ten milliseconds again and again.
fn without_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay on");
    }
}

/// A runtime of one thread, with sockets and time.
pub(crate) fn current_thread() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
