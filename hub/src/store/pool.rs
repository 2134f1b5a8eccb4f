//! Projects that are made and started before somebody wants them.

use std::time::Duration;

use super::control;
use super::error::Error;
use super::outbox::{Change, Table};
use super::projects::{self, Group, New, key};
use super::sql::Sql;
use super::transaction::{Reader, Transaction};
use crate::id::{AccountId, ProjectId};
use crate::time::millis;

/// How long a project waits for an owner at most: one that runs older software than new ones is given to nobody.
pub const AGE_MAX: Duration = Duration::from_hours(12);

/// Makes a project that waits for its owner.
///
/// # Errors
/// When the database does not answer.
pub async fn add(on: &mut Transaction) -> Result<ProjectId, Error> {
    let new = New {
        id: ProjectId::random(),
        title: String::new(),
        description: String::new(),
        compute_image: None,
        owner: None,
    };
    projects::insert(on, &new).await?;
    control::locked(on, new.id).await?;
    let mark = Sql::same("UPDATE project_control SET pool = $2 WHERE project_id = $1");
    on.execute(mark.bind(new.id).bind(true)).await?;
    Ok(new.id)
}

/// How many wait that are not older than this.
///
/// # Errors
/// When the database does not answer.
pub async fn count(on: &mut Reader, age_max: Duration) -> Result<i64, Error> {
    let count = Sql::pair(
        "SELECT count(*) AS n FROM project_control c JOIN projects p ON p.project_id = c.project_id
          WHERE c.pool AND NOT p.deleted AND p.created > {ago $1}",
        "SELECT count(*) AS n FROM project_control c JOIN projects p ON p.project_id = c.project_id
          WHERE c.pool = 1 AND NOT p.deleted AND p.created > {ago $1}",
    );
    let row = on.row(count.bind(millis(age_max))).await?;
    row.map_or(Ok(0), |row| row.get("n"))
}

/// Gives one of them to its first owner, one that runs if there is one. `None` if there is none, and never the same one
/// twice.
///
/// # Errors
/// [`Error::Missing`] if there is no such account; otherwise when the database does not answer.
pub async fn take(
    on: &mut Transaction,
    owner: AccountId,
    title: &str,
    description: &str,
    age_max: Duration,
) -> Result<Option<ProjectId>, Error> {
    let take = Sql::pair(
        "SELECT c.project_id FROM project_control c JOIN projects p ON p.project_id = c.project_id
          WHERE c.pool AND NOT p.deleted AND p.created > {ago $1}
          ORDER BY CASE WHEN p.state = 'running' THEN 0 ELSE 1 END, p.created
          LIMIT 1 FOR UPDATE OF c SKIP LOCKED",
        "SELECT c.project_id FROM project_control c JOIN projects p ON p.project_id = c.project_id
          WHERE c.pool = 1 AND NOT p.deleted AND p.created > {ago $1}
          ORDER BY CASE WHEN p.state = 'running' THEN 0 ELSE 1 END, p.created LIMIT 1",
    );
    let Some(row) = on.row(take.bind(millis(age_max))).await? else {
        return Ok(None);
    };
    let id: ProjectId = row.get("project_id")?;
    unmark(on, id).await?;
    let give = Sql::same(
        "UPDATE projects SET title = $2, description = $3, created_by = $4, last_edited = {now} WHERE project_id = $1",
    );
    on.execute(give.bind(id).bind(title).bind(description).bind(owner))
        .await?;
    let fields = ["title", "description", "last_edited"];
    on.changed(Change::update(Table::Projects, key(id), &fields).project(id));
    projects::put_member(on, id, owner, Group::Owner).await?;
    Ok(Some(id))
}

/// Gives up those that wait for longer than this, at most `limit`, and returns them: they are to be stopped.
///
/// # Errors
/// When the database does not answer.
pub async fn give_up(
    on: &mut Transaction,
    age_max: Duration,
    limit: i64,
) -> Result<Vec<ProjectId>, Error> {
    let find = Sql::pair(
        "SELECT c.project_id FROM project_control c JOIN projects p ON p.project_id = c.project_id
          WHERE c.pool AND p.created <= {ago $1} LIMIT $2 FOR UPDATE OF c SKIP LOCKED",
        "SELECT c.project_id FROM project_control c JOIN projects p ON p.project_id = c.project_id
          WHERE c.pool = 1 AND p.created <= {ago $1} LIMIT $2",
    );
    let rows = on.rows(find.bind(millis(age_max)).bind(limit)).await?;
    let ids: Vec<ProjectId> = rows
        .iter()
        .map(|row| row.get("project_id"))
        .collect::<Result<_, _>>()?;
    for id in &ids {
        unmark(on, *id).await?;
        let update = projects::Update {
            deleted: Some(true),
            ..projects::Update::default()
        };
        projects::update(on, *id, update).await?;
    }
    Ok(ids)
}

async fn unmark(on: &mut Transaction, id: ProjectId) -> Result<(), Error> {
    let mark = Sql::same("UPDATE project_control SET pool = $2 WHERE project_id = $1");
    on.execute(mark.bind(id).bind(false)).await.map(drop)
}
