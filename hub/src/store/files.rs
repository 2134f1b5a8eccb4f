//! What is known of files of projects: who used them, and where histories from before streams are kept.

use std::time::Duration;

use serde_json::Value as Json;
use uuid::Uuid;

use super::error::Error;
use super::row::Row;
use super::sql::Sql;
use super::transaction::{Reader, Transaction};
use crate::id::{AccountId, ProjectId};
use crate::time::Time;

/// How long it takes until it is noted again that somebody opened a file: programs may open it many times a second.
const NOTED_AGAIN: Duration = Duration::from_mins(1);

/// Notes that somebody opened a file, unless that was noted within the last minute.
///
/// # Errors
/// When the database does not answer, or there is no such project.
pub async fn accessed(
    on: &mut Transaction,
    project: ProjectId,
    account: AccountId,
    path: &str,
    keep: Duration,
) -> Result<(), Error> {
    let insert = Sql::same(
        "INSERT INTO file_access_log (id, project_id, account_id, filename, time, expire)
         SELECT $1, $2, $3, $4, {now}, {after $5}
          WHERE NOT EXISTS (SELECT 1 FROM file_access_log
                             WHERE project_id = $2 AND account_id = $3 AND filename = $4 AND time > {ago $6})",
    );
    let insert = insert
        .bind(Uuid::new_v4())
        .bind(project)
        .bind(account)
        .bind(path)
        .bind(keep)
        .bind(NOTED_AGAIN);
    on.execute(insert).await.map(drop)
}

/// When somebody opened a file, the last time first.
///
/// # Errors
/// When the database does not answer.
pub async fn access_times(
    on: &mut Reader,
    project: ProjectId,
    account: AccountId,
    path: &str,
    limit: i64,
) -> Result<Vec<Time>, Error> {
    let find = Sql::same(
        "SELECT time FROM file_access_log WHERE project_id = $1 AND account_id = $2 AND filename = $3
          ORDER BY time DESC LIMIT $4",
    );
    let find = find.bind(project).bind(account).bind(path).bind(limit);
    let rows = on.rows(find).await?;
    rows.iter().map(|row| row.get("time")).collect()
}

/// The history of a file from before streams.
#[derive(Debug, Clone, PartialEq)]
pub struct Legacy {
    /// The blob that it is kept in.
    pub blob: Uuid,
    /// Who took part, in the order of their numbers in it.
    pub users: Json,
}

/// Where the history of a file from before streams is kept, if there is one.
///
/// # Errors
/// When the database does not answer.
pub async fn legacy(
    on: &mut Reader,
    project: ProjectId,
    path: &str,
) -> Result<Option<Legacy>, Error> {
    let find = Sql::same(
        "SELECT archived, users FROM syncstrings
          WHERE project_id = $1 AND path = $2 AND archived IS NOT NULL ORDER BY last_active DESC LIMIT 1",
    );
    let row = on.row(find.bind(project).bind(path)).await?;
    let legacy = |row: Row| {
        Ok(Legacy {
            blob: row.get("archived")?,
            users: row.get("users")?,
        })
    };
    row.map(legacy).transpose()
}

/// Notes where the history of a file from before streams is kept.
///
/// # Errors
/// [`Error::Conflict`] if there is one with this name, and when there is no such project.
pub async fn put_legacy(
    on: &mut Transaction,
    name: &str,
    project: ProjectId,
    path: &str,
    legacy: &Legacy,
) -> Result<(), Error> {
    let put = Sql::same(
        "INSERT INTO syncstrings (string_id, project_id, path, users, archived, last_active)
         VALUES ($1, $2, $3, $4, $5, {now})",
    );
    let put = put
        .bind(name)
        .bind(project)
        .bind(path)
        .bind(&legacy.users)
        .bind(legacy.blob);
    on.execute(put).await.map(drop)
}

/// Keeps a blob, for that time if one is given. One that is there stays as it is, but is kept as long as this.
///
/// # Errors
/// When the database does not answer.
pub async fn put_blob(
    on: &mut Transaction,
    id: Uuid,
    bytes: &[u8],
    ttl: Option<Duration>,
) -> Result<(), Error> {
    let put = match ttl {
        Some(_) => Sql::same(
            "INSERT INTO blobs (id, created, size, blob, expire) VALUES ($1, {now}, $2, $3, {after $4})
             ON CONFLICT (id) DO UPDATE SET expire = CASE
                WHEN blobs.expire IS NULL OR blobs.expire > excluded.expire THEN blobs.expire
                ELSE excluded.expire END",
        ),
        None => Sql::same(
            "INSERT INTO blobs (id, created, size, blob, expire) VALUES ($1, {now}, $2, $3, NULL)
             ON CONFLICT (id) DO UPDATE SET expire = NULL",
        ),
    };
    let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    let put = put.bind(id).bind(size).bind(bytes);
    let put = match ttl {
        Some(ttl) => put.bind(ttl),
        None => put,
    };
    on.execute(put).await.map(drop)
}

/// A blob that stands in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its bytes; none if they are kept elsewhere.
    pub bytes: Option<Vec<u8>>,
    /// How they are compressed.
    pub compress: Option<String>,
}

/// A blob by its number, if it is there and not over.
///
/// # Errors
/// When the database does not answer.
pub async fn blob(on: &mut Reader, id: Uuid) -> Result<Option<Blob>, Error> {
    let find = Sql::same(
        "SELECT blob, compress FROM blobs WHERE id = $1 AND (expire IS NULL OR expire > {now})",
    );
    let row = on.row(find.bind(id)).await?;
    let blob = |row: Row| {
        Ok(Blob {
            bytes: row.maybe("blob")?,
            compress: row.maybe("compress")?,
        })
    };
    row.map(blob).transpose()
}

/// How many blobs there are, and how large they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobTotals {
    /// How many.
    pub count: i64,
    /// How many of these end by themselves.
    pub ending: i64,
    /// Their size together, in bytes.
    pub bytes: i64,
}

/// Counts the blobs.
///
/// # Errors
/// When the database does not answer.
pub async fn blob_totals(on: &mut Reader) -> Result<BlobTotals, Error> {
    let totals = Sql::same(
        "SELECT count(*) AS count, count(expire) AS ending, CAST(coalesce(sum(size), 0) AS bigint) AS bytes FROM blobs",
    );
    let row = on.row(totals.into()).await?;
    let row = row.ok_or_else(|| Error::Mistake("counting gave no row".to_owned()))?;
    Ok(BlobTotals {
        count: row.get("count")?,
        ending: row.get("ending")?,
        bytes: row.get("bytes")?,
    })
}

/// Lets blobs be kept that would be removed after a time, and returns how many there are.
///
/// # Errors
/// When the database does not answer.
pub async fn keep_blobs(on: &mut Transaction, ids: Vec<Uuid>) -> Result<u64, Error> {
    let keep = Sql::same(
        "UPDATE blobs SET expire = NULL WHERE id IN ({each $1}) AND (expire IS NULL OR expire > {now})",
    );
    on.execute(keep.bind(ids)).await
}
