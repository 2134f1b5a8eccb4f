//! The placement of a node with a lease, as its service sees it.

use std::sync::Arc;
use std::time::Duration;

use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::{Fault, FaultKind};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::leases::NodeLease;
pub use super::state::Route;
use super::state::State;
use super::{Place, Placement};

/// How long a request waits for another node to let go of a stream. It is short, because a node says that it acts on a
/// view only when none of its requests is on its way to a stream that it may not have.
const SOON_MAX: Duration = Duration::from_millis(250);

/// When to ask again after that.
const RETRY_AFTER_MS: u64 = 100;

/// A node whose keeper tells it what it knows; clones are the same one.
#[derive(Debug, Clone)]
pub struct Leased {
    me: Arc<str>,
    state: Arc<RwLock<State>>,
    /// Counts what the keeper has said.
    heard: watch::Sender<u64>,
    view: watch::Sender<u64>,
    released: watch::Sender<u64>,
}

impl Leased {
    pub(super) fn new(me: Arc<str>) -> Self {
        Self {
            state: Arc::new(RwLock::new(State::new(Arc::clone(&me)))),
            me,
            heard: watch::Sender::new(0),
            view: watch::Sender::new(0),
            released: watch::Sender::new(0),
        }
    }

    /// The name of this node.
    pub fn node(&self) -> &Arc<str> {
        &self.me
    }

    /// Who serves a stream now.
    pub fn route(&self, stream: &str) -> Route {
        self.state.read().route(stream, Instant::now())
    }

    /// The number of the view and the nodes in it.
    pub fn leases(&self) -> (u64, Vec<NodeLease>) {
        let state = self.state.read();
        (state.number(), state.nodes().to_vec())
    }

    /// The number of the view; 0 without a lease. After each change, the service lets go of every stream for which
    /// [`route`](Self::route) does not say `Here`, and then calls [`release`](Self::release).
    pub fn views(&self) -> watch::Receiver<u64> {
        self.view.subscribe()
    }

    /// The service has nothing any more that this node does not own in view `number`.
    pub fn release(&self, number: u64) {
        self.released.send_replace(number);
    }

    /// Up to which view the service has let go of what the node lost.
    pub(super) fn releases(&self) -> watch::Receiver<u64> {
        self.released.subscribe()
    }

    /// Changes what is known, and tells those who wait.
    pub(super) fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.write();
        change(&mut state);
        let number = state.number();
        drop(state);
        self.view
            .send_if_modified(|known| std::mem::replace(known, number) != number);
        self.heard.send_modify(|count| *count += 1);
    }

    async fn locate_soon(&self, stream: &StreamName) -> Result<Place, Fault> {
        let deadline = Instant::now() + SOON_MAX;
        let mut heard = self.heard.subscribe();
        loop {
            let text = match self.route(stream.as_str()) {
                Route::Here { fence } => return Ok(Place::Here { fence }),
                Route::There { node } => {
                    return Ok(Place::There {
                        node: node.to_string(),
                    });
                }
                Route::Soon => "another node is letting go of the stream",
                Route::Nobody => "this node has no lease at the moment",
            };
            if !matches!(timeout_at(deadline, heard.changed()).await, Ok(Ok(()))) {
                return Err(Fault::new(FaultKind::Unavailable, text).retry_after(RETRY_AFTER_MS));
            }
        }
    }
}

impl Placement for Leased {
    fn locate<'a>(&'a self, stream: &'a StreamName) -> BoxFuture<'a, Result<Place, Fault>> {
        self.locate_soon(stream).boxed()
    }

    fn left(&self, _stream: &StreamName) {}

    fn holds(&self, stream: &StreamName) -> bool {
        matches!(self.route(stream.as_str()), Route::Here { .. })
    }

    fn lease(&self) -> Option<NodeLease> {
        Some(self.state.read().lease(Instant::now()))
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        let (_, nodes) = self.leases();
        Box::pin(ready(Ok(nodes
            .iter()
            .map(|node| node.name.to_string())
            .collect())))
    }
}

#[cfg(test)]
mod tests {
    use super::super::leases::Renewed;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_not_held_before_everybody_has_let_go_of_it() {
        let placement = Leased::new("a".into());
        let stream = StreamName::new("s").expect("a name");
        let end = Instant::now() + Duration::from_secs(9);
        for (seen, expected) in [(0, Route::Soon), (1, Route::Here { fence: 1 })] {
            let node = NodeLease {
                name: "a".into(),
                left: Duration::from_secs(9),
                seen,
            };
            let renewed = Renewed {
                session: 1,
                view: 1,
                nodes: vec![node],
            };
            placement.update(|state| state.renewed(&renewed, end));
            assert_eq!(placement.route(stream.as_str()), expected);
            assert_eq!(placement.holds(&stream), seen == 1);
        }
    }
}
