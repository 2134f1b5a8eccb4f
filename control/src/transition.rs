//! Carrying out one order: what the [machine](crate::machine) says is done by a runner, and told to a ledger.
//!
//! As long as it takes, the claim is kept. When it is lost, everything is dropped where it stands: what was started
//! stands behind a gate until it is written down, so that whoever takes over finds it or it ends by itself.

use std::sync::Arc;
use std::time::Duration;

use dialtone_hub::control::{Phase, Verb};
use dialtone_hub::id::ProjectId;
use dialtone_hub::time::Time;
use tokio::time::Instant;
use uuid::Uuid;

use crate::ledger::{Error, Ledger, Task};
use crate::machine::{Action, Input, Machine, Observed, Order, Outcome};
use crate::run::{Reached, Run};
use crate::runner::{Runner, Spec};

/// How long after a look at something that starts has failed it is looked again.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

/// How long the steps of an order may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long a claim lasts after its holder was heard of last.
    pub ttl: Duration,
    /// From starting something until it answers.
    pub start: Duration,
    /// Until nothing is left.
    pub end: Duration,
    /// Looking at what is there, and making something stand ready.
    pub look: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(15),
            start: Duration::from_mins(1),
            end: Duration::from_mins(1),
            look: Duration::from_secs(20),
        }
    }
}

/// An order while it is carried out.
struct Transition<'a> {
    ledger: &'a dyn Ledger,
    runner: &'a dyn Runner,
    limits: &'a Limits,
    task: Task,
    reached: Option<Reached>,
    /// When the claim is over, by our clock, which began before that of the ledger.
    over: Instant,
    /// When it is renewed next.
    renew: Instant,
}

/// Carries an order out to its end.
///
/// # Errors
/// When somebody else has it, or the ledger does not answer; in both cases somebody will go on.
pub async fn carry_out(
    ledger: &Arc<dyn Ledger>,
    runner: &Arc<dyn Runner>,
    limits: &Limits,
    task: Task,
    claimed: Instant,
) -> Result<Outcome, Error> {
    let mut transition = Transition {
        ledger: ledger.as_ref(),
        runner: runner.as_ref(),
        limits,
        task,
        reached: None,
        over: claimed + limits.ttl,
        renew: claimed + limits.ttl / 3,
    };
    let started_for = transition.task.run.as_ref().map(|run| run.order);
    let (mut machine, mut action) = Machine::new(transition.task.order, started_for);
    loop {
        tracing::debug!(
            project = %transition.task.claim.project_id,
            order = machine.order().number,
            verb = machine.order().verb.name(),
            ?action,
            "next step"
        );
        let input = match action {
            Action::Finish(outcome) => {
                transition.finish(&outcome).await?;
                return Ok(outcome);
            }
            Action::Observe => transition.observe().await?,
            Action::Tell(phase) => transition.tell(machine.order(), phase).await?,
            Action::End => transition.end().await?,
            Action::Launch => transition.launch(machine.order()).await?,
            Action::AwaitReady => transition.await_ready(machine.order()).await?,
        };
        action = machine.on(input);
    }
}

impl Transition<'_> {
    /// Does something at most for so long, and keeps the claim meanwhile. `None` if it takes longer. With `until`, it
    /// ends early when something else was ordered.
    async fn keeping<T>(
        &mut self,
        limit: Duration,
        until: Option<Order>,
        work: impl Future<Output = T>,
    ) -> Result<Kept<T>, Error> {
        let late = tokio::time::sleep(limit);
        tokio::pin!(work, late);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(Kept::Done(done)),
                () = &mut late => return Ok(Kept::Late),
                () = tokio::time::sleep_until(self.renew.min(self.over)) => {}
            }
            let last = self.hold().await?;
            if let (Some(ours), Some(last)) = (until, last)
                && last.number != ours.number
            {
                return Ok(Kept::Replaced(last));
            }
        }
    }

    /// Renews the claim. A ledger that does not answer is asked again as long as the claim lasts.
    async fn hold(&mut self) -> Result<Option<Order>, Error> {
        let asked = Instant::now();
        if asked >= self.over {
            return Err(Error::Lost);
        }
        let held = tokio::time::timeout_at(self.over, self.ledger.hold(&self.task.claim)).await;
        match held {
            Ok(Ok(order)) => {
                self.kept(asked);
                Ok(Some(order))
            }
            Ok(Err(Error::Lost)) | Err(_) => Err(Error::Lost),
            Ok(Err(Error::Unavailable(_))) => {
                self.renew = asked + self.limits.ttl / 10;
                Ok(None)
            }
        }
    }

    fn kept(&mut self, asked: Instant) {
        self.over = asked + self.limits.ttl;
        self.renew = asked + self.limits.ttl / 3;
    }

    async fn observe(&mut self) -> Result<Input, Error> {
        let (runner, task) = (self.runner, self.task.clone());
        let id = task.claim.project_id;
        let look = async {
            let observed = runner.observe(id, task.uid, task.run.as_ref()).await?;
            // Where it answers is told when it turns out to be what was ordered.
            let reached = match (observed, &task.run) {
                (Observed::Ready, Some(run)) => Some(runner.reached(id, run).await?),
                _ => None,
            };
            Ok::<_, String>((observed, reached))
        };
        match self.keeping(self.limits.look, None, look).await? {
            Kept::Done(Ok((observed, reached))) => {
                self.reached = reached;
                Ok(Input::Observed(observed))
            }
            Kept::Done(Err(reason)) => Err(Error::Unavailable(reason)),
            Kept::Late | Kept::Replaced(_) => Err(Error::Unavailable(
                "it cannot be seen what is there".to_owned(),
            )),
        }
    }

    async fn tell(&mut self, ours: Order, phase: Phase) -> Result<Input, Error> {
        let asked = Instant::now();
        let last = self.ledger.tell(&self.task.claim, phase).await?;
        self.kept(asked);
        Ok(replaced_or(ours, last, Input::Told))
    }

    async fn end(&mut self) -> Result<Input, Error> {
        let (runner, task) = (self.runner, self.task.clone());
        let id = task.claim.project_id;
        let end = runner.end(id, task.uid, task.run.as_ref());
        let limit = self.limits.end;
        Ok(match self.keeping(limit, None, end).await? {
            Kept::Done(Ok(())) => {
                self.task.run = None;
                self.reached = None;
                Input::Ended
            }
            Kept::Done(Err(reason)) => Input::NotEnded(reason),
            Kept::Late | Kept::Replaced(_) => {
                Input::NotEnded(format!("it did not end within {} s", limit.as_secs()))
            }
        })
    }

    async fn launch(&mut self, ours: Order) -> Result<Input, Error> {
        let spec = Spec {
            project_id: self.task.claim.project_id,
            order: ours.number,
            run_id: Uuid::new_v4(),
            quota: self.task.quota.clone(),
            env: self.task.env.clone(),
            image: self.task.image.clone(),
            uid: self.task.uid,
        };
        let (runner, limit) = (self.runner, self.limits.look);
        let gate = match self.keeping(limit, None, runner.prepare(&spec)).await? {
            Kept::Done(Ok(gate)) => gate,
            Kept::Done(Err(reason)) => return Ok(Input::NotLaunched(reason)),
            Kept::Late | Kept::Replaced(_) => {
                return Ok(Input::NotLaunched("the machine is too slow".to_owned()));
            }
        };
        let run = gate.run().clone();
        let asked = Instant::now();
        let (last, secret) = self.ledger.launch(&self.task.claim, &run).await?;
        self.kept(asked);
        self.task.run = Some(run);
        if last.number != ours.number {
            drop(gate);
            // It ends by itself, and must not be taken for something that lives meanwhile.
            drop(self.end().await?);
            return Ok(Input::Replaced(last));
        }
        Ok(match self.keeping(limit, None, gate.open(secret)).await? {
            Kept::Done(Ok(())) => Input::Launched,
            Kept::Done(Err(reason)) => Input::NotLaunched(reason),
            Kept::Late | Kept::Replaced(_) => {
                Input::NotLaunched("the machine is too slow".to_owned())
            }
        })
    }

    async fn await_ready(&mut self, ours: Order) -> Result<Input, Error> {
        let Some(run) = self.task.run.clone() else {
            return Ok(Input::Died("it is gone".to_owned()));
        };
        let id = self.task.claim.project_id;
        let since = Time::now().since(run.started);
        let limit = self.limits.start.saturating_sub(since);
        let (runner, first) = (self.runner, &run);
        let reached = async {
            tokio::select! {
                biased;
                reached = runner.reached(id, first) => reached,
                how = over(runner, id, first) => Err(how),
            }
        };
        Ok(match self.keeping(limit, Some(ours), reached).await? {
            Kept::Done(Ok(reached)) => {
                self.reached = Some(reached);
                Input::Ready
            }
            Kept::Done(Err(reason)) => Input::Died(reason),
            Kept::Replaced(last) => Input::Replaced(last),
            Kept::Late => Input::Late(format!(
                "it did not answer within {} s",
                self.limits.start.as_secs()
            )),
        })
    }

    async fn finish(&self, outcome: &Outcome) -> Result<(), Error> {
        let reached = match (&self.task.run, &self.reached) {
            (Some(run), Some(reached)) if outcome.runs => Some((run, reached)),
            _ => None,
        };
        self.ledger.finish(&self.task.claim, outcome, reached).await
    }
}

/// Waits until what was started is over, and says how that came. That it cannot be seen is no end of it.
async fn over(runner: &dyn Runner, id: ProjectId, run: &Run) -> String {
    loop {
        match runner.exited(id, run).await {
            Ok(how) => return how,
            Err(error) => {
                tracing::warn!(project = %id, error, "a project that starts cannot be watched; trying again");
            }
        }
        tokio::time::sleep(WATCH_AGAIN).await;
    }
}

/// How something came to its end.
enum Kept<T> {
    Done(T),
    Late,
    Replaced(Order),
}

fn replaced_or(ours: Order, last: Order, input: Input) -> Input {
    // A start that joins is no other order.
    let same = last.number == ours.number || (last.verb == Verb::Start && ours.verb == Verb::Start);
    if same { input } else { Input::Replaced(last) }
}
