//! Threads for what blocks: reading, loading, compressing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::backend::Error;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads. What waits for them is bounded by those who ask: each asks once and
/// waits.
#[derive(Debug)]
pub(crate) struct Workers {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.state.lock().jobs.len();
        f.debug_struct("Shared")
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

impl Workers {
    /// Starts the threads.
    pub(crate) fn start(count: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::with_capacity(count);
        for number in 0..count {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("log-{number}"));
            threads.push(builder.spawn(move || shared.work())?);
        }
        let threads = Mutex::new(threads);
        Ok(Self { shared, threads })
    }

    /// Does something on one of the threads. `None`: they have ended.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) -> Option<()> {
        let mut state = self.shared.state.lock();
        if state.closed {
            return None;
        }
        state.jobs.push_back(Box::new(job));
        drop(state);
        self.shared.filled.notify_one();
        Some(())
    }

    /// Does something on one of the threads and waits for what it gives.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, receiver) = oneshot::channel();
        // Whoever asked may not wait any more.
        let run = self.run(move || drop(sender.send(job())));
        if run.is_none() {
            return Err(Error::Closed);
        }
        receiver.await.unwrap_or(Err(Error::Closed))
    }

    /// Finishes what waits and ends the threads. It blocks.
    pub(crate) fn stop(&self) {
        self.shared.state.lock().closed = true;
        self.shared.filled.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
    }
}

impl Shared {
    fn work(&self) {
        while let Some(job) = self.next() {
            // A job that panics fails for the one who asked, and for nobody else.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            if result.is_err() {
                tracing::error!("a job of the log panicked");
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            self.filled.wait(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_asked_is_answered_until_the_end() {
        let workers = Workers::start(2).unwrap();
        assert_eq!(workers.ask(|| Ok(7)).await, Ok(7));
        let panics = workers.ask(|| -> Result<(), Error> { panic!("as the test wants it") });
        assert_eq!(panics.await, Err(Error::Closed));
        assert_eq!(workers.ask(|| Ok(8)).await, Ok(8));
        workers.stop();
        assert_eq!(workers.ask(|| Ok(9)).await, Err(Error::Closed));
    }
}
