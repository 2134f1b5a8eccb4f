//! The ledger of executors in the process of a hub: its database.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use dialtone_hub::auth::token::Token;
use dialtone_hub::control::{Phase, State, Verb};
use dialtone_hub::id::ProjectId;
use dialtone_hub::settings::Live;
use dialtone_hub::store::control::{self as rows, Claim, Held, Record};
use dialtone_hub::store::{self, Store, Transaction, copies, projects, users};
use serde_json::Value as Json;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::{Answer, CopyTask, Death, Error, Ledger, Task};
use crate::machine::{Order, Outcome};
use crate::quota::{self, Quota, Site};
use crate::run::{Reached, Run};

/// How many orders are claimed at once at most, whatever an executor asks for.
const CLAIM_MAX: usize = 256;

/// How much of a reason is stored, in characters.
const REASON_MAX: usize = 500;

/// The database of a hub, for executors on one machine.
#[derive(Debug, Clone)]
pub struct Stored {
    store: Store,
    settings: Live,
    host: String,
    holder: String,
    ttl: Duration,
    uids: Option<std::ops::RangeInclusive<u32>>,
    news: Arc<Notify>,
    /// Executors stand in line for the database: an order that is refused there is delayed until its claim is over.
    writing: Arc<Semaphore>,
}

/// How many transactions of a ledger are at the database at once.
const WRITING_MAX: usize = 4;

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Stored {
    /// For executors on the machine `host`, in a process that is called `holder`, whose claims last for `ttl` unless
    /// they are renewed. `uids` is the range of users of the system, where each project has its own; `news` is told when
    /// there may be orders.
    pub fn new(
        store: Store,
        settings: Live,
        host: String,
        holder: String,
        ttl: Duration,
        uids: Option<std::ops::RangeInclusive<u32>>,
        news: Arc<Notify>,
    ) -> Self {
        Self {
            store,
            settings,
            host,
            holder,
            ttl,
            uids,
            news,
            writing: Arc::new(Semaphore::new(WRITING_MAX)),
        }
    }

    /// The same database for executors on another machine, in a process of another name. All of them stand in one line.
    #[must_use]
    pub fn of_worker(
        &self,
        host: String,
        holder: String,
        uids: Option<std::ops::RangeInclusive<u32>>,
    ) -> Self {
        Self {
            host,
            holder,
            uids,
            ..self.clone()
        }
    }

    /// A place at the database; nobody ever closes the line.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.writing).acquire_owned().await.ok()
    }

    /// Begins a transaction in which the claim holds.
    async fn held(&self, claim: &Claim) -> Result<(Transaction, Held), Error> {
        let mut on = self.store.write().await?;
        let held = rows::hold(&mut on, claim, self.ttl).await?;
        Ok((on, held.ok_or(Error::Lost)?))
    }

    async fn uid(&self, id: ProjectId) -> Result<Option<u32>, Error> {
        let Some(range) = &self.uids else {
            return Ok(None);
        };
        // Two that get theirs at the same time disturb each other once.
        for _ in 0..16 {
            let mut on = self.store.write().await?;
            match users::ensure(&mut on, &self.host, id, range.clone()).await {
                Ok(Some(uid)) => {
                    on.commit().await?;
                    return Ok(Some(uid));
                }
                Ok(None) => {
                    let text = format!(
                        "all users from {} to {} are given",
                        range.start(),
                        range.end()
                    );
                    return Err(Error::Unavailable(text));
                }
                Err(store::Error::Conflict { .. } | store::Error::Deadlock(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Unavailable("no user could be given".to_owned()))
    }

    /// What a project may use now; written down if that is news.
    async fn quota(&self, record: &Record) -> Result<Quota, Error> {
        let mut on = self.store.read().await?;
        let facts = rows::quota_facts(&mut on, record.project_id).await?;
        drop(on);
        let (settings, upgrades) = facts.unwrap_or_default();
        let quota = quota::compute(&site(&self.settings), &settings, &upgrades);
        if quota.differs(record.run_quota.as_ref()) {
            let mut on = self.store.write().await?;
            rows::put_quota(&mut on, record.project_id, &quota.to_json()).await?;
            on.commit().await?;
        }
        Ok(quota)
    }

    async fn task(&self, record: Record) -> Result<Task, Error> {
        let verb = record.verb.unwrap_or(Verb::Stop);
        let quota = if verb.runs() {
            self.quota(&record).await?
        } else {
            Quota::default()
        };
        Ok(Task {
            claim: Claim {
                project_id: record.project_id,
                generation: record.generation,
            },
            order: Order {
                number: record.ordered,
                verb,
            },
            run: record.run.and_then(|run| serde_json::from_value(run).ok()),
            quota,
            env: env(&record.env),
            image: record.compute_image,
            uid: self.uid(record.project_id).await?,
        })
    }

    async fn claim_all(&self, limit: usize) -> Result<Vec<Task>, Error> {
        let limit = i64::try_from(limit.min(CLAIM_MAX)).unwrap_or(0);
        // A look disturbs nobody, and mostly there is nothing.
        if !rows::any_to_claim(&mut self.store.read().await?, &self.host).await? {
            return Ok(Vec::new());
        }
        let mut on = self.store.write().await?;
        let claimed = rows::claim(&mut on, &self.host, &self.holder, self.ttl, limit).await?;
        on.commit().await?;
        let mut tasks = Vec::with_capacity(claimed.len());
        for record in claimed {
            let id = record.project_id;
            match self.task(record).await {
                Ok(task) => tasks.push(task),
                // The claim ends by itself, and then it is tried again.
                Err(error) => tracing::warn!(
                    project = %id,
                    error = &error as &dyn std::error::Error,
                    "an order cannot be carried out now"
                ),
            }
        }
        Ok(tasks)
    }

    async fn finish_with(
        &self,
        claim: &Claim,
        outcome: &Outcome,
        reached: Option<(&Run, &Reached)>,
    ) -> Result<(), Error> {
        let _turn = self.turn().await;
        let (mut on, held) = self.held(claim).await?;
        let id = claim.project_id;
        // Why a stop was ordered that nobody asked for is what users want to know of it.
        let reason = match rows::by_id(&mut on, id).await? {
            Some(record) if record.ordered == outcome.order.number => record.reason,
            _ => None,
        };
        let failure = outcome.failure.as_ref().map(|failure| failure.parts().1);
        let error = failure.or(reason.as_deref());
        let state = State {
            phase: if outcome.runs {
                Phase::Running
            } else {
                Phase::Opened
            },
            time: held.now,
            error: error.map(shortened),
            ip: reached.map(|(_, reached)| reached.ip),
        };
        rows::put_state(&mut on, claim, &state).await?;
        if let Some((run, reached)) = reached {
            let status = serde_json::to_value(reached.status(run)).unwrap_or(Json::Null);
            rows::put_status(&mut on, id, &status).await?;
        }
        let (order, failure) = (outcome.order, outcome.failure.as_ref());
        rows::finish(
            &mut on,
            claim,
            order.number,
            order.verb,
            failure,
            outcome.runs,
        )
        .await?;
        Ok(on.commit().await?)
    }

    async fn note_death(&self, id: ProjectId, run_id: Uuid, reason: &str) -> Result<Death, Error> {
        let mut on = self.store.write().await?;
        let Some(record) = rows::locked(&mut on, id).await? else {
            return Ok(Death::Past);
        };
        if record.run_id != Some(run_id) {
            return Ok(Death::Past);
        }
        if record.is_pending() {
            return Ok(Death::Pending);
        }
        rows::order(&mut on, id, Verb::Stop, Some(&shortened(reason))).await?;
        on.commit().await?;
        Ok(Death::Ordered)
    }

    async fn copy_task(&self, claimed: copies::Claimed) -> Result<CopyTask, Error> {
        Ok(CopyTask {
            id: claimed.id,
            generation: claimed.generation,
            source_uid: self.uid(claimed.copy.project_id).await?,
            target_uid: self.uid(claimed.copy.target_project_id).await?,
            copy: claimed.copy,
        })
    }
}

/// What the settings of the site say about quotas.
pub(crate) fn site(settings: &Live) -> Site {
    let settings = settings.get();
    let parsed = |name: &str| serde_json::from_str(settings.get(name)).unwrap_or(Json::Null);
    Site::new(&parsed("default_quotas"), &parsed("max_upgrades"))
}

fn shortened(text: &str) -> String {
    text.chars().take(REASON_MAX).collect()
}

fn env(json: &Json) -> BTreeMap<String, String> {
    let fields = json.as_object().into_iter().flatten();
    fields
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn order(held: Held) -> Order {
    Order {
        number: held.ordered,
        verb: held.verb,
    }
}

impl Ledger for Stored {
    fn claim(&self, limit: usize) -> Answer<'_, Vec<Task>> {
        Box::pin(self.claim_all(limit))
    }

    fn hold<'a>(&'a self, claim: &'a Claim) -> Answer<'a, Order> {
        Box::pin(async move {
            let _turn = self.turn().await;
            let (on, held) = self.held(claim).await?;
            on.commit().await?;
            Ok(order(held))
        })
    }

    fn tell<'a>(&'a self, claim: &'a Claim, phase: Phase) -> Answer<'a, Order> {
        Box::pin(async move {
            let _turn = self.turn().await;
            let (mut on, held) = self.held(claim).await?;
            let state = State {
                phase,
                time: held.now,
                error: None,
                ip: None,
            };
            rows::put_state(&mut on, claim, &state).await?;
            on.commit().await?;
            Ok(order(held))
        })
    }

    fn launch<'a>(&'a self, claim: &'a Claim, run: &'a Run) -> Answer<'a, (Order, String)> {
        Box::pin(async move {
            let _turn = self.turn().await;
            let (mut on, held) = self.held(claim).await?;
            let json =
                serde_json::to_value(run).map_err(|error| Error::Unavailable(error.to_string()))?;
            rows::put_run(&mut on, claim, &self.host, run.id, &json).await?;
            let fresh = secret();
            let secret = projects::ensure_secret_token(&mut on, claim.project_id, &fresh).await?;
            on.commit().await?;
            Ok((order(held), secret.ok_or(Error::Lost)?))
        })
    }

    fn finish<'a>(
        &'a self,
        claim: &'a Claim,
        outcome: &'a Outcome,
        reached: Option<(&'a Run, &'a Reached)>,
    ) -> Answer<'a, ()> {
        Box::pin(self.finish_with(claim, outcome, reached))
    }

    fn died<'a>(&'a self, id: ProjectId, run_id: Uuid, reason: &'a str) -> Answer<'a, Death> {
        Box::pin(self.note_death(id, run_id, reason))
    }

    fn started(&self) -> Answer<'_, Vec<(ProjectId, Run)>> {
        Box::pin(async move {
            let mut on = self.store.read().await?;
            let records = rows::started_on(&mut on, &self.host).await?;
            let run = |record: Record| {
                Some((record.project_id, serde_json::from_value(record.run?).ok()?))
            };
            Ok(records.into_iter().filter_map(run).collect())
        })
    }

    fn claim_copies(&self, limit: usize) -> Answer<'_, Vec<CopyTask>> {
        Box::pin(async move {
            let limit = i64::try_from(limit.min(CLAIM_MAX)).unwrap_or(0);
            let mut on = self.store.write().await?;
            let claimed = copies::claim(&mut on, &self.host, &self.holder, self.ttl, limit).await?;
            for one in &claimed {
                rows::settle(&mut on, one.copy.target_project_id, &self.host).await?;
            }
            on.commit().await?;
            let mut tasks = Vec::with_capacity(claimed.len());
            for one in claimed {
                let id = one.id;
                match self.copy_task(one).await {
                    Ok(task) => tasks.push(task),
                    // The claim ends by itself, and then it is tried again.
                    Err(error) => tracing::warn!(
                        copy = %id,
                        error = &error as &dyn std::error::Error,
                        "files cannot be copied now"
                    ),
                }
            }
            Ok(tasks)
        })
    }

    fn hold_copy(&self, id: Uuid, generation: i64) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut on = self.store.write().await?;
            let held = copies::renew(&mut on, id, generation, self.ttl).await?;
            on.commit().await?;
            held.then_some(()).ok_or(Error::Lost)
        })
    }

    fn finish_copy<'a>(
        &'a self,
        id: Uuid,
        generation: i64,
        error: Option<&'a str>,
    ) -> Answer<'a, ()> {
        Box::pin(async move {
            let mut on = self.store.write().await?;
            let error = error.map(shortened);
            let done = copies::finish(&mut on, id, generation, error.as_deref()).await?;
            on.commit().await?;
            done.then_some(()).ok_or(Error::Lost)
        })
    }

    fn news(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.news.notified())
    }
}

fn secret() -> String {
    Token::random().reveal().to_owned()
}
