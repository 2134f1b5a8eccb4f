//! Which thread a connection lives on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;

/// How many more connections than the emptiest shard the one at hand may have before a connection
/// goes elsewhere. Two peers that talk to each other often connect one after the other, and are
/// served most cheaply by one thread.
const SLACK: usize = 1;

/// The same for links to other nodes. What arrives on a QUIC link comes through the listener's socket, and each packet
/// wakes a second thread where the link lives on another shard than that. Small clusters stay on one; the links of large
/// ones are spread, so that no shard has all of them.
const LINK_SLACK: usize = 4;

/// The runtimes that connections are spread over, each of one thread.
#[derive(Debug)]
pub(crate) struct Shards {
    shards: Vec<(Handle, Arc<AtomicUsize>)>,
}

/// A connection's place on a shard, which it gives back when dropped.
#[derive(Debug)]
pub(crate) struct Seat(Arc<AtomicUsize>);

impl Shards {
    /// Spreads over `handles`, or stays on the runtime at hand when there are none.
    pub(crate) fn new(handles: &[Handle]) -> Self {
        let shards = handles.iter().cloned();
        Self {
            shards: shards.map(|handle| (handle, Arc::default())).collect(),
        }
    }

    /// The shard that a listener lives on: listeners take turns.
    pub(crate) fn of_listener(&self, index: usize) -> usize {
        index % self.shards.len().max(1)
    }

    /// The runtime of a shard.
    pub(crate) fn handle(&self, shard: usize) -> Handle {
        self.shards
            .get(shard)
            .map_or_else(Handle::current, |(handle, _)| handle.clone())
    }

    /// A place for a connection that was accepted on the shard `here`.
    pub(crate) fn place(&self, here: usize) -> (Handle, Option<Seat>) {
        self.place_within(here, SLACK)
    }

    /// A place for a link to another node that was accepted on the shard `here`.
    pub(crate) fn place_link(&self, here: usize) -> (Handle, Option<Seat>) {
        self.place_within(here, LINK_SLACK)
    }

    fn place_within(&self, here: usize, slack: usize) -> (Handle, Option<Seat>) {
        let count = |shard: &(Handle, Arc<AtomicUsize>)| shard.1.load(Ordering::Relaxed);
        let Some(emptiest) = self.shards.iter().min_by_key(|shard| count(shard)) else {
            return (Handle::current(), None);
        };
        let chosen = match self.shards.get(here) {
            Some(local) if count(local) <= count(emptiest) + slack => local,
            Some(_) | None => emptiest,
        };
        chosen.1.fetch_add(1, Ordering::Relaxed);
        (chosen.0.clone(), Some(Seat(Arc::clone(&chosen.1))))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_stay_together_and_the_shards_stay_even() {
        let runtimes: Vec<_> = (0..3)
            .map(|_| {
                tokio::runtime::Builder::new_current_thread()
                    .build()
                    .unwrap()
            })
            .collect();
        let handles: Vec<_> = runtimes
            .iter()
            .map(|runtime| runtime.handle().clone())
            .collect();
        let shards = Shards::new(&handles);
        let counts = || -> Vec<_> {
            shards
                .shards
                .iter()
                .map(|(_, count)| count.load(Ordering::Relaxed))
                .collect()
        };
        let mut seats: Vec<_> = (0..2).map(|_| shards.place(1).1).collect();
        assert_eq!(counts(), [0, 2, 0]);
        seats.extend((0..98).map(|_| shards.place(1).1));
        assert!(
            counts().iter().all(|count| (32..=36).contains(count)),
            "{:?}",
            counts()
        );
        drop(seats);
        assert_eq!(counts(), [0, 0, 0]);
        let links: Vec<_> = (0..5).map(|_| shards.place_link(0).1).collect();
        assert_eq!(counts(), [5, 0, 0], "the links of a small cluster");
        let client = shards.place(0).1;
        assert_eq!(counts(), [5, 1, 0], "clients go where there is room");
        drop((links, client));
    }
}
