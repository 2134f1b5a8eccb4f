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
use dialtone_hub::store::Store;
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

/// At which step a process ends, and whether it has come to that.
#[derive(Debug)]
struct Fate {
    steps: AtomicUsize,
    dies_at: usize,
    died: Notify,
}

/// A ledger whose process ends at a step: before something is written, or after it was and before anybody knows.
#[derive(Debug)]
struct Dying {
    ledger: Stored,
    fate: Arc<Fate>,
}

impl Dying {
    async fn step(&self) {
        if self.fate.steps.fetch_add(1, Ordering::SeqCst) + 1 == self.fate.dies_at {
            self.fate.died.notify_one();
            std::future::pending::<()>().await;
        }
    }

    fn around<'a, T: Send + 'a>(&'a self, work: Answer<'a, T>) -> Answer<'a, T> {
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

async fn ledger(store: Store, ttl: u64) -> Stored {
    Stored::new(
        store.clone(),
        Live::open(&store).await.unwrap().0,
        "here".to_owned(),
        Uuid::new_v4().to_string(),
        Duration::from_millis(ttl),
        None,
        Arc::new(Notify::new()),
    )
}

/// An executor on a runtime of its own, with which all of it ends where it stands: as a process would.
fn doomed(site: &Site, fate: &Arc<Fate>, end: &CancellationToken) -> std::thread::JoinHandle<()> {
    let (location, ttl, homes) = (site.location(), site.ttl, site.homes());
    let (fate, end) = (Arc::clone(fate), end.clone());
    std::thread::spawn(move || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        runtime.block_on(async {
            let ledger = ledger(crate::site::open(&location).await, ttl).await;
            let ledger = Arc::new(Dying { ledger, fate });
            let runner = runner(&homes.display().to_string(), "", "");
            let executor = Executor::new(ledger, runner, limits(ttl));
            tokio::spawn(executor.run(CancellationToken::new()));
            end.cancelled().await;
        });
        runtime.shutdown_background();
    })
}

/// An executor that dies at a step, and after it one that does not. Whether it came to that step.
async fn one_that_dies_and_another(
    asks: &Asks,
    site: &Site,
    id: ProjectId,
    verb: Verb,
    dies_at: usize,
) -> bool {
    let fate = Arc::new(Fate {
        steps: AtomicUsize::new(0),
        dies_at,
        died: Notify::new(),
    });
    let stop = CancellationToken::new();
    let thread = doomed(site, &fate, &stop);
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
        () = fate.died.notified() => true,
    };
    stop.cancel();
    thread.join().unwrap();
    if reached {
        let fate = Arc::new(Fate {
            steps: AtomicUsize::new(0),
            dies_at: usize::MAX,
            died: Notify::new(),
        });
        let stop = CancellationToken::new();
        let thread = doomed(site, &fate, &stop);
        let state = ask.await.unwrap();
        assert_eq!(state.phase == Phase::Running, verb.runs(), "step {dies_at}");
        stop.cancel();
        thread.join().unwrap();
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
