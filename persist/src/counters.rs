//! What a node has done since its start, in numbers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident;)+) => {
        /// Numbers that only grow.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: AtomicU64,)+
        }

        impl Counters {
            /// All of them by name.
            pub fn snapshot(&self) -> BTreeMap<String, u64> {
                let mut all = BTreeMap::new();
                $(all.insert(stringify!($name).to_owned(), self.$name.load(Ordering::Relaxed));)+
                all
            }
        }
    };
}

counters! {
    /// Requests that were received.
    requests;
    /// Requests that were answered with a fault.
    faults;
    /// Records that were appended and committed.
    records_appended;
    /// What they count for.
    bytes_appended;
    /// Commits that were made.
    commits;
    /// Commits that failed.
    commits_failed;
    /// Records that were given to readers, watches and fetches.
    records_read;
    /// Answers to watches.
    watches;
    /// Deliveries of consumers.
    deliveries;
    /// Deliveries that were made again, because they were not acknowledged.
    redeliveries;
    /// Records that consumers gave up.
    dead_letters;
    /// Streams that were loaded.
    loads;
    /// Streams that were unloaded.
    unloads;
    /// Answers that could not be sent.
    answers_lost;
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
