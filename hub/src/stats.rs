//! Counting how large the site is and how much is done on it, every ten minutes, by one hub.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};
use tokio_util::sync::CancellationToken;

use crate::store::stats::{self as stored, Counted, Stats};
use crate::store::{Error, Reader, Store, hubs};

/// What is counted is counted for each of these, by the names that clients know.
const PERIODS: [(&str, Duration); 5] = [
    ("5min", Duration::from_mins(5)),
    ("1h", Duration::from_hours(1)),
    ("1d", Duration::from_hours(24)),
    ("7d", Duration::from_hours(24 * 7)),
    ("30d", Duration::from_hours(24 * 30)),
];

/// How often, and for how long it is kept.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long to wait between counts.
    pub every: Duration,
    /// How long what was counted is kept.
    pub keep: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            every: Duration::from_mins(10),
            keep: Duration::from_hours(24 * 90),
        }
    }
}

/// Counts once, and keeps that.
///
/// # Errors
/// When the database does not answer.
pub async fn update(store: &Store, config: &Config) -> Result<Stats, Error> {
    let mut on = store.read().await?;
    let stats = count(&mut on).await?;
    drop(on);
    let mut on = store.write().await?;
    stored::put(&mut on, &stats, config.keep).await?;
    on.commit().await?;
    Ok(stats)
}

/// Counts again and again, until it is told to stop.
pub async fn run(store: &Store, config: &Config, stop: &CancellationToken) {
    let rounds = async {
        loop {
            if let Err(error) = update(store, config).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the site could not be counted; the next round tries again"
                );
            }
            tokio::time::sleep(config.every).await;
        }
    };
    tokio::select! {
        () = rounds => {}
        () = stop.cancelled() => {}
    }
}

async fn count(on: &mut Reader) -> Result<Stats, Error> {
    let (accounts, projects) = stored::totals(on).await?;
    let (running, members) = stored::running(on).await?;
    let hubs = hubs::all(on).await?;
    let hubs: Vec<Json> = hubs
        .into_iter()
        .map(
            |hub| json!({"host": hub.host, "port": hub.port, "clients": 0, "version": hub.version}),
        )
        .collect();
    Ok(Stats {
        time: crate::store::throttle::now(on).await?,
        accounts,
        projects,
        accounts_created: by_period(on, Counted::AccountsCreated).await?,
        accounts_active: by_period(on, Counted::AccountsActive).await?,
        projects_created: by_period(on, Counted::ProjectsCreated).await?,
        projects_edited: by_period(on, Counted::ProjectsEdited).await?,
        files_opened: opened(on).await?,
        running_projects: json!({"free": running - members, "member": members}),
        hub_servers: hubs.into(),
    })
}

async fn by_period(on: &mut Reader, counted: Counted) -> Result<Json, Error> {
    let mut periods = Map::new();
    for (name, ago) in PERIODS {
        periods.insert(
            name.to_owned(),
            stored::since(on, counted, ago).await?.into(),
        );
    }
    Ok(Json::Object(periods))
}

/// `{total, distinct}`, each by period and kind of file.
async fn opened(on: &mut Reader) -> Result<Json, Error> {
    let (mut total, mut distinct) = (Map::new(), Map::new());
    for (name, ago) in PERIODS {
        let (mut all, mut different) = (Map::new(), Map::new());
        for (kind, total, distinct) in stored::opened(on, ago).await? {
            all.insert(kind.clone(), total.into());
            different.insert(kind, distinct.into());
        }
        total.insert(name.to_owned(), all.into());
        distinct.insert(name.to_owned(), different.into());
    }
    Ok(json!({"total": total, "distinct": distinct}))
}
