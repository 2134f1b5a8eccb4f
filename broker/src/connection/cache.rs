//! What a connection's recent subjects resolve to, so that a steady flow costs one look.

use std::sync::Arc;

use dialtone_protocol::frame::Refused;

use crate::peer::Peer;
use crate::router::Route;

/// Most subjects that are kept. Beyond it the router's own table is nearly as quick.
const SLOTS_MAX: usize = 4_096;

/// One in so many subjects takes over a place that is taken.
const TAKE_OVER: u8 = 16;

const SLOTS_MIN: usize = 8;

/// Each subject has one place, which it shares with others of a like hash: the latest stays.
#[derive(Debug, Default)]
pub(crate) struct RouteCache {
    /// A power of two in number, or none as long as nothing was published.
    slots: Vec<Slot>,
    used: usize,
    turn: u8,
}

#[derive(Debug)]
pub(crate) struct Slot {
    hash: u64,
    subject: Vec<u8>,
    pub(crate) verdict: Verdict,
}

/// What is known about publishing to a subject.
#[derive(Debug)]
pub(crate) enum Verdict {
    Unknown,
    Route(Route<Arc<Peer>>),
    /// The broker answers itself.
    System,
    /// Not permitted, or not a subject.
    Refused(Box<Refused>),
}

impl RouteCache {
    /// What is known about a subject.
    #[inline]
    pub(crate) fn get(&self, hash: u64, subject: &[u8]) -> Option<&Verdict> {
        let slot = self.slots.get(place(hash, self.slots.len()))?;
        (slot.hash == hash && slot.subject == subject).then_some(&slot.verdict)
    }

    /// Keeps a route. In a place that is taken by another subject only now and then, so that a
    /// publisher of very many subjects does not write the cache for each message.
    pub(crate) fn offer(&mut self, hash: u64, subject: &[u8], route: &Route<Arc<Peer>>) {
        self.make_room();
        let slot = &self.slots[place(hash, self.slots.len())];
        if !matches!(slot.verdict, Verdict::Unknown) && slot.hash != hash {
            self.turn = self.turn.wrapping_add(1);
            if !self.turn.is_multiple_of(TAKE_OVER) {
                return;
            }
        }
        self.insert(hash, subject, Verdict::Route(route.clone()));
    }

    /// Keeps what is known about a subject.
    pub(crate) fn insert(&mut self, hash: u64, subject: &[u8], verdict: Verdict) {
        self.make_room();
        let index = place(hash, self.slots.len());
        let slot = &mut self.slots[index];
        self.used += usize::from(matches!(slot.verdict, Verdict::Unknown));
        slot.hash = hash;
        slot.subject.clear();
        slot.subject.extend_from_slice(subject);
        slot.verdict = verdict;
    }

    fn make_room(&mut self) {
        if self.used * 2 >= self.slots.len() && self.slots.len() < SLOTS_MAX {
            self.grow();
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn grow(&mut self) {
        let len = (self.slots.len() * 2).max(SLOTS_MIN);
        let old = std::mem::take(&mut self.slots);
        self.slots = std::iter::repeat_with(Slot::empty).take(len).collect();
        self.used = 0;
        for slot in old {
            if !matches!(slot.verdict, Verdict::Unknown) {
                let index = place(slot.hash, len);
                self.used += usize::from(matches!(self.slots[index].verdict, Verdict::Unknown));
                self.slots[index] = slot;
            }
        }
    }
}

impl Slot {
    fn empty() -> Self {
        Self {
            hash: 0,
            subject: Vec::new(),
            verdict: Verdict::Unknown,
        }
    }
}

/// The router takes the low bits for its generations, so the high ones are taken here.
#[inline]
fn place(hash: u64, len: usize) -> usize {
    let bits = (hash >> 32) as usize;
    bits & len.wrapping_sub(1)
}
