//! Tokens that let their bearers into a project.

use serde_json::{Map, Value as Json};

use super::error::Error;
use super::sql::Sql;
use super::transaction::{Reader, Transaction};
use crate::id::{AccountId, ProjectId};
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

/// Who may come into a project without being let in by somebody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Open {
    /// Whether everybody may.
    pub sandbox: bool,
    /// Members of this project may: it is the one of the course.
    pub course: Option<ProjectId>,
}

/// Who may come into a project without being let in by somebody.
///
/// # Errors
/// When the database does not answer.
pub async fn open(on: &mut Reader, project: ProjectId) -> Result<Open, Error> {
    let find =
        Sql::same("SELECT sandbox, course FROM projects WHERE project_id = $1 AND NOT deleted");
    let Some(row) = on.row(find.bind(project)).await? else {
        return Ok(Open::default());
    };
    let course: Option<Json> = row.maybe("course")?;
    let course = course.as_ref().and_then(|course| course.get("project_id"));
    Ok(Open {
        sandbox: row.get("sandbox")?,
        course: course.and_then(|id| id.as_str()?.parse().ok()),
    })
}

/// The letters that were sent to invite into a project, by address.
///
/// # Errors
/// When the database does not answer.
pub async fn letters(on: &mut Reader, project: ProjectId) -> Result<Map<String, Json>, Error> {
    let find = Sql::same("SELECT invite FROM projects WHERE project_id = $1");
    let Some(row) = on.row(find.bind(project)).await? else {
        return Ok(Map::new());
    };
    Ok(match row.maybe("invite")? {
        Some(Json::Object(letters)) => letters,
        _ => Map::new(),
    })
}

/// Notes the letters that were sent to invite into a project.
///
/// # Errors
/// When the database does not answer.
pub async fn put_letters(
    on: &mut Transaction,
    project: ProjectId,
    letters: Map<String, Json>,
) -> Result<(), Error> {
    let put = Sql::same("UPDATE projects SET invite = $2 WHERE project_id = $1");
    on.execute(put.bind(project).bind(Json::Object(letters)))
        .await
        .map(drop)
}

/// Whether a project reaches the network, as far as it was computed.
///
/// # Errors
/// When the database does not answer.
pub async fn has_network(on: &mut Reader, project: ProjectId) -> Result<bool, Error> {
    let find = Sql::same("SELECT run_quota FROM projects WHERE project_id = $1");
    let Some(row) = on.row(find.bind(project)).await? else {
        return Ok(false);
    };
    let quota: Option<Json> = row.maybe("run_quota")?;
    let network = quota.as_ref().and_then(|quota| quota.get("network"));
    Ok(network
        .is_some_and(|network| network.as_bool() == Some(true) || network.as_f64() > Some(0.0)))
}

/// Forgets that somebody would like to be let into a project.
///
/// # Errors
/// When the database does not answer.
pub async fn delete_request(
    on: &mut Transaction,
    project: ProjectId,
    account: AccountId,
) -> Result<(), Error> {
    let delete =
        Sql::same("DELETE FROM project_join_requests WHERE project_id = $1 AND account_id = $2");
    on.execute(delete.bind(project).bind(account))
        .await
        .map(drop)
}
