//! What happened in projects, for those who are in them.

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::error::Error;
use super::outbox::{Change, Table};
use super::sql::Sql;
use super::transaction::Transaction;
use crate::id::{AccountId, ProjectId};

/// Notes an event.
///
/// # Errors
/// When the database does not answer, or there is no such project.
pub async fn insert(
    on: &mut Transaction,
    project: ProjectId,
    account: AccountId,
    event: Json,
) -> Result<(), Error> {
    let id = Uuid::new_v4();
    let insert = Sql::same(
        "INSERT INTO project_log (id, project_id, account_id, time, event) VALUES ($1, $2, $3, {now}, $4)",
    );
    let insert = insert.bind(id).bind(project).bind(account).bind(event);
    on.execute(insert).await?;
    let change = Change::insert(Table::ProjectLog, json!({ "id": id }));
    on.changed(change.project(project).account(account));
    Ok(())
}
