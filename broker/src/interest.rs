//! Questions that wait until somebody subscribes, indexed by subject.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dialtone_protocol::frame::Interested;
use dialtone_protocol::{Frame, RequestId, subject};
use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::chance::RandomState;
use crate::peer::Peer;

/// Questions that wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    by_subject: Mutex<HashMap<Box<str>, Vec<Waiter>, RandomState>>,
    /// Read before the lock is taken, since most subscriptions find nobody waiting.
    count: AtomicUsize,
}

#[derive(Debug)]
struct Waiter {
    peer: Arc<Peer>,
    request: RequestId,
}

impl Waiting {
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Notes a question. The caller looks at the router again afterwards, so that a subscription
    /// in between is not missed.
    pub(crate) fn add(&self, subject: &str, peer: &Arc<Peer>, request: RequestId) {
        let waiter = Waiter {
            peer: Arc::clone(peer),
            request,
        };
        let mut by_subject = self.by_subject.lock();
        by_subject
            .entry(Box::from(subject))
            .or_default()
            .push(waiter);
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    /// Forgets a question; `false` when it was answered in the meantime.
    pub(crate) fn remove(&self, subject: &str, peer: &Arc<Peer>, request: RequestId) -> bool {
        let mut by_subject = self.by_subject.lock();
        let Some(waiters) = by_subject.get_mut(subject) else {
            return false;
        };
        let Some(index) = waiters
            .iter()
            .position(|w| w.request == request && Arc::ptr_eq(&w.peer, peer))
        else {
            return false;
        };
        waiters.swap_remove(index);
        if waiters.is_empty() {
            by_subject.remove(subject);
        }
        self.count.fetch_sub(1, Ordering::AcqRel);
        true
    }

    /// Whether a question still waits.
    pub(crate) fn is_waiting(&self, subject: &str, peer: &Arc<Peer>, request: RequestId) -> bool {
        let by_subject = self.by_subject.lock();
        let waiters = by_subject.get(subject);
        waiters.is_some_and(|waiters| {
            waiters
                .iter()
                .any(|w| w.request == request && Arc::ptr_eq(&w.peer, peer))
        })
    }

    /// Somebody subscribed to `pattern`: answers the questions that this satisfies.
    pub(crate) fn satisfy(&self, pattern: &str) {
        if self.len() == 0 {
            return;
        }
        let satisfied = self.take(pattern);
        self.count.fetch_sub(satisfied.len(), Ordering::AcqRel);
        for Waiter { peer, request } in satisfied {
            let answer = Frame::Interested(Interested {
                request,
                answer: Ok(true),
            });
            if peer.outbox.push_frame(&answer).claimed {
                peer.outbox.flush();
            }
        }
    }

    fn take(&self, pattern: &str) -> Vec<Waiter> {
        let mut by_subject = self.by_subject.lock();
        if !subject::has_wildcard(pattern) {
            return by_subject.remove(pattern).unwrap_or_default();
        }
        let matching = by_subject.extract_if(|waited, _| subject::matches(pattern, waited));
        matching.flat_map(|(_, waiters)| waiters).collect()
    }
}
