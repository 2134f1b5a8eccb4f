//! What happens when an account with an address is made.

use std::time::Duration;

use serde_json::Value as Json;
use uuid::Uuid;

use super::error::Error;
use super::sql::Sql;
use super::transaction::{Reader, Transaction};

/// Most of them for an address.
const ACTIONS_MAX: i64 = 100;

/// What happens when an account with this address is made, oldest end first.
///
/// # Errors
/// When the database does not answer.
pub async fn of_address(on: &mut Reader, address: &str) -> Result<Vec<Json>, Error> {
    let find = Sql::same(
        "SELECT action FROM account_creation_actions
          WHERE email_address = $1 AND expire > {now} ORDER BY expire, id LIMIT $2",
    );
    let rows = on.rows(find.bind(address).bind(ACTIONS_MAX)).await?;
    rows.iter().map(|row| row.get("action")).collect()
}

/// Lets something happen when an account with this address is made, unless it will already. `false` if too much will.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(
    on: &mut Transaction,
    address: &str,
    action: &Json,
    ttl: Duration,
) -> Result<bool, Error> {
    let before = of_address(on, address).await?;
    if before.contains(action) {
        return Ok(true);
    }
    if i64::try_from(before.len()).unwrap_or(i64::MAX) >= ACTIONS_MAX {
        return Ok(false);
    }
    let insert = Sql::same(
        "INSERT INTO account_creation_actions (id, email_address, action, expire) VALUES ($1, $2, $3, {after $4})",
    );
    let insert = insert
        .bind(Uuid::new_v4())
        .bind(address)
        .bind(action)
        .bind(ttl);
    on.execute(insert).await?;
    Ok(true)
}

/// Takes what happens when an account with this address is made, so that it happens once.
///
/// # Errors
/// When the database does not answer.
pub async fn take(on: &mut Transaction, address: &str) -> Result<Vec<Json>, Error> {
    let take = Sql::same(
        "DELETE FROM account_creation_actions WHERE email_address = $1 AND expire > {now} RETURNING action",
    );
    let rows = on.rows(take.bind(address)).await?;
    rows.iter().map(|row| row.get("action")).collect()
}
