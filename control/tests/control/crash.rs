//! An executor that dies at every step of an order, one after the other: the next one goes on, and the end is the same.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dialtone_control::executor::Executor;
use dialtone_control::ledger::{Answer, CopyTask, Death, Ledger, Stored, Task};
use dialtone_control::machine::{Order, Outcome};
use dialtone_control::run::{Reached, Run};
use dialtone_hub::control::{Control as _, Phase, Verb};
use dialtone_hub::id::ProjectId;
use dialtone_hub::settings::Live;
use dialtone_hub::store::control::Claim;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::on_both;
use crate::site::{Asks, Site, limits, runner};

on_both! {
    an_executor_may_die_at_every_step,
}

/// More steps than an order has.
const STEPS_MAX: usize = 40;

/// A ledger whose process ends at a step: before something is written, or after it was and before anybody knows.
#[derive(Debug)]
struct Dying {
    ledger: Stored,
    steps: AtomicUsize,
    dies_at: usize,
    died: Notify,
}

impl Dying {
    async fn step(&self) {
        if self.steps.fetch_add(1, Ordering::SeqCst) + 1 == self.dies_at {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
    }

    fn around<'a, T: 'a>(&'a self, work: Answer<'a, T>) -> Answer<'a, T>
    where
        T: Send,
    {
        Box::pin(async move {
            self.step().await;
            let done = work.await;
            self.step().await;
            done
        })
    }
}

impl Ledger for Dying {
    fn claim(&self, limit: usize) -> Answer<'_, Vec<Task>> {
        // Those that find nothing are no steps: how many there are depends on the clock.
        Box::pin(async move {
            let tasks = self.ledger.claim(limit).await;
            if tasks.as_ref().is_ok_and(|tasks| !tasks.is_empty()) {
                self.step().await;
            }
            tasks
        })
    }
    fn hold<'a>(&'a self, claim: &'a Claim) -> Answer<'a, Order> {
        self.ledger.hold(claim)
    }
    fn tell<'a>(&'a self, claim: &'a Claim, phase: Phase) -> Answer<'a, Order> {
        self.around(self.ledger.tell(claim, phase))
    }
    fn launch<'a>(&'a self, claim: &'a Claim, run: &'a Run) -> Answer<'a, (Order, String)> {
        self.around(self.ledger.launch(claim, run))
    }
    fn finish<'a>(
        &'a self,
        claim: &'a Claim,
        outcome: &'a Outcome,
        reached: Option<(&'a Run, &'a Reached)>,
    ) -> Answer<'a, ()> {
        self.around(self.ledger.finish(claim, outcome, reached))
    }
    fn died<'a>(&'a self, id: ProjectId, run_id: Uuid, reason: &'a str) -> Answer<'a, Death> {
        self.ledger.died(id, run_id, reason)
    }
    fn started(&self) -> Answer<'_, Vec<(ProjectId, Run)>> {
        self.ledger.started()
    }
    fn claim_copies(&self, limit: usize) -> Answer<'_, Vec<CopyTask>> {
        self.ledger.claim_copies(limit)
    }
    fn hold_copy(&self, id: Uuid, generation: i64) -> Answer<'_, ()> {
        self.ledger.hold_copy(id, generation)
    }
    fn finish_copy<'a>(
        &'a self,
        id: Uuid,
        generation: i64,
        error: Option<&'a str>,
    ) -> Answer<'a, ()> {
        self.ledger.finish_copy(id, generation, error)
    }
    fn news(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.ledger.news()
    }
}

/// An executor that dies at a step, and after it one that does not. Whether it came to that step.
async fn one_that_dies_and_another(
    asks: &Asks,
    site: &Site,
    id: ProjectId,
    verb: Verb,
    dies_at: usize,
) -> bool {
    let ledger = Stored::new(
        asks.store.clone(),
        Live::open(&asks.store).await.unwrap().0,
        "here".to_owned(),
        Uuid::new_v4().to_string(),
        Duration::from_millis(site.ttl),
        None,
        Arc::new(Notify::new()),
    );
    let dying = Arc::new(Dying {
        ledger: ledger.clone(),
        steps: AtomicUsize::new(0),
        dies_at,
        died: Notify::new(),
    });
    let homes = site.homes().display().to_string();
    let runner = runner(&homes, "", "");
    let begin = |ledger: Arc<dyn Ledger>| {
        let executor = Executor::new(ledger, Arc::clone(&runner), limits(site.ttl));
        tokio::spawn(executor.run(CancellationToken::new()))
    };
    // Nothing of it goes on: all it has begun are tasks of a runtime that ends with it.
    let first = {
        let dying: Arc<dyn Ledger> = Arc::<Dying>::clone(&dying);
        let executor = Executor::new(dying, Arc::clone(&runner), limits(site.ttl));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let stop = CancellationToken::new();
            (runtime, executor, stop)
        })
        .join()
        .unwrap()
    };
    let (runtime, executor, stop) = first;
    let ending = stop.clone();
    let thread = std::thread::spawn(move || {
        runtime.spawn(executor.run(CancellationToken::new()));
        runtime.block_on(ending.cancelled());
        // Dropped here, with every task in it, where it stands.
        drop(runtime);
    });
    let ask = async {
        match verb {
            Verb::Start => asks.projects.start(id).await,
            Verb::Stop => asks.projects.stop(id).await,
            Verb::Restart => asks.projects.restart(id).await,
        }
    };
    tokio::pin!(ask);
    let reached = tokio::select! {
        state = &mut ask => {
            state.unwrap();
            false
        }
        () = dying.died.notified() => true,
    };
    stop.cancel();
    thread.join().unwrap();
    if reached {
        let second = begin(Arc::new(ledger));
        let state = ask.await.unwrap();
        assert_eq!(state.phase == Phase::Running, verb.runs(), "step {dies_at}");
        second.abort();
        drop(second.await);
    }
    reached
}

async fn an_executor_may_die_at_every_step(mut site: Site) {
    site.ttl = 400;
    let asks = site.asks().await;
    let id = asks.make_project().await;
    for verb in [Verb::Start, Verb::Restart, Verb::Stop] {
        let mut steps = 0;
        for step in 1..=STEPS_MAX {
            // From the same beginning each time.
            let before = if verb == Verb::Start {
                Verb::Stop
            } else {
                Verb::Start
            };
            one_that_dies_and_another(&asks, &site, id, before, usize::MAX).await;
            if !one_that_dies_and_another(&asks, &site, id, verb, step).await {
                break;
            }
            steps = step;
            let there = site.processes(id);
            assert_eq!(
                there.len(),
                usize::from(verb.runs()),
                "{verb:?}, step {step}: {there:?}"
            );
            assert_eq!(site.read(id, "complaints"), "", "{verb:?}, step {step}");
        }
        assert!(
            (3..STEPS_MAX).contains(&steps),
            "{verb:?} has {steps} steps"
        );
    }
}
