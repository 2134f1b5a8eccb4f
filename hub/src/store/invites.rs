//! Tokens that let their bearers into a project.

use super::error::Error;
use super::sql::Sql;
use super::transaction::Transaction;
use crate::id::ProjectId;
use crate::members::Invite;
use crate::time::Time;

/// A token, which nobody else uses until the transaction ends, the project that it is for, and the time of the database.
///
/// # Errors
/// When the database does not answer.
pub async fn locked(
    on: &mut Transaction,
    token: &str,
) -> Result<Option<(ProjectId, Invite, Time)>, Error> {
    let find = Sql::pair(
        "SELECT project_id, expires, usage_limit, counter, {now} AS now
           FROM project_invite_tokens WHERE token = $1 FOR UPDATE",
        "SELECT project_id, expires, usage_limit, counter, {now} AS now
           FROM project_invite_tokens WHERE token = $1",
    );
    let Some(row) = on.row(find.bind(token)).await? else {
        return Ok(None);
    };
    let invite = Invite {
        expires: row.maybe("expires")?,
        usage_limit: row.maybe("usage_limit")?,
        counter: row.get("counter")?,
    };
    Ok(Some((row.get("project_id")?, invite, row.get("now")?)))
}

/// Counts one use of a token.
///
/// # Errors
/// When the database does not answer.
pub async fn used(on: &mut Transaction, token: &str) -> Result<(), Error> {
    let count =
        Sql::same("UPDATE project_invite_tokens SET counter = counter + 1 WHERE token = $1");
    on.execute(count.bind(token)).await.map(drop)
}
