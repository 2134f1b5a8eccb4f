//! What kernels were asked, and what they answered.

use std::time::Duration;

use serde_json::Value as Json;
use uuid::Uuid;

use super::error::Error;
use super::sql::Sql;
use super::transaction::{Reader, Transaction};
use crate::id::{AccountId, ProjectId};
use crate::time::{Time, millis};

/// How long an answer and what was asked are kept, as in the original.
const KEEP: Duration = Duration::from_hours(30 * 24);

/// An answer that was given before, and when; that it is of use is noted.
///
/// # Errors
/// When the database does not answer.
pub async fn cached(on: &mut Transaction, hash: &str) -> Result<Option<(Json, Time)>, Error> {
    let find = Sql::same(
        "UPDATE jupyter_api_cache SET last_active = {now}, expire = {after $2}
          WHERE hash = $1 AND expire > {now} RETURNING output, created",
    );
    let row = on.row(find.bind(hash).bind(KEEP)).await?;
    row.map(|row| Ok((row.get("output")?, row.get("created")?)))
        .transpose()
}

/// Keeps an answer, and returns the time of the database.
///
/// # Errors
/// When the database does not answer.
pub async fn put_cached(on: &mut Transaction, hash: &str, output: &Json) -> Result<Time, Error> {
    let put = Sql::same(
        "INSERT INTO jupyter_api_cache (hash, output, created, last_active, expire)
         VALUES ($1, $2, {now}, {now}, {after $3})
         ON CONFLICT (hash) DO UPDATE
            SET output = excluded.output, created = excluded.created, last_active = excluded.last_active,
                expire = excluded.expire
         RETURNING created",
    );
    let row = on.row(put.bind(hash).bind(output).bind(KEEP)).await?;
    row.ok_or_else(|| Error::Corrupt("an answer was not kept".to_owned()))?
        .get("created")
}

/// Something that a kernel did.
#[derive(Debug, Clone)]
pub struct Ran<'a> {
    /// For whom.
    pub account: Option<AccountId>,
    /// In which project; of the site if there is none.
    pub project: Option<ProjectId>,
    /// For which file.
    pub path: Option<&'a str>,
    /// Under which name its answer is kept.
    pub hash: &'a str,
    /// Which kernel.
    pub kernel: &'a str,
    /// For what, as the caller said.
    pub tag: Option<&'a str>,
    /// How long it took.
    pub duration: Duration,
}

/// Notes what a kernel did.
///
/// # Errors
/// When the database does not answer.
pub async fn log(on: &mut Transaction, ran: &Ran<'_>) -> Result<(), Error> {
    let insert = Sql::same(
        "INSERT INTO jupyter_api_log (id, created, account_id, project_id, path, hash, kernel, tag, duration, expire)
         VALUES ($1, {now}, $2, $3, $4, $5, $6, $7, $8, {after $9})",
    );
    let insert = insert
        .bind(Uuid::new_v4())
        .bind(ran.account)
        .bind(ran.project)
        .bind(ran.path.map(str::to_owned))
        .bind(ran.hash)
        .bind(ran.kernel)
        .bind(ran.tag.map(str::to_owned))
        .bind(millis(ran.duration))
        .bind(KEEP);
    on.execute(insert).await.map(drop)
}

/// How long kernels of the site worked in the last hour: for this account, and for all.
///
/// # Errors
/// When the database does not answer.
pub async fn used(on: &mut Reader, account: AccountId) -> Result<(Duration, Duration), Error> {
    let sum = Sql::same(
        "SELECT CAST(coalesce(sum(duration), 0) AS bigint) AS everybody,
                CAST(coalesce(sum(CASE WHEN account_id = $1 THEN duration ELSE 0 END), 0) AS bigint) AS own
           FROM jupyter_api_log WHERE project_id IS NULL AND created > {ago $2}",
    );
    let hour = Duration::from_hours(1);
    let Some(row) = on.row(sum.bind(account).bind(hour)).await? else {
        return Ok((Duration::ZERO, Duration::ZERO));
    };
    let read = |name| Ok(row.duration(name)?.unwrap_or_default());
    Ok((read("own")?, read("everybody")?))
}
