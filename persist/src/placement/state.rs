//! What a node knows of its lease and of the views. No I/O; the time is an argument.

use std::sync::Arc;
use std::time::Duration;

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

    /// Whether the lease lasts at `now`.
    pub(super) fn is_valid(&self, now: Instant) -> bool {
        self.valid_until.is_some_and(|end| now < end)
    }

    /// What is left of the lease by this node's clock, and the newest view.
    pub(super) fn lease(&self, now: Instant) -> NodeLease {
        let left = self
            .valid_until
            .map_or(Duration::ZERO, |end| end.saturating_duration_since(now));
        NodeLease {
            name: Arc::clone(&self.me),
            left,
            seen: self.number(),
        }
    }

    /// The nodes of the newest view.
    pub(super) fn nodes(&self) -> &[NodeLease] {
        &self.nodes
    }

    /// The number of the newest view; 0 without one.
    pub(super) fn number(&self) -> u64 {
        self.views.last().map_or(0, View::number)
    }

    /// Who serves a stream at `now`.
    pub(super) fn route(&self, stream: &str, now: Instant) -> Route {
        if !self.is_valid(now) {
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
        (0..1_000)
            .map(|number: u32| number.to_string())
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
        let a = node("a", std::slice::from_ref(&alone), end);
        assert_eq!(a.route(&stream, now), Route::Here { fence: 1 });
        let a = node("a", &[alone, joined.clone()], end);
        assert_eq!(a.route(&stream, now), Route::There { node: "b".into() });
        assert_eq!(
            a.route(&stream_of("a", ["a", "b"]), now),
            Route::Here { fence: 2 }
        );
        let b = node("b", std::slice::from_ref(&joined), end);
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
