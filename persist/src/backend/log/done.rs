//! How those who wait learn that what they wrote has reached the system or the disk.

use std::fmt;
use std::sync::Arc;

use dialtone_client::persist::wire::Durability;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::backend::{Done, Error};

/// Why the log takes nothing any more. It stays so until the process starts anew, because nobody
/// knows what a failed write has left behind.
#[derive(Debug, Clone, Error)]
#[error("{0}")]
pub(crate) struct Failure(pub(crate) Arc<str>);

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.0.as_ref().to_owned())
    }
}

/// Somebody who waits for a frame.
pub(crate) struct Waiter {
    pub(crate) until: Durability,
    pub(crate) told: Told,
}

/// How a waiter is told.
pub(crate) enum Told {
    /// By calling it.
    Call(Done),
    /// By sending; the one who waits may have gone.
    Send(oneshot::Sender<Result<(), Failure>>),
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Waiter");
        shown.field("until", &self.until).finish_non_exhaustive()
    }
}

impl Waiter {
    /// One that waits for the disk, and where it hears of it.
    pub(crate) fn for_sync() -> (Self, oneshot::Receiver<Result<(), Failure>>) {
        let (sender, receiver) = oneshot::channel();
        let waiter = Self {
            until: Durability::Fsync,
            told: Told::Send(sender),
        };
        (waiter, receiver)
    }

    /// Tells why nothing was written.
    pub(crate) fn refuse(self, error: Error) {
        match self.told {
            Told::Call(done) => done(Err(error)),
            Told::Send(sender) => drop(sender.send(Err(Failure(error.to_string().into())))),
        }
    }

    pub(crate) fn tell(self, result: Result<(), Failure>) {
        match self.told {
            Told::Call(done) => done(result.map(|()| self.until).map_err(Error::from)),
            // Whoever does not listen any more does not need to know.
            Told::Send(sender) => drop(sender.send(result)),
        }
    }
}

/// What was heard; a writer that is gone has failed or was closed.
pub(crate) fn heard(
    result: Result<Result<(), Failure>, oneshot::error::RecvError>,
) -> Result<(), Error> {
    match result {
        Ok(result) => Ok(result?),
        Err(_) => Err(Error::Closed),
    }
}
