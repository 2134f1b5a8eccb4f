//! A store of leases in memory that is obviously right.

use std::collections::BTreeMap;
use std::sync::Arc;

use dialtone_persist::placement::{LeaseError, Leases, NodeLease, Renew, Renewed};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(crate) struct Model {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    view: u64,
    sessions: u64,
    nodes: BTreeMap<Arc<str>, Node>,
}

#[derive(Debug)]
struct Node {
    session: u64,
    expires: Instant,
    seen: u64,
}

impl Model {
    /// Ends the lease of a node, if it has one.
    pub(crate) fn expire(&self, node: &str) {
        if let Some(node) = self.inner.lock().nodes.get_mut(node) {
            node.expires = Instant::now();
        }
    }

    fn renew_now(&self, renew: &Renew) -> Result<Renewed, LeaseError> {
        let mut inner = self.inner.lock();
        let now = Instant::now();
        let before = inner.nodes.len();
        inner.nodes.retain(|_, node| node.expires > now);
        let mut changed = inner.nodes.len() < before;
        let session = match (renew.session, inner.nodes.get_mut(&renew.node)) {
            (Some(session), Some(node)) if node.session == session => {
                node.expires = now + renew.lease;
                if node.seen != renew.seen {
                    self.changed.notify_waiters();
                }
                node.seen = renew.seen;
                Ok(session)
            }
            (Some(_), _) => Err(LeaseError::Lost),
            (None, Some(node)) => Err(LeaseError::Taken {
                left: node.expires - now,
            }),
            (None, None) => {
                changed = true;
                inner.sessions += 1;
                let session = inner.sessions;
                let node = Node {
                    session,
                    expires: now + renew.lease,
                    seen: 0,
                };
                inner.nodes.insert(Arc::clone(&renew.node), node);
                Ok(session)
            }
        };
        if changed {
            inner.view += 1;
            self.changed.notify_waiters();
        }
        let node = |(name, node): (&Arc<str>, &Node)| NodeLease {
            name: Arc::clone(name),
            left: node.expires - now,
            seen: node.seen,
        };
        let nodes = inner.nodes.iter().map(node).collect();
        Ok(Renewed {
            session: session?,
            view: inner.view,
            nodes,
        })
    }

    fn leave_now(&self, node: &str, session: u64) {
        let mut inner = self.inner.lock();
        if inner
            .nodes
            .get(node)
            .is_some_and(|node| node.session == session)
        {
            inner.nodes.remove(node);
            inner.view += 1;
            self.changed.notify_waiters();
        }
    }
}

impl Leases for Model {
    fn renew(&self, renew: Renew) -> BoxFuture<'_, Result<Renewed, LeaseError>> {
        async move { self.renew_now(&renew) }.boxed()
    }

    fn leave<'a>(&'a self, node: &'a str, session: u64) -> BoxFuture<'a, Result<(), LeaseError>> {
        self.leave_now(node, session);
        async { Ok(()) }.boxed()
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        self.changed.notified().boxed()
    }
}
