//! What is noted about programs, browsers and people, to be looked at by administrators and then forgotten.

use std::time::Duration;

use serde_json::Value as Json;
use uuid::Uuid;

use super::error::Error;
use super::sql::Sql;
use super::transaction::Transaction;
use crate::caller::Caller;
use crate::id::AccountId;

/// Notes an error of a client's program.
///
/// # Errors
/// When the database does not answer.
pub async fn client_error(
    on: &mut Transaction,
    caller: Caller,
    event: &str,
    error: &str,
    keep: Duration,
) -> Result<(), Error> {
    let insert = Sql::same(
        "INSERT INTO client_error_log (id, time, event, error, account_id, project_id, expire)
         VALUES ($1, {now}, $2, $3, $4, $5, {after $6})",
    );
    let insert = insert
        .bind(Uuid::new_v4())
        .bind(event)
        .bind(error)
        .bind(caller.account())
        .bind(caller.project())
        .bind(keep);
    on.execute(insert).await.map(drop)
}

/// Notes an error of a browser.
///
/// # Errors
/// When the database does not answer.
pub async fn webapp_error(
    on: &mut Transaction,
    caller: Caller,
    name: &str,
    value: &Json,
    keep: Duration,
) -> Result<(), Error> {
    let insert = Sql::same(
        "INSERT INTO webapp_errors (id, time, name, value, account_id, project_id, expire)
         VALUES ($1, {now}, $2, $3, $4, $5, {after $6})",
    );
    let insert = insert
        .bind(Uuid::new_v4())
        .bind(name)
        .bind(value)
        .bind(caller.account())
        .bind(caller.project())
        .bind(keep);
    on.execute(insert).await.map(drop)
}

/// Notes something that somebody did.
///
/// # Errors
/// When the database does not answer.
pub async fn tracked(
    on: &mut Transaction,
    account: AccountId,
    event: &str,
    value: &Json,
    keep: Duration,
) -> Result<(), Error> {
    let insert = Sql::same(
        "INSERT INTO user_tracking (id, account_id, time, event, value, expire)
         VALUES ($1, $2, {now}, $3, $4, {after $5})",
    );
    let insert = insert
        .bind(Uuid::new_v4())
        .bind(account)
        .bind(event)
        .bind(value)
        .bind(keep);
    on.execute(insert).await.map(drop)
}

/// Notes something that happened on the site.
///
/// # Errors
/// When the database does not answer.
pub async fn central(on: &mut Transaction, event: &str, value: &Json) -> Result<(), Error> {
    let insert =
        Sql::same("INSERT INTO central_log (id, time, event, value) VALUES ($1, {now}, $2, $3)");
    let insert = insert.bind(Uuid::new_v4()).bind(event).bind(value);
    on.execute(insert).await.map(drop)
}
