//! Following a stream: an answer when there is something to tell, or when the time is over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dialtone_client::persist::Owner;
use dialtone_client::persist::wire::{
    Change, Config, Cursor, Fault, Removal, RemovedKey, StoredRecord, WAIT_MS_MAX, Watch, Watched,
};
use tokio::time::Instant;

use super::quota::Usage;
use super::read::{self, budget};
use super::reply::Reply;
use super::shared::{Count, Shared, busy};
use crate::core::feed::{Feed, Item};
use crate::core::state::State;
use crate::counters;
use crate::stream::Stream;

/// Until when a request waits.
pub(crate) fn deadline(wait: u32) -> Instant {
    Instant::now() + Duration::from_millis(u64::from(wait.min(WAIT_MS_MAX)))
}

/// Somebody who waits for a stream, counted in three places.
pub(crate) struct Waiting {
    _stream: Count<Stream>,
    _owner: Count<Usage>,
    _node: Count<Shared>,
}

impl Waiting {
    /// # Errors
    /// `busy` when the owner has as many as it may have.
    pub(crate) fn new(shared: &Arc<Shared>, stream: &Arc<Stream>) -> Result<Self, Fault> {
        let max = shared.config.waiting_per_owner_max;
        let counted = Count::up(&stream.usage, |usage| &usage.waiting, max).and_then(|owner| {
            Some(Self {
                _stream: Count::up(stream, |stream| &stream.waiting, usize::MAX)?,
                _owner: owner,
                _node: Count::up(shared, |shared| &shared.waiting, usize::MAX)?,
            })
        });
        counted.ok_or_else(|| busy("too many watches and fetches of this owner wait"))
    }
}

pub(crate) fn watch(
    shared: &Arc<Shared>,
    stream: &Arc<Stream>,
    _owner: &Owner,
    watch: Watch,
    reply: Reply,
) {
    let (own, stream) = (Arc::clone(shared), Arc::clone(stream));
    shared.spawn(reply, |reply| async move {
        reply.finish(watched(&own, &stream, watch).await);
    });
}

async fn watched(
    shared: &Arc<Shared>,
    stream: &Arc<Stream>,
    watch: Watch,
) -> Result<Watched, Fault> {
    let deadline = deadline(watch.wait);
    let mut cursor = watch.cursor;
    let mut waiting = None;
    loop {
        let changed = stream.changed.notified();
        tokio::pin!(changed);
        // From here on nothing is missed that happens after the look at the stream.
        changed.as_mut().enable();
        let decide = |state: &mut State, now| {
            state.expire(now);
            let feed = state.feed(
                cursor,
                watch.prefix.as_deref(),
                budget(watch.max_bytes, None),
            );
            Ok((feed, state.config().clone()))
        };
        let ((feed, config), _) = shared.decide(stream, decide).await?;
        let is_over = Instant::now() >= deadline || shared.stopping.is_cancelled();
        if !feed.items.is_empty() || feed.resync || is_over {
            counters::add(&shared.counters.watches, 1);
            return told(shared, stream, feed, &config).await;
        }
        cursor = Cursor::After(feed.position);
        if feed.more {
            continue;
        }
        if waiting.is_none() {
            waiting = Some(Waiting::new(shared, stream)?);
        }
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = shared.stopping.cancelled() => {}
        }
    }
}

/// The answer that tells what a feed has.
async fn told(
    shared: &Arc<Shared>,
    stream: &Arc<Stream>,
    feed: Feed,
    config: &Config,
) -> Result<Watched, Fault> {
    let mut seqs: Vec<u64> = feed
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Append { seq, .. } => Some(*seq),
            Item::Remove { .. } | Item::Config(_) => None,
        })
        .collect();
    let mut found: HashMap<u64, Change> = HashMap::with_capacity(seqs.len());
    while !seqs.is_empty() {
        let read = read::records(shared, stream, &seqs).await?;
        let Some(damaged) = &read.damaged else {
            found.extend(read.records.into_iter().map(append));
            break;
        };
        seqs.retain(|seq| *seq > damaged.seq);
        let change = Change::Damaged {
            seq: damaged.seq,
            error: damaged.text.clone(),
        };
        found.extend(read.records.into_iter().map(append));
        found.insert(damaged.seq, change);
    }
    let kept_from = feed.items.iter().filter_map(|item| match item {
        Item::Append { seq, kept_from } => kept_from.map(|first| (*seq, first)),
        Item::Remove { .. } | Item::Config(_) => None,
    });
    let kept_from = kept_from.collect();
    let changes = feed.items.into_iter().filter_map(|item| match item {
        // A record that is gone by now is told by the change that took it.
        Item::Append { seq, .. } => found.remove(&seq),
        Item::Remove { .. } | Item::Config(_) => Some(change(item, config)),
    });
    Ok(Watched {
        changes: changes.collect(),
        position: feed.position,
        more: feed.more,
        kept_from,
        resync: feed.resync,
    })
}

fn append(record: StoredRecord) -> (u64, Change) {
    (record.seq, Change::Append(record))
}

fn change(item: Item, config: &Config) -> Change {
    match item {
        Item::Remove {
            revision,
            time,
            cause,
            ranges,
            keys,
        } => {
            let keys = keys.into_iter().map(|removed| RemovedKey {
                key: removed.key.to_string(),
                seq: removed.seq,
                kept_from: removed.kept_from,
            });
            Change::Remove(Removal {
                revision,
                time,
                cause,
                ranges,
                keys: keys.collect(),
            })
        }
        Item::Config(revision) | Item::Append { seq: revision, .. } => Change::Config {
            revision,
            config: Box::new(config.clone()),
        },
    }
}
