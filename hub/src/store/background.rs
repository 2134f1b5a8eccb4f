//! How far migrations of data have come, and what they could not move.

use serde_json::Value as Json;

use super::error::Error;
use super::row::Row;
use super::sql::Sql;
use super::transaction::{Reader, Transaction};
use crate::time::Time;

/// How far a migration has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Its name.
    pub name: String,
    /// Whether everything was looked at. What failed may still be there to be tried again.
    pub finished: bool,
    /// Where its next batch begins, in its own words.
    pub cursor: Option<Json>,
    /// How many items it has moved.
    pub done: i64,
    /// How many items it could not move so far.
    pub failed: i64,
    /// Why the last one of those failed, or the last batch.
    pub last_error: Option<String>,
    /// When it began.
    pub started_at: Time,
    /// When it was finished.
    pub finished_at: Option<Time>,
}

/// An item that was not moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which one, in the words of its migration.
    pub key: String,
    /// Why.
    pub error: String,
    /// How often it was tried.
    pub attempts: i64,
    /// When it was last tried.
    pub time: Time,
}

const COLUMNS: &str = "name, state, cursor, done, failed, last_error, started_at, finished_at";

fn progress(row: &Row) -> Result<Progress, Error> {
    Ok(Progress {
        name: row.get("name")?,
        finished: row.get::<String>("state")? == "finished",
        cursor: row.maybe("cursor")?,
        done: row.get("done")?,
        failed: row.get("failed")?,
        last_error: row.maybe("last_error")?,
        started_at: row.get("started_at")?,
        finished_at: row.maybe("finished_at")?,
    })
}

/// All migrations that have begun, by name.
///
/// # Errors
/// When the database does not answer.
pub async fn all(on: &mut Reader) -> Result<Vec<Progress>, Error> {
    let all = Sql::built(format!(
        "SELECT {COLUMNS} FROM background_migrations ORDER BY name"
    ));
    on.rows(all.into()).await?.iter().map(progress).collect()
}

/// How far one has come. It begins now, if it has not.
///
/// # Errors
/// When the database does not answer.
pub async fn begin(on: &mut Transaction, name: &str) -> Result<Progress, Error> {
    let begin = Sql::same(
        "INSERT INTO background_migrations (name, state, started_at) VALUES ($1, 'running', {now})
         ON CONFLICT (name) DO NOTHING",
    );
    on.execute(begin.bind(name)).await?;
    let find = Sql::built(format!(
        "SELECT {COLUMNS} FROM background_migrations WHERE name = $1"
    ));
    let row = on.row(find.bind(name)).await?;
    let row = row.ok_or_else(|| Error::Corrupt(format!("the migration {name} is not there")))?;
    progress(&row)
}

/// What a batch has done.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Where the next one begins.
    pub cursor: Option<Json>,
    /// How many items were moved.
    pub done: i64,
    /// Whether it was the last one.
    pub last: bool,
}

/// Notes what a batch has done.
///
/// # Errors
/// When the database does not answer.
pub async fn advance(on: &mut Transaction, name: &str, batch: &Batch) -> Result<(), Error> {
    let advance = Sql::same(
        "UPDATE background_migrations
            SET cursor = $2, done = done + $3, state = CASE WHEN $4 THEN 'finished' ELSE state END,
                finished_at = CASE WHEN $4 THEN {now} ELSE finished_at END
          WHERE name = $1",
    );
    let advance = advance
        .bind(name)
        .bind(batch.cursor.clone())
        .bind(batch.done)
        .bind(batch.last);
    on.execute(advance).await?;
    count_failures(on, name).await
}

/// Notes why a batch did not happen at all. It will be tried again.
///
/// # Errors
/// When the database does not answer.
pub async fn set_error(on: &mut Transaction, name: &str, error: &str) -> Result<(), Error> {
    let set = Sql::same("UPDATE background_migrations SET last_error = $2 WHERE name = $1");
    on.execute(set.bind(name).bind(error)).await.map(drop)
}

/// Notes that an item was not moved.
///
/// # Errors
/// When the database does not answer.
pub async fn fail(on: &mut Transaction, name: &str, key: &str, error: &str) -> Result<(), Error> {
    let fail = Sql::same(
        "INSERT INTO migration_failures (name, key, error, time) VALUES ($1, $2, $3, {now})
         ON CONFLICT (name, key) DO UPDATE
            SET error = excluded.error, time = excluded.time, attempts = migration_failures.attempts + 1",
    );
    on.execute(fail.bind(name).bind(key).bind(error)).await?;
    set_error(on, name, error).await?;
    count_failures(on, name).await
}

/// Notes that an item that had failed was moved.
///
/// # Errors
/// When the database does not answer.
pub async fn recover(on: &mut Transaction, name: &str, key: &str) -> Result<(), Error> {
    let recover = Sql::same("DELETE FROM migration_failures WHERE name = $1 AND key = $2");
    if on.execute(recover.bind(name).bind(key)).await? > 0 {
        let count = Sql::same("UPDATE background_migrations SET done = done + 1 WHERE name = $1");
        on.execute(count.bind(name)).await?;
    }
    count_failures(on, name).await
}

async fn count_failures(on: &mut Transaction, name: &str) -> Result<(), Error> {
    let count = Sql::same(
        "UPDATE background_migrations
            SET failed = (SELECT count(*) FROM migration_failures WHERE name = $1) WHERE name = $1",
    );
    on.execute(count.bind(name)).await.map(drop)
}

/// Items that were not moved, those that wait longest first; at most `limit`.
///
/// # Errors
/// When the database does not answer.
pub async fn failures(on: &mut Reader, name: &str, limit: i64) -> Result<Vec<Failure>, Error> {
    let list = Sql::same(
        "SELECT key, error, attempts, time FROM migration_failures WHERE name = $1 ORDER BY time, key LIMIT $2",
    );
    let rows = on.rows(list.bind(name).bind(limit)).await?;
    rows.iter()
        .map(|row| {
            Ok(Failure {
                key: row.get("key")?,
                error: row.get("error")?,
                attempts: row.get("attempts")?,
                time: row.get("time")?,
            })
        })
        .collect()
}

/// Items that were not moved and have waited so long since; at most `limit`.
///
/// # Errors
/// When the database does not answer.
pub async fn to_retry(
    on: &mut Reader,
    name: &str,
    pause: std::time::Duration,
    limit: i64,
) -> Result<Vec<String>, Error> {
    let list = Sql::same(
        "SELECT key FROM migration_failures WHERE name = $1 AND time <= {ago $2} ORDER BY time, key LIMIT $3",
    );
    let rows = on.rows(list.bind(name).bind(pause).bind(limit)).await?;
    rows.iter().map(|row| row.get("key")).collect()
}
