//! Taking orders from a ledger and carrying them out, many at a time; and noticing what ends by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dialtone_hub::id::ProjectId;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::ledger::{CopyTask, Death, Error, Ledger};
use crate::run::Run;
use crate::runner::{CopyUsers, Runner};
use crate::transition::{self, Limits};

/// How much is done at once, and how often it is looked without being told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Orders that are carried out at once.
    pub orders_max: usize,
    /// Files or folders that are copied at once.
    pub copies_max: usize,
    /// How often it is looked for orders, copies and runs without news of them.
    pub poll: Duration,
    /// How long what was begun may take when this executor is told to stop; then others go on with it.
    pub drain_max: Duration,
    /// How long a copy may take that says nothing about it.
    pub copy_max: Duration,
    /// How long the steps of an order may take.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            orders_max: 16,
            copies_max: 4,
            poll: Duration::from_secs(3),
            drain_max: Duration::from_secs(8),
            copy_max: Duration::from_mins(10),
            limits: Limits::default(),
        }
    }
}

/// Copies are taken and runs are looked for no more often than this, however often orders come and end.
const LOOK_LEAST: Duration = Duration::from_millis(250);

/// Carries out the orders of one ledger with one runner.
#[derive(Debug, Clone)]
pub struct Executor {
    ledger: Arc<dyn Ledger>,
    runner: Arc<dyn Runner>,
    config: Config,
}

impl Executor {
    /// One that does nothing yet.
    pub fn new(ledger: Arc<dyn Ledger>, runner: Arc<dyn Runner>, config: Config) -> Self {
        Self {
            ledger,
            runner,
            config,
        }
    }

    /// Works until it is told to stop, and then for a short while on what was begun.
    pub async fn run(self, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let dropped = CancellationToken::new();
        let orders = Arc::new(Semaphore::new(self.config.orders_max));
        let copies = Arc::new(Semaphore::new(self.config.copies_max));
        let mut watched: BTreeMap<Uuid, CancellationToken> = BTreeMap::new();
        let mut looked: Option<Instant> = None;
        while !stop.is_cancelled() {
            let taken = self.take_orders(&orders, &tasks, &dropped).await;
            let looks = looked.is_none_or(|at| at.elapsed() >= LOOK_LEAST);
            if looks {
                looked = Some(Instant::now());
                self.take_copies(&copies, &tasks, &dropped).await;
                self.watch(&mut watched, &tasks, &dropped).await;
            }
            if taken {
                // There may be more than could be taken at once.
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.ledger.news() => {}
                () = freed(&orders, self.config.orders_max) => {}
                () = tokio::time::sleep(if looks { self.config.poll } else { LOOK_LEAST }) => {}
            }
        }
        for (_, watch) in watched {
            watch.cancel();
        }
        tasks.close();
        if tokio::time::timeout(self.config.drain_max, tasks.wait())
            .await
            .is_err()
        {
            tracing::info!("orders that are not done yet are left to others");
            dropped.cancel();
            tasks.wait().await;
        }
    }

    /// Whether anything was there.
    async fn take_orders(
        &self,
        orders: &Arc<Semaphore>,
        tasks: &TaskTracker,
        dropped: &CancellationToken,
    ) -> bool {
        let free = orders.available_permits();
        if free == 0 {
            return false;
        }
        let claimed = Instant::now();
        let taken = match self.ledger.claim(free).await {
            Ok(taken) => taken,
            Err(error) => {
                report(&error, "no orders can be taken");
                return false;
            }
        };
        let any = !taken.is_empty();
        for task in taken {
            // Only this task takes permits, and it took no more than there are.
            let Ok(permit) = Arc::clone(orders).try_acquire_owned() else {
                break;
            };
            let (this, dropped) = (self.clone(), dropped.clone());
            tasks.spawn(async move {
                let id = task.claim.project_id;
                let (ledger, runner) = (&this.ledger, &this.runner);
                let limits = &this.config.limits;
                let work = transition::carry_out(ledger, runner, limits, task, claimed);
                tokio::select! {
                    done = work => match done {
                        Ok(outcome) => tracing::info!(
                            project = %id,
                            order = outcome.order.verb.name(),
                            number = outcome.order.number,
                            runs = outcome.runs,
                            failure = outcome.failure.as_ref().map(|failure| failure.parts().1),
                            "an order was carried out"
                        ),
                        Err(error) => tracing::warn!(
                            project = %id,
                            error = &error as &dyn std::error::Error,
                            "an order is left to others"
                        ),
                    },
                    () = dropped.cancelled() => {}
                }
                drop(permit);
            });
        }
        any
    }

    async fn take_copies(
        &self,
        copies: &Arc<Semaphore>,
        tasks: &TaskTracker,
        dropped: &CancellationToken,
    ) {
        let free = copies.available_permits();
        if free == 0 {
            return;
        }
        let taken = match self.ledger.claim_copies(free).await {
            Ok(taken) => taken,
            Err(error) => return report(&error, "no copies can be taken"),
        };
        for task in taken {
            let Ok(permit) = Arc::clone(copies).try_acquire_owned() else {
                break;
            };
            let (this, dropped) = (self.clone(), dropped.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = this.copy(task) => {}
                    () = dropped.cancelled() => {}
                }
                drop(permit);
            });
        }
    }

    async fn copy(&self, task: CopyTask) {
        let users = CopyUsers {
            source: task.source_uid,
            target: task.target_uid,
        };
        let limit = task.copy.timeout.unwrap_or(self.config.copy_max);
        let work = tokio::time::timeout(limit, self.runner.copy(&task.copy, users));
        tokio::pin!(work);
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                () = tokio::time::sleep(self.config.limits.ttl / 3) => {}
            }
            if self.ledger.hold_copy(task.id, task.generation).await == Err(Error::Lost) {
                return;
            }
        };
        let error = match done {
            Ok(Ok(())) => None,
            Ok(Err(reason)) => Some(reason),
            Err(_elapsed) => Some(format!("it took longer than {} s", limit.as_secs())),
        };
        let finished = self
            .ledger
            .finish_copy(task.id, task.generation, error.as_deref());
        if let Err(error) = finished.await {
            report(&error, "the end of a copy cannot be written down");
        }
    }

    /// Watches what runs on this machine, also what others have started.
    async fn watch(
        &self,
        watched: &mut BTreeMap<Uuid, CancellationToken>,
        tasks: &TaskTracker,
        dropped: &CancellationToken,
    ) {
        let started = match self.ledger.started().await {
            Ok(started) => started,
            Err(error) => return report(&error, "it is not known what runs"),
        };
        let current: BTreeMap<Uuid, (ProjectId, Run)> = started
            .into_iter()
            .map(|(id, run)| (run.id, (id, run)))
            .collect();
        watched.retain(|run_id, watch| {
            // What is not watched any more, and still recorded, is looked at anew.
            let stays = current.contains_key(run_id) && !watch.is_cancelled();
            if !stays {
                watch.cancel();
            }
            stays
        });
        let fresh = current
            .into_iter()
            .filter(|(run_id, _)| !watched.contains_key(run_id))
            .collect::<Vec<_>>();
        for (run_id, (id, run)) in fresh {
            let watch = dropped.child_token();
            watched.insert(run_id, watch.clone());
            let this = self.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = this.watch_one(id, &run) => watch.cancel(),
                    () = watch.cancelled() => {}
                }
            });
        }
    }

    async fn watch_one(&self, id: ProjectId, run: &Run) {
        let how = match self.runner.exited(id, run).await {
            Ok(how) => how,
            Err(error) => {
                tracing::warn!(project = %id, error, "a project cannot be watched");
                return;
            }
        };
        loop {
            match self.ledger.died(id, run.id, &how).await {
                Ok(Death::Ordered) => {
                    tracing::info!(project = %id, how, "a project has ended by itself");
                    return;
                }
                Ok(Death::Past) => return,
                Ok(Death::Pending) => {}
                Err(error) => report(&error, "the end of a project cannot be written down"),
            }
            tokio::time::sleep(self.config.poll).await;
        }
    }
}

/// Returns when an order is done, so that another can be taken.
async fn freed(orders: &Semaphore, all: usize) {
    if orders.available_permits() == all {
        // Nothing is under way that could free anything.
        return std::future::pending().await;
    }
    let free = u32::try_from(orders.available_permits()).unwrap_or(u32::MAX);
    // One more than now; given back at once.
    drop(orders.acquire_many(free.saturating_add(1)).await);
}

fn report(error: &Error, what: &'static str) {
    tracing::warn!(error = error as &dyn std::error::Error, "{what}");
}
