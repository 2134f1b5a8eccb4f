//! Making, describing, listing and deleting streams, and the node itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dialtone_client::persist::wire::{
    Create, Created, Deleted, Fault, FaultKind, NodeInfo, Nodes, Request, StreamInfo, Verified,
    Verify,
};
use dialtone_client::persist::{Owner, StreamName};

use super::open::{here, usage};
use super::reply::Reply;
use super::shared::Shared;
use super::write::durably;
use super::{list, quota};
use crate::backend::{self, Backend};
use crate::core::check;
use crate::core::commit::Meta;
use crate::core::state::State;
use crate::stream::{Lease, Stream, fault_of};

/// About how many bytes one request verifies.
const VERIFY_BYTES: u64 = 64 << 20;

/// How long another node may take to describe itself.
const NODE_WAIT: Duration = Duration::from_secs(2);

/// A stream as it is.
pub(crate) fn describe(state: &State, name: &StreamName, node: &str) -> StreamInfo {
    let totals = state.totals();
    let meta = state.meta();
    StreamInfo {
        stream: name.to_string(),
        epoch: meta.epoch,
        created: meta.created,
        config: meta.config.clone(),
        messages: totals.messages,
        bytes: totals.bytes,
        keys: state.records().keys_len() as u64,
        first_seq: state.records().first_seq().unwrap_or(totals.last_seq + 1),
        last_seq: totals.last_seq,
        last_time: totals.last_time,
        revision: totals.revision,
        horizon: state.horizon(),
        consumers: state.consumer_names().count() as u64,
        restoring: meta.restoring,
        node: node.to_owned(),
    }
}

/// Makes a stream that is not there.
///
/// # Errors
/// `bad-request`, `quota`, and what the store says.
pub(crate) async fn create(
    shared: &Arc<Shared>,
    name: &StreamName,
    create: Create,
) -> Result<(Arc<Stream>, Created), Fault> {
    check::config(&create.config)?;
    let fence = here(shared, name).await?;
    let usage = usage(shared, &name.owner()).await?;
    quota::recount(shared, &name.owner(), &usage).await?;
    usage.check_stream()?;
    let backend: Arc<dyn Backend> = if create.config.ephemeral {
        Arc::<backend::memory::Memory>::clone(&shared.memory)
    } else {
        Arc::clone(&shared.store)
    };
    let now = shared.now();
    let meta = Meta {
        epoch: shared.next_epoch(now),
        created: now,
        restoring: false,
        config: create.config,
    };
    let id = backend.create(name, &meta).await;
    let id = id.map_err(|error| fault_of(&error))?;
    usage.stream_made();
    tracing::info!(stream = %name, "made a stream");
    let state = State::new(meta);
    let info = describe(&state, name, &shared.config.node);
    let lease = Lease::new(&shared.placement, fence);
    let stream = Stream::new(name.clone(), id, backend, usage, lease, state);
    let created = Created {
        created: true,
        info,
    };
    Ok((Arc::new(stream), created))
}

/// Answers somebody who wants to make a stream that is there.
pub(crate) fn exists(stream: &Arc<Stream>, shared: &Arc<Shared>, create: &Create, reply: Reply) {
    let (node, name) = (shared.config.node.clone(), stream.name.clone());
    let decide = |state: &mut State| {
        let have = state.config();
        let text = if !create.exist_ok {
            format!("the stream {name} exists already")
        } else if have.ephemeral != create.config.ephemeral {
            format!(
                "the stream {name} exists with ephemeral: {}",
                have.ephemeral
            )
        } else if have.durability != create.config.durability {
            format!(
                "the stream {name} exists with durability {:?}",
                have.durability
            )
        } else {
            return Ok(describe(state, &name, &node));
        };
        Err(Fault::new(FaultKind::Exists, text))
    };
    durably(stream, reply, decide, |reply, info, _| {
        let created = false;
        reply.answer(&Created { created, info });
    });
}

pub(crate) fn info(stream: &Arc<Stream>, shared: &Arc<Shared>, reply: Reply) {
    let (now, node) = (shared.now(), shared.config.node.clone());
    let name = stream.name.clone();
    let decide = |state: &mut State| {
        state.expire(now);
        Ok(describe(state, &name, &node))
    };
    durably(stream, reply, decide, |reply, info, _| reply.answer(&info));
}

/// Deletes a stream that one has for oneself.
///
/// # Errors
/// What the store says.
pub(crate) async fn delete(shared: &Arc<Shared>, stream: &Arc<Stream>) -> Result<Deleted, Fault> {
    let text = format!("the stream {} was deleted", stream.name);
    stream.close(&Fault::new(FaultKind::NotFound, text));
    stream.settled().await;
    let bytes = stream.bytes();
    let deleted = stream.backend.delete(stream.id).await;
    deleted.map_err(|error| fault_of(&error))?;
    stream.usage.stream_gone(bytes);
    tracing::info!(stream = %stream.name, node = %shared.config.node, "deleted a stream");
    Ok(Deleted { deleted: true })
}

pub(crate) fn verify(shared: &Arc<Shared>, stream: &Arc<Stream>, verify: &Verify, reply: Reply) {
    let (own, stream, from) = (Arc::clone(shared), Arc::clone(stream), verify.from);
    shared.spawn(reply, |reply| async move {
        let _permit = own.reads.acquire().await;
        let verified = stream.backend.verify(stream.id, from, VERIFY_BYTES).await;
        let verified = verified.map(|verified| Verified {
            records: verified.records,
            bytes: verified.bytes,
            problems: verified.problems,
            next: verified.next,
        });
        reply.finish(verified.map_err(|error| fault_of(&error)));
    });
}

/// Does what is not asked of one stream.
pub(crate) fn of_node(shared: &Arc<Shared>, owner: Owner, request: Request, reply: Reply) {
    let own = Arc::clone(shared);
    match (request, &owner) {
        (Request::List(asked), _) => shared.spawn(reply, |reply| async move {
            reply.finish(list::list(&own, &owner, asked).await);
        }),
        (Request::Status, Owner::Hub) => reply.answer(&own.status()),
        (Request::Nodes, Owner::Hub) => shared.spawn(reply, |reply| async move {
            reply.finish(nodes(&own).await);
        }),
        _ => {
            let text = format!("{} may not ask this", owner.scope());
            reply.fault(&Fault::new(FaultKind::Denied, text));
        }
    }
}

async fn nodes(shared: &Arc<Shared>) -> Result<Nodes, Fault> {
    let names = shared.placement.nodes().await?;
    let each = names.into_iter().map(|name| node(shared, name));
    Ok(Nodes {
        nodes: futures_util::future::join_all(each).await,
    })
}

async fn node(shared: &Arc<Shared>, name: String) -> NodeInfo {
    if name == shared.config.node {
        return shared.status();
    }
    let asked = list::ask(shared, &name, &Request::Status, NODE_WAIT).await;
    // A node that does not answer is told as just that.
    asked.unwrap_or_else(|| NodeInfo {
        node: name,
        ..NodeInfo::default()
    })
}

impl Shared {
    /// This node in numbers.
    pub(crate) fn status(&self) -> NodeInfo {
        let store = self.store.status();
        let memory = self.memory.status();
        let mut counters = self.counters.snapshot();
        let own = store.counters.into_iter().chain(self.config.extra.count());
        counters.extend(own.map(|(name, count)| (name.to_owned(), count)));
        let lease = self.placement.lease();
        NodeInfo {
            node: self.config.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            alive: true,
            view: lease.as_ref().map_or(0, |lease| lease.seen),
            lease: lease.map(|lease| u64::try_from(lease.left.as_millis()).unwrap_or(u64::MAX)),
            backend: self.store.name().to_owned(),
            failure: store.failure,
            uptime: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            streams: store.sum.streams + memory.sum.streams,
            streams_open: self.registry.len() as u64,
            messages: store.sum.messages + memory.sum.messages,
            bytes: store.sum.bytes + memory.sum.bytes,
            disk_bytes: store.disk_bytes,
            waiting: self.waiting.load(Ordering::Relaxed) as u64,
            counters,
        }
    }
}
