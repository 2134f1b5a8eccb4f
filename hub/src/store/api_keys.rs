//! Keys with which programs act for an account or in a project, found by their number.

use serde_json::json;

use super::assign::Assign;
use super::error::Error;
use super::outbox::{Change, Table};
use super::row::Row;
use super::sql::{Sql, Statement};
use super::transaction::{Reader, Transaction};
use crate::id::{AccountId, ProjectId};
use crate::time::Time;

/// A key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its number.
    pub id: i64,
    /// Who made it.
    pub account_id: AccountId,
    /// The project that it is for; otherwise it is for the whole account.
    pub project_id: Option<ProjectId>,
    /// What it is called.
    pub name: String,
    /// Its beginning and end, by which its owner knows it.
    pub trunc: String,
    /// The hash of the key.
    pub hash: String,
    /// When it was made.
    pub created: Time,
    /// When it ends, if ever.
    pub expire: Option<Time>,
    /// When it was last used.
    pub last_active: Option<Time>,
}

/// A key, with what decides whether it still counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The key.
    pub key: ApiKey,
    /// Whether the account that made it is locked out.
    pub banned: bool,
    /// Whether the account that made it was given up.
    pub deleted: bool,
    /// Whether the account that made it is in the project that it is for; `true` if it is for no project.
    pub member: bool,
    /// How often everything that was let in as the account was thrown out.
    pub session_epoch: i64,
    /// The time of the database, by which `expire` counts.
    pub now: Time,
}

/// A key to be made.
#[derive(Debug, Clone)]
pub struct New<'a> {
    /// Who makes it.
    pub account_id: AccountId,
    /// The project that it is for; otherwise it is for the whole account.
    pub project_id: Option<ProjectId>,
    /// What it is called.
    pub name: &'a str,
    /// When it ends, if ever.
    pub expire: Option<Time>,
}

/// Takes the next number for a key. The key has that number in itself, so that its hash is not known before.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(on: &mut Transaction, new: &New<'_>) -> Result<i64, Error> {
    let insert = Sql::same(
        "INSERT INTO api_keys (account_id, project_id, name, trunc, hash, created, expire)
         VALUES ($1, $2, $3, '', '', {now}, $4) RETURNING id",
    );
    let insert = insert
        .bind(new.account_id)
        .bind(new.project_id)
        .bind(new.name)
        .bind(new.expire);
    let row = on.row(insert).await?;
    let row = row.ok_or_else(|| Error::Corrupt("a new key has no number".to_owned()))?;
    let id = row.get("id")?;
    let change = Change::insert(Table::ApiKeys, json!({ "id": id })).account(new.account_id);
    on.changed(match new.project_id {
        Some(project) => change.project(project),
        None => change,
    });
    Ok(id)
}

/// Sets how a key is recognised. Until then, and if `hash` is empty, no key is this one.
///
/// # Errors
/// When the database does not answer.
pub async fn set_hash(on: &mut Transaction, id: i64, trunc: &str, hash: &str) -> Result<(), Error> {
    let set = Sql::same("UPDATE api_keys SET trunc = $2, hash = $3 WHERE id = $1");
    on.execute(set.bind(id).bind(trunc).bind(hash))
        .await
        .map(drop)
}

fn key(row: &Row) -> Result<ApiKey, Error> {
    Ok(ApiKey {
        id: row.get("id")?,
        account_id: row.get("account_id")?,
        project_id: row.maybe("project_id")?,
        name: row.get("name")?,
        trunc: row.get("trunc")?,
        hash: row.get("hash")?,
        created: row.get("created")?,
        expire: row.maybe("expire")?,
        last_active: row.maybe("last_active")?,
    })
}

const COLUMNS: &str =
    "k.id, k.account_id, k.project_id, k.name, k.trunc, k.hash, k.created, k.expire, k.last_active";

/// The key with this number, whether or not it still counts.
///
/// # Errors
/// When the database does not answer.
pub async fn find(on: &mut Reader, id: i64) -> Result<Option<Found>, Error> {
    let find = Sql::built(format!(
        "SELECT {COLUMNS}, a.banned, a.deleted, a.session_epoch, {{now}} AS now,
                CASE WHEN k.project_id IS NULL OR m.account_id IS NOT NULL THEN CAST(1 AS bigint) ELSE 0 END AS member
           FROM api_keys k
           JOIN accounts a ON a.account_id = k.account_id
           LEFT JOIN project_members m ON m.project_id = k.project_id AND m.account_id = k.account_id
          WHERE k.id = $1"
    ));
    let row = on.row(find.bind(id)).await?;
    row.map(|row| {
        Ok(Found {
            key: key(&row)?,
            banned: row.get("banned")?,
            deleted: row.get("deleted")?,
            member: row.get::<i64>("member")? != 0,
            session_epoch: row.get("session_epoch")?,
            now: row.get("now")?,
        })
    })
    .transpose()
}

async fn list(on: &mut Reader, statement: Statement) -> Result<Vec<ApiKey>, Error> {
    on.rows(statement).await?.iter().map(key).collect()
}

/// The keys of an account that are for no project, by number; at most `limit`.
///
/// # Errors
/// When the database does not answer.
pub async fn of_account(on: &mut Reader, id: AccountId, limit: i64) -> Result<Vec<ApiKey>, Error> {
    let own = Sql::built(format!(
        "SELECT {COLUMNS} FROM api_keys k WHERE k.account_id = $1 AND k.project_id IS NULL ORDER BY k.id LIMIT $2"
    ));
    list(on, own.bind(id).bind(limit)).await
}

/// The keys for a project, by number; at most `limit`.
///
/// # Errors
/// When the database does not answer.
pub async fn of_project(on: &mut Reader, id: ProjectId, limit: i64) -> Result<Vec<ApiKey>, Error> {
    let own = Sql::built(format!(
        "SELECT {COLUMNS} FROM api_keys k WHERE k.project_id = $1 ORDER BY k.id LIMIT $2"
    ));
    list(on, own.bind(id).bind(limit)).await
}

/// How many keys an account has made.
///
/// # Errors
/// When the database does not answer.
pub async fn count(on: &mut Reader, id: AccountId) -> Result<i64, Error> {
    let count = Sql::same("SELECT count(*) AS count FROM api_keys WHERE account_id = $1");
    let row = on.row(count.bind(id)).await?;
    row.map_or(Ok(0), |row| row.get("count"))
}

/// What is to be changed about a key; the rest stays.
#[derive(Debug, Clone, Default)]
#[expect(
    clippy::option_option,
    reason = "whether it changes, and what is there afterwards"
)]
pub struct Update {
    /// What it is called.
    pub name: Option<String>,
    /// When it ends; `Some(None)` is never.
    pub expire: Option<Option<Time>>,
}

/// Changes a key. `false` if there is none with this number.
///
/// # Errors
/// When the database does not answer.
pub async fn update(on: &mut Transaction, id: i64, update: Update) -> Result<bool, Error> {
    let assign = Assign::default()
        .maybe("name", update.name)
        .maybe("expire", update.expire);
    let columns = assign.columns().to_vec();
    let Some(statement) = assign.update("api_keys", "id", id) else {
        return Ok(find(on, id).await?.is_some());
    };
    if on.execute(statement).await? == 0 {
        return Ok(false);
    }
    let Some(found) = find(on, id).await? else {
        return Ok(false);
    };
    let change = Change::update(Table::ApiKeys, json!({ "id": id }), &columns);
    on.changed(about(change, &found.key));
    Ok(true)
}

/// Ends a key. `false` if there is none with this number.
///
/// # Errors
/// When the database does not answer.
pub async fn delete(on: &mut Transaction, id: i64) -> Result<bool, Error> {
    let delete = Sql::built(format!(
        "DELETE FROM api_keys AS k WHERE k.id = $1 RETURNING {}",
        COLUMNS.replace("k.", "")
    ));
    delete_these(on, delete.bind(id)).await.map(|gone| gone > 0)
}

/// Ends all keys that an account has made, and returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn delete_all(on: &mut Transaction, id: AccountId) -> Result<usize, Error> {
    let delete = Sql::built(format!(
        "DELETE FROM api_keys AS k WHERE k.account_id = $1 RETURNING {}",
        COLUMNS.replace("k.", "")
    ));
    delete_these(on, delete.bind(id)).await
}

async fn delete_these(on: &mut Transaction, statement: Statement) -> Result<usize, Error> {
    let gone = list(on, statement).await?;
    for key in &gone {
        let change = Change::delete(Table::ApiKeys, json!({ "id": key.id }));
        on.changed(about(change, key));
    }
    Ok(gone.len())
}

fn about(change: Change, key: &ApiKey) -> Change {
    let change = change.account(key.account_id);
    match key.project_id {
        Some(project) => change.project(project),
        None => change,
    }
}

/// Notes that a key is in use, if that was not noted within the time. Nobody is told of it.
///
/// # Errors
/// When the database does not answer.
pub async fn touch(
    on: &mut Transaction,
    id: i64,
    within: std::time::Duration,
) -> Result<(), Error> {
    let touch = Sql::same(
        "UPDATE api_keys SET last_active = {now} WHERE id = $1 AND (last_active IS NULL OR last_active < {ago $2})",
    );
    on.execute(touch.bind(id).bind(within)).await.map(drop)
}
