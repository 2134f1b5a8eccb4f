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

/// Between two looks for streams that nobody uses while there are many of them: most of the time is for requests.
const WAIT_DUE: Duration = Duration::from_millis(50);

/// Between two looks for idle streams.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Streams that nobody uses and of which something is over, that are opened at a time; there may be many after a start.
const DUE_MAX: usize = 256;

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

/// Looks at streams that nobody uses, and at the store, until the service stops.
pub(crate) async fn run_unused(shared: Arc<Shared>) {
    loop {
        let is_more = wake_unused(&shared).await;
        shared.look_at_store();
        let wait = if is_more { WAIT_DUE } else { WAIT_MAX };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shared.stopping.cancelled() => return,
        }
    }
}

/// Opens streams of which something is over, which lets it go. Whether there may be more.
async fn wake_unused(shared: &Arc<Shared>) -> bool {
    let due = match shared.store.due(shared.now(), DUE_MAX).await {
        Ok(due) => due,
        Err(error) => {
            tracing::debug!(%error, "it is not known of which streams something is over");
            return false;
        }
    };
    let is_more = due.len() == DUE_MAX;
    for name in due {
        // Of several nodes, each opens what it has.
        if shared.placement.holds(&name) {
            registry::wake(shared, name);
        }
    }
    is_more
}
