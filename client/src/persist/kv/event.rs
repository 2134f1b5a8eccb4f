//! What a key-value store tells.

use crate::persist::error::CallError;
use crate::persist::wire::{Fault, RemovalCause};

/// Why a key changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It was written: set or deleted, here or elsewhere.
    Write,
    /// Its record was taken out of the stream.
    Removed(RemovalCause),
    /// It changed while this replica was away for so long that single changes are not known any more.
    Resync,
}

/// Something that a [`KeyValue`](super::KeyValue) tells.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum KvEvent<T> {
    /// A key changed at the service; told once for each change that was seen, also for one's own.
    Changed {
        /// The key.
        key: String,
        /// What it is now; `None` when it is gone.
        value: Option<T>,
        /// What it was.
        prev: Option<T>,
        /// The number of its record; 0 when that is gone as well.
        seq: u64,
        /// Why.
        cause: Cause,
    },
    /// The service refused a change, which is taken back here.
    Rejected {
        /// The key.
        key: String,
        /// What it was to be; `None` for a deletion.
        value: Option<T>,
        /// Why.
        fault: Fault,
    },
    /// Somebody wrote a value that is not of this type. The key has no value here.
    Unreadable {
        /// The key.
        key: String,
        /// The number of its record.
        seq: u64,
        /// What is wrong with it.
        error: String,
    },
    /// A record can no longer be read, because the service's store is damaged. Its key has no value here.
    Damaged {
        /// Its number.
        seq: u64,
        /// What is wrong, and where.
        error: String,
    },
    /// Everything that was set is saved.
    Saved,
    /// The service refuses to go on, for example because the stream was deleted. Nothing follows, and nothing is saved.
    Ended(CallError),
}
