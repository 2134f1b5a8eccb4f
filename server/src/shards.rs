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

/// A runtime of one thread, with sockets and time.
pub(crate) fn current_thread() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
