//! How large the site is and how much is done on it: counting, and what was counted.

use std::time::Duration;

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::error::Error;
use super::sql::Sql;
use super::transaction::{Reader, Transaction};
use crate::time::{Time, millis};

/// Most kinds of files that are counted apart.
const KINDS_MAX: i64 = 100;

/// What was counted. The JSON is as clients of CoCalc know it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// When.
    pub time: Time,
    /// How many accounts there are.
    pub accounts: i64,
    /// How many projects there are.
    pub projects: i64,
    /// How many accounts were made, by period.
    pub accounts_created: Json,
    /// How many accounts were used.
    pub accounts_active: Json,
    /// How many projects were made.
    pub projects_created: Json,
    /// How many projects were worked in.
    pub projects_edited: Json,
    /// How often files were opened, and how many different ones, by period and kind.
    pub files_opened: Json,
    /// How many projects run, as guests and as members.
    pub running_projects: Json,
    /// Which hubs run.
    pub hub_servers: Json,
}

/// What is counted by period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Accounts that were made.
    AccountsCreated,
    /// Accounts that were used.
    AccountsActive,
    /// Projects that were made.
    ProjectsCreated,
    /// Projects that were worked in.
    ProjectsEdited,
}

/// How many there are since so long ago.
///
/// # Errors
/// When the database does not answer.
pub async fn since(on: &mut Reader, counted: Counted, ago: Duration) -> Result<i64, Error> {
    let (table, column) = match counted {
        Counted::AccountsCreated => ("accounts", "created"),
        Counted::AccountsActive => ("accounts", "last_active"),
        Counted::ProjectsCreated => ("projects", "created"),
        Counted::ProjectsEdited => ("projects", "last_edited"),
    };
    let count = Sql::built(format!(
        "SELECT count(*) AS count FROM {table} WHERE {column} >= {{ago $1}}"
    ));
    number(on, count.bind(ago)).await
}

async fn number(on: &mut Reader, statement: super::sql::Statement) -> Result<i64, Error> {
    let row = on.row(statement).await?;
    row.map_or(Ok(0), |row| row.get("count"))
}

/// How many accounts and projects there are that nobody has given up.
///
/// # Errors
/// When the database does not answer.
pub async fn totals(on: &mut Reader) -> Result<(i64, i64), Error> {
    let accounts = Sql::same("SELECT count(*) AS count FROM accounts WHERE NOT deleted");
    let projects = Sql::same("SELECT count(*) AS count FROM projects WHERE NOT deleted");
    Ok((
        number(on, accounts.into()).await?,
        number(on, projects.into()).await?,
    ))
}

/// How many projects run, and how many of these as members.
///
/// # Errors
/// When the database does not answer.
pub async fn running(on: &mut Reader) -> Result<(i64, i64), Error> {
    let running =
        Sql::same("SELECT count(*) AS count FROM projects WHERE state = 'running' AND NOT deleted");
    let members = Sql::pair(
        "SELECT count(*) AS count FROM projects
          WHERE state = 'running' AND NOT deleted AND run_quota ->> 'member_host' IN ('true', '1')",
        "SELECT count(*) AS count FROM projects
          WHERE state = 'running' AND NOT deleted AND run_quota ->> 'member_host' IN (1, 'true')",
    );
    Ok((
        number(on, running.into()).await?,
        number(on, members.into()).await?,
    ))
}

/// How often files of each kind were opened since so long ago, and how many different ones: kind, total, distinct.
///
/// # Errors
/// When the database does not answer.
pub async fn opened(on: &mut Reader, ago: Duration) -> Result<Vec<(String, i64, i64)>, Error> {
    // What stands behind the last dot: cutting off from the right all that is no dot leaves what goes before it.
    let opened = Sql::same(
        "SELECT kind, count(*) AS total, count(DISTINCT project_id || '/' || name) AS different FROM (
            SELECT project_id, name,
                   CASE WHEN name LIKE '%.%' THEN lower(replace(name, rtrim(name, replace(name, '.', '')), '')) ELSE '' END
                       AS kind
              FROM (SELECT CAST(project_id AS text) AS project_id, event ->> 'filename' AS name FROM project_log
                     WHERE time >= {ago $1} AND (event ->> 'event' = 'open' OR event ->> 'action' = 'open')
                       AND event ->> 'filename' IS NOT NULL) AS events) AS kinds
          WHERE kind NOT LIKE '%/%'
          GROUP BY kind ORDER BY total DESC, kind LIMIT $2",
    );
    let rows = on.rows(opened.bind(ago).bind(KINDS_MAX)).await?;
    rows.iter()
        .map(|row| Ok((row.get("kind")?, row.get("total")?, row.get("different")?)))
        .collect()
}

/// Keeps what was counted, and forgets what is older than this.
///
/// # Errors
/// When the database does not answer.
pub async fn put(on: &mut Transaction, stats: &Stats, keep: Duration) -> Result<(), Error> {
    let put = Sql::same(
        "INSERT INTO stats (id, time, accounts, projects, accounts_created, accounts_active, projects_created,
                            projects_edited, files_opened, running_projects, hub_servers)
         VALUES ($1, {now}, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    );
    let put = put
        .bind(Uuid::new_v4())
        .bind(stats.accounts)
        .bind(stats.projects)
        .bind(&stats.accounts_created)
        .bind(&stats.accounts_active)
        .bind(&stats.projects_created)
        .bind(&stats.projects_edited)
        .bind(&stats.files_opened)
        .bind(&stats.running_projects)
        .bind(&stats.hub_servers);
    on.execute(put).await?;
    let forget = Sql::same("DELETE FROM stats WHERE time < {ago $1}");
    on.execute(forget.bind(millis(keep))).await.map(drop)
}

/// What was counted last.
///
/// # Errors
/// When the database does not answer.
pub async fn latest(on: &mut Reader) -> Result<Option<Stats>, Error> {
    let latest = Sql::same(
        "SELECT time, accounts, projects, accounts_created, accounts_active, projects_created, projects_edited,
                files_opened, running_projects, hub_servers FROM stats ORDER BY time DESC, id LIMIT 1",
    );
    let row = on.row(latest.into()).await?;
    row.map(|row| {
        Ok(Stats {
            time: row.get("time")?,
            accounts: row.get("accounts")?,
            projects: row.get("projects")?,
            accounts_created: row.get("accounts_created")?,
            accounts_active: row.get("accounts_active")?,
            projects_created: row.get("projects_created")?,
            projects_edited: row.get("projects_edited")?,
            files_opened: row.get("files_opened")?,
            running_projects: row.get("running_projects")?,
            hub_servers: row.get("hub_servers")?,
        })
    })
    .transpose()
}

impl Stats {
    /// As clients get it.
    pub fn to_json(&self) -> Json {
        json!({
            "time": self.time,
            "accounts": self.accounts,
            "projects": self.projects,
            "accounts_created": self.accounts_created,
            "accounts_active": self.accounts_active,
            "projects_created": self.projects_created,
            "projects_edited": self.projects_edited,
            "files_opened": self.files_opened,
            "running_projects": self.running_projects,
            "hub_servers": self.hub_servers,
        })
    }
}
