//! Project control of a hub: writes orders down, waits for what becomes of them, and runs what belongs to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dialtone_hub::control::{
    Address, Answer, Control, Copied, CopyPath, Error, Event, Phase, State, Status, Verb,
};
use dialtone_hub::feed::Follower;
use dialtone_hub::id::{AccountId, ProjectId};
use dialtone_hub::settings::Live;
use dialtone_hub::store::control::{self as rows, Record};
use dialtone_hub::store::{self, Store, copies, projects};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, broadcast};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::board::Board;
use crate::executor::{self, Executor};
use crate::ledger::{Stored, site};
use crate::order::{self, Decision};
use crate::quota;
use crate::runner::Runner;
use crate::upkeep;

/// What can be set about project control.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name of this machine: what is started here is found here again.
    pub host: String,
    /// The name of this process, another one for each.
    pub holder: String,
    /// How long a caller waits for an order at most; it is carried out all the same.
    pub wait_max: Duration,
    /// How many callers wait at once.
    pub waiting_max: usize,
    /// How often one who waits looks without being told.
    pub look: Duration,
    /// How long the same use of a project by the same account is not noted again.
    pub touch: Duration,
    /// How orders are carried out in this process.
    pub executor: executor::Config,
    /// What is done without being asked.
    pub upkeep: upkeep::Config,
}

impl Config {
    /// With the usual bounds.
    pub fn new(host: impl Into<String>, holder: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            holder: holder.into(),
            wait_max: Duration::from_mins(3),
            waiting_max: 10_000,
            look: Duration::from_secs(2),
            touch: Duration::from_secs(30),
            executor: executor::Config::default(),
            upkeep: upkeep::Config::default(),
        }
    }
}

/// How many uses are remembered, so that they are not noted again.
const TOUCHED_MAX: usize = 10_000;

/// How many orders and looks at what became of them are at the database at once.
const ASKING_MAX: usize = 4;

/// How often it is looked whether a copy is done, at first and at last.
const COPY_POLL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Project control as a hub runs it.
#[derive(Debug)]
pub struct Service {
    projects: Arc<Projects>,
    follower: Follower,
    executor: Option<Executor>,
    config: Config,
}

/// Project control as a hub asks it.
#[derive(Debug)]
pub struct Projects {
    store: Store,
    settings: Live,
    board: Board,
    config: Config,
    waiting: Semaphore,
    /// Those who wait stand in one line for the database, so that none is refused because others were quicker.
    asking: Semaphore,
    touched: Mutex<HashMap<(ProjectId, Option<AccountId>), Instant>>,
}

impl Service {
    /// Takes what it needs. With a `runner`, orders are carried out in this process as well; without, by other hubs and
    /// by workers.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open(
        store: Store,
        settings: Live,
        config: Config,
        runner: Option<Arc<dyn Runner>>,
    ) -> Result<Self, store::Error> {
        let news = Arc::new(Notify::new());
        let follower = Follower::from_now(&store).await?;
        let executor = runner.map(|runner| {
            let ledger = Stored::new(
                store.clone(),
                settings.clone(),
                config.host.clone(),
                config.holder.clone(),
                config.executor.limits.ttl,
                runner.uids(),
                Arc::clone(&news),
            );
            Executor::new(Arc::new(ledger), runner, config.executor.clone())
        });
        let projects = Projects {
            board: Board::new(store.clone(), news),
            waiting: Semaphore::new(config.waiting_max),
            asking: Semaphore::new(ASKING_MAX),
            touched: Mutex::default(),
            store,
            settings,
            config: config.clone(),
        };
        Ok(Self {
            projects: Arc::new(projects),
            follower,
            executor,
            config,
        })
    }

    /// For those who ask it.
    pub fn control(&self) -> Arc<Projects> {
        Arc::clone(&self.projects)
    }

    /// Works until it is told to stop. What runs goes on running.
    pub async fn run(self, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        // Those who wait hear to the end of what is carried out.
        let deaf = CancellationToken::new();
        tasks.spawn({
            let (projects, deaf) = (Arc::clone(&self.projects), deaf.clone());
            let follower = self.follower;
            async move { projects.board.run(follower, deaf).await }
        });
        tasks.spawn({
            let (projects, stop) = (Arc::clone(&self.projects), stop.clone());
            let config = self.config;
            async move { upkeep::run(&projects, &config.holder, &config.upkeep, &stop).await }
        });
        tasks.close();
        match self.executor {
            Some(executor) => executor.run(stop).await,
            None => stop.cancelled().await,
        }
        deaf.cancel();
        tasks.wait().await;
    }
}

impl Projects {
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn settings(&self) -> &Live {
        &self.settings
    }

    /// Told when there may be orders for workers: what [`Office::start`](crate::worker::Office::start) takes.
    pub fn workers_news(&self) -> Arc<Notify> {
        self.board.workers_news()
    }

    /// Writes an order down, or finds one that does it; the record as it was then, and the number to wait for.
    pub(crate) async fn order(
        &self,
        id: ProjectId,
        verb: Verb,
        reason: Option<&str>,
    ) -> Result<(Record, Option<i64>), Error> {
        let _turn = self.turn().await;
        let mut on = self.store.write().await?;
        let record = rows::locked(&mut on, id).await?;
        let record = record.filter(|record| !record.deleted || verb == Verb::Stop);
        let record = record.ok_or(Error::Missing(id))?;
        let number = match order::decide(&record, verb) {
            Decision::Already => None,
            Decision::Join(number) => Some(number),
            Decision::New => {
                let number = rows::order(&mut on, id, verb, reason).await?;
                on.commit().await?;
                self.board.ordered();
                Some(number)
            }
        };
        Ok((record, number))
    }

    /// Orders, and waits for what becomes of it.
    async fn done(&self, id: ProjectId, verb: Verb) -> Result<State, Error> {
        let overloaded = |_full| Error::Overloaded {
            waiting_max: self.config.waiting_max,
        };
        let _place = self.waiting.try_acquire().map_err(overloaded)?;
        let deadline = Instant::now() + self.config.wait_max;
        let mut changed = self.board.watch(id);
        let (mut record, number) = self.order(id, verb, None).await?;
        let Some(number) = number else {
            return Ok(record.state);
        };
        loop {
            changed.mark_unchanged();
            record = self.record(id).await?;
            if let Some(verdict) = order::verdict(&record, number, verb) {
                return verdict;
            }
            if Instant::now() >= deadline {
                return Err(order::timed_out(&record, verb, self.config.wait_max));
            }
            let look = (Instant::now() + self.config.look).min(deadline);
            // It has changed, or it is looked without that.
            drop(tokio::time::timeout_at(look, changed.changed()).await);
        }
    }

    /// A place at the database; nobody ever closes the line.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.asking.acquire().await.ok()
    }

    async fn record(&self, id: ProjectId) -> Result<Record, Error> {
        let _turn = self.turn().await;
        let mut on = self.store.read().await?;
        rows::by_id(&mut on, id).await?.ok_or(Error::Missing(id))
    }

    async fn read_status(&self, id: ProjectId) -> Result<Status, Error> {
        let record = self.record(id).await?;
        if record.state.phase != Phase::Running {
            return Ok(Status::default());
        }
        let mut on = self.store.read().await?;
        let status = rows::status(&mut on, id).await?;
        // Written by this program; by another version it may say less.
        Ok(status
            .and_then(|status| serde_json::from_value(status).ok())
            .unwrap_or_default())
    }

    async fn note_use(
        &self,
        id: ProjectId,
        account: Option<AccountId>,
        start: bool,
    ) -> Result<(), Error> {
        if self.is_news(id, account) {
            let mut on = self.store.write().await?;
            match account {
                Some(account) => projects::touch(&mut on, id, account).await?,
                None => rows::touch(&mut on, id).await?,
            }
            on.commit().await?;
        }
        if start && self.wants_start(id).await? {
            self.order(id, Verb::Start, None).await?;
        }
        Ok(())
    }

    /// Whether a start has anything to do. Most who use a project find that it runs, and must not wait for a turn to write.
    async fn wants_start(&self, id: ProjectId) -> Result<bool, Error> {
        let record = self.record(id).await?;
        if record.deleted {
            return Err(Error::Missing(id));
        }
        Ok(order::decide(&record, Verb::Start) == Decision::New)
    }

    /// Whether a use is to be noted.
    fn is_news(&self, id: ProjectId, account: Option<AccountId>) -> bool {
        let now = Instant::now();
        let mut touched = self.touched.lock();
        if touched.len() >= TOUCHED_MAX {
            touched.retain(|_, at| now - *at < self.config.touch);
            if touched.len() >= TOUCHED_MAX {
                // Noted more often than needed, rather than not.
                touched.clear();
            }
        }
        match touched.insert((id, account), now) {
            Some(before) if now - before < self.config.touch => {
                touched.insert((id, account), before);
                false
            }
            _ => true,
        }
    }

    async fn copy(&self, copy: CopyPath) -> Result<Copied, Error> {
        let wait = copy.wait && copy.scheduled.is_none();
        let mut on = self.store.write().await?;
        let there = projects::by_id(&mut on, copy.project_id).await?;
        there.ok_or(Error::Missing(copy.project_id))?;
        let there = projects::by_id(&mut on, copy.target_project_id).await?;
        there.ok_or(Error::Missing(copy.target_project_id))?;
        let id = copies::insert(&mut on, &copy).await?;
        on.commit().await?;
        self.board.ordered();
        if !wait {
            return Ok(Copied::Queued(id));
        }
        self.copied(id, &copy).await
    }

    async fn copied(&self, id: Uuid, copy: &CopyPath) -> Result<Copied, Error> {
        let own = copy.timeout.unwrap_or(self.config.executor.copy_max);
        let within = own + self.config.executor.limits.ttl;
        let deadline = Instant::now() + within;
        let mut pause = COPY_POLL.0;
        loop {
            let outcome = copies::outcome(&mut self.store.read().await?, id).await?;
            match outcome {
                Some(copies::Outcome::Done) => return Ok(Copied::Done),
                Some(copies::Outcome::Failed(reason)) => {
                    return Err(Error::Path {
                        path: copy.path.clone(),
                        reason,
                    });
                }
                Some(copies::Outcome::Pending) | None => {}
            }
            if Instant::now() >= deadline {
                return Err(Error::TimedOut {
                    project_id: copy.project_id,
                    order: "copy",
                    within,
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(COPY_POLL.1);
        }
    }

    async fn set_quotas(&self, id: ProjectId) -> Result<(), Error> {
        let record = self.record(id).await?;
        let mut on = self.store.write().await?;
        let facts = rows::quota_facts(&mut on, id).await?;
        let (settings, upgrades) = facts.ok_or(Error::Missing(id))?;
        let quota = quota::compute(&site(&self.settings), &settings, &upgrades);
        if !quota.differs(record.run_quota.as_ref()) {
            return Ok(());
        }
        rows::put_quota(&mut on, id, &quota.to_json()).await?;
        on.commit().await?;
        if matches!(record.state.phase, Phase::Running | Phase::Starting) {
            self.order(id, Verb::Restart, None).await?;
        }
        Ok(())
    }

    async fn find_address(&self, id: ProjectId) -> Result<Option<Address>, Error> {
        let record = self.record(id).await?;
        let ip = record.state.ip;
        let (Phase::Running, Some(ip)) = (record.state.phase, ip) else {
            return Ok(None);
        };
        let ports = self.read_status(id).await?.ports;
        let secret = projects::secret_token(&mut self.store.read().await?, id).await?;
        Ok(secret.map(|secret_token| Address {
            ip,
            ports,
            secret_token,
        }))
    }
}

impl Control for Projects {
    fn start(&self, id: ProjectId) -> Answer<'_, State> {
        Box::pin(self.done(id, Verb::Start))
    }

    fn stop(&self, id: ProjectId) -> Answer<'_, State> {
        Box::pin(self.done(id, Verb::Stop))
    }

    fn restart(&self, id: ProjectId) -> Answer<'_, State> {
        Box::pin(self.done(id, Verb::Restart))
    }

    fn state(&self, id: ProjectId) -> Answer<'_, State> {
        Box::pin(async move { Ok(self.record(id).await?.state) })
    }

    fn status(&self, id: ProjectId) -> Answer<'_, Status> {
        Box::pin(self.read_status(id))
    }

    fn touch(&self, id: ProjectId, account: Option<AccountId>, start: bool) -> Answer<'_, ()> {
        Box::pin(self.note_use(id, account, start))
    }

    fn copy_path(&self, copy: CopyPath) -> Answer<'_, Copied> {
        Box::pin(self.copy(copy))
    }

    fn set_all_quotas(&self, id: ProjectId) -> Answer<'_, ()> {
        Box::pin(self.set_quotas(id))
    }

    fn address(&self, id: ProjectId) -> Answer<'_, Address> {
        Box::pin(async move {
            if let Some(address) = self.find_address(id).await? {
                return Ok(address);
            }
            self.done(id, Verb::Start).await?;
            self.find_address(id).await?.ok_or(Error::NotRunning(id))
        })
    }

    fn running_address(&self, id: ProjectId) -> Answer<'_, Option<Address>> {
        Box::pin(self.find_address(id))
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.board.events()
    }
}
