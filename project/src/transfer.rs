//! Files of any size, over the broker.
//!
//! Two ways lead here. Over sockets (`files.-`, see [`sockets`]) the receiver says how much it can take, a transfer that
//! broke off goes on where it was, and a digest tells that all of it came. As chunks (`files:read`, `files:write`, see
//! [`chunks`]) existing clients do it: there the broker alone holds back who sends too fast.

mod source;
pub(crate) use source::Source;

mod sink;
pub(crate) use sink::Sink;

pub(crate) mod chunks;
pub(crate) mod sockets;

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{Limits, Timing};
use crate::error::{Code, Error};
use crate::home::Home;

/// What all transfers share.
#[derive(Debug)]
pub(crate) struct Transfers {
    home: Home,
    timing: Timing,
    running: Arc<Semaphore>,
}

impl Transfers {
    pub(crate) fn new(home: Home, timing: Timing, limits: &Limits) -> Self {
        Self {
            home,
            timing,
            running: Arc::new(Semaphore::new(limits.transfers_max)),
        }
    }

    /// The right to transfer one file.
    fn begin(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.running)
            .try_acquire_owned()
            .map_err(|_full| Error::new(Code::TooMany, "too many files are transferred already"))
    }
}

/// Work that blocks, off the threads that must not.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::new(Code::Internal, error.to_string())))
}

/// A digest as text.
pub(crate) fn hex(digest: &[u8]) -> String {
    digest
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
