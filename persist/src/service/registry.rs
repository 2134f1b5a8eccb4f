//! Which streams are open, and who waits for one to be.
//!
//! A stream is open, or a task has it for itself: while it is being loaded, made or deleted. Requests that come then
//! wait in a queue, which the task works off, so that they keep their order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// How often a task began to ask where its stream is.
    asked: AtomicU64,
    /// A task let go of its stream.
    left: Notify,
}

enum Entry {
    Open(Arc<Stream>),
    Owned(Owned),
}

/// A stream that a task has for itself.
struct Owned {
    /// Requests that wait for the task.
    queue: VecDeque<Job>,
    place: Asked,
}

/// Where a task that has a stream for itself has learned that the stream is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Before it had it.
    Before,
    /// It asks, or has asked, as the so-many-th.
    At(u64),
    /// It was told that the stream cannot be had, and has nothing.
    InVain,
}

impl Asked {
    /// Whether the task may have the stream though it is lost since `count` were asked.
    fn may_have(self, count: u64) -> bool {
        match self {
            Self::Before => true,
            Self::At(number) => number <= count,
            Self::InVain => false,
        }
    }
}

impl Owned {
    /// A task begins that has learned nothing of the stream.
    fn asking(registry: &Registry, queue: VecDeque<Job>) -> Entry {
        Entry::Owned(Self {
            queue,
            place: registry.next(),
        })
    }

    /// A task takes over a stream that is open.
    fn open(queue: VecDeque<Job>) -> Entry {
        Entry::Owned(Self {
            queue,
            place: Asked::Before,
        })
    }
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
            *entry = Owned::open(VecDeque::new());
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
                    *entry = Owned::open(VecDeque::new());
                }
                Entry::Open(_) | Entry::Owned(_) => {}
            }
        }
        seized
    }

    fn next(&self) -> Asked {
        Asked::At(self.asked.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Writes down what the task that has a stream knows of its place, and tells who waits for it.
    fn note(&self, name: &StreamName, place: Asked) {
        if let Some(Entry::Owned(owned)) = self.streams.lock().get_mut(name) {
            owned.place = place;
        }
        self.left.notify_waiters();
    }

    /// The streams for which `holds` is false: those that are open, and whether a task may have one that was among the
    /// first `count` to ask where its stream is.
    #[expect(
        clippy::iter_over_hash_type,
        reason = "all of them are closed, in whatever order"
    )]
    fn lost(&self, holds: impl Fn(&StreamName) -> bool, count: u64) -> (Vec<StreamName>, bool) {
        let (mut open, mut owned) = (Vec::new(), false);
        for (name, entry) in &*self.streams.lock() {
            match entry {
                _ if holds(name) => {}
                Entry::Open(_) => open.push(name.clone()),
                Entry::Owned(task) => owned |= task.place.may_have(count),
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
        Some(Entry::Owned(owned)) => {
            if owned.queue.len() < shared.config.loading_max {
                owned.queue.push_back(job);
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
    let queue = VecDeque::from([job]);
    let owned = match slot {
        Slot::Open(_) => Owned::open(queue),
        Slot::Unknown | Slot::Absent | Slot::Faulty(_) => Owned::asking(&shared.registry, queue),
    };
    streams.insert(name.clone(), owned);
    drop(streams);
    let task = own(Arc::clone(shared), name, slot);
    drop(shared.tracker.spawn(task));
}

/// Opens a stream though nobody asks for it, if it is not open.
pub(crate) fn wake(shared: &Arc<Shared>, name: StreamName) {
    let mut streams = shared.registry.streams.lock();
    if streams.contains_key(&name) {
        return;
    }
    let owned = Owned::asking(&shared.registry, VecDeque::new());
    streams.insert(name.clone(), owned);
    drop(streams);
    let task = own(Arc::clone(shared), name, Slot::Unknown);
    drop(shared.tracker.spawn(task));
}

/// Has a stream for itself until nobody waits for it any more.
async fn own(shared: Arc<Shared>, name: StreamName, mut slot: Slot) {
    if matches!(slot, Slot::Unknown) {
        slot = find(&shared, &name).await;
    }
    loop {
        match next_or_leave(&shared, &name, &slot) {
            Next::Serve(queue) => {
                let is_outdated = match slot {
                    Slot::Unknown => true,
                    Slot::Absent => !shared.placement.holds(&name),
                    Slot::Open(_) | Slot::Faulty(_) => false,
                };
                if is_outdated {
                    slot = find(&shared, &name).await;
                }
                for job in queue {
                    slot = serve(&shared, &name, slot, job).await;
                }
            }
            Next::Close(stream) => {
                shared.close(&stream).await;
                shared.registry.note(&name, shared.registry.next());
                slot = Slot::Unknown;
            }
            Next::Leave => return,
        }
    }
}

/// Opens a stream, if it is here.
async fn find(shared: &Arc<Shared>, name: &StreamName) -> Slot {
    match open::open(shared, name).await {
        Ok(Some(stream)) => Slot::Open(stream),
        Ok(None) => Slot::Absent,
        Err(fault) => {
            shared.registry.note(name, Asked::InVain);
            Slot::Faulty(fault)
        }
    }
}

/// What the task that has a stream does next.
enum Next {
    /// Work on what waits.
    Serve(VecDeque<Job>),
    /// Close the stream, which is broken or lost: however many requests come, they must not keep what another node
    /// waits for.
    Close(Arc<Stream>),
    /// Nothing waits, and the stream is its own no more.
    Leave,
}

fn next_or_leave(shared: &Arc<Shared>, name: &StreamName, slot: &Slot) -> Next {
    let mut streams = shared.registry.streams.lock();
    // Asked under the lock: whoever looks for lost streams later finds this one.
    if let Slot::Open(stream) = slot
        && (stream.is_broken() || !shared.placement.holds(name))
    {
        return Next::Close(Arc::clone(stream));
    }
    if let Some(Entry::Owned(owned)) = streams.get_mut(name)
        && !owned.queue.is_empty()
    {
        return Next::Serve(std::mem::take(&mut owned.queue));
    }
    if let Slot::Open(stream) = slot {
        streams.insert(name.clone(), Entry::Open(Arc::clone(stream)));
    } else {
        streams.remove(name);
        drop(streams);
        shared.placement.left(name);
    }
    shared.registry.left.notify_waiters();
    Next::Leave
}

/// Closes what this node does not hold any more; see [`Handle::release_lost`](crate::Handle::release_lost).
pub(crate) async fn release_lost(shared: &Arc<Shared>) {
    // Whoever asks from here on is told that the stream is elsewhere. To wait for them too would be to wait for as long
    // as somebody asks.
    let asked = shared.registry.asked.load(Ordering::SeqCst);
    loop {
        let left = shared.registry.left.notified();
        tokio::pin!(left);
        left.as_mut().enable();
        let (open, owned) = shared
            .registry
            .lost(|name| shared.placement.holds(name), asked);
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
    if let Some(Entry::Owned(owned)) = streams.get_mut(name)
        && !owned.queue.is_empty()
    {
        owned.place = shared.registry.next();
        drop(streams);
        shared.registry.left.notify_waiters();
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
