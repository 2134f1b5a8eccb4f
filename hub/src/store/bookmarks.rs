//! Stars that people gave to files before these were kept in streams.

use serde_json::Value as Json;

use super::error::Error;
use super::sql::Sql;
use super::transaction::{Reader, Transaction};
use crate::id::{AccountId, ProjectId};

/// The type of the rows that are known.
const STARRED_FILES: &str = "starred-files";

/// The stars of somebody in a project.
#[derive(Debug, Clone, PartialEq)]
pub struct Bookmark {
    /// Whose.
    pub account_id: AccountId,
    /// Where.
    pub project_id: ProjectId,
    /// What has stars.
    pub stars: Json,
}

/// The numbers of the next rows behind this one, in order; at most `limit`.
///
/// # Errors
/// When the database does not answer.
pub async fn next(on: &mut Reader, after: i64, limit: i64) -> Result<Vec<i64>, Error> {
    let next =
        Sql::same("SELECT id FROM bookmarks WHERE type = $1 AND id > $2 ORDER BY id LIMIT $3");
    let rows = on
        .rows(next.bind(STARRED_FILES).bind(after).bind(limit))
        .await?;
    rows.iter().map(|row| row.get("id")).collect()
}

/// What the row with this number is about, as the newest row about the same says it. `None` if there is no such row.
///
/// # Errors
/// When the database does not answer.
pub async fn newest_like(on: &mut Reader, id: i64) -> Result<Option<Bookmark>, Error> {
    let newest = Sql::same(
        "SELECT b.account_id, b.project_id, b.stars
           FROM bookmarks asked JOIN bookmarks b
             ON b.type = asked.type AND b.account_id = asked.account_id AND b.project_id = asked.project_id
          WHERE asked.id = $1
          ORDER BY CASE WHEN b.last_edited IS NULL THEN 1 ELSE 0 END, b.last_edited DESC, b.id DESC LIMIT 1",
    );
    let row = on.row(newest.bind(id)).await?;
    row.map(|row| {
        Ok(Bookmark {
            account_id: row.get("account_id")?,
            project_id: row.get("project_id")?,
            stars: row.get("stars")?,
        })
    })
    .transpose()
}

/// Removes rows.
///
/// # Errors
/// When the database does not answer.
pub async fn delete(on: &mut Transaction, ids: &[i64]) -> Result<(), Error> {
    for id in ids {
        let delete = Sql::same("DELETE FROM bookmarks WHERE id = $1");
        on.execute(delete.bind(*id)).await?;
    }
    Ok(())
}
