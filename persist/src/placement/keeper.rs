//! The task that holds a node's lease.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::leased::Leased;
use super::leases::{LeaseError, Leases, Renew, Renewed};
use super::state::State;

/// How a lease is held.
#[derive(Debug, Clone)]
pub struct KeeperConfig {
    /// How long a lease lasts; at least 100 ms. A node that has died is missed for that long.
    pub lease: Duration,
}

impl Default for KeeperConfig {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
        }
    }
}

impl KeeperConfig {
    /// Renewed so often that two attempts may fail.
    fn renew_interval(&self) -> Duration {
        self.lease / 4
    }

    /// For how long a node relies on its lease: less than it lasts, because clocks do not run at the same speed.
    fn relied_on(&self) -> Duration {
        self.lease / 10 * 9
    }
}

/// Takes a lease, renews it, and gives it back.
#[derive(Debug)]
pub struct Keeper {
    leases: Arc<dyn Leases>,
    config: KeeperConfig,
    placement: Leased,
    releases: watch::Receiver<u64>,
    session: Option<u64>,
    /// The last view of which the store was told that this node acts on it.
    told: u64,
}

impl Keeper {
    /// A keeper, and what it tells the node.
    pub fn new(
        leases: Arc<dyn Leases>,
        node: impl Into<Arc<str>>,
        config: KeeperConfig,
    ) -> (Self, Leased) {
        let placement = Leased::new(node.into());
        let keeper = Self {
            leases,
            config,
            releases: placement.releases(),
            placement: placement.clone(),
            session: None,
            told: 0,
        };
        (keeper, placement)
    }

    /// What this keeper tells its node.
    pub fn placement(&self) -> Leased {
        self.placement.clone()
    }

    /// Holds the lease until `stop`, and gives it back then: whoever stops it has let go of every stream before.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let asked = Instant::now();
            // When the lease ends while nobody answers, the state says so by itself.
            let work = timeout(self.config.relied_on(), self.renew(asked));
            let next = tokio::select! {
                renewed = work => self.next(asked, renewed.unwrap_or_else(|_| Err(timed_out()))),
                () = stop.cancelled() => break,
            };
            let known = self.known();
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.leases.changed() => {}
                () = released(&mut self.releases, self.told, known) => {}
                () = stop.cancelled() => break,
            }
        }
        self.leave().await;
    }

    fn known(&self) -> u64 {
        *self.placement.views().borrow()
    }

    async fn renew(&mut self, asked: Instant) -> Result<Renewed, LeaseError> {
        // What was said of a lease that is gone says nothing now.
        let seen = self.known().min(*self.releases.borrow_and_update());
        let renew = Renew {
            node: Arc::clone(self.placement.node()),
            session: self.session,
            seen,
            lease: self.config.lease,
        };
        let renewed = self.leases.renew(renew).await?;
        if self.session != Some(renewed.session) {
            tracing::info!(node = %self.placement.node(), view = renewed.view, "this node has a lease");
        }
        self.session = Some(renewed.session);
        self.told = seen;
        let valid_until = asked + self.config.relied_on();
        self.placement
            .update(|state| state.renewed(&renewed, valid_until));
        Ok(renewed)
    }

    /// When to renew next.
    fn next(&mut self, asked: Instant, renewed: Result<Renewed, LeaseError>) -> Instant {
        let interval = self.config.renew_interval();
        match renewed {
            Ok(_) => asked + interval,
            Err(LeaseError::Lost) => {
                tracing::warn!(node = %self.placement.node(), "the lease had ended before it was renewed; a new one is taken");
                self.session = None;
                self.told = 0;
                self.placement.release(0);
                self.placement.update(State::lost);
                Instant::now()
            }
            Err(error @ LeaseError::Taken { left }) => {
                tracing::warn!(node = %self.placement.node(), %error, "this node waits for its lease");
                Instant::now() + left.min(self.config.lease)
            }
            Err(error @ LeaseError::Store(_)) => {
                tracing::warn!(node = %self.placement.node(), %error, "the lease was not renewed");
                Instant::now() + interval / 2
            }
        }
    }

    async fn leave(&self) {
        self.placement.update(State::lost);
        let Some(session) = self.session else {
            return;
        };
        let left = timeout(
            self.config.lease,
            self.leases.leave(self.placement.node(), session),
        )
        .await;
        if let Err(error) = left.unwrap_or_else(|_| Err(timed_out())) {
            tracing::warn!(node = %self.placement.node(), %error, "the lease was not given back; it ends by itself");
        }
    }
}

/// Waits until the service has let go of more than the store was told of.
async fn released(releases: &mut watch::Receiver<u64>, told: u64, known: u64) {
    let is_more = |number: &u64| *number > told && *number <= known;
    let is_gone = releases.wait_for(is_more).await.is_err();
    if is_gone {
        std::future::pending::<()>().await;
    }
}

fn timed_out() -> LeaseError {
    LeaseError::Store(crate::backend::Error::Unavailable(
        "no answer in time".to_owned(),
    ))
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tasks of a test end with its runtime"
)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::FutureExt as _;
    use futures_util::future::{BoxFuture, pending};

    use super::*;
    use crate::placement::leases::NodeLease;
    use crate::placement::{Placement as _, Route};

    const LEASE: Duration = Duration::from_secs(10);

    /// How long the store thinks about its only answer.
    const THINKS: Duration = Duration::from_secs(3);

    /// A store that answers once, and then neither renews nor takes anything back.
    #[derive(Debug, Default)]
    struct Once {
        asked: AtomicU32,
    }

    impl Leases for Once {
        fn renew(&self, renew: Renew) -> BoxFuture<'_, Result<Renewed, LeaseError>> {
            if self.asked.fetch_add(1, Ordering::Relaxed) > 0 {
                return pending().boxed();
            }
            let node = NodeLease {
                name: renew.node,
                left: LEASE,
                seen: 1,
            };
            let renewed = Renewed {
                session: 1,
                view: 1,
                nodes: vec![node],
            };
            let answer = async move {
                tokio::time::sleep(THINKS).await;
                Ok(renewed)
            };
            answer.boxed()
        }

        fn leave<'a>(&'a self, _: &'a str, _: u64) -> BoxFuture<'a, Result<(), LeaseError>> {
            pending().boxed()
        }

        fn changed(&self) -> BoxFuture<'_, ()> {
            pending().boxed()
        }
    }

    fn start() -> (Leased, CancellationToken) {
        let config = KeeperConfig { lease: LEASE };
        let (keeper, placement) = Keeper::new(Arc::new(Once::default()), "a", config);
        let stop = CancellationToken::new();
        tokio::task::spawn(keeper.run(stop.clone()));
        (placement, stop)
    }

    /// The store counts from some moment while the question was under way; the node cannot know which.
    #[tokio::test(start_paused = true)]
    async fn a_lease_is_relied_on_from_when_it_was_asked_for() {
        let (placement, _stop) = start();
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        sleep_until(at(3_100)).await;
        assert_eq!(placement.route("s"), Route::Here { fence: 1 });
        sleep_until(at(8_900)).await;
        assert_eq!(placement.route("s"), Route::Here { fence: 1 });
        sleep_until(at(9_000)).await;
        assert_eq!(placement.route("s"), Route::Nobody);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_not_relied_on_while_it_is_given_back() {
        let (placement, stop) = start();
        tokio::time::sleep(THINKS + Duration::from_millis(100)).await;
        assert_eq!(placement.route("s"), Route::Here { fence: 1 });
        stop.cancel();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(placement.route("s"), Route::Nobody);
        let stream = dialtone_client::persist::StreamName::new("s").expect("a name");
        assert!(!placement.holds(&stream));
    }
}
