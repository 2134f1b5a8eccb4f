//! Accounts: who there is, how they are found, and what is changed about them.
//!
//! Addresses are in lower case, which those who call this see to. An address or a name that somebody has is
//! [`Taken`], whoever of two was first.

use std::time::Duration;

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::assign::Assign;
use super::error::Error;
use super::outbox::{Change, Table};
use super::row::Row;
use super::sql::{Sql, Statement};
use super::transaction::{Reader, Transaction};
use crate::id::AccountId;
use crate::time::Time;

/// The group of those who may do everything on the site.
pub const ADMIN: &str = "admin";

/// An account, without what belongs to a user interface.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// Its number.
    pub id: AccountId,
    /// When it was made.
    pub created: Time,
    /// Where letters go; nobody else has it.
    pub email_address: Option<String>,
    /// Which addresses were shown to be its own, and when: address to time.
    pub email_address_verified: Json,
    /// The hash of the password, if it has one.
    pub password_hash: Option<String>,
    /// The first name.
    pub first_name: String,
    /// The last name.
    pub last_name: String,
    /// The name in addresses of pages; nobody else has it, in whatever case.
    pub name: Option<String>,
    /// The groups of the site that it belongs to.
    pub groups: Vec<String>,
    /// Whether it is locked out.
    pub banned: bool,
    /// Whether it was given up.
    pub deleted: bool,
    /// How long it lives, if not for ever.
    pub ephemeral: Option<Duration>,
    /// What the token with which it was made restricts.
    pub customize: Json,
    /// When it was last used.
    pub last_active: Option<Time>,
    /// How often everything that was let in as this account was thrown out.
    pub session_epoch: i64,
}

impl Account {
    /// Whether it may do everything on the site.
    pub fn is_admin(&self) -> bool {
        self.groups.iter().any(|group| group == ADMIN)
    }

    /// Whether it may be used at all.
    pub fn is_usable(&self) -> bool {
        !self.banned && !self.deleted
    }
}

/// What of an account nobody else may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unique {
    /// The address.
    EmailAddress,
    /// The name.
    Name,
}

/// Why an account was not made or changed as wished.
#[derive(Debug, thiserror::Error)]
pub enum Taken {
    /// Somebody else has it.
    #[error("somebody else has this {0:?}")]
    Taken(Unique),
    /// Something else.
    #[error(transparent)]
    Store(#[from] Error),
}

fn taken(error: Error) -> Taken {
    if error.is_conflict("accounts", "email_address") {
        Taken::Taken(Unique::EmailAddress)
    } else if error.is_conflict("accounts", "name") {
        Taken::Taken(Unique::Name)
    } else {
        Taken::Store(error)
    }
}

/// An account to be made.
#[derive(Debug, Clone)]
pub struct New {
    /// Its number.
    pub id: AccountId,
    /// Where letters go; those without one are anonymous.
    pub email_address: Option<String>,
    /// The hash of the password.
    pub password_hash: Option<String>,
    /// The first name.
    pub first_name: String,
    /// The last name.
    pub last_name: String,
    /// From where it is made.
    pub created_by: Option<String>,
    /// Who makes it for somebody else.
    pub owner_id: Option<AccountId>,
    /// The groups of the site that it belongs to.
    pub groups: Vec<String>,
    /// How long it lives, if not for ever.
    pub ephemeral: Option<Duration>,
    /// What the token with which it is made restricts.
    pub customize: Json,
    /// What it is for, as people said.
    pub tags: Vec<String>,
    /// Why it is made, as people said.
    pub sign_up_usage_intent: Option<String>,
}

impl New {
    /// One with a random number and no more than names.
    pub fn named(first_name: &str, last_name: &str) -> Self {
        Self {
            id: AccountId::random(),
            email_address: None,
            password_hash: None,
            first_name: first_name.to_owned(),
            last_name: last_name.to_owned(),
            created_by: None,
            owner_id: None,
            groups: Vec::new(),
            ephemeral: None,
            customize: json!({}),
            tags: Vec::new(),
            sign_up_usage_intent: None,
        }
    }
}

/// Makes an account.
///
/// # Errors
/// [`Taken::Taken`] if somebody has its address, after which the transaction can only be dropped.
pub async fn insert(on: &mut Transaction, new: &New) -> Result<(), Taken> {
    let insert = Sql::same(
        "INSERT INTO accounts (account_id, created, email_address, password_hash, first_name, last_name, created_by,
                               owner_id, groups, ephemeral, customize, tags, sign_up_usage_intent)
         VALUES ($1, {now}, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    );
    let insert = insert
        .bind(new.id)
        .bind(new.email_address.clone())
        .bind(new.password_hash.clone())
        .bind(&new.first_name)
        .bind(&new.last_name)
        .bind(new.created_by.clone())
        .bind(new.owner_id)
        .bind(json!(new.groups))
        .bind(new.ephemeral)
        .bind(&new.customize)
        .bind(json!(new.tags))
        .bind(new.sign_up_usage_intent.clone());
    on.execute(insert).await.map_err(taken)?;
    on.changed(Change::insert(Table::Accounts, key(new.id)).account(new.id));
    Ok(())
}

const COLUMNS: &str = "account_id, created, email_address, email_address_verified, password_hash, first_name, \
     last_name, name, groups, banned, deleted, ephemeral, customize, last_active, session_epoch";

fn select(rest: &str) -> Sql {
    Sql::built(format!("SELECT {COLUMNS} FROM accounts {rest}"))
}

fn account(row: &Row) -> Result<Account, Error> {
    Ok(Account {
        id: row.get("account_id")?,
        created: row.get("created")?,
        email_address: row.maybe("email_address")?,
        email_address_verified: row.get("email_address_verified")?,
        password_hash: row.maybe("password_hash")?,
        first_name: row.get("first_name")?,
        last_name: row.get("last_name")?,
        name: row.maybe("name")?,
        groups: row.list("groups")?,
        banned: row.get("banned")?,
        deleted: row.get("deleted")?,
        ephemeral: row.duration("ephemeral")?,
        customize: row.get("customize")?,
        last_active: row.maybe("last_active")?,
        session_epoch: row.get("session_epoch")?,
    })
}

async fn one(on: &mut Reader, statement: Statement) -> Result<Option<Account>, Error> {
    on.row(statement).await?.as_ref().map(account).transpose()
}

/// The account with this number.
///
/// # Errors
/// When the database does not answer.
pub async fn by_id(on: &mut Reader, id: AccountId) -> Result<Option<Account>, Error> {
    one(on, select("WHERE account_id = $1").bind(id)).await
}

/// The account with this number, which nobody else changes until the transaction ends.
///
/// # Errors
/// When the database does not answer.
pub async fn locked(on: &mut Transaction, id: AccountId) -> Result<Option<Account>, Error> {
    let lock = Sql::pair(
        "SELECT 1 FROM accounts WHERE account_id = $1 FOR UPDATE",
        "SELECT 1 FROM accounts WHERE account_id = $1",
    );
    on.row(lock.bind(id)).await?;
    by_id(on, id).await
}

/// The account with this address, in lower case.
///
/// # Errors
/// When the database does not answer.
pub async fn by_email_address(on: &mut Reader, address: &str) -> Result<Option<Account>, Error> {
    one(on, select("WHERE email_address = $1").bind(address)).await
}

/// The account with this name, in whatever case.
///
/// # Errors
/// When the database does not answer.
pub async fn by_name(on: &mut Reader, name: &str) -> Result<Option<Account>, Error> {
    one(on, select("WHERE lower(name) = lower($1)").bind(name)).await
}

/// Those of these accounts that exist, in no order.
///
/// # Errors
/// When the database does not answer.
pub async fn by_ids(on: &mut Reader, ids: &[AccountId]) -> Result<Vec<Account>, Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let rows = on
        .rows(select("WHERE account_id IN ({each $1})").bind(ids))
        .await?;
    rows.iter().map(account).collect()
}

/// What is to be changed about an account; the rest stays.
#[derive(Debug, Clone, Default)]
#[expect(
    clippy::option_option,
    reason = "whether it changes, and what is there afterwards"
)]
pub struct Update {
    /// The first name.
    pub first_name: Option<String>,
    /// The last name.
    pub last_name: Option<String>,
    /// The name in addresses of pages; `Some(None)` takes it away.
    pub name: Option<Option<String>>,
    /// The address; `Some(None)` takes it away.
    pub email_address: Option<Option<String>>,
    /// The hash of the password; `Some(None)` takes it away.
    pub password_hash: Option<Option<String>>,
    /// Which addresses were shown to be its own, and when.
    pub email_address_verified: Option<Json>,
    /// What was sent to verify an address.
    pub email_address_challenge: Option<Option<Json>>,
    /// The groups of the site that it belongs to.
    pub groups: Option<Vec<String>>,
    /// Whether it is locked out.
    pub banned: Option<bool>,
    /// Whether what happens after an account is made has happened.
    pub creation_actions_done: Option<bool>,
}

/// Changes an account. `false` if there is none with this number.
///
/// # Errors
/// [`Taken::Taken`] if somebody has the address or the name, after which the transaction can only be dropped.
pub async fn update(on: &mut Transaction, id: AccountId, update: Update) -> Result<bool, Taken> {
    let assign = Assign::default()
        .maybe("first_name", update.first_name)
        .maybe("last_name", update.last_name)
        .maybe("name", update.name)
        .maybe("email_address", update.email_address)
        .maybe("password_hash", update.password_hash)
        .maybe("email_address_verified", update.email_address_verified)
        .maybe("email_address_challenge", update.email_address_challenge)
        .maybe("groups", update.groups.map(|groups| json!(groups)))
        .maybe("banned", update.banned)
        .maybe("creation_actions_done", update.creation_actions_done);
    write(on, id, assign).await.map_err(taken)
}

async fn write(on: &mut Transaction, id: AccountId, assign: Assign) -> Result<bool, Error> {
    let columns = assign.columns().to_vec();
    let Some(statement) = assign.update("accounts", "account_id", id) else {
        return Ok(by_id(on, id).await?.is_some());
    };
    let done = on.execute(statement).await? > 0;
    if done {
        told(on, id, &columns);
    }
    Ok(done)
}

/// Replaces the hash of the password, if it is still this one: for hashes of an old kind, when the password was shown.
///
/// # Errors
/// When the database does not answer.
pub async fn rehash(
    on: &mut Transaction,
    id: AccountId,
    old: &str,
    new: &str,
) -> Result<bool, Error> {
    let rehash = Sql::same(
        "UPDATE accounts SET password_hash = $3 WHERE account_id = $1 AND password_hash = $2",
    );
    let done = on.execute(rehash.bind(id).bind(old).bind(new)).await? > 0;
    if done {
        told(on, id, &["password_hash"]);
    }
    Ok(done)
}

/// Throws out everything that was let in as this account: whoever follows the changes sees its epoch grow.
///
/// # Errors
/// When the database does not answer.
pub async fn throw_out(on: &mut Transaction, id: AccountId) -> Result<(), Error> {
    let bump =
        Sql::same("UPDATE accounts SET session_epoch = session_epoch + 1 WHERE account_id = $1");
    if on.execute(bump.bind(id)).await? > 0 {
        told(on, id, &["session_epoch"]);
    }
    Ok(())
}

/// Gives an account up: its address is free for others, and it has no password.
///
/// # Errors
/// When the database does not answer.
pub async fn give_up(on: &mut Transaction, id: AccountId) -> Result<bool, Error> {
    let give_up = Sql::same(
        "UPDATE accounts SET deleted = $2, email_address_before_delete = email_address, email_address = NULL,
                password_hash = NULL, name = NULL, email_address_challenge = NULL
          WHERE account_id = $1 AND NOT deleted",
    );
    let done = on.execute(give_up.bind(id).bind(true)).await? > 0;
    if done {
        told(
            on,
            id,
            &["deleted", "email_address", "password_hash", "name"],
        );
    }
    Ok(done)
}

/// Notes that an account is in use, if that was not noted within the time. Nobody is told of it: it happens all the
/// time.
///
/// # Errors
/// When the database does not answer.
pub async fn touch(on: &mut Transaction, id: AccountId, within: Duration) -> Result<(), Error> {
    let touch = Sql::same(
        "UPDATE accounts SET last_active = {now}
          WHERE account_id = $1 AND (last_active IS NULL OR last_active < {ago $2})",
    );
    on.execute(touch.bind(id).bind(within)).await.map(drop)
}

/// What verification was sent, as [`Update::email_address_challenge`] has set it.
///
/// # Errors
/// When the database does not answer.
pub async fn challenge(on: &mut Reader, id: AccountId) -> Result<Option<Json>, Error> {
    let challenge = Sql::same("SELECT email_address_challenge FROM accounts WHERE account_id = $1");
    match on.row(challenge.bind(id)).await? {
        Some(row) => row.maybe("email_address_challenge"),
        None => Ok(None),
    }
}

/// Whom a search looks for.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// Beginnings of first or last names, in whatever case; all of them must be there.
    pub words: &'a [&'a str],
    /// Whether those who do not want to be found, and those who are banned or gone, are found as well.
    pub everybody: bool,
    /// How many are found at most.
    pub limit: i64,
}

/// Accounts by beginnings of names, those that were used last first.
///
/// # Errors
/// When the database does not answer.
pub async fn search(on: &mut Reader, search: Search<'_>) -> Result<Vec<Account>, Error> {
    let mut text = String::from("WHERE ($1 OR NOT (unlisted OR banned OR deleted))");
    for (_, n) in search.words.iter().zip(3..) {
        let word = format!(
            " AND (lower(first_name) LIKE ${n} ESCAPE '\\' OR lower(last_name) LIKE ${n} ESCAPE '\\')"
        );
        text.push_str(&word);
    }
    text.push_str(" ORDER BY CASE WHEN last_active IS NULL THEN 1 ELSE 0 END, last_active DESC, account_id LIMIT $2");
    let mut statement = select(&text).bind(search.everybody).bind(search.limit);
    for word in search.words {
        statement = statement.bind(begins_with(word));
    }
    let rows = on.rows(statement).await?;
    rows.iter().map(account).collect()
}

/// A pattern for what begins with this, in lower case.
fn begins_with(word: &str) -> String {
    let mut pattern = String::with_capacity(word.len() + 1);
    for c in word.to_lowercase().chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// The accounts in this group, by number.
///
/// # Errors
/// When the database does not answer.
pub async fn in_group(on: &mut Reader, group: &str) -> Result<Vec<Account>, Error> {
    let filter = Sql::pair(
        "SELECT account_id FROM accounts WHERE groups @> $1 ORDER BY account_id",
        "SELECT account_id FROM accounts, json_each($1) AS wanted
          WHERE EXISTS (SELECT 1 FROM json_each(accounts.groups) AS has WHERE has.value = wanted.value)
          ORDER BY account_id",
    );
    let rows = on.rows(filter.bind(json!([group]))).await?;
    let ids: Vec<AccountId> = rows
        .iter()
        .map(|row| row.get("account_id"))
        .collect::<Result<_, _>>()?;
    let mut found = by_ids(on, &ids).await?;
    found.sort_by_key(|account| account.id);
    Ok(found)
}

/// Some accounts whose time is over, oldest first.
///
/// # Errors
/// When the database does not answer.
pub async fn over(on: &mut Reader, limit: i64) -> Result<Vec<AccountId>, Error> {
    let over = Sql::pair(
        "SELECT account_id FROM accounts
          WHERE ephemeral IS NOT NULL AND NOT deleted AND created + ephemeral * interval '1 millisecond' < {now}
          ORDER BY created LIMIT $1",
        "SELECT account_id FROM accounts
          WHERE ephemeral IS NOT NULL AND NOT deleted AND created + ephemeral < {now}
          ORDER BY created LIMIT $1",
    );
    let rows = on.rows(over.bind(limit)).await?;
    rows.iter().map(|row| row.get("account_id")).collect()
}

fn key(id: AccountId) -> Json {
    json!({ "account_id": id })
}

fn told(on: &mut Transaction, id: AccountId, columns: &[&str]) {
    on.changed(Change::update(Table::Accounts, key(id), columns).account(id));
}
