//! Listing and counting streams: those of this node, and with them those of the others.

use std::sync::Arc;
use std::time::Duration;

use dialtone_client::persist::Owner;
use dialtone_client::persist::wire::{
    self, Fault, FaultKind, List, Request, StreamEntry, StreamList,
};
use serde::de::DeserializeOwned;

use super::quota::Count;
use super::shared::Shared;
use crate::backend::{self, Backend, Sum};
use crate::stream::fault_of;

/// Streams of a list where a request says nothing, and at most.
const LIST_DEFAULT: u32 = 1_000;
const LIST_MAX: u32 = 10_000;

/// How long another node may take to list.
const LIST_WAIT: Duration = Duration::from_secs(5);

/// How long another node may take to say what an owner has: somebody waits who makes a stream.
const COUNT_WAIT: Duration = Duration::from_millis(500);

/// Streams of all nodes, or of this one where that is asked for.
pub(crate) async fn list(
    shared: &Arc<Shared>,
    owner: &Owner,
    list: List,
) -> Result<StreamList, Fault> {
    let own = owner.prefix();
    if !list.prefix.starts_with(&own) && !list.prefix.is_empty() {
        let text = format!("{} may list below {own} only", owner.scope());
        return Err(Fault::new(FaultKind::Denied, text));
    }
    let limit = list.limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX);
    let asked = List {
        prefix: if list.prefix.is_empty() {
            own
        } else {
            list.prefix
        },
        limit: Some(limit),
        ..list
    };
    let mut all = of_this_node(shared, &asked, !asked.local).await?;
    if !asked.local {
        for (node, answer) in of_others(shared, &asked, LIST_WAIT).await {
            match answer {
                Some(list) => merge(&mut all, list),
                None => all.missing.push(node),
            }
        }
    }
    all.streams.sort_by(|a, b| a.stream.cmp(&b.stream));
    all.more |= all.streams.len() > limit as usize;
    all.streams.truncate(limit as usize);
    Ok(all)
}

/// The streams of this node. What all nodes share belongs to the answer of one of them.
async fn of_this_node(
    shared: &Arc<Shared>,
    asked: &List,
    with_shared: bool,
) -> Result<StreamList, Fault> {
    let (prefix, after) = (asked.prefix.as_str(), asked.after.as_deref());
    let limit = asked.limit.unwrap_or(LIST_DEFAULT) as usize + 1;
    let mut all = StreamList::default();
    for backend in backends(shared, with_shared) {
        let some = backend.list(prefix, after, limit).await;
        let some = some.map_err(|error| fault_of(&error))?;
        all.streams.extend(some.into_iter().map(entry));
        let sum = backend.sum(prefix).await;
        let sum = sum.map_err(|error| fault_of(&error))?;
        all.total_streams += sum.streams;
        all.total_messages += sum.messages;
        all.total_bytes += sum.bytes;
    }
    Ok(all)
}

fn backends(shared: &Shared, with_shared: bool) -> impl Iterator<Item = &dyn Backend> {
    let store = Some(&*shared.store).filter(|store| with_shared || !store.is_shared());
    let memory: &dyn Backend = &*shared.memory;
    store.into_iter().chain([memory])
}

fn merge(all: &mut StreamList, list: StreamList) {
    all.streams.extend(list.streams);
    all.more |= list.more;
    all.total_streams += list.total_streams;
    all.total_messages += list.total_messages;
    all.total_bytes += list.total_bytes;
}

fn entry(entry: backend::Entry) -> StreamEntry {
    StreamEntry {
        stream: entry.name.to_string(),
        created: entry.meta.created,
        description: entry.meta.config.description,
        ephemeral: entry.meta.config.ephemeral,
        messages: entry.totals.messages,
        bytes: entry.totals.bytes,
        last_seq: entry.totals.last_seq,
        last_time: entry.totals.last_time,
    }
}

/// What each other node answers; `None` where it does not.
async fn of_others(
    shared: &Arc<Shared>,
    asked: &List,
    wait: Duration,
) -> Vec<(String, Option<StreamList>)> {
    // A node that knows of no others at the moment lists what it has.
    let names = shared.placement.nodes().await.unwrap_or_default();
    let others = names.into_iter().filter(|name| *name != shared.config.node);
    let request = Request::List(List {
        local: true,
        ..asked.clone()
    });
    let each = others.map(|name| async {
        let answer = ask(shared, &name, &request, wait).await;
        (name, answer)
    });
    futures_util::future::join_all(each).await
}

/// Asks another node; `None` when it does not answer, or refuses.
pub(crate) async fn ask<T: DeserializeOwned>(
    shared: &Arc<Shared>,
    node: &str,
    request: &Request,
    wait: Duration,
) -> Option<T> {
    let subject = Owner::Hub.node_subject(node);
    let draft = shared.client.message(subject.as_str()).timeout(wait);
    let answer = draft.msgpack(request).ok()?.request().await.ok()?;
    let answer = answer.into_result().ok()?;
    wire::decode(answer.payload(), answer.encoding()).ok()
}

/// What an owner has on this node, or in the store that all share.
///
/// # Errors
/// What the store says.
pub(crate) async fn count_here(shared: &Arc<Shared>, owner: &Owner) -> Result<Count, Fault> {
    let mut all = Sum::default();
    for backend in backends(shared, true) {
        let sum = backend.sum(&owner.prefix()).await;
        let sum = sum.map_err(|error| fault_of(&error))?;
        all.streams += sum.streams;
        all.bytes += sum.bytes;
    }
    Ok(Count {
        streams: all.streams,
        bytes: all.bytes,
    })
}

/// What an owner has on the other nodes alone; of those that do not answer, nothing.
pub(crate) async fn count_elsewhere(shared: &Arc<Shared>, owner: &Owner) -> Count {
    let asked = List {
        prefix: owner.prefix(),
        limit: Some(1),
        ..List::default()
    };
    let mut all = Count::default();
    for (_, list) in of_others(shared, &asked, COUNT_WAIT).await {
        let list = list.unwrap_or_default();
        all.streams += list.total_streams;
        all.bytes += list.total_bytes;
    }
    all
}
