//! What accounts have paid and used. Money is in millionths of a dollar.

use serde_json::json;

use super::error::Error;
use super::outbox::{Change, Table};
use super::sql::Sql;
use super::transaction::{Reader, Transaction};
use crate::id::AccountId;
use crate::time::Time;

/// What an account has left: all that it was credited, less all that it has used until now. What is credited counts
/// when it has arrived; what is used counts at once.
///
/// # Errors
/// When the database does not answer.
pub async fn balance(on: &mut Reader, account: AccountId) -> Result<i64, Error> {
    let sum = Sql::pair(
        "SELECT CAST(-coalesce(sum(amount), 0) AS bigint) AS balance FROM (
            SELECT coalesce(cost, cost_so_far, round(cost_per_hour *
                greatest(extract(epoch FROM (coalesce(period_end, {now}) - period_start)), 0) / 3600)) AS amount,
                   pending
              FROM purchases WHERE account_id = $1) AS amounts
          WHERE NOT (pending AND amount < 0)",
        "SELECT CAST(-coalesce(sum(amount), 0) AS INTEGER) AS balance FROM (
            SELECT coalesce(cost, cost_so_far, CAST(round(cost_per_hour *
                (max(coalesce(period_end, {now}) - period_start, 0) / 3600000.0)) AS INTEGER)) AS amount,
                   pending
              FROM purchases WHERE account_id = $1) AS amounts
          WHERE NOT (pending AND amount < 0)",
    );
    let row = on.row(sum.bind(account)).await?;
    row.map_or(Ok(0), |row| row.get("balance"))
}

/// What stands in an account: what it had left when that was last written down, and how far below nothing that may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// What was left.
    pub balance: Option<i64>,
    /// How far down it may go; negative or zero.
    pub min_balance: i64,
}

/// What stands in an account.
///
/// # Errors
/// When the database does not answer.
pub async fn standing(on: &mut Reader, account: AccountId) -> Result<Standing, Error> {
    let find = Sql::same("SELECT balance, min_balance FROM accounts WHERE account_id = $1");
    let Some(row) = on.row(find.bind(account)).await? else {
        return Ok(Standing::default());
    };
    Ok(Standing {
        balance: row.maybe("balance")?,
        min_balance: row.maybe("min_balance")?.unwrap_or(0),
    })
}

/// Writes down what is left.
///
/// # Errors
/// When the database does not answer.
pub async fn put_balance(
    on: &mut Transaction,
    account: AccountId,
    balance: i64,
) -> Result<(), Error> {
    let put = Sql::same("UPDATE accounts SET balance = $2 WHERE account_id = $1");
    if on.execute(put.bind(account).bind(balance)).await? > 0 {
        let key = json!({ "account_id": account });
        on.changed(Change::update(Table::Accounts, key, &["balance"]).account(account));
    }
    Ok(())
}

/// What something costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// So much; negative if it is credited.
    Fixed(i64),
    /// So much an hour, from then until then, or as long as it goes on.
    PerHour {
        /// How much.
        cost: i64,
        /// When it began.
        start: Time,
        /// When it ended, if it has.
        end: Option<Time>,
    },
}

/// Something that was paid or used.
#[derive(Debug, Clone, Copy)]
pub struct New<'a> {
    /// By whom.
    pub account: AccountId,
    /// What it costs.
    pub cost: Cost,
    /// Whether it is under way.
    pub pending: bool,
    /// For what.
    pub service: &'a str,
}

/// Writes down something that was paid or used, and returns its number.
///
/// # Errors
/// When the database does not answer.
pub async fn insert(on: &mut Transaction, new: New<'_>) -> Result<i64, Error> {
    let insert = Sql::same(
        "INSERT INTO purchases (time, account_id, pending, service, cost, cost_per_hour, period_start, period_end)
         VALUES ({now}, $1, $2, $3, $4, $5, $6, $7) RETURNING id",
    );
    let (fixed, per_hour, start, end) = match new.cost {
        Cost::Fixed(cost) => (Some(cost), None, None, None),
        Cost::PerHour { cost, start, end } => (None, Some(cost), Some(start), end),
    };
    let insert = insert
        .bind(new.account)
        .bind(new.pending)
        .bind(new.service)
        .bind(fixed)
        .bind(per_hour)
        .bind(start)
        .bind(end);
    let row = on.row(insert).await?;
    row.ok_or_else(|| Error::Corrupt("a purchase has no number".to_owned()))?
        .get("id")
}
