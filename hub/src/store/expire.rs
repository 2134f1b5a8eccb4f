//! Removing what is over, in batches, so that no transaction is long.

use serde_json::{Value as Json, json};

use super::error::Error;
use super::outbox::{Change, Table};
use super::sql::Sql;
use super::transaction::Transaction;

/// Tables with a column `expire`, their keys, and where their changes are told.
const TABLES: &[(&str, &[&str], Option<Table>)] = &[
    ("account_creation_actions", &["id"], None),
    ("analytics", &["token"], None),
    ("api_keys", &["id"], Some(Table::ApiKeys)),
    ("auth_tokens", &["auth_token_hash"], None),
    ("blobs", &["id"], None),
    ("central_log", &["id"], None),
    ("client_error_log", &["id"], None),
    ("copy_paths", &["id"], None),
    ("email_counter", &["account_id", "time"], None),
    ("file_access_log", &["id"], None),
    ("hub_servers", &["host"], None),
    ("jupyter_api_cache", &["hash"], None),
    ("jupyter_api_log", &["id"], None),
    ("openai_chatgpt_log", &["id"], None),
    ("passport_store", &["key"], None),
    ("password_reset", &["hash"], None),
    ("remember_me", &["hash"], Some(Table::RememberMe)),
    ("throttle", &["key"], None),
    ("user_tracking", &["id"], None),
    ("webapp_errors", &["id"], None),
];

/// The names of the tables from which something is removed.
pub fn tables() -> impl Iterator<Item = &'static str> {
    TABLES.iter().map(|(name, ..)| *name)
}

/// Removes at most `limit` rows of a table that are over, and returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn delete(on: &mut Transaction, table: &str, limit: i64) -> Result<usize, Error> {
    let Some((table, key, told)) = TABLES.iter().find(|(name, ..)| *name == table) else {
        return Err(Error::Mistake(format!("nothing is ever over in {table}")));
    };
    let columns = key.join(", ");
    // Rows that somebody else has are left for the next time.
    let skip = match on.dialect() {
        super::Dialect::Postgres => " FOR UPDATE SKIP LOCKED",
        super::Dialect::Sqlite => "",
    };
    let owner = if told.is_some() { ", account_id" } else { "" };
    let delete = Sql::built(format!(
        "DELETE FROM {table} WHERE ({columns}) IN (
            SELECT {columns} FROM {table} WHERE expire <= {{now}} ORDER BY expire LIMIT $1{skip})
         RETURNING {columns}{owner}"
    ));
    let rows = on.rows(delete.bind(limit)).await?;
    let (Some(told), [column]) = (*told, *key) else {
        return Ok(rows.len());
    };
    for row in &rows {
        let value: Json = if told == Table::ApiKeys {
            row.get::<i64>(column)?.into()
        } else {
            row.get::<String>(column)?.into()
        };
        let change = Change::delete(told, json!({ (*column): value }));
        on.changed(change.account(row.get("account_id")?));
    }
    Ok(rows.len())
}
