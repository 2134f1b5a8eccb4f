//! What has arrived for one subscription and was not taken yet: bounded, with a declared policy for when it is full.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use dialtone_protocol::frame::Refused;
use parking_lot::Mutex;

use crate::error::Reason;
use crate::message::Message;

/// Most messages that a consumer takes out at once; they count no longer towards the bounds.
const TAKE_MAX: usize = 256;

/// What happens when a subscription's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The client stops reading from its connection until there is room, so that the broker notices. Nothing is lost
    /// at this end, but every subscription and every answer of the client waits; a consumer that stays away for good
    /// is closed by the broker.
    #[default]
    Block,
    /// The oldest message is dropped and counted.
    DropOldest,
}

/// The bounds of a subscription's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most messages; 65,536 by default.
    pub messages_max: usize,
    /// Most bytes of payloads, headers and subjects; 64 MiB by default.
    pub bytes_max: usize,
    /// What happens beyond.
    pub overflow: Overflow,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            messages_max: 65_536,
            bytes_max: 64 << 20,
            overflow: Overflow::Block,
        }
    }
}

/// Why nothing more arrives.
#[derive(Debug, Clone)]
pub(crate) enum Ending {
    /// The caller unsubscribed.
    Caller,
    /// The broker ended or refused the subscription.
    Refused(Refused),
    /// The client has ended.
    Closed(Reason),
    /// The inbox that the messages came to has ended with its connection.
    Disconnected,
    /// The broker has ended the connection with that inbox, and said why.
    Cut(Refused),
    /// The permission to ask for the messages was withdrawn.
    Withdrawn(Refused),
}

/// The queue between the driver and one consumer.
#[derive(Debug)]
pub(crate) struct Queue {
    bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    messages: VecDeque<Message>,
    bytes: usize,
    dropped: u64,
    waker: Option<Waker>,
    ending: Option<Ending>,
    /// The consumer is gone: nothing is kept any more.
    abandoned: bool,
    /// The driver waits for room.
    blocks: bool,
    /// The consumer has not come back since it took messages.
    busy: bool,
    /// Somebody waits for everything to be taken and done with.
    drained: Option<Waker>,
}

impl State {
    fn is_over(&self, bounds: &Bounds) -> bool {
        self.messages.len() > bounds.messages_max || self.bytes > bounds.bytes_max
    }
}

impl Queue {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            state: Mutex::new(State::default()),
        }
    }

    /// Appends what is in `staged`; returns whether the driver must stop reading.
    pub(crate) fn append(&self, staged: &mut Vec<Message>) -> bool {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.abandoned || state.ending.is_some() {
            staged.clear();
            return false;
        }
        for message in staged.drain(..) {
            state.bytes += message.cost();
            state.messages.push_back(message);
        }
        if self.bounds.overflow == Overflow::DropOldest {
            // One message is always kept, or a large one could never arrive.
            while state.is_over(&self.bounds) && state.messages.len() > 1 {
                let oldest = state
                    .messages
                    .pop_front()
                    .expect("more than one message waits");
                state.bytes -= oldest.cost();
                state.dropped += 1;
            }
        }
        state.blocks = self.bounds.overflow == Overflow::Block && state.is_over(&self.bounds);
        let (blocks, waker) = (state.blocks, state.waker.take());
        drop(guard);
        if let Some(waker) = waker {
            waker.wake();
        }
        blocks
    }

    /// Whether the driver must still wait for room.
    pub(crate) fn blocks(&self) -> bool {
        self.state.lock().blocks
    }

    /// Counts messages that the broker dropped.
    pub(crate) fn add_dropped(&self, count: u64) {
        self.state.lock().dropped += count;
    }

    /// How many messages were dropped, here and by the broker.
    pub(crate) fn dropped(&self) -> u64 {
        self.state.lock().dropped
    }

    /// Nothing more arrives; what waits can still be taken. The first ending stands.
    pub(crate) fn end(&self, ending: Ending) {
        let mut state = self.state.lock();
        state.ending.get_or_insert(ending);
        state.blocks = false;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Why nothing more arrives, if that is so.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.state.lock().ending.clone()
    }

    /// The consumer is gone. Returns whether the driver waited for it.
    pub(crate) fn abandon(&self) -> bool {
        let mut state = self.state.lock();
        state.abandoned = true;
        state.bytes = 0;
        let messages = std::mem::take(&mut state.messages);
        let blocked = std::mem::take(&mut state.blocks);
        let drained = state.drained.take();
        drop(state);
        // Outside of the lock, since there may be many.
        drop(messages);
        if let Some(drained) = drained {
            drained.wake();
        }
        blocked
    }

    /// Takes some of what waits into `taken`, which is empty. `Ready(false)` when nothing will ever follow. `unblocked`
    /// is called when the driver waited for room and has it again.
    pub(crate) fn poll_take(
        &self,
        cx: &Context<'_>,
        taken: &mut VecDeque<Message>,
        unblocked: impl FnOnce(),
    ) -> Poll<bool> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.busy = !state.messages.is_empty();
        let drained = if state.busy {
            None
        } else {
            state.drained.take()
        };
        if let Some(drained) = drained {
            drained.wake();
        }
        if state.messages.is_empty() {
            if state.ending.is_some() || state.abandoned {
                return Poll::Ready(false);
            }
            if !state
                .waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
            {
                state.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        if state.messages.len() <= TAKE_MAX {
            std::mem::swap(&mut state.messages, taken);
            state.bytes = 0;
        } else {
            taken.extend(state.messages.drain(..TAKE_MAX));
            state.bytes -= taken.iter().map(Message::cost).sum::<usize>();
        }
        let half = Bounds {
            messages_max: self.bounds.messages_max / 2,
            bytes_max: self.bounds.bytes_max / 2,
            ..self.bounds
        };
        let has_room = state.blocks && !state.is_over(&half);
        if has_room {
            state.blocks = false;
        }
        drop(guard);
        if has_room {
            unblocked();
        }
        Poll::Ready(true)
    }

    /// Ready when the consumer has taken everything and come back for more, or has gone.
    pub(crate) fn poll_drained(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if (state.messages.is_empty() && !state.busy) || state.abandoned {
            return Poll::Ready(());
        }
        state.drained = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::tests::message;

    fn taken(queue: &Queue) -> (Vec<String>, bool) {
        let (mut all, mut unblocked) = (Vec::new(), false);
        let mut batch = VecDeque::new();
        let cx = Context::from_waker(Waker::noop());
        while queue.poll_take(&cx, &mut batch, || unblocked = true) == Poll::Ready(true) {
            all.extend(batch.drain(..).map(|message| message.subject().to_string()));
        }
        (all, unblocked)
    }

    fn bounds(messages_max: usize, overflow: Overflow) -> Bounds {
        Bounds {
            messages_max,
            overflow,
            ..Bounds::default()
        }
    }

    fn messages(range: std::ops::Range<usize>) -> Vec<Message> {
        range.map(|n| message(&format!("m.{n}"), b"")).collect()
    }

    #[test]
    fn a_full_queue_blocks_until_half_of_it_was_taken() {
        let queue = Queue::new(bounds(600, Overflow::Block));
        assert!(!queue.append(&mut messages(0..600)));
        assert!(queue.append(&mut messages(600..601)));
        let cx = Context::from_waker(Waker::noop());
        let (mut batch, mut unblocked) = (VecDeque::new(), false);
        assert_eq!(
            queue.poll_take(&cx, &mut batch, || unblocked = true),
            Poll::Ready(true)
        );
        assert_eq!(
            (batch.len(), unblocked, queue.blocks()),
            (TAKE_MAX, false, true)
        );
        let (rest, unblocked) = taken(&queue);
        assert_eq!(
            (rest.len(), unblocked, queue.blocks()),
            (601 - TAKE_MAX, true, false)
        );
    }

    #[test]
    fn the_oldest_is_dropped_and_counted() {
        let queue = Queue::new(bounds(2, Overflow::DropOldest));
        assert!(!queue.append(&mut messages(0..5)));
        assert_eq!(queue.dropped(), 3);
        assert_eq!(taken(&queue).0, ["m.3", "m.4"]);
        let small = Bounds {
            bytes_max: 1,
            overflow: Overflow::DropOldest,
            ..Bounds::default()
        };
        let queue = Queue::new(small);
        queue.append(&mut messages(0..2));
        assert_eq!(
            taken(&queue).0,
            ["m.1"],
            "one message is kept whatever it costs"
        );
    }

    #[test]
    fn what_waits_can_be_taken_after_the_end() {
        let queue = Queue::new(Bounds::default());
        queue.append(&mut messages(0..1));
        queue.end(Ending::Caller);
        queue.append(&mut messages(1..2));
        assert_eq!(taken(&queue).0, ["m.0"]);
        let mut batch = VecDeque::new();
        let cx = Context::from_waker(Waker::noop());
        assert_eq!(queue.poll_take(&cx, &mut batch, || ()), Poll::Ready(false));
        assert!(matches!(queue.ending(), Some(Ending::Caller)));
    }
}
