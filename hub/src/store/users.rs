//! Users of the system under which projects run: a number for each project on each machine, given once.

use super::error::Error;
use super::sql::Sql;
use super::transaction::Transaction;
use crate::id::ProjectId;

/// The number of a project's user on this machine: the one that it has, or the lowest of the range that was never
/// given. `None` if all of them are.
///
/// # Errors
/// [`Error::Conflict`] if two projects got theirs at the same time: asked again, each has its own. Otherwise when the
/// database does not answer.
pub async fn ensure(
    on: &mut Transaction,
    host: &str,
    id: ProjectId,
    range: std::ops::RangeInclusive<u32>,
) -> Result<Option<u32>, Error> {
    let has = Sql::same("SELECT uid FROM project_users WHERE project_id = $1 AND host = $2");
    if let Some(row) = on.row(has.bind(id).bind(host)).await? {
        return number(row.get("uid")?).map(Some);
    }
    // Behind the last one that was given, which makes a gap where the range was moved and nothing else.
    let next = Sql::same(
        "SELECT max(uid) AS last FROM project_users WHERE host = $1 AND uid >= $2 AND uid <= $3",
    );
    let next = next
        .bind(host)
        .bind(i64::from(*range.start()))
        .bind(i64::from(*range.end()));
    let last: Option<i64> = match on.row(next).await? {
        Some(row) => row.maybe("last")?,
        None => None,
    };
    let uid = last.map_or_else(|| i64::from(*range.start()), |last| last + 1);
    if uid > i64::from(*range.end()) {
        return Ok(None);
    }
    let give = Sql::same("INSERT INTO project_users (host, uid, project_id) VALUES ($1, $2, $3)");
    on.execute(give.bind(host).bind(uid).bind(id)).await?;
    number(uid).map(Some)
}

fn number(uid: i64) -> Result<u32, Error> {
    u32::try_from(uid).map_err(|_out| Error::Corrupt(format!("{uid} is no number of a user")))
}
