//! Sites that vouch for people: how they are reached, whom they have vouched for, and what is under way.

use std::time::Duration;

use serde_json::Value as Json;

use super::error::Error;
use super::row::Row;
use super::sql::Sql;
use super::transaction::{Reader, Transaction};
use crate::id::AccountId;
use crate::time::millis;

/// Most strategies that are read; a site has a handful.
const STRATEGIES_MAX: i64 = 1000;

/// A way to sign in, as it is configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its name, which is part of addresses.
    pub strategy: String,
    /// How the other site is reached, with secrets.
    pub conf: Json,
    /// How it is shown and for whom it is.
    pub info: Json,
}

/// Somebody whom another site knows, and the account that belongs to them.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// By which way to sign in.
    pub strategy: String,
    /// What the other site calls them.
    pub external_id: String,
    /// The account.
    pub account_id: AccountId,
    /// What the other site has said about them.
    pub profile: Json,
}

fn stored(row: &Row) -> Result<Stored, Error> {
    Ok(Stored {
        strategy: row.get("strategy")?,
        conf: row.get("conf")?,
        info: row.get("info")?,
    })
}

/// All ways to sign in, by name.
///
/// # Errors
/// When the database does not answer.
pub async fn strategies(on: &mut Reader) -> Result<Vec<Stored>, Error> {
    let all =
        Sql::same("SELECT strategy, conf, info FROM passport_settings ORDER BY strategy LIMIT $1");
    on.rows(all.bind(STRATEGIES_MAX))
        .await?
        .iter()
        .map(stored)
        .collect()
}

/// The way to sign in with this name.
///
/// # Errors
/// When the database does not answer.
pub async fn strategy(on: &mut Reader, name: &str) -> Result<Option<Stored>, Error> {
    let find = Sql::same("SELECT strategy, conf, info FROM passport_settings WHERE strategy = $1");
    on.row(find.bind(name))
        .await?
        .as_ref()
        .map(stored)
        .transpose()
}

/// Makes a way to sign in, or replaces the one with this name.
///
/// # Errors
/// When the database does not answer.
pub async fn put_strategy(on: &mut Transaction, strategy: &Stored) -> Result<(), Error> {
    let put = Sql::same(
        "INSERT INTO passport_settings (strategy, conf, info) VALUES ($1, $2, $3)
         ON CONFLICT (strategy) DO UPDATE SET conf = excluded.conf, info = excluded.info",
    );
    let put = put
        .bind(&strategy.strategy)
        .bind(&strategy.conf)
        .bind(&strategy.info);
    on.execute(put).await.map(drop)
}

/// Removes a way to sign in. Whom it has vouched for stays known, in case it comes back. `false` if there is none.
///
/// # Errors
/// When the database does not answer.
pub async fn delete_strategy(on: &mut Transaction, name: &str) -> Result<bool, Error> {
    let delete = Sql::same("DELETE FROM passport_settings WHERE strategy = $1");
    Ok(on.execute(delete.bind(name)).await? > 0)
}

const LINK: &str = "strategy, external_id, account_id, profile";

fn link(row: &Row) -> Result<Link, Error> {
    Ok(Link {
        strategy: row.get("strategy")?,
        external_id: row.get("external_id")?,
        account_id: row.get("account_id")?,
        profile: row.get("profile")?,
    })
}

/// The account of somebody whom another site knows.
///
/// # Errors
/// When the database does not answer.
pub async fn find(
    on: &mut Reader,
    strategy: &str,
    external_id: &str,
) -> Result<Option<Link>, Error> {
    let find = Sql::built(format!(
        "SELECT {LINK} FROM passport_links WHERE strategy = $1 AND external_id = $2"
    ));
    let row = on.row(find.bind(strategy).bind(external_id)).await?;
    row.as_ref().map(link).transpose()
}

/// All sites that vouch for an account.
///
/// # Errors
/// When the database does not answer.
pub async fn of_account(on: &mut Reader, id: AccountId) -> Result<Vec<Link>, Error> {
    let all = Sql::built(format!(
        "SELECT {LINK} FROM passport_links WHERE account_id = $1 ORDER BY strategy, external_id"
    ));
    on.rows(all.bind(id)).await?.iter().map(link).collect()
}

/// Notes that another site vouches for an account.
///
/// # Errors
/// [`Error::Conflict`] if it vouches for somebody already, after which the transaction can only be dropped.
pub async fn insert(on: &mut Transaction, new: &Link) -> Result<(), Error> {
    let insert = Sql::same(
        "INSERT INTO passport_links (strategy, external_id, account_id, profile) VALUES ($1, $2, $3, $4)",
    );
    let insert = insert
        .bind(&new.strategy)
        .bind(&new.external_id)
        .bind(new.account_id)
        .bind(&new.profile);
    on.execute(insert).await?;
    told(on, new.account_id);
    Ok(())
}

/// Keeps what another site says about somebody now, if that has changed.
///
/// # Errors
/// When the database does not answer.
pub async fn set_profile(
    on: &mut Transaction,
    id: AccountId,
    strategy: &str,
    external_id: &str,
    profile: &Json,
) -> Result<(), Error> {
    let set = Sql::same(
        "UPDATE passport_links SET profile = $4
          WHERE account_id = $1 AND strategy = $2 AND external_id = $3 AND profile <> $4",
    );
    let set = set.bind(id).bind(strategy).bind(external_id).bind(profile);
    if on.execute(set).await? > 0 {
        told(on, id);
    }
    Ok(())
}

/// Forgets that a site vouches for an account. `false` if it does not.
///
/// # Errors
/// When the database does not answer.
pub async fn delete(
    on: &mut Transaction,
    id: AccountId,
    strategy: &str,
    external_id: &str,
) -> Result<bool, Error> {
    let delete = Sql::same(
        "DELETE FROM passport_links WHERE account_id = $1 AND strategy = $2 AND external_id = $3",
    );
    let delete = delete.bind(id).bind(strategy).bind(external_id);
    let done = on.execute(delete).await? > 0;
    if done {
        told(on, id);
    }
    Ok(done)
}

/// Forgets all sites that vouch for an account.
///
/// # Errors
/// When the database does not answer.
pub async fn delete_all(on: &mut Transaction, id: AccountId) -> Result<(), Error> {
    let delete = Sql::same("DELETE FROM passport_links WHERE account_id = $1");
    on.execute(delete.bind(id)).await.map(drop)
}

/// Clients see these as a field of the account.
fn told(on: &mut Transaction, id: AccountId) {
    use super::outbox::{Change, Table};
    let key = serde_json::json!({ "account_id": id });
    on.changed(Change::update(Table::Accounts, key, &["passports"]).account(id));
}

/// Keeps something for a while under a key that nobody has used.
///
/// # Errors
/// [`Error::Conflict`] if somebody has.
pub async fn keep(
    on: &mut Transaction,
    key: &str,
    value: &Json,
    ttl: Duration,
) -> Result<(), Error> {
    let keep =
        Sql::same("INSERT INTO passport_store (key, value, expire) VALUES ($1, $2, {after $3})");
    let keep = keep.bind(key).bind(value.to_string()).bind(millis(ttl));
    on.execute(keep).await.map(drop)
}

/// Takes what was kept under a key, once: of two who ask for it one gets it.
///
/// # Errors
/// When the database does not answer.
pub async fn take(on: &mut Transaction, key: &str) -> Result<Option<Json>, Error> {
    let take =
        Sql::same("DELETE FROM passport_store WHERE key = $1 AND expire > {now} RETURNING value");
    let Some(row) = on.row(take.bind(key)).await? else {
        return Ok(None);
    };
    let text: String = row.get("value")?;
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| Error::Corrupt(format!("what was kept for signing in: {error}")))
}
