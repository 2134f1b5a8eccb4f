//! What a turn has put into outboxes, carried out at its end: one write for each receiver, however
//! many messages it got.

use std::sync::Arc;

use bytes::Bytes;
use dialtone_protocol::Frame;
use dialtone_transport::Lane;

use crate::broker::Shared;
use crate::outbox::{Delivery, Pushed};
use crate::peer::Peer;
use crate::router::Target;

/// What a turn has done.
#[derive(Default)]
pub(crate) struct Effects {
    /// Outboxes that this turn has claimed and must flush.
    claimed: Vec<Arc<Peer>>,
    /// Outboxes that are above their high-water mark.
    full: Vec<Arc<Peer>>,
    pub(crate) messages_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) unrouted: u64,
    /// Parts of a large message were among what was delivered.
    pub(crate) fragments: bool,
    messages_out: u64,
    bytes_out: u64,
}

impl Effects {
    #[inline]
    pub(crate) fn deliver(&mut self, target: &Target<Arc<Peer>>, delivery: Delivery<'_>) {
        let pushed = target
            .peer
            .outbox
            .push(target.subscription, target.drop_oldest, delivery);
        self.messages_out += 1;
        self.bytes_out += delivery.section.len() as u64;
        self.fragments |= delivery.fragment.is_some();
        self.note(&target.peer, pushed);
    }

    /// Delivers a whole message to a link right behind an encoded frame, with nothing in between.
    pub(crate) fn deliver_behind(
        &mut self,
        frame: &[u8],
        target: &Target<Arc<Peer>>,
        delivery: Delivery<'_>,
    ) {
        let outbox = &target.peer.outbox;
        let pushed = outbox.push_behind(frame, target.subscription, delivery);
        self.messages_out += 1;
        self.bytes_out += delivery.section.len() as u64;
        self.note(&target.peer, pushed);
    }

    /// Delivers several messages in one step.
    pub(crate) fn deliver_all<'s>(
        &mut self,
        target: &Target<Arc<Peer>>,
        sections: impl Iterator<Item = &'s [u8]>,
    ) {
        let (pushed, messages, bytes) = target.peer.outbox.push_all(target.subscription, sections);
        self.messages_out += messages;
        self.bytes_out += bytes;
        self.note(&target.peer, pushed);
    }

    /// Delivers messages that are encoded already.
    pub(crate) fn deliver_encoded(
        &mut self,
        target: &Target<Arc<Peer>>,
        frames: Bytes,
        messages: u64,
        bytes: u64,
    ) {
        let pushed = target.peer.outbox.push_encoded(frames, messages, bytes);
        self.messages_out += messages;
        self.bytes_out += bytes;
        self.note(&target.peer, pushed);
    }

    pub(crate) fn push_frame(&mut self, peer: &Arc<Peer>, frame: &Frame<'_>) {
        let pushed = peer.outbox.push_frame(frame);
        self.note(peer, pushed);
    }

    pub(crate) fn push_frame_on(&mut self, peer: &Arc<Peer>, lane: Lane, frame: &Frame<'_>) {
        let pushed = peer.outbox.push_frame_on(lane, frame);
        self.note(peer, pushed);
    }

    #[inline]
    fn note(&mut self, peer: &Arc<Peer>, pushed: Pushed) {
        if pushed.claimed {
            self.claimed.push(Arc::clone(peer));
        }
        if pushed.full && !self.full.last().is_some_and(|last| Arc::ptr_eq(last, peer)) {
            self.full.push(Arc::clone(peer));
        }
    }

    /// Writes what was claimed and counts what was done; returns who is still full after that.
    pub(crate) fn carry_out(&mut self, shared: &Shared, own: &Peer) -> Vec<Arc<Peer>> {
        for peer in self.claimed.drain(..) {
            peer.outbox.flush();
        }
        self.count(shared, own);
        if self.full.is_empty() {
            return Vec::new();
        }
        let mut full: Vec<Arc<Peer>> = self
            .full
            .drain(..)
            .filter(|peer| peer.outbox.is_full())
            .collect();
        full.sort_unstable_by_key(|peer| peer.id);
        full.dedup_by_key(|peer| peer.id);
        full
    }

    fn count(&mut self, shared: &Shared, own: &Peer) {
        let metrics = &shared.metrics;
        if self.messages_in > 0 {
            own.count_in(self.messages_in, self.bytes_in);
            if own.link.is_none() {
                metrics.messages_in.add(self.messages_in);
                metrics.bytes_in.add(self.bytes_in);
            }
            metrics.messages_out.add(self.messages_out);
            metrics.bytes_out.add(self.bytes_out);
            metrics.unrouted.add(self.unrouted);
        }
        (self.messages_in, self.bytes_in, self.unrouted) = (0, 0, 0);
        (self.messages_out, self.bytes_out) = (0, 0);
    }
}
