//! Tokens that are given out: to sign up, to set a password anew, to sign in as somebody once.
//!
//! What may be used once, or so often, is used in one statement, so that two who come at the same time do not both get
//! what is there for one.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::assign::Assign;
use super::error::Error;
use super::outbox::{Change, Table};
use super::row::Row;
use super::sql::Sql;
use super::transaction::{Reader, Transaction};
use crate::id::AccountId;
use crate::time::{Time, millis};

/// A token with which people sign up.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// The token itself, which administrators hand out.
    pub token: String,
    /// What it is for.
    pub descr: String,
    /// How often it was used.
    pub counter: i64,
    /// How often it may be used.
    pub limit: Option<i64>,
    /// When it ends.
    pub expires: Option<Time>,
    /// Whether it is switched off.
    pub disabled: bool,
    /// How long accounts live that are made with it, if not for ever.
    pub ephemeral: Option<Duration>,
    /// What it restricts for accounts that are made with it.
    pub customize: Json,
}

const REGISTRATION: &str = "token, descr, counter, limit_, expires, disabled, ephemeral, customize";

fn registration(row: &Row) -> Result<Registration, Error> {
    Ok(Registration {
        token: row.get("token")?,
        descr: row.get("descr")?,
        counter: row.get("counter")?,
        limit: row.maybe("limit_")?,
        expires: row.maybe("expires")?,
        disabled: row.get("disabled")?,
        ephemeral: row.duration("ephemeral")?,
        customize: row.get("customize")?,
    })
}

/// All tokens with which people sign up, by what they are for; at most `limit`.
///
/// # Errors
/// When the database does not answer.
pub async fn registrations(on: &mut Reader, limit: i64) -> Result<Vec<Registration>, Error> {
    let all = Sql::built(format!(
        "SELECT {REGISTRATION} FROM registration_tokens ORDER BY descr, token LIMIT $1"
    ));
    let rows = on.rows(all.bind(limit)).await?;
    rows.iter().map(registration).collect()
}

/// Whether nobody signs up without a token: whether there is one that is not switched off.
///
/// # Errors
/// When the database does not answer.
pub async fn registration_required(on: &mut Reader) -> Result<bool, Error> {
    let some = Sql::same("SELECT 1 FROM registration_tokens WHERE NOT disabled LIMIT 1");
    Ok(on.row(some.into()).await?.is_some())
}

/// A token with which people sign up, which nobody else uses until the transaction ends, and the time of the database.
///
/// # Errors
/// When the database does not answer.
pub async fn registration_locked(
    on: &mut Transaction,
    token: &str,
) -> Result<Option<(Registration, Time)>, Error> {
    let text = |lock| {
        format!(
            "SELECT {REGISTRATION}, {{now}} AS now FROM registration_tokens WHERE token = $1{lock}"
        )
    };
    let find = match on.dialect() {
        super::Dialect::Postgres => Sql::built(text(" FOR UPDATE")),
        super::Dialect::Sqlite => Sql::built(text("")),
    };
    let row = on.row(find.bind(token)).await?;
    row.map(|row| Ok((registration(&row)?, row.get("now")?)))
        .transpose()
}

/// Counts one use of a token.
///
/// # Errors
/// When the database does not answer.
pub async fn registration_used(on: &mut Transaction, token: &str) -> Result<(), Error> {
    let count = Sql::same("UPDATE registration_tokens SET counter = counter + 1 WHERE token = $1");
    on.execute(count.bind(token)).await?;
    told(on, token, &["counter"]);
    Ok(())
}

/// Makes a token, or changes the one that is there; how often it was used stays.
///
/// # Errors
/// When the database does not answer.
pub async fn put_registration(on: &mut Transaction, token: &Registration) -> Result<(), Error> {
    let put = Sql::same(
        "INSERT INTO registration_tokens (token, descr, limit_, expires, disabled, ephemeral, customize)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (token) DO UPDATE SET descr = excluded.descr, limit_ = excluded.limit_,
            expires = excluded.expires, disabled = excluded.disabled, ephemeral = excluded.ephemeral,
            customize = excluded.customize",
    );
    let put = put
        .bind(&token.token)
        .bind(&token.descr)
        .bind(token.limit)
        .bind(token.expires)
        .bind(token.disabled)
        .bind(token.ephemeral)
        .bind(&token.customize);
    on.execute(put).await?;
    told(
        on,
        &token.token,
        &[
            "descr",
            "limit_",
            "expires",
            "disabled",
            "ephemeral",
            "customize",
        ],
    );
    Ok(())
}

/// Switches a token on or off. `false` if there is none.
///
/// # Errors
/// When the database does not answer.
pub async fn disable_registration(
    on: &mut Transaction,
    token: &str,
    disabled: bool,
) -> Result<bool, Error> {
    let assign = Assign::default().set("disabled", disabled);
    let Some(statement) = assign.update("registration_tokens", "token", token) else {
        return Ok(false);
    };
    let done = on.execute(statement).await? > 0;
    if done {
        told(on, token, &["disabled"]);
    }
    Ok(done)
}

/// Removes a token. `false` if there is none.
///
/// # Errors
/// When the database does not answer.
pub async fn delete_registration(on: &mut Transaction, token: &str) -> Result<bool, Error> {
    let delete = Sql::same("DELETE FROM registration_tokens WHERE token = $1");
    let done = on.execute(delete.bind(token)).await? > 0;
    if done {
        let key = json!({ "token": token });
        on.changed(Change::delete(Table::RegistrationTokens, key));
    }
    Ok(done)
}

fn told(on: &mut Transaction, token: &str, fields: &[&str]) {
    let key = json!({ "token": token });
    on.changed(Change::update(Table::RegistrationTokens, key, fields));
}

/// Keeps the hash of a token with which the password of an account may be set anew. Those given out before are no
/// longer good.
///
/// # Errors
/// [`Error::Missing`] if there is no such account.
pub async fn put_reset(
    on: &mut Transaction,
    hash: &str,
    id: AccountId,
    email_address: &str,
    ttl: Duration,
) -> Result<(), Error> {
    let before = Sql::same("DELETE FROM password_reset WHERE account_id = $1");
    on.execute(before.bind(id)).await?;
    let put = Sql::same(
        "INSERT INTO password_reset (hash, account_id, email_address, expire) VALUES ($1, $2, $3, {after $4})",
    );
    let put = put
        .bind(hash)
        .bind(id)
        .bind(email_address)
        .bind(millis(ttl));
    on.execute(put).await.map(drop)
}

/// Uses up the token with this hash, and returns the account and the address that it was sent to.
///
/// # Errors
/// When the database does not answer.
pub async fn use_reset(
    on: &mut Transaction,
    hash: &str,
) -> Result<Option<(AccountId, String)>, Error> {
    let take = Sql::same(
        "DELETE FROM password_reset WHERE hash = $1 AND expire > {now} RETURNING account_id, email_address",
    );
    let row = on.row(take.bind(hash)).await?;
    row.map(|row| Ok((row.get("account_id")?, row.get("email_address")?)))
        .transpose()
}

/// Forgets the tokens with which the password of an account may be set anew.
///
/// # Errors
/// When the database does not answer.
pub async fn forget_resets(on: &mut Transaction, id: AccountId) -> Result<(), Error> {
    let forget = Sql::same("DELETE FROM password_reset WHERE account_id = $1");
    on.execute(forget.bind(id)).await.map(drop)
}

/// A token with which somebody signs in as an account once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignIn {
    /// As whom.
    pub account_id: AccountId,
    /// Who has asked for it.
    pub created_by: AccountId,
    /// Whether that was an administrator, for somebody else's account.
    pub is_admin: bool,
}

/// Keeps the hash of such a token.
///
/// # Errors
/// [`Error::Missing`] if there is no such account.
pub async fn put_sign_in(
    on: &mut Transaction,
    hash: &str,
    token: &SignIn,
    ttl: Duration,
) -> Result<(), Error> {
    let put = Sql::same(
        "INSERT INTO auth_tokens (auth_token_hash, account_id, created_by, is_admin, created, expire)
         VALUES ($1, $2, $3, $4, {now}, {after $5})",
    );
    let put = put
        .bind(hash)
        .bind(token.account_id)
        .bind(token.created_by)
        .bind(token.is_admin)
        .bind(millis(ttl));
    on.execute(put).await.map(drop)
}

/// Uses up the token with this hash.
///
/// # Errors
/// When the database does not answer.
pub async fn use_sign_in(on: &mut Transaction, hash: &str) -> Result<Option<SignIn>, Error> {
    let take = Sql::same(
        "UPDATE auth_tokens SET used_at = {now}
          WHERE auth_token_hash = $1 AND used_at IS NULL AND expire > {now}
         RETURNING account_id, created_by, is_admin",
    );
    sign_in(on.row(take.bind(hash)).await?.as_ref())
}

/// Who may use the token with this hash, whether or not it was used.
///
/// # Errors
/// When the database does not answer.
pub async fn find_sign_in(on: &mut Reader, hash: &str) -> Result<Option<SignIn>, Error> {
    let find = Sql::same(
        "SELECT account_id, created_by, is_admin FROM auth_tokens WHERE auth_token_hash = $1",
    );
    sign_in(on.row(find.bind(hash)).await?.as_ref())
}

fn sign_in(row: Option<&Row>) -> Result<Option<SignIn>, Error> {
    row.map(|row| {
        Ok(SignIn {
            account_id: row.get("account_id")?,
            created_by: row.get("created_by")?,
            is_admin: row.get("is_admin")?,
        })
    })
    .transpose()
}

/// Removes the token with this hash. `false` if there is none.
///
/// # Errors
/// When the database does not answer.
pub async fn delete_sign_in(on: &mut Transaction, hash: &str) -> Result<bool, Error> {
    let delete = Sql::same("DELETE FROM auth_tokens WHERE auth_token_hash = $1");
    Ok(on.execute(delete.bind(hash)).await? > 0)
}

/// Removes all such tokens for an account.
///
/// # Errors
/// When the database does not answer.
pub async fn delete_sign_ins(on: &mut Transaction, id: AccountId) -> Result<(), Error> {
    let delete = Sql::same("DELETE FROM auth_tokens WHERE account_id = $1");
    on.execute(delete.bind(id)).await.map(drop)
}
