//! Opening a stream: who has it, what is kept of it, what its owner has.

use std::sync::Arc;

use dialtone_client::persist::wire::{Fault, FaultKind};
use dialtone_client::persist::{Owner, StreamName};

use super::list;
use super::quota::{Count, Usage};
use super::shared::Shared;
use crate::backend::{Backend, Loaded};
use crate::core::state::State;
use crate::counters;
use crate::placement::Place;
use crate::stream::{Lease, Stream, fault_of};

/// Opens a stream; `None` when there is none of this name.
///
/// # Errors
/// `moved` when another node has it; what the store says.
pub(crate) async fn open(
    shared: &Arc<Shared>,
    name: &StreamName,
) -> Result<Option<Arc<Stream>>, Fault> {
    let fence = here(shared, name).await?;
    let memory: Arc<dyn Backend> = Arc::<crate::backend::memory::Memory>::clone(&shared.memory);
    for backend in [memory, Arc::clone(&shared.store)] {
        let claimed = backend.claim(name, fence).await;
        claimed.map_err(|error| fault_of(&error))?;
        let loaded = backend.load(name, shared.now()).await;
        if let Some(loaded) = loaded.map_err(|error| fault_of(&error))? {
            return opened(shared, name, backend, fence, loaded).await.map(Some);
        }
    }
    Ok(None)
}

/// The fencing number, if the stream is here.
pub(crate) async fn here(shared: &Arc<Shared>, name: &StreamName) -> Result<u64, Fault> {
    match shared.placement.locate(name).await? {
        Place::Here { fence } => Ok(fence),
        Place::There { node } => {
            let text = format!("node {node} has the stream {name}");
            Err(Fault::new(FaultKind::Moved, text).node(node))
        }
    }
}

async fn opened(
    shared: &Arc<Shared>,
    name: &StreamName,
    backend: Arc<dyn Backend>,
    fence: u64,
    loaded: Loaded,
) -> Result<Arc<Stream>, Fault> {
    let usage = usage(shared, &name.owner()).await?;
    let id = loaded.id;
    let state = State::load(loaded)?;
    let lease = Lease::new(&shared.placement, fence);
    counters::add(&shared.counters.loads, 1);
    let stream = Arc::new(Stream::new(name.clone(), id, backend, usage, lease, state));
    shared.expire(&stream);
    Ok(stream)
}

/// What an owner has on this node, counted when it is heard of for the first time.
pub(crate) async fn usage(shared: &Arc<Shared>, owner: &Owner) -> Result<Arc<Usage>, Fault> {
    if let Some(usage) = shared.usages.get(owner) {
        return Ok(usage);
    }
    // The hub has no quota, so that nobody needs to know what it has.
    let count = if *owner == Owner::Hub {
        Count::default()
    } else {
        list::count_here(shared, owner).await?
    };
    Ok(shared.usages.begin(owner.clone(), count))
}
