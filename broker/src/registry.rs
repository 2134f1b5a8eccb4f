//! Who is connected, and how many connections each principal has.

use std::sync::Arc;

use dashmap::DashMap;
use dialtone_protocol::frame::Refused;
use dialtone_protocol::{Code, ConnectionId, inbox, subject};
use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::auth::Principal;
use crate::chance::RandomState;
use crate::peer::Peer;

/// Who is connected.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    peers: DashMap<u64, Arc<Peer>, RandomState>,
    seats: Mutex<Seats>,
}

#[derive(Debug, Default)]
struct Seats {
    total: u32,
    by_identity: HashMap<Arc<str>, u32, RandomState>,
}

/// Whose inbox a subject lies in.
#[derive(Debug)]
pub(crate) enum Inbox {
    /// In no inbox of this node: it is routed like any other subject.
    No,
    /// In an inbox of this node that does not exist, or not any more.
    Gone,
    /// In this peer's.
    Of(Arc<Peer>),
    /// In one of another node, to which this link leads.
    Elsewhere(Arc<Peer>),
}

/// Bounds on connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeatLimits {
    pub(crate) total: u32,
    pub(crate) per_identity: u32,
}

impl Registry {
    /// Takes a place for a connection of `principal`; [`leave`](Self::leave) gives it back.
    pub(crate) fn enter(&self, principal: &Principal, limits: SeatLimits) -> Result<(), Refused> {
        let mut seats = self.seats.lock();
        if seats.total >= limits.total {
            let text = format!("the node has its limit of {} connections", limits.total);
            return Err(Refused::new(Code::TooMany, text));
        }
        let max = principal.connections_max.unwrap_or(limits.per_identity);
        let taken = seats
            .by_identity
            .entry(Arc::clone(&principal.identity))
            .or_insert(0);
        if *taken >= max {
            let text = format!("{} has its limit of {max} connections", principal.identity);
            return Err(Refused::new(Code::TooMany, text));
        }
        *taken += 1;
        seats.total += 1;
        Ok(())
    }

    pub(crate) fn leave(&self, identity: &str) {
        let mut seats = self.seats.lock();
        seats.total -= 1;
        if let Some(taken) = seats.by_identity.get_mut(identity) {
            *taken -= 1;
            if *taken == 0 {
                seats.by_identity.remove(identity);
            }
        }
    }

    pub(crate) fn insert(&self, peer: &Arc<Peer>) {
        self.peers.insert(peer.id.0, Arc::clone(peer));
    }

    pub(crate) fn remove(&self, id: ConnectionId) {
        self.peers.remove(&id.0);
    }

    /// Whose inbox the bytes of a subject lie in, on the node of this name; `elsewhere` knows the
    /// inboxes of others. The subject is a valid one when it is somebody's.
    #[inline]
    pub(crate) fn find_inbox(
        &self,
        node: &str,
        bytes: &[u8],
        elsewhere: impl FnOnce(&[u8]) -> Inbox,
    ) -> Inbox {
        if !bytes.starts_with(inbox::PREFIX.as_bytes()) {
            return Inbox::No;
        }
        let Some(address) = inbox::parse(bytes) else {
            return Inbox::No;
        };
        // The rest of the subject must be one, since it is passed on to somebody else.
        let is_subject = |text| subject::check_subject(text).is_ok();
        if !std::str::from_utf8(bytes).is_ok_and(is_subject) {
            return Inbox::No;
        }
        if address.node != node.as_bytes() {
            return elsewhere(address.node);
        }
        match self.get(address.connection) {
            Some(peer) if peer.about.inbox_secret.as_bytes() == address.secret => Inbox::Of(peer),
            Some(_) | None => Inbox::Gone,
        }
    }

    #[inline]
    pub(crate) fn get(&self, id: ConnectionId) -> Option<Arc<Peer>> {
        self.peers.get(&id.0).map(|peer| Arc::clone(peer.value()))
    }

    /// Everybody, at some moment, in the order in which they came.
    pub(crate) fn all(&self) -> Vec<Arc<Peer>> {
        let peers = self.peers.iter().map(|peer| Arc::clone(peer.value()));
        let mut all: Vec<Arc<Peer>> = peers.collect();
        all.sort_unstable_by_key(|peer| peer.id.0);
        all
    }

    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }
}
