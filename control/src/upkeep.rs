//! What is done about projects without being asked, by one hub of all at a time: those that are always to run are started,
//! those that nobody uses are stopped, and some are made before somebody wants them.

use std::time::Duration;

use dialtone_hub::control::{Error, Verb};
use dialtone_hub::singleton;
use dialtone_hub::store::{control as rows, pool};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::service::Projects;

/// How often, and how much at once.
#[derive(Debug, Clone)]
pub struct Config {
    /// How often it is looked for projects that are always to run.
    pub always_every: Duration,
    /// How many of them are started at once.
    pub always_max: i64,
    /// How long one of them is left alone that could not be started.
    pub always_pause: Duration,
    /// How often it is looked for projects that nobody uses; `None` for never.
    pub idle_every: Option<Duration>,
    /// How long a project runs at least.
    pub idle_least: Duration,
    /// How many are stopped at once.
    pub idle_max: i64,
    /// How often it is looked whether enough projects wait for somebody who wants one.
    pub pool_every: Duration,
    /// How long one of them waits.
    pub pool_age_max: Duration,
    /// How many are made at once.
    pub pool_batch: i64,
}

impl Default for Config {
    /// The figures of CoCalc.
    fn default() -> Self {
        Self {
            always_every: Duration::from_secs(15),
            always_max: 10,
            always_pause: Duration::from_mins(1),
            idle_every: Some(Duration::from_mins(1)),
            idle_least: Duration::from_mins(10),
            idle_max: 1000,
            pool_every: Duration::from_secs(30),
            pool_age_max: pool::AGE_MAX,
            pool_batch: 50,
        }
    }
}

/// The name of the lease.
const LEASE: &str = "project-upkeep";

/// Does it whenever this hub has the lease.
pub(crate) async fn run(
    projects: &Projects,
    holder: &str,
    config: &Config,
    stop: &CancellationToken,
) {
    let lease = singleton::Config::new(LEASE, holder);
    Box::pin(singleton::run(
        projects.store(),
        &lease,
        stop,
        |_lease, stop| {
            Box::pin(async move {
                tokio::select! {
                    () = rounds(projects, config) => {}
                    () = stop.cancelled() => {}
                }
            })
        },
    ))
    .await;
}

async fn rounds(projects: &Projects, config: &Config) {
    let every = |period: Duration| {
        // Not at once: a hub that starts is not the only one.
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let mut always = every(config.always_every);
    let mut idle = config.idle_every.map(every);
    let mut pools = every(config.pool_every);
    loop {
        let (what, done) = tokio::select! {
            _ = always.tick() => ("always", always_running(projects, config).await),
            _ = next(idle.as_mut()) => ("idle", idle_stop(projects, config).await),
            _ = pools.tick() => ("pool", fill_pool(projects, config).await),
        };
        if let Err(error) = done {
            tracing::warn!(
                what,
                error = &error as &dyn std::error::Error,
                "projects could not be looked after; the next round tries again"
            );
        }
    }
}

async fn next(ticks: Option<&mut tokio::time::Interval>) -> Instant {
    match ticks {
        Some(ticks) => ticks.tick().await,
        None => std::future::pending().await,
    }
}

/// Starts those that are always to run and do not. Returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn always_running(projects: &Projects, config: &Config) -> Result<usize, Error> {
    let mut on = projects.store().read().await?;
    let found = rows::always_running(&mut on, config.always_pause, config.always_max).await?;
    drop(on);
    for id in &found {
        projects.order(*id, Verb::Start, None).await?;
    }
    Ok(found.len())
}

/// Stops those that nobody has used for as long as they may be idle. Returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn idle_stop(projects: &Projects, config: &Config) -> Result<usize, Error> {
    let mut on = projects.store().read().await?;
    let found = rows::idle(&mut on, config.idle_least, config.idle_max).await?;
    drop(on);
    for id in &found {
        tracing::info!(project = %id, "nobody uses it, and it is stopped");
        projects.order(*id, Verb::Stop, None).await?;
    }
    Ok(found.len())
}

/// Makes and starts as many projects as the setting `new_project_pool` says, and gives up those that have waited too long.
/// Returns how many were made.
///
/// # Errors
/// When the database does not answer.
pub async fn fill_pool(projects: &Projects, config: &Config) -> Result<usize, Error> {
    let wanted = projects.settings().get().number("new_project_pool");
    let mut on = projects.store().write().await?;
    let old = pool::give_up(&mut on, config.pool_age_max, config.pool_batch).await?;
    let there = pool::count(&mut on, config.pool_age_max).await?;
    let mut made = Vec::new();
    for _ in 0..(wanted - there).clamp(0, config.pool_batch) {
        made.push(pool::add(&mut on).await?);
    }
    on.commit().await?;
    for id in old {
        projects.order(id, Verb::Stop, None).await?;
    }
    for id in &made {
        projects.order(*id, Verb::Start, None).await?;
    }
    Ok(made.len())
}
