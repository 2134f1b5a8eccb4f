//! What a node knows of the placement: a value without I/O, and a handle to share it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::time::Instant;

use super::leases::{NodeLease, Renewed};
use super::rendezvous::View;

/// Most views that are kept until everybody acts on the last one; with more, a node begins anew.
const VIEWS_MAX: usize = 64;

/// Who serves a stream, as far as this node knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// This node, with a fencing number for streams that it opens now.
    Here {
        /// The fencing number.
        fence: u64,
    },
    /// Another node.
    There {
        /// Its name.
        node: Arc<str>,
    },
    /// This node, but not yet: another one may still be letting go of it.
    Soon,
    /// This node has no lease, so that it knows of nobody.
    Nobody,
}

/// What a node knows: its lease, and the views since the last one that everybody acts on.
#[derive(Debug, Default)]
pub(super) struct State {
    me: Arc<str>,
    /// Every view since the first of them, ascending; empty without a lease.
    views: Vec<View>,
    /// Everybody acts on the first of them, or a later one.
    settled: bool,
    valid_until: Option<Instant>,
    nodes: Vec<NodeLease>,
}

impl State {
    pub(super) fn new(me: Arc<str>) -> Self {
        Self {
            me,
            ..Self::default()
        }
    }

    /// Takes in what the store has said. The lease lasts until `valid_until` by this node's clock.
    pub(super) fn renewed(&mut self, renewed: &Renewed, valid_until: Instant) {
        self.valid_until = Some(valid_until);
        self.nodes.clone_from(&renewed.nodes);
        if self.number() < renewed.view {
            // Somebody else may have had anything in a view that this node has not seen.
            if self.number() + 1 < renewed.view || self.views.len() == VIEWS_MAX {
                self.views.clear();
                self.settled = false;
            }
            self.views.push(renewed.view());
        }
        let seen = renewed.seen_by_all();
        if let Some(settled) = self.views.iter().rposition(|view| view.number() <= seen) {
            self.views.drain(..settled);
            self.settled = true;
        }
    }

    /// The lease is gone, and with it everything that followed from it.
    pub(super) fn lost(&mut self) {
        self.views.clear();
        self.nodes.clear();
        self.settled = false;
        self.valid_until = None;
    }

    /// The number of the newest view; 0 without one.
    pub(super) fn number(&self) -> u64 {
        self.views.last().map_or(0, View::number)
    }

    fn route(&self, stream: &str, now: Instant) -> Route {
        if self.valid_until.is_none_or(|end| now >= end) {
            return Route::Nobody;
        }
        let Some(view) = self.views.last() else {
            return Route::Nobody;
        };
        match view.owner(stream) {
            None => Route::Nobody,
            Some(owner) if *owner != self.me => Route::There {
                node: Arc::clone(owner),
            },
            // Owned without a break since a view that everybody acted on: nobody else can have had it meanwhile.
            Some(_)
                if self.settled
                    && self
                        .views
                        .iter()
                        .all(|view| view.owner(stream) == Some(&self.me)) =>
            {
                Route::Here {
                    fence: view.number(),
                }
            }
            Some(_) => Route::Soon,
        }
    }
}

/// The placement as a node sees it; clones are the same one. Asking costs a read lock and a hash per node.
#[derive(Debug, Clone)]
pub struct Placement {
    me: Arc<str>,
    state: Option<Arc<RwLock<State>>>,
    fixed: Option<Arc<View>>,
    changes: watch::Sender<u64>,
    released: watch::Sender<u64>,
}

impl Placement {
    /// A node that has every stream, because there is no other.
    pub fn alone(me: impl Into<Arc<str>>) -> Self {
        let me = me.into();
        Self::with(Arc::clone(&me), None, Some(Arc::new(View::new(0, [me]))))
    }

    /// A node among others that are always the same: a stream's node may be away, and nobody takes its place. For
    /// backends that keep a stream on the node itself.
    pub fn fixed<N: Into<Arc<str>>>(
        me: impl Into<Arc<str>>,
        nodes: impl IntoIterator<Item = N>,
    ) -> Self {
        Self::with(me.into(), None, Some(Arc::new(View::new(0, nodes))))
    }

    /// A node whose keeper tells it what it knows.
    pub(super) fn leased(me: Arc<str>) -> Self {
        let state = Arc::new(RwLock::new(State::new(Arc::clone(&me))));
        Self::with(me, Some(state), None)
    }

    fn with(me: Arc<str>, state: Option<Arc<RwLock<State>>>, fixed: Option<Arc<View>>) -> Self {
        Self {
            me,
            state,
            fixed,
            changes: watch::Sender::new(0),
            released: watch::Sender::new(0),
        }
    }

    /// The name of this node.
    pub fn node(&self) -> &Arc<str> {
        &self.me
    }

    /// Whether streams may move to other nodes, so that whoever opens one claims it with the fencing number.
    pub fn is_shared(&self) -> bool {
        self.state.is_some()
    }

    /// Who serves a stream now. An answer that was read from a stream is good if this still says `Here` afterwards.
    pub fn route(&self, stream: &str) -> Route {
        if let Some(state) = &self.state {
            return state.read().route(stream, Instant::now());
        }
        match self.fixed.as_ref().and_then(|view| view.owner(stream)) {
            None => Route::Nobody,
            Some(owner) if *owner == self.me => Route::Here { fence: 0 },
            Some(owner) => Route::There {
                node: Arc::clone(owner),
            },
        }
    }

    /// The nodes that are known, with the number of the view; the lease of a fixed node never ends.
    pub fn nodes(&self) -> (u64, Vec<NodeLease>) {
        if let Some(state) = &self.state {
            let state = state.read();
            return (state.number(), state.nodes.clone());
        }
        let names = self.fixed.iter().flat_map(|view| view.nodes());
        let node = |name: &Arc<str>| NodeLease {
            name: Arc::clone(name),
            left: Duration::MAX,
            seen: 0,
        };
        (0, names.map(node).collect())
    }

    /// The number of the view, to be waited on; 0 while there is no lease. After each change, the service lets go of
    /// every open stream for which [`route`](Self::route) does not say `Here`, and then calls
    /// [`release`](Self::release).
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The service holds nothing any more that this node does not own in view `number`.
    pub fn release(&self, number: u64) {
        self.released.send_replace(number);
    }

    /// Up to which view the service has let go of what the node lost.
    pub(super) fn releases(&self) -> watch::Receiver<u64> {
        self.released.subscribe()
    }

    /// Changes what is known, and tells those who wait.
    pub(super) fn update(&self, change: impl FnOnce(&mut State)) {
        let Some(state) = &self.state else {
            return;
        };
        let mut state = state.write();
        change(&mut state);
        let number = state.number();
        drop(state);
        self.changes
            .send_if_modified(|known| std::mem::replace(known, number) != number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renewed(view: u64, nodes: &[(&str, u64)]) -> Renewed {
        let node = |(name, seen): &(&str, u64)| NodeLease {
            name: (*name).into(),
            left: Duration::from_secs(9),
            seen: *seen,
        };
        Renewed {
            session: 1,
            view,
            nodes: nodes.iter().map(node).collect(),
        }
    }

    /// A stream of `a` as long as it is there.
    fn stream_of(owner: &str, nodes: [&str; 2]) -> String {
        let view = View::new(1, nodes);
        (0..)
            .map(|number| number.to_string())
            .find(|name| **view.owner(name).unwrap() == *owner)
            .unwrap()
    }

    fn node(me: &str, history: &[Renewed], end: Instant) -> State {
        let mut state = State::new(me.into());
        for renewed in history {
            state.renewed(renewed, end);
        }
        state
    }

    #[test]
    fn a_stream_is_served_when_everybody_has_let_go_of_it() {
        let now = Instant::now();
        let end = now + Duration::from_secs(9);
        let stream = stream_of("b", ["a", "b"]);
        let alone = renewed(1, &[("a", 1)]);
        let joined = renewed(2, &[("a", 1), ("b", 2)]);
        let settled = renewed(2, &[("a", 2), ("b", 2)]);
        let a = node("a", &[renewed(1, &[("a", 0)])], end);
        assert_eq!(a.route(&stream, now), Route::Soon);
        let a = node("a", &[alone.clone()], end);
        assert_eq!(a.route(&stream, now), Route::Here { fence: 1 });
        let a = node("a", &[alone, joined.clone()], end);
        assert_eq!(a.route(&stream, now), Route::There { node: "b".into() });
        assert_eq!(
            a.route(&stream_of("a", ["a", "b"]), now),
            Route::Here { fence: 2 }
        );
        let b = node("b", &[joined.clone()], end);
        assert_eq!(b.route(&stream, now), Route::Soon);
        let mut b = node("b", &[joined, settled], end);
        assert_eq!(b.route(&stream, now), Route::Here { fence: 2 });
        assert_eq!(b.route(&stream, end), Route::Nobody);
        b.lost();
        assert_eq!(b.route(&stream, now), Route::Nobody);
    }

    #[test]
    fn a_stream_that_was_elsewhere_meanwhile_is_not_served_before_it_came_back() {
        let now = Instant::now();
        let end = now + Duration::from_secs(9);
        let stream = stream_of("b", ["a", "b"]);
        let history = [
            renewed(1, &[("a", 1)]),
            renewed(2, &[("a", 1), ("b", 2)]),
            renewed(3, &[("a", 2)]),
        ];
        assert_eq!(node("a", &history, end).route(&stream, now), Route::Soon);
        // The same when it has not seen who was there meanwhile.
        let skipped = [renewed(1, &[("a", 1)]), renewed(3, &[("a", 1)])];
        assert_eq!(node("a", &skipped, end).route(&stream, now), Route::Soon);
        let back = [
            renewed(1, &[("a", 1)]),
            renewed(3, &[("a", 1)]),
            renewed(3, &[("a", 3)]),
        ];
        assert_eq!(
            node("a", &back, end).route(&stream, now),
            Route::Here { fence: 3 }
        );
    }
}
