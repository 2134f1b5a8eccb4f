//! Other ways of signing in that accounts are linked with.

use super::error::Error;
use super::outbox::{Change, Table};
use super::sql::Sql;
use super::transaction::{Reader, Transaction};
use crate::id::AccountId;
use serde_json::{Value as Json, json};

/// A way of signing in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passport {
    /// By whom.
    pub strategy: String,
    /// What the account is called there.
    pub external_id: String,
}

/// The ways that an account is linked with.
///
/// # Errors
/// When the database does not answer.
pub async fn of_account(on: &mut Reader, account: AccountId) -> Result<Vec<Passport>, Error> {
    let find = Sql::same(
        "SELECT strategy, external_id FROM passport_links WHERE account_id = $1 ORDER BY strategy, external_id",
    );
    let rows = on.rows(find.bind(account)).await?;
    rows.iter()
        .map(|row| {
            Ok(Passport {
                strategy: row.get("strategy")?,
                external_id: row.get("external_id")?,
            })
        })
        .collect()
}

/// Links a way of signing in with an account.
///
/// # Errors
/// [`Error::Conflict`] if it is linked already, with whomever; [`Error::Missing`] if there is no such account.
pub async fn insert(
    on: &mut Transaction,
    account: AccountId,
    passport: &Passport,
) -> Result<(), Error> {
    let insert = Sql::same(
        "INSERT INTO passport_links (strategy, external_id, account_id) VALUES ($1, $2, $3)",
    );
    let insert = insert
        .bind(&passport.strategy)
        .bind(&passport.external_id)
        .bind(account);
    on.execute(insert).await?;
    let key = json!({ "account_id": account });
    on.changed(Change::update(Table::Accounts, key, &["passports"]).account(account));
    Ok(())
}

/// Keeps what a strategy says about itself.
///
/// # Errors
/// When the database does not answer.
pub async fn put_info(on: &mut Transaction, strategy: &str, info: &Json) -> Result<(), Error> {
    let put = Sql::same(
        "INSERT INTO passport_settings (strategy, info) VALUES ($1, $2)
         ON CONFLICT (strategy) DO UPDATE SET info = excluded.info",
    );
    on.execute(put.bind(strategy).bind(info)).await.map(drop)
}

/// What a strategy says about itself to those who use it, if there is one.
///
/// # Errors
/// When the database does not answer.
pub async fn info(on: &mut Reader, strategy: &str) -> Result<Option<Json>, Error> {
    let find = Sql::same("SELECT info FROM passport_settings WHERE strategy = $1");
    let row = on.row(find.bind(strategy)).await?;
    row.map(|row| row.get("info")).transpose()
}

/// Unlinks a way of signing in from an account. `false` if they are not linked.
///
/// # Errors
/// When the database does not answer.
pub async fn delete(
    on: &mut Transaction,
    account: AccountId,
    passport: &Passport,
) -> Result<bool, Error> {
    let delete = Sql::same(
        "DELETE FROM passport_links WHERE account_id = $1 AND strategy = $2 AND external_id = $3",
    );
    let delete = delete
        .bind(account)
        .bind(&passport.strategy)
        .bind(&passport.external_id);
    let done = on.execute(delete).await? > 0;
    if done {
        let key = json!({ "account_id": account });
        on.changed(Change::update(Table::Accounts, key, &["passports"]).account(account));
    }
    Ok(done)
}
