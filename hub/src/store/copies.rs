//! Files to be copied between projects: written down, claimed like orders, and finished.

use std::time::Duration;

use serde_json::Value as Json;
use uuid::Uuid;

use super::error::Error;
use super::row::Row;
use super::sql::Sql;
use super::transaction::{Reader, Transaction};
use crate::control::CopyPath;
use crate::time::millis;

/// How long what was copied is remembered.
const KEPT: Duration = Duration::from_hours(24 * 30);

/// A copy that somebody carries out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Its number.
    pub id: Uuid,
    /// How often it was claimed.
    pub generation: i64,
    /// What is to be copied.
    pub copy: CopyPath,
}

/// What became of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is not done.
    Pending,
    /// It is done.
    Done,
    /// It could not be done.
    Failed(String),
}

/// Writes down what is to be copied, and returns its number.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(on: &mut Transaction, copy: &CopyPath) -> Result<Uuid, Error> {
    let id = Uuid::new_v4();
    let insert = Sql::same(
        "INSERT INTO copy_paths (id, time, source_project_id, source_path, target_project_id, target_path, exclude,
                overwrite_newer, delete_missing, backup, bwlimit, timeout, scheduled, expire)
         VALUES ($1, {now}, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, {after $13})",
    );
    let insert = insert
        .bind(id)
        .bind(copy.project_id)
        .bind(&copy.path)
        .bind(copy.target_project_id)
        .bind(&copy.target_path)
        .bind(Json::from(copy.exclude.clone()))
        .bind(copy.overwrite_newer)
        .bind(copy.delete_missing)
        .bind(copy.backup)
        .bind(
            copy.bwlimit
                .map(|limit| i64::try_from(limit).unwrap_or(i64::MAX)),
        )
        .bind(copy.timeout)
        .bind(copy.scheduled)
        .bind(millis(KEPT));
    on.execute(insert).await?;
    Ok(id)
}

/// Claims copies that are due, the oldest first; at most `limit`, and only those of projects whose files this machine
/// has or could have.
///
/// # Errors
/// When the database does not answer.
pub async fn claim(
    on: &mut Transaction,
    host: &str,
    holder: &str,
    ttl: Duration,
    limit: i64,
) -> Result<Vec<Claimed>, Error> {
    let claim = Sql::pair(
        "UPDATE copy_paths SET holder = $1, generation = generation + 1, lease_expires = {after $2},
                started = coalesce(started, {now})
          WHERE id IN (
                SELECT q.id FROM copy_paths q
                  LEFT JOIN project_control s ON s.project_id = q.source_project_id
                  LEFT JOIN project_control t ON t.project_id = q.target_project_id
                 WHERE q.finished IS NULL AND (q.scheduled IS NULL OR q.scheduled <= {now})
                   AND (q.lease_expires IS NULL OR q.lease_expires <= {now})
                   AND coalesce(s.host, $3) = $3 AND coalesce(t.host, $3) = $3
                 ORDER BY q.time LIMIT $4 FOR UPDATE OF q SKIP LOCKED)
         RETURNING *",
        "UPDATE copy_paths SET holder = $1, generation = generation + 1, lease_expires = {after $2},
                started = coalesce(started, {now})
          WHERE id IN (
                SELECT q.id FROM copy_paths q
                  LEFT JOIN project_control s ON s.project_id = q.source_project_id
                  LEFT JOIN project_control t ON t.project_id = q.target_project_id
                 WHERE q.finished IS NULL AND (q.scheduled IS NULL OR q.scheduled <= {now})
                   AND (q.lease_expires IS NULL OR q.lease_expires <= {now})
                   AND coalesce(s.host, $3) = $3 AND coalesce(t.host, $3) = $3
                 ORDER BY q.time LIMIT $4)
         RETURNING *",
    );
    let claim = claim.bind(holder).bind(millis(ttl)).bind(host).bind(limit);
    on.rows(claim).await?.iter().map(claimed).collect()
}

fn claimed(row: &Row) -> Result<Claimed, Error> {
    Ok(Claimed {
        id: row.get("id")?,
        generation: row.get("generation")?,
        copy: CopyPath {
            project_id: row.get("source_project_id")?,
            path: row.get("source_path")?,
            target_project_id: row.get("target_project_id")?,
            target_path: row.get("target_path")?,
            overwrite_newer: row.get("overwrite_newer")?,
            delete_missing: row.get("delete_missing")?,
            backup: row.get("backup")?,
            timeout: row.duration("timeout")?,
            bwlimit: row
                .maybe::<i64>("bwlimit")?
                .and_then(|limit| u64::try_from(limit).ok()),
            exclude: row.list("exclude")?,
            wait: false,
            scheduled: row.maybe("scheduled")?,
        },
    })
}

/// Keeps a copy for so long from now on. `false` if somebody else has it, or it is done.
///
/// # Errors
/// When the database does not answer.
pub async fn renew(
    on: &mut Transaction,
    id: Uuid,
    generation: i64,
    ttl: Duration,
) -> Result<bool, Error> {
    let renew = Sql::same(
        "UPDATE copy_paths SET lease_expires = {after $3}
          WHERE id = $1 AND generation = $2 AND lease_expires > {now} AND finished IS NULL",
    );
    let renew = renew.bind(id).bind(generation).bind(millis(ttl));
    Ok(on.execute(renew).await? > 0)
}

/// Writes down what became of a copy. `false` if somebody else has it.
///
/// # Errors
/// When the database does not answer.
pub async fn finish(
    on: &mut Transaction,
    id: Uuid,
    generation: i64,
    error: Option<&str>,
) -> Result<bool, Error> {
    let finish = Sql::same(
        "UPDATE copy_paths SET finished = {now}, error = $3, holder = NULL, lease_expires = NULL
          WHERE id = $1 AND generation = $2 AND finished IS NULL",
    );
    let finish = finish
        .bind(id)
        .bind(generation)
        .bind(error.map(str::to_owned));
    Ok(on.execute(finish).await? > 0)
}

/// What became of a copy; `None` if there is none with this number.
///
/// # Errors
/// When the database does not answer.
pub async fn outcome(on: &mut Reader, id: Uuid) -> Result<Option<Outcome>, Error> {
    let find =
        Sql::same("SELECT error, finished IS NOT NULL AS ended FROM copy_paths WHERE id = $1");
    let Some(row) = on.row(find.bind(id)).await? else {
        return Ok(None);
    };
    let ended: bool = row.get("ended")?;
    Ok(Some(match row.maybe::<String>("error")? {
        Some(error) => Outcome::Failed(error),
        None if ended => Outcome::Done,
        None => Outcome::Pending,
    }))
}
