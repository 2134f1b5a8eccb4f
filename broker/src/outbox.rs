//! What waits to be written to one peer, and what happens when it does not read.
//!
//! Whoever finds the outbox unclaimed when putting something in *claims* it and must flush it at
//! the end of its turn; until then others only add. When the socket takes no more, the claim goes
//! to the connection's own task, which waits for the socket. So exactly one thread writes at any
//! time, and nobody ever waits for another one's write.
//!
//! ```text
//!           push                    flush: all written
//!   idle ─────────▶ claimed ───────────────────────────▶ idle
//!                      │ flush: socket full                ▲
//!                      ▼                                   │
//!                    owned by the connection's task ───────┘
//! ```

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dialtone_protocol::frame::{Fragment, message};
use dialtone_protocol::{Code, Frame, SubscriptionId};
use dialtone_transport::{Lane, Reader, Writer};
use tokio::sync::Notify;

use crate::config::OutboxConfig;

mod latest;
#[cfg(all(test, feature = "loom"))]
mod model;
mod queue;
mod sync;
mod write;

use latest::Latest;
use queue::Queue;
use sync::{AtomicBool, AtomicU64, AtomicUsize, AtomicWaker, Mutex};
use write::Writing;

/// Sections at least this long are shared by their receivers instead of copied for each. Copying
/// a kilobyte costs less than counting references across threads; at eight it no longer does.
pub(crate) const SHARE_LEN_MIN: usize = 8 << 10;

/// Room for the head of a deliver frame, in bytes.
const HEAD_LEN_MAX: usize = 40;

/// Most bytes of each lane that are freed at once when an outbox is closed.
const DISCARD_TURN: usize = 1 << 20;

/// What waits to be written to one peer.
#[derive(Debug)]
pub(crate) struct Outbox {
    queued: Mutex<Queued>,
    /// Locked by the holder of the claim alone, so that it is never waited for.
    writing: Mutex<Option<Writing>>,
    pending: AtomicUsize,
    written: AtomicU64,
    open: AtomicBool,
    owner: AtomicWaker,
    owner_turn: AtomicBool,
    /// Nanoseconds since `epoch` at which the peer last took something.
    progress: AtomicU64,
    dropped: AtomicU64,
    epoch: Instant,
    /// Publishers that wait for the outbox to drain.
    drained: Notify,
    bounds: OutboxBounds,
    /// Fragments do not let small messages pass.
    in_order: bool,
}

/// The part of [`OutboxConfig`] that a push needs.
#[derive(Debug, Clone, Copy)]
struct OutboxBounds {
    high: usize,
    low: usize,
    max: usize,
    datagrams: usize,
}

#[derive(Debug)]
struct Queued {
    claimed: bool,
    closed: Option<Code>,
    /// What waits is not written any more: it is freed by [`Outbox::discard_some`].
    discarded: bool,
    /// The owner waits for the claim to be given up.
    finishing: bool,
    interactive: Queue,
    bulk: Queue,
    /// What must not wait behind messages; links to other nodes alone have it.
    control: Option<Box<Queue>>,
    datagrams: Vec<Bytes>,
    /// Longest datagram that the transport takes, in bytes; `None` where there are none.
    datagram_len_max: Option<usize>,
    latest: Option<Box<Latest>>,
    messages_out: u64,
    bytes_out: u64,
}

/// Which lanes the transport has beside the interactive one, which what it lacks shares.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lanes {
    pub(crate) bulk: bool,
    pub(crate) control: bool,
    /// Whoever is at the other end expects messages in their order, whatever their size.
    pub(crate) in_order: bool,
}

impl Lanes {
    /// Those of what this reader belongs to.
    pub(crate) fn of(reader: &Reader) -> Self {
        Self {
            bulk: reader.has_lane(Lane::Bulk),
            control: reader.has_lane(Lane::Control),
            in_order: false,
        }
    }
}

/// What a push leaves to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pushed {
    /// The caller has the claim and must flush.
    pub(crate) claimed: bool,
    /// The outbox is above its high-water mark.
    pub(crate) full: bool,
}

/// A delivery to be pushed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivery<'a> {
    pub(crate) unreliable: bool,
    pub(crate) fragment: Option<Fragment>,
    pub(crate) section: &'a [u8],
    /// The section again, when it is to be shared.
    pub(crate) shared: Option<&'a Bytes>,
}

impl Outbox {
    pub(crate) fn new(writer: Writer, lanes: Lanes, config: &OutboxConfig) -> Self {
        let bounds = OutboxBounds {
            high: config.high_bytes,
            low: config.low_bytes,
            max: config.max_bytes,
            datagrams: config.datagrams_max,
        };
        let in_order = lanes.in_order;
        let writing = Writing::new(writer, lanes);
        Self {
            queued: Mutex::new(Queued::new()),
            writing: Mutex::new(Some(writing)),
            pending: AtomicUsize::new(0),
            written: AtomicU64::new(0),
            open: AtomicBool::new(true),
            owner: AtomicWaker::new(),
            owner_turn: AtomicBool::new(false),
            progress: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            epoch: now(),
            drained: Notify::new(),
            bounds,
            in_order,
        }
    }

    /// Bytes that wait, including those handed to the transport but not taken by the socket.
    #[inline]
    pub(crate) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Bytes that the transport has taken so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Puts in a delivery.
    #[inline]
    pub(crate) fn push(
        &self,
        subscription: SubscriptionId,
        drop_oldest: u16,
        delivery: Delivery<'_>,
    ) -> Pushed {
        let mut queued = self.queued.lock();
        if queued.closed.is_some() {
            return Pushed::default();
        }
        let Delivery {
            unreliable,
            fragment,
            section,
            shared,
        } = delivery;
        queued.messages_out += 1;
        queued.bytes_out += section.len() as u64;
        if unreliable
            && fragment.is_none()
            && self.push_datagram(&mut queued, subscription, section)
        {
            return self.pushed(&mut queued, 0);
        }
        if drop_oldest > 0 && fragment.is_none() && self.holds_back(&queued) {
            let added = self.hold(&mut queued, subscription, drop_oldest, section, unreliable);
            return self.pushed(&mut queued, added);
        }
        let queue = if fragment.is_some() && !self.in_order {
            &mut queued.bulk
        } else {
            &mut queued.interactive
        };
        let before = queue.len();
        match shared {
            Some(shared) => {
                let head = |out: &mut Vec<u8>| {
                    message::put_deliver_prefix(
                        out,
                        subscription,
                        unreliable,
                        fragment,
                        section.len(),
                    );
                };
                queue.push_shared(head, shared.clone());
            }
            None => {
                let out = queue.tail(section.len() + HEAD_LEN_MAX);
                message::put_deliver(out, subscription, unreliable, fragment, section);
            }
        }
        let added = queue.len() - before;
        self.pushed(&mut queued, added)
    }

    /// Puts in an encoded frame and right behind it, with nothing in between, a whole message; it travels on the
    /// interactive lane even if it may be lost.
    pub(crate) fn push_behind(
        &self,
        frame: &[u8],
        subscription: SubscriptionId,
        delivery: Delivery<'_>,
    ) -> Pushed {
        let Delivery {
            unreliable,
            section,
            ..
        } = delivery;
        let mut queued = self.queued.lock();
        if queued.closed.is_some() {
            return Pushed::default();
        }
        queued.messages_out += 1;
        queued.bytes_out += section.len() as u64;
        let before = queued.interactive.len();
        let out = queued
            .interactive
            .tail(frame.len() + section.len() + HEAD_LEN_MAX);
        out.extend_from_slice(frame);
        message::put_deliver(out, subscription, unreliable, None, section);
        let added = queued.interactive.len() - before;
        self.pushed(&mut queued, added)
    }

    /// Puts in several small messages; returns how many and their bytes.
    pub(crate) fn push_all<'s>(
        &self,
        subscription: SubscriptionId,
        sections: impl Iterator<Item = &'s [u8]>,
    ) -> (Pushed, u64, u64) {
        let mut queued = self.queued.lock();
        if queued.closed.is_some() {
            return (Pushed::default(), 0, 0);
        }
        let before = queued.interactive.len();
        let (mut messages, mut bytes) = (0, 0);
        for section in sections {
            let out = queued.interactive.tail(section.len() + HEAD_LEN_MAX);
            message::put_deliver(out, subscription, false, None, section);
            messages += 1;
            bytes += section.len() as u64;
        }
        queued.messages_out += messages;
        queued.bytes_out += bytes;
        let added = queued.interactive.len() - before;
        (self.pushed(&mut queued, added), messages, bytes)
    }

    /// Puts in deliveries that are encoded already.
    pub(crate) fn push_encoded(&self, frames: Bytes, messages: u64, bytes: u64) -> Pushed {
        let mut queued = self.queued.lock();
        if queued.closed.is_some() {
            return Pushed::default();
        }
        queued.messages_out += messages;
        queued.bytes_out += bytes;
        let added = frames.len();
        queued.interactive.push(frames);
        self.pushed(&mut queued, added)
    }

    /// Puts in a frame of the broker's own.
    pub(crate) fn push_frame(&self, frame: &Frame<'_>) -> Pushed {
        self.push_frame_on(Lane::Interactive, frame)
    }

    /// Puts in a frame of the broker's own on a lane of its choice.
    pub(crate) fn push_frame_on(&self, lane: Lane, frame: &Frame<'_>) -> Pushed {
        let mut queued = self.queued.lock();
        if queued.closed.is_some() {
            return Pushed::default();
        }
        let queue = match lane {
            Lane::Interactive => &mut queued.interactive,
            Lane::Bulk => &mut queued.bulk,
            Lane::Control => &mut **queued.control.get_or_insert_default(),
        };
        let before = queue.len();
        frame.encode(queue.tail(64));
        let added = queue.len() - before;
        self.pushed(&mut queued, added)
    }

    /// Puts in encoded frames that must not wait behind messages.
    pub(crate) fn push_control(&self, frames: Bytes) -> Pushed {
        let mut queued = self.queued.lock();
        if queued.closed.is_some() {
            return Pushed::default();
        }
        let added = frames.len();
        queued.control.get_or_insert_default().push(frames);
        self.pushed(&mut queued, added)
    }

    /// Bytes that wait on the control lane and have not been handed to the transport.
    pub(crate) fn control_len(&self) -> usize {
        let queued = self.queued.lock();
        queued.control.as_ref().map_or(0, |control| control.len())
    }

    #[inline]
    fn pushed(&self, queued: &mut Queued, added: usize) -> Pushed {
        let pending = self.pending.fetch_add(added, Ordering::Relaxed) + added;
        if pending > self.bounds.max {
            self.close_locked(queued, Code::SlowConsumer);
            return Pushed::default();
        }
        let claimed = !queued.claimed;
        queued.claimed = true;
        let full = pending > self.bounds.high;
        if full && pending - added <= self.bounds.high {
            // From here on it matters whether the peer takes anything.
            self.progress.store(self.elapsed_nanos(), Ordering::Relaxed);
        }
        Pushed { claimed, full }
    }

    fn push_datagram(
        &self,
        queued: &mut Queued,
        subscription: SubscriptionId,
        section: &[u8],
    ) -> bool {
        let Some(len_max) = queued.datagram_len_max else {
            return false;
        };
        if section.len() + HEAD_LEN_MAX > len_max {
            return false;
        }
        if queued.datagrams.len() >= self.bounds.datagrams {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let mut frame = Vec::with_capacity(section.len() + HEAD_LEN_MAX);
        message::put_deliver(&mut frame, subscription, true, None, section);
        queued.datagrams.push(Bytes::from(frame));
        true
    }

    /// Whether drop-oldest messages are kept back: as soon as the peer lags at all, since what
    /// has been queued for writing can no longer be dropped.
    fn holds_back(&self, queued: &Queued) -> bool {
        queued
            .latest
            .as_ref()
            .is_some_and(|latest| !latest.is_empty())
            || self.pending() > latest::BEGIN_LEN
    }

    fn hold(
        &self,
        queued: &mut Queued,
        subscription: SubscriptionId,
        limit: u16,
        section: &[u8],
        unreliable: bool,
    ) -> usize {
        let mut frame = Vec::with_capacity(section.len() + HEAD_LEN_MAX);
        message::put_deliver(&mut frame, subscription, unreliable, None, section);
        let added = frame.len();
        let (freed, dropped) =
            queued
                .latest
                .get_or_insert_default()
                .push(subscription, limit, Bytes::from(frame));
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
        self.release(freed);
        added
    }

    /// Whether the outbox is above its high-water mark.
    pub(crate) fn is_full(&self) -> bool {
        self.is_open() && self.pending() > self.bounds.high
    }

    /// For how long the peer has taken nothing.
    pub(crate) fn stuck_for(&self) -> Duration {
        let progress = Duration::from_nanos(self.progress.load(Ordering::Relaxed));
        now()
            .saturating_duration_since(self.epoch)
            .saturating_sub(progress)
    }

    /// Waits until the outbox has drained to its low-water mark or was closed.
    pub(crate) async fn drained(&self) {
        let mut notified = std::pin::pin!(self.drained.notified());
        notified.as_mut().enable();
        if self.is_open() && self.pending() > self.bounds.low {
            notified.await;
        }
    }

    /// Closes the outbox: nothing more is taken, and what waits is not written. What was handed to
    /// the writer goes out with the owner's [`poll_finish`](Self::poll_finish); the rest is freed
    /// by [`discard_some`](Self::discard_some).
    pub(crate) fn close(&self, code: Code) {
        self.close_locked(&mut self.queued.lock(), code);
    }

    fn close_locked(&self, queued: &mut Queued, code: Code) {
        queued.discarded = true;
        self.pending.store(0, Ordering::Relaxed);
        self.end_locked(queued, code);
    }

    /// Takes nothing more; what waits is still written.
    pub(crate) fn stop(&self) {
        self.end_locked(&mut self.queued.lock(), Code::Normal);
    }

    fn end_locked(&self, queued: &mut Queued, code: Code) {
        if queued.closed.is_none() {
            queued.closed = Some(code);
            self.open.store(false, Ordering::Release);
            self.drained.notify_waiters();
            self.owner.wake();
        }
    }

    /// Frees a part of what a closed outbox still holds; `true` when nothing is left. In parts,
    /// because freeing tens of megabytes at once would hold up everybody else on the thread.
    pub(crate) fn discard_some(&self) -> bool {
        let mut queued = self.queued.lock();
        if !queued.discarded {
            return true;
        }
        let latest = (queued.latest.take(), queued.control.take());
        let (mut chunks, left) = (Vec::new(), &mut *queued);
        left.interactive.take_some(&mut chunks, DISCARD_TURN);
        left.bulk.take_some(&mut chunks, DISCARD_TURN);
        let done = left.interactive.len() == 0 && left.bulk.len() == 0;
        queued.discarded = !done;
        // The lock is not held while memory is given back.
        drop(queued);
        drop((chunks, latest));
        done
    }

    /// Puts in the last frame, also into an outbox that was closed and whose rest was discarded;
    /// nothing is taken after it.
    pub(crate) fn push_last(&self, frame: &Frame<'_>) -> Pushed {
        let mut queued = self.queued.lock();
        self.end_locked(&mut queued, Code::Normal);
        let before = queued.interactive.len();
        frame.encode(queued.interactive.tail(64));
        let added = queued.interactive.len() - before;
        self.pending.fetch_add(added, Ordering::Relaxed);
        let claimed = !std::mem::replace(&mut queued.claimed, true);
        Pushed {
            claimed,
            full: false,
        }
    }

    /// Lets unreliable deliveries of up to this many bytes travel as datagrams.
    pub(crate) fn set_datagram_len_max(&self, len_max: Option<usize>) {
        self.queued.lock().datagram_len_max = len_max;
    }

    /// Deliveries and their bytes so far.
    pub(crate) fn sent(&self) -> (u64, u64) {
        let queued = self.queued.lock();
        (queued.messages_out, queued.bytes_out)
    }

    /// A subscription has ended: what is kept back for it is not delivered any more.
    pub(crate) fn forget(&self, subscription: SubscriptionId) {
        let mut queued = self.queued.lock();
        if let Some(latest) = &mut queued.latest {
            let freed = latest.forget(subscription);
            self.release(freed);
        }
    }

    /// Leaves a large message out for a lagging drop-oldest subscription and notes the gap;
    /// `false` when the peer does not lag.
    pub(crate) fn skip_large(&self, subscription: SubscriptionId) -> bool {
        let mut queued = self.queued.lock();
        let lags = queued.closed.is_none() && self.holds_back(&queued);
        if lags {
            queued.latest.get_or_insert_default().skip(subscription);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        lags
    }

    /// Deliveries dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The time, as the runtime has it: tests may stop it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Queued {
    fn new() -> Self {
        Self {
            claimed: false,
            closed: None,
            discarded: false,
            finishing: false,
            interactive: Queue::default(),
            bulk: Queue::default(),
            control: None,
            datagrams: Vec::new(),
            datagram_len_max: None,
            latest: None,
            messages_out: 0,
            bytes_out: 0,
        }
    }
}
