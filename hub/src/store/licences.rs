//! Licences that projects use.

use uuid::Uuid;

use super::error::Error;
use super::sql::Sql;
use super::transaction::Reader;

/// Those of these licences that there are and that are not over.
///
/// # Errors
/// When the database does not answer.
pub async fn valid(on: &mut Reader, ids: Vec<Uuid>) -> Result<Vec<Uuid>, Error> {
    let find = Sql::same(
        "SELECT id FROM site_licenses WHERE id IN ({each $1}) AND (expires IS NULL OR expires > {now})",
    );
    let rows = on.rows(find.bind(ids)).await?;
    rows.iter().map(|row| row.get("id")).collect()
}

/// The licence that comes with what a project shows to everybody, if one does.
///
/// # Errors
/// When the database does not answer.
pub async fn of_public_path(on: &mut Reader, id: &str) -> Result<Option<Uuid>, Error> {
    let find = Sql::same("SELECT site_license_id FROM public_paths WHERE id = $1 AND NOT disabled");
    match on.row(find.bind(id)).await? {
        Some(row) => row.maybe("site_license_id"),
        None => Ok(None),
    }
}
