//! Which streams are open, and who waits for one to be.
//!
//! A stream is open, or a task has it for itself: while it is being loaded, made or deleted. Requests that come then
//! wait in a queue, which the task works off, so that they keep their order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::{Fault, FaultKind, Request};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::dispatch::{self, Job};
use super::shared::{Shared, busy};
use super::{admin, open};
use crate::stream::Stream;

/// See the module.
#[derive(Default)]
pub(crate) struct Registry {
    streams: Mutex<HashMap<StreamName, Entry, ahash::RandomState>>,
    /// A task let go of its stream.
    left: Notify,
}

enum Entry {
    Open(Arc<Stream>),
    Owned(VecDeque<Job>),
}

/// What the task that has a stream knows of it.
pub(crate) enum Slot {
    /// Nothing yet.
    Unknown,
    /// There is none.
    Absent,
    /// It is open.
    Open(Arc<Stream>),
    /// It cannot be had.
    Faulty(Fault),
}

impl Registry {
    /// A stream that is open.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Stream>> {
        match self.streams.lock().get(name) {
            Some(Entry::Open(stream)) => Some(Arc::clone(stream)),
            Some(Entry::Owned(_)) | None => None,
        }
    }

    /// How many streams are open or being opened.
    pub(crate) fn len(&self) -> usize {
        self.streams.lock().len()
    }

    /// Has a stream for oneself, if it is open and this one; [`let_go`] ends that.
    pub(crate) fn seize(&self, stream: &Arc<Stream>) -> bool {
        let mut streams = self.streams.lock();
        let Some(entry) = streams.get_mut(&stream.name) else {
            return false;
        };
        let is_it = matches!(&*entry, Entry::Open(open) if Arc::ptr_eq(open, stream));
        if is_it {
            *entry = Entry::Owned(VecDeque::new());
        }
        is_it
    }

    /// Has streams for oneself that are idle since `before`, at most `limit`.
    #[expect(
        clippy::iter_over_hash_type,
        reason = "which of the idle streams go first does not matter"
    )]
    pub(crate) fn seize_idle(&self, before: Instant, limit: usize) -> Vec<Arc<Stream>> {
        let mut streams = self.streams.lock();
        let mut seized = Vec::new();
        for entry in streams.values_mut() {
            if seized.len() >= limit {
                break;
            }
            match entry {
                // This table has one, and so has everybody who uses it at the moment.
                Entry::Open(stream) if Arc::strong_count(stream) == 1 && stream.is_idle(before) => {
                    seized.push(Arc::clone(stream));
                    *entry = Entry::Owned(VecDeque::new());
                }
                Entry::Open(_) | Entry::Owned(_) => {}
            }
        }
        seized
    }

    /// The streams for which `holds` is false: those that are open, and whether a task has one.
    #[expect(
        clippy::iter_over_hash_type,
        reason = "all of them are closed, in whatever order"
    )]
    fn lost(&self, holds: impl Fn(&StreamName) -> bool) -> (Vec<StreamName>, bool) {
        let (mut open, mut owned) = (Vec::new(), false);
        for (name, entry) in &*self.streams.lock() {
            match entry {
                _ if holds(name) => {}
                Entry::Open(_) => open.push(name.clone()),
                Entry::Owned(_) => owned = true,
            }
        }
        (open, owned)
    }

    /// Every stream that is open.
    pub(crate) fn all(&self) -> Vec<Arc<Stream>> {
        let streams = self.streams.lock();
        let open = streams.values().filter_map(|entry| match entry {
            Entry::Open(stream) => Some(Arc::clone(stream)),
            Entry::Owned(_) => None,
        });
        open.collect()
    }
}

/// Gives a request to its stream, or to the task that has it, or to a new one.
pub(crate) fn route(shared: &Arc<Shared>, name: StreamName, job: Job) {
    let mut streams = shared.registry.streams.lock();
    let slot = match streams.get_mut(&name) {
        Some(Entry::Owned(queue)) => {
            if queue.len() < shared.config.loading_max {
                queue.push_back(job);
                return;
            }
            drop(streams);
            job.reply
                .fault(&busy("too many requests wait for this stream to be opened"));
            return;
        }
        Some(Entry::Open(stream)) if !matches!(job.request, Request::Delete(_)) => {
            let stream = Arc::clone(stream);
            drop(streams);
            dispatch::execute(shared, &stream, job);
            return;
        }
        Some(Entry::Open(stream)) => Slot::Open(Arc::clone(stream)),
        None => Slot::Unknown,
    };
    streams.insert(name.clone(), Entry::Owned(VecDeque::from([job])));
    drop(streams);
    let task = own(Arc::clone(shared), name, slot);
    drop(shared.tracker.spawn(task));
}

/// Has a stream for itself until nobody waits for it any more.
async fn own(shared: Arc<Shared>, name: StreamName, mut slot: Slot) {
    if matches!(slot, Slot::Unknown) {
        slot = match open::open(&shared, &name).await {
            Ok(Some(stream)) => Slot::Open(stream),
            Ok(None) => Slot::Absent,
            Err(fault) => Slot::Faulty(fault),
        };
    }
    while let Some(queue) = next_or_leave(&shared, &name, &slot) {
        for job in queue {
            slot = serve(&shared, &name, slot, job).await;
        }
    }
}

/// What waits; or, when nothing does, the end of having the stream.
fn next_or_leave(shared: &Arc<Shared>, name: &StreamName, slot: &Slot) -> Option<VecDeque<Job>> {
    let mut streams = shared.registry.streams.lock();
    if let Some(Entry::Owned(queue)) = streams.get_mut(name)
        && !queue.is_empty()
    {
        return Some(std::mem::take(queue));
    }
    match slot {
        // Asked under the lock: whoever looks for lost streams later finds this one.
        Slot::Open(stream) if !stream.is_broken() && shared.placement.holds(name) => {
            streams.insert(name.clone(), Entry::Open(Arc::clone(stream)));
        }
        Slot::Open(stream) => {
            streams.remove(name);
            drop(streams);
            stream.backend.unload(stream.id);
            shared.placement.left(name);
        }
        Slot::Absent | Slot::Faulty(_) | Slot::Unknown => {
            streams.remove(name);
            drop(streams);
            shared.placement.left(name);
        }
    }
    shared.registry.left.notify_waiters();
    None
}

/// Closes what this node does not hold any more; see [`Handle::release_lost`](crate::Handle::release_lost).
pub(crate) async fn release_lost(shared: &Arc<Shared>) {
    loop {
        let left = shared.registry.left.notified();
        tokio::pin!(left);
        left.as_mut().enable();
        let (open, owned) = shared.registry.lost(|name| shared.placement.holds(name));
        futures_util::future::join_all(open.iter().map(|name| shared.release(name))).await;
        if open.is_empty() {
            if !owned {
                return;
            }
            left.await;
        }
    }
}

async fn serve(shared: &Arc<Shared>, name: &StreamName, slot: Slot, job: Job) -> Slot {
    match (slot, job.request) {
        (Slot::Open(stream), Request::Delete(_)) => match admin::delete(shared, &stream).await {
            Ok(deleted) => {
                job.reply.answer(&deleted);
                Slot::Absent
            }
            Err(fault) => {
                job.reply.fault(&fault);
                Slot::Faulty(fault)
            }
        },
        (Slot::Open(stream), request) => {
            dispatch::execute(shared, &stream, Job { request, ..job });
            Slot::Open(stream)
        }
        (Slot::Absent | Slot::Unknown, Request::Create(create)) => {
            match admin::create(shared, name, create).await {
                Ok((stream, created)) => {
                    job.reply.answer(&created);
                    Slot::Open(stream)
                }
                Err(fault) => {
                    job.reply.fault(&fault);
                    Slot::Absent
                }
            }
        }
        (slot @ (Slot::Absent | Slot::Unknown), Request::Delete(_)) => {
            job.reply
                .answer(&dialtone_client::persist::wire::Deleted { deleted: false });
            slot
        }
        (slot @ (Slot::Absent | Slot::Unknown), _) => {
            let text = format!("there is no stream {name}");
            job.reply.fault(&Fault::new(FaultKind::NotFound, text));
            slot
        }
        (Slot::Faulty(fault), _) => {
            job.reply.fault(&fault);
            Slot::Faulty(fault)
        }
    }
}

/// Ends having a stream that was seized; if somebody waits for it, it is opened again.
pub(crate) fn let_go(shared: &Arc<Shared>, name: &StreamName) {
    let mut streams = shared.registry.streams.lock();
    let waits = matches!(streams.get(name), Some(Entry::Owned(queue)) if !queue.is_empty());
    if waits {
        drop(streams);
        let task = own(Arc::clone(shared), name.clone(), Slot::Unknown);
        drop(shared.tracker.spawn(task));
    } else {
        streams.remove(name);
        drop(streams);
        shared.placement.left(name);
        shared.registry.left.notify_waiters();
    }
}

/// Unloads streams that are idle, and the sooner the fuller the table is.
pub(crate) fn sweep(shared: &Arc<Shared>) {
    let len = shared.registry.len();
    let max = shared.config.streams_open_max;
    let (idle_for, limit) = if len > max {
        (std::time::Duration::ZERO, len - max)
    } else {
        (shared.config.idle_max, usize::MAX)
    };
    let Some(before) = Instant::now().checked_sub(idle_for) else {
        return;
    };
    for stream in shared.registry.seize_idle(before, limit) {
        shared.unload(&stream);
    }
}
