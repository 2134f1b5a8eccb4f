//! Acknowledgements that wait for the counts of other nodes.
//!
//! The publisher is told when every node has answered, or has ended, or takes too long. Nothing
//! else waits meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use dashmap::DashMap;
use dialtone_protocol::frame::Published;
use dialtone_protocol::frame::link::{Counted, Link};
use dialtone_protocol::{Frame, RequestId};

use crate::chance::RandomState;
use crate::peer::Peer;

/// Acknowledgements that wait, over all links.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pending: DashMap<u64, Pending, RandomState>,
    len: AtomicUsize,
    next: AtomicU64,
    missed: AtomicU64,
}

/// Who is told.
#[derive(Debug)]
pub(crate) enum Asker {
    /// A publisher, for this publish.
    Publisher(Arc<Peer>, RequestId),
    /// Another node, for whom the message was passed on.
    Node(Arc<Peer>, u64),
}

#[derive(Debug)]
struct Pending {
    asker: Asker,
    count: u32,
    links: usize,
}

/// The questions that a link has not answered, oldest first: tokens rise, and with them deadlines.
#[derive(Debug, Default)]
pub(crate) struct Questions(BTreeMap<u64, Instant>);

impl Counts {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// How many were told without the count of some node.
    pub(crate) fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Notes an acknowledgement that waits for `links` nodes; the token is what they are asked
    /// under.
    pub(crate) fn wait(&self, asker: Asker, count: u32, links: usize) -> u64 {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        self.pending.insert(
            token,
            Pending {
                asker,
                count,
                links,
            },
        );
        self.len.fetch_add(1, Ordering::Relaxed);
        token
    }

    /// A node has answered; returns who is to be told how many, if it was the last one.
    pub(crate) fn answered(&self, token: u64, count: u32) -> Option<(Asker, u32)> {
        let mut pending = self.pending.get_mut(&token)?;
        pending.count = pending.count.saturating_add(count);
        pending.links = pending.links.saturating_sub(1);
        let done = pending.links == 0;
        drop(pending);
        if !done {
            return None;
        }
        let (_, pending) = self.pending.remove(&token)?;
        self.len.fetch_sub(1, Ordering::Relaxed);
        Some((pending.asker, pending.count))
    }

    /// A node will not answer, or not in time. Whoever is to be told is told at once.
    pub(crate) fn missed_one(&self, token: u64) {
        self.missed.fetch_add(1, Ordering::Relaxed);
        if let Some((asker, count)) = self.answered(token, 0) {
            asker.tell(count);
        }
    }
}

impl Asker {
    /// Who is told, and what.
    pub(crate) fn answer(self, count: u32) -> (Arc<Peer>, Frame<'static>) {
        match self {
            Self::Publisher(peer, request) => {
                let outcome = Ok(count);
                (peer, Frame::Published(Published { request, outcome }))
            }
            Self::Node(peer, token) => (peer, Frame::Link(Link::Counted(Counted { token, count }))),
        }
    }

    fn tell(self, count: u32) {
        let (peer, frame) = self.answer(count);
        if peer.outbox.push_frame(&frame).claimed {
            peer.outbox.flush();
        }
    }
}

impl Questions {
    pub(crate) fn insert(&mut self, token: u64, deadline: Instant) {
        self.0.insert(token, deadline);
    }

    /// An answer has come; whether it was awaited.
    pub(crate) fn remove(&mut self, token: u64) -> bool {
        self.0.remove(&token).is_some()
    }

    /// Takes those whose time is over.
    pub(crate) fn overdue(&mut self, now: Instant) -> Vec<u64> {
        let mut overdue = Vec::new();
        while let Some(entry) = self.0.first_entry()
            && *entry.get() <= now
        {
            overdue.push(entry.remove_entry().0);
        }
        overdue
    }

    pub(crate) fn into_tokens(self) -> impl Iterator<Item = u64> {
        self.0.into_keys()
    }
}
