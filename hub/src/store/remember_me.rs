//! Sessions of browsers, known by the hash of what the browser shows.

use std::time::Duration;

use serde_json::json;

use super::error::Error;
use super::outbox::{Change, Table};
use super::row::Row;
use super::sql::Sql;
use super::transaction::{Reader, Transaction};
use crate::id::AccountId;
use crate::time::{Time, millis};

/// A session to be kept.
#[derive(Debug, Clone)]
pub struct New<'a> {
    /// The hash of what the browser shows.
    pub hash: &'a str,
    /// Whose it is.
    pub account_id: AccountId,
    /// How long it lasts.
    pub ttl: Duration,
    /// How somebody came to have it: `password`, `sso`, `impersonation` or `ephemeral`.
    pub kind: &'a str,
    /// From where it was made.
    pub ip: Option<String>,
    /// With which program.
    pub user_agent: Option<String>,
}

/// A session, with what decides whether it still counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whose it is.
    pub account_id: AccountId,
    /// When it ends.
    pub expire: Time,
    /// How somebody came to have it.
    pub kind: String,
    /// Whether its account is locked out.
    pub banned: bool,
    /// Whether its account was given up.
    pub deleted: bool,
    /// Whether its account may do everything on the site.
    pub admin: bool,
    /// How often everything that was let in as its account was thrown out.
    pub session_epoch: i64,
    /// The time of the database, by which `expire` counts.
    pub now: Time,
}

/// A session as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The hash of what the browser shows.
    pub hash: String,
    /// When it was made.
    pub created: Time,
    /// When it ends.
    pub expire: Time,
    /// When it was last used.
    pub last_used: Option<Time>,
    /// From where it was made.
    pub ip: Option<String>,
    /// With which program.
    pub user_agent: Option<String>,
    /// How somebody came to have it.
    pub kind: String,
}

/// Keeps a session.
///
/// # Errors
/// [`Error::Missing`] if there is no such account.
pub async fn insert(on: &mut Transaction, new: &New<'_>) -> Result<(), Error> {
    let insert = Sql::same(
        "INSERT INTO remember_me (hash, account_id, created, expire, ip, user_agent, kind)
         VALUES ($1, $2, {now}, {after $3}, $4, $5, $6)",
    );
    let insert = insert
        .bind(new.hash)
        .bind(new.account_id)
        .bind(millis(new.ttl))
        .bind(new.ip.clone())
        .bind(new.user_agent.clone())
        .bind(new.kind);
    on.execute(insert).await.map(drop)
}

/// The session with this hash, whether or not it still counts.
///
/// # Errors
/// When the database does not answer.
pub async fn find(on: &mut Reader, hash: &str) -> Result<Option<Found>, Error> {
    let find = Sql::pair(
        "SELECT s.account_id, s.expire, s.kind, a.banned, a.deleted, a.session_epoch, {now} AS now,
                a.groups @> '[\"admin\"]' AS admin
           FROM remember_me s JOIN accounts a ON a.account_id = s.account_id WHERE s.hash = $1",
        "SELECT s.account_id, s.expire, s.kind, a.banned, a.deleted, a.session_epoch, {now} AS now,
                EXISTS (SELECT 1 FROM json_each(a.groups) WHERE value = 'admin') AS admin
           FROM remember_me s JOIN accounts a ON a.account_id = s.account_id WHERE s.hash = $1",
    );
    let row = on.row(find.bind(hash)).await?;
    row.map(|row| {
        Ok(Found {
            account_id: row.get("account_id")?,
            expire: row.get("expire")?,
            kind: row.get("kind")?,
            banned: row.get("banned")?,
            deleted: row.get("deleted")?,
            admin: row.get("admin")?,
            session_epoch: row.get("session_epoch")?,
            now: row.get("now")?,
        })
    })
    .transpose()
}

/// The sessions of an account that still count, those that were made last first; at most `limit`.
///
/// # Errors
/// When the database does not answer.
pub async fn of_account(on: &mut Reader, id: AccountId, limit: i64) -> Result<Vec<Listed>, Error> {
    let list = Sql::same(
        "SELECT hash, created, expire, last_used, ip, user_agent, kind FROM remember_me
          WHERE account_id = $1 AND expire > {now} ORDER BY created DESC, hash LIMIT $2",
    );
    let rows = on.rows(list.bind(id).bind(limit)).await?;
    let listed = |row: &Row| {
        Ok(Listed {
            hash: row.get("hash")?,
            created: row.get("created")?,
            expire: row.get("expire")?,
            last_used: row.maybe("last_used")?,
            ip: row.maybe("ip")?,
            user_agent: row.maybe("user_agent")?,
            kind: row.get("kind")?,
        })
    };
    rows.iter().map(listed).collect()
}

/// Ends one session, and returns whose it was.
///
/// # Errors
/// When the database does not answer.
pub async fn delete(on: &mut Transaction, hash: &str) -> Result<Option<AccountId>, Error> {
    let delete = Sql::same("DELETE FROM remember_me WHERE hash = $1 RETURNING account_id");
    let row = on.row(delete.bind(hash)).await?;
    let owner: Option<AccountId> = row.map(|row| row.get("account_id")).transpose()?;
    if let Some(owner) = owner {
        told(on, hash, owner);
    }
    Ok(owner)
}

/// Ends all sessions of an account, but for one that is spared, and returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn delete_all(
    on: &mut Transaction,
    id: AccountId,
    spared: Option<&str>,
) -> Result<usize, Error> {
    let delete =
        Sql::same("DELETE FROM remember_me WHERE account_id = $1 AND hash <> $2 RETURNING hash");
    let rows = on
        .rows(delete.bind(id).bind(spared.unwrap_or_default()))
        .await?;
    for row in &rows {
        told(on, &row.get::<String>("hash")?, id);
    }
    Ok(rows.len())
}

fn told(on: &mut Transaction, hash: &str, owner: AccountId) {
    let change = Change::delete(Table::RememberMe, json!({ "hash": hash }));
    on.changed(change.account(owner));
}
