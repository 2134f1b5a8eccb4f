//! What happened in projects, for those who are in them.

use serde_json::Value as Json;
use uuid::Uuid;

use super::error::Error;
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
    let insert = Sql::same(
        "INSERT INTO project_log (id, project_id, account_id, time, event) VALUES ($1, $2, $3, {now}, $4)",
    );
    let insert = insert
        .bind(Uuid::new_v4())
        .bind(project)
        .bind(account)
        .bind(event);
    on.execute(insert).await.map(drop)
}
