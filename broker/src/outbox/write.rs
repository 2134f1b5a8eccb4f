//! Writing what waits: by whoever holds the claim, and by the owner where the socket was full.

use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use dialtone_protocol::Code;
use dialtone_transport::{Batch, Lane, Writer};

use super::{Lanes, Outbox, Queued, now};

/// Most bytes that one write takes of the bulk lane where it shares a stream with small messages.
const BULK_TURN: usize = 256 << 10;

/// Most bytes that are taken from the queue for one write.
const WRITE_TURN: usize = 1 << 20;

/// The same where control frames, which go before what is in the queue, share the stream: what the transport has been given
/// goes before them.
const WRITE_TURN_SHARED: usize = 128 << 10;

#[derive(Debug)]
pub(super) struct Writing {
    writer: Writer,
    interactive: Batch,
    bulk: Batch,
    lanes: Lanes,
    /// Where the transport has a lane for it; made when it is first used.
    control: Option<Box<Control>>,
    /// A transport that could not write everything may hold bytes of its own after the batch is
    /// empty: it is asked again until it is ready.
    interactive_blocked: bool,
    bulk_blocked: bool,
}

/// What waits to be written to the control lane.
#[derive(Debug, Default)]
struct Control {
    batch: Batch,
    blocked: bool,
}

impl Outbox {
    /// Writes until nothing waits or the socket is full. To be called by the holder of the claim.
    pub(crate) fn flush(&self) {
        let mut cx = Context::from_waker(Waker::noop());
        if self.poll_write(&mut cx).is_pending() {
            self.owner_turn.store(true, Ordering::Release);
            self.owner.wake();
        }
    }

    /// The owner's part: finishes what others could not write. Pending while there is nothing to
    /// do. Ready when the outbox was closed by somebody, with the code.
    pub(crate) fn poll_owner(&self, cx: &mut Context<'_>) -> Poll<Code> {
        self.owner.register(cx.waker());
        self.write_as_owner(cx);
        if self.is_open() {
            return Poll::Pending;
        }
        Poll::Ready(self.queued.lock().closed.unwrap_or(Code::Normal))
    }

    fn write_as_owner(&self, cx: &mut Context<'_>) {
        // The turn is over before the claim is given up: after that, somebody else may already have
        // claimed the outbox, found the socket full and begun the owner's next turn.
        if !self.owner_turn.load(Ordering::Acquire) {
            return;
        }
        self.owner_turn.store(false, Ordering::Relaxed);
        if self.poll_write(cx).is_pending() {
            self.owner_turn.store(true, Ordering::Release);
        }
    }

    pub(crate) fn wake_owner(&self) {
        self.owner.wake();
    }

    fn poll_write(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut guard = self.writing.lock();
        let Some(writing) = guard.as_mut() else {
            return Poll::Ready(());
        };
        loop {
            if self.refill(writing) {
                return Poll::Ready(());
            }
            let before = writing.len();
            let result = writing.poll(cx);
            let left = writing.len();
            self.account(before - left);
            match result {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "write failed");
                    *guard = None;
                    self.fail();
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Nothing can be written any more, and nobody need wait for it.
    fn fail(&self) {
        let mut queued = self.queued.lock();
        self.close_locked(&mut queued, Code::Normal);
        queued.claimed = false;
        drop(queued);
        self.owner.wake();
    }

    /// Moves what waits to the writer; `true`, and the claim is given up, when there is nothing.
    fn refill(&self, writing: &mut Writing) -> bool {
        let mut queued = self.queued.lock();
        if !queued.discarded {
            self.move_to(&mut queued, writing);
        }
        let idle = writing.is_idle();
        if idle {
            queued.claimed = false;
            if queued.finishing {
                self.owner.wake();
            }
        }
        idle
    }

    fn move_to(&self, queued: &mut Queued, writing: &mut Writing) {
        if !queued.datagrams.is_empty() {
            for datagram in std::mem::take(&mut queued.datagrams) {
                // Unreliable by request: what the transport does not take is lost.
                let sent = writing.writer.send_datagram(datagram);
                if !matches!(sent, Ok(true)) {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        if let Some(latest) = &mut queued.latest
            && writing.interactive.is_empty()
        {
            let (frames, added) = latest.take();
            self.pending.fetch_add(added, Ordering::Relaxed);
            for frame in frames {
                queued.interactive.push(frame);
            }
        }
        if let Some(control) = &mut queued.control {
            control.move_to(writing.control_batch(), WRITE_TURN);
        }
        let turn = if queued.control.is_some() && !writing.lanes.control {
            WRITE_TURN_SHARED
        } else {
            WRITE_TURN
        };
        queued.interactive.move_to(&mut writing.interactive, turn);
        if writing.lanes.bulk {
            queued.bulk.move_to(&mut writing.bulk, WRITE_TURN);
        } else if writing.interactive.len() < BULK_TURN {
            queued.bulk.move_to(&mut writing.interactive, BULK_TURN);
        }
    }

    fn account(&self, written: usize) {
        if written == 0 {
            return;
        }
        self.written.fetch_add(written as u64, Ordering::Relaxed);
        let before = self.release(written);
        if before > self.bounds.low {
            // The clock is read only where it can matter: for a peer that lags.
            self.progress.store(self.elapsed_nanos(), Ordering::Relaxed);
            if before.saturating_sub(written) <= self.bounds.low {
                self.drained.notify_waiters();
            }
        }
    }

    /// Takes bytes off the account; returns what was on it. Saturates, because closing clears the
    /// account while a write may be under way.
    pub(super) fn release(&self, len: usize) -> usize {
        let result = self
            .pending
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |pending| {
                Some(pending.saturating_sub(len))
            });
        result.unwrap_or_else(|pending| pending)
    }

    /// The owner's last part: ready when everything has been written that is to be, or nothing can
    /// be written any more.
    pub(crate) fn poll_finish(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.owner.register(cx.waker());
        self.write_as_owner(cx);
        let mut queued = self.queued.lock();
        queued.finishing = true;
        if queued.claimed {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    pub(super) fn elapsed_nanos(&self) -> u64 {
        u64::try_from(now().saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes the writer out, so that the connection can say goodbye with it.
    pub(crate) fn take_writer(&self) -> Option<Writer> {
        self.writing.lock().take().map(|writing| writing.writer)
    }
}

impl Writing {
    pub(super) fn new(writer: Writer, lanes: Lanes) -> Self {
        Self {
            writer,
            interactive: Batch::new(),
            bulk: Batch::new(),
            lanes,
            control: None,
            interactive_blocked: false,
            bulk_blocked: false,
        }
    }

    fn len(&self) -> usize {
        let control = self.control.as_ref();
        let control = control.map_or(0, |control| control.batch.len());
        self.interactive.len() + self.bulk.len() + control
    }

    fn is_idle(&self) -> bool {
        let blocked = self.interactive_blocked || self.bulk_blocked;
        let control = self.control.as_ref();
        let blocked = blocked || control.is_some_and(|control| control.blocked);
        self.len() == 0 && !blocked
    }

    /// Where what must not wait is written: on one stream, before everything else of each write.
    fn control_batch(&mut self) -> &mut Batch {
        if self.lanes.control {
            &mut self.control.get_or_insert_default().batch
        } else {
            &mut self.interactive
        }
    }

    /// Writes all lanes; ready when they have been written, pending when one is blocked.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), dialtone_transport::Error>> {
        let mut control_blocked = false;
        if let Some(control) = &mut self.control
            && (!control.batch.is_empty() || control.blocked)
        {
            let sent = self
                .writer
                .poll_send(cx, Lane::Control, &mut control.batch)?;
            control.blocked = sent.is_pending();
            control_blocked = control.blocked;
        }
        if !self.interactive.is_empty() || self.interactive_blocked {
            let sent = self
                .writer
                .poll_send(cx, Lane::Interactive, &mut self.interactive)?;
            self.interactive_blocked = sent.is_pending();
        }
        if !self.bulk.is_empty() || self.bulk_blocked {
            let sent = self.writer.poll_send(cx, Lane::Bulk, &mut self.bulk)?;
            self.bulk_blocked = sent.is_pending();
        }
        if self.interactive_blocked || self.bulk_blocked || control_blocked {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    }
}
