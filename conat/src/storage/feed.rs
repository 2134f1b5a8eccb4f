//! What happens to a stream, told to one socket.

use std::time::Duration;

use bytes::Bytes;
use dialtone_client::persist::wire::{Cursor, Removal, StoredRecord};
use dialtone_client::persist::{Event, Stream, WatchOptions, Watcher};
use dialtone_client::{Encoding, Headers};
use futures_util::FutureExt as _;
use serde::Serialize;

use super::recent::Follower;
use super::reply::Refusal;
use super::rows::Row;
use crate::socket::{Data, Writer, encode};

/// How long changes are gathered after some were told.
const PAUSE: Duration = Duration::from_millis(30);

/// Most bytes of records in one message.
const BATCH_LEN_MAX: usize = 4 << 20;

/// Most numbers of one removal that are named; a range of more is cut into several elements.
const SEQS_MAX: usize = 10_000;

/// Follows a stream from now on.
pub(super) async fn begin(stream: &Stream) -> Result<Watcher, Refusal> {
    let watched = stream.watch(Cursor::Now, WatchOptions::default()).await;
    watched.map_err(|error| Refusal::new(error.to_string()))
}

/// Tells changes until the socket or the stream ends. When changes are lost, the socket is closed: the client opens
/// another one and reads what it has missed.
pub(super) async fn run(mut watcher: Watcher, follower: Follower, writer: Writer) {
    let mut seq = 0_u64;
    while let Some(event) = watcher.next().await {
        let mut events = vec![event];
        let mut len = 0;
        while len < BATCH_LEN_MAX {
            let Some(Some(event)) = watcher.next().now_or_never() else {
                break;
            };
            if let Ok(Event::Record { record, .. }) = &event {
                len += record.payload.len();
            }
            events.push(event);
        }
        let Some(told) = fill(events, &follower).await else {
            return writer.close();
        };
        let payload = batch(&told);
        let Some(payload) = payload else { continue };
        let data = Data {
            headers: Headers::new().with("seq", seq),
            encoding: Encoding::MessagePack,
            payload,
        };
        seq += 1;
        if writer.write(data).await.is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    writer.close();
}

/// A change that is told.
enum Told {
    Set(StoredRecord),
    Delete(Removal),
}

/// What some events are told as, with the writes in between that the service does not tell any more; `None` when what
/// the client holds is worth nothing.
async fn fill<E>(events: Vec<Result<Event, E>>, follower: &Follower) -> Option<Vec<Told>> {
    let mut told = Vec::with_capacity(events.len());
    for event in events {
        match event {
            Ok(Event::Record { record, .. }) => {
                let missing = follower.missing(record.seq).await;
                told.extend(missing.into_iter().map(Told::Set));
                follower.tell(record.seq);
                told.push(Told::Set(record));
            }
            Ok(Event::Removed(removal)) => {
                let last = removal.ranges.iter().map(|(_, last)| *last).max();
                let last = last.unwrap_or_default();
                let missing = follower.missing(last.saturating_add(1)).await;
                told.extend(missing.into_iter().map(Told::Set));
                follower.tell(last);
                told.push(Told::Delete(removal));
            }
            Ok(Event::Config(_)) => {}
            Ok(Event::Damaged { seq, error }) => {
                tracing::error!(seq, error, "a record cannot be told");
            }
            Ok(Event::Resync) | Err(_) => return None,
        }
    }
    Some(told)
}

/// An element of the feed.
#[derive(Serialize)]
#[serde(untagged)]
enum Element<'a> {
    Set(Row<'a>),
    Delete { op: &'static str, seqs: Vec<u64> },
}

/// Some changes as a message, if there are any.
fn batch(told: &[Told]) -> Option<Bytes> {
    let mut elements = Vec::new();
    for change in told {
        match change {
            Told::Set(record) => elements.push(Element::Set(Row::of_change(record))),
            Told::Delete(removal) => {
                for seqs in removed(removal).chunks(SEQS_MAX) {
                    elements.push(Element::Delete {
                        op: "delete",
                        seqs: seqs.to_vec(),
                    });
                }
            }
        }
    }
    (!elements.is_empty()).then(|| Bytes::from(encode(&elements)))
}

/// The numbers in the ranges of a removal.
fn removed(removal: &Removal) -> Vec<u64> {
    numbers(&removal.ranges)
}

/// Most numbers that are listed of ranges; clients ignore those that they do not have, and nobody has more.
const NUMBERS_MAX: usize = 5_000_000;

/// The numbers in ranges.
pub(super) fn numbers(ranges: &[(u64, u64)]) -> Vec<u64> {
    ranges
        .iter()
        .flat_map(|(first, last)| *first..=*last)
        .take(NUMBERS_MAX)
        .collect()
}
