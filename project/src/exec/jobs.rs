//! All commands: how they are started, and those that can be asked for again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde_json::Value as Json;
use tokio::process::Command;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::job::{Job, State};
use super::options::{Options, Request};
use crate::config::{Limits, Timing};
use crate::error::{Code, Error};
use crate::home::Home;
use crate::processes::Processes;

/// See the module.
#[derive(Debug)]
pub(crate) struct Jobs {
    home: Home,
    environment: BTreeMap<String, String>,
    timing: Timing,
    limits: Limits,
    processes: Processes,
    tasks: TaskTracker,
    stop: CancellationToken,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Those that can be asked for, in the order in which they were started.
    jobs: BTreeMap<u64, Arc<Job>>,
    next: u64,
    running: Vec<Weak<Job>>,
    shared: HashMap<String, Weak<Job>>,
}

impl Jobs {
    pub(crate) fn new(
        home: Home,
        environment: BTreeMap<String, String>,
        (timing, limits): (Timing, Limits),
        processes: Processes,
        (tasks, stop): (TaskTracker, CancellationToken),
    ) -> Self {
        Self {
            home,
            environment,
            timing,
            limits,
            processes,
            tasks,
            stop,
            known: Mutex::default(),
        }
    }

    /// Does what a request of `system.exec` says.
    pub(crate) async fn exec(&self, request: Request) -> Result<Json, Error> {
        if let Some(id) = &request.async_get {
            let job = self.find(id)?;
            if request.async_await {
                job.done().await;
            }
            return Ok(job.report(true));
        }
        let job = self.start(request)?;
        if job.options.is_job {
            return Ok(job.report(true));
        }
        job.done().await;
        job.result()
    }

    /// Starts a command, unless an equal one runs that it may share.
    pub(crate) fn start(&self, request: Request) -> Result<Arc<Job>, Error> {
        let options = request.options(&self.timing, &self.limits)?;
        let mut known = self.known.lock();
        known.forget(&self.timing, &self.limits);
        let shared = options
            .shared_as
            .as_ref()
            .and_then(|key| known.shared.get(key)?.upgrade());
        if let Some(job) = shared.filter(|job| job.state() == State::Running) {
            return Ok(job);
        }
        if known.running.len() >= self.limits.running_max {
            let text = format!("{} commands run already", known.running.len());
            return Err(Error::new(Code::TooMany, text));
        }
        let job = self.launch(options)?;
        known.remember(&job);
        Ok(job)
    }

    /// A job that was started earlier.
    pub(crate) fn find(&self, id: &str) -> Result<Arc<Job>, Error> {
        let known = self.known.lock();
        let found = known.jobs.values().find(|job| job.id == id).cloned();
        drop(known);
        found.ok_or_else(|| Error::new(Code::NotFound, format!("there is no job {id:?}")))
    }

    /// Ends the process of a job and all that it has started.
    pub(crate) async fn end(&self, job: &Job) {
        if job.state() == State::Running {
            self.processes.end(job.pid()).await;
        }
    }

    fn launch(&self, options: Options) -> Result<Arc<Job>, Error> {
        let folder = self.home.resolve(&options.folder)?;
        if !folder.is_dir() {
            let text = format!("there is no folder {}", folder.display());
            return Err(Error::new(Code::NotFound, text));
        }
        let mut command = Command::new(&options.program);
        command
            .args(&options.args)
            .current_dir(folder)
            .env_clear()
            .envs(&self.environment)
            .envs(&options.environment);
        let id = format!("{:032x}", rand::random::<u128>());
        let (job, work) = Job::start(
            id,
            options,
            &mut command,
            &self.processes,
            self.stop.clone(),
        )?;
        drop(self.tasks.spawn(work));
        Ok(job)
    }
}

impl Known {
    fn remember(&mut self, job: &Arc<Job>) {
        if job.options.is_job {
            self.jobs.insert(self.next, Arc::clone(job));
            self.next += 1;
        }
        if let Some(key) = &job.options.shared_as {
            self.shared.insert(key.clone(), Arc::downgrade(job));
        }
        self.running.push(Arc::downgrade(job));
    }

    /// Forgets what is over: what has ended long ago, and the oldest of those that have ended where there are too many.
    fn forget(&mut self, timing: &Timing, limits: &Limits) {
        let runs = |job: &Weak<Job>| {
            job.upgrade()
                .is_some_and(|job| job.state() == State::Running)
        };
        self.running.retain(runs);
        self.shared.retain(|_, job| runs(job));
        let now = Instant::now();
        let is_kept = |job: &Job| {
            job.ended()
                .is_none_or(|ended| now.duration_since(ended) < timing.job_kept)
        };
        self.jobs.retain(|_, job| is_kept(job));
        while self.jobs.len() >= limits.jobs_max {
            let over = self.jobs.iter().find(|(_, job)| job.ended().is_some());
            let Some(oldest) = over.map(|(number, _)| *number) else {
                break;
            };
            self.jobs.remove(&oldest);
        }
    }
}
