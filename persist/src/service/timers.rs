//! When to look at which stream, because something in it is over then.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use dialtone_client::persist::StreamName;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

use super::registry;
use super::shared::Shared;
use crate::stream::Stream;

/// Clocks can be set, so that no wait for a time of day is longer.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Between two looks for idle streams.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Streams by when they are due, in milliseconds since 1970. Each open stream has one entry that counts, and few others
/// that are found out when they are due.
#[derive(Default)]
pub(crate) struct Timers {
    due: Mutex<BTreeMap<(u64, usize), Due>>,
    earlier: Notify,
}

/// A stream that is to be looked at.
struct Due {
    stream: Weak<Stream>,
    /// To open it again when it was unloaded meanwhile.
    name: StreamName,
}

impl Timers {
    /// Looks at a stream at `due`.
    pub(crate) fn add(&self, due: u64, stream: &Arc<Stream>) {
        let mut entries = self.due.lock();
        // Two streams are never at the same place at the same time.
        let key = (due, Arc::as_ptr(stream).addr());
        let is_first = entries
            .first_key_value()
            .is_none_or(|(first, _)| key < *first);
        let entry = Due {
            stream: Arc::downgrade(stream),
            name: stream.name.clone(),
        };
        entries.insert(key, entry);
        drop(entries);
        if is_first {
            self.earlier.notify_one();
        }
    }

    /// The streams that are due at `now`.
    fn take(&self, now: u64) -> Vec<Due> {
        let mut entries = self.due.lock();
        let later = entries.split_off(&(now + 1, 0));
        let due = std::mem::replace(&mut *entries, later);
        due.into_values().collect()
    }

    fn next(&self) -> Option<u64> {
        self.due.lock().first_key_value().map(|((due, _), _)| *due)
    }
}

/// Lets what is over leave its stream, and unloads idle streams, until the service stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut sweeps = tokio::time::interval_at(Instant::now() + SWEEP_INTERVAL, SWEEP_INTERVAL);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = shared.now();
        for due in shared.timers.take(now) {
            match due.stream.upgrade() {
                Some(stream) => shared.expire(&stream),
                // Opening it lets go what is over.
                None => registry::wake(&shared, due.name),
            }
        }
        let wait = shared.timers.next().map_or(WAIT_MAX, |due| {
            Duration::from_millis(due.saturating_sub(now)).min(WAIT_MAX)
        });
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.timers.earlier.notified() => {}
            _ = sweeps.tick() => registry::sweep(&shared),
            () = shared.stopping.cancelled() => return,
        }
    }
}
