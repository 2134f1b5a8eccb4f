//! Letters that wait to be sent, for all hubs together: each is claimed by one of them at a time.
//!
//! A claim moves the time at which a letter is due ahead and counts the attempt. If the hub that has claimed it ends,
//! another one finds it due again; what that hub still says about it is of an earlier attempt and changes nothing.

use std::time::Duration;

use uuid::Uuid;

use super::error::Error;
use super::row::Row;
use super::sql::Sql;
use super::transaction::{Reader, Transaction};
use crate::time::{Time, millis};

/// A letter to be kept until it is sent.
#[derive(Debug, Clone, Copy)]
pub struct New<'a> {
    /// Its number.
    pub id: Uuid,
    /// What it is for.
    pub kind: &'a str,
    /// To which address.
    pub to: &'a str,
    /// What it is about.
    pub subject: &'a str,
    /// What it says.
    pub body: &'a str,
    /// How long sending it makes sense.
    pub keep: Duration,
}

/// A letter that the caller is to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Its number.
    pub id: Uuid,
    /// What it is for.
    pub kind: String,
    /// To which address.
    pub to: String,
    /// What it is about.
    pub subject: String,
    /// What it says.
    pub body: String,
    /// Which attempt this is, from 1.
    pub attempt: i64,
    /// How long sending it still makes sense.
    pub left: Duration,
}

/// A letter as those see it who look after the site: without what it says, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its number.
    pub id: Uuid,
    /// What it is for.
    pub kind: String,
    /// To which address.
    pub to: String,
    /// What it is about.
    pub subject: String,
    /// When it was handed over.
    pub created: Time,
    /// When it is tried next; `None` if it was given up.
    pub due: Option<Time>,
    /// How often it was tried.
    pub attempts: i64,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// When it is removed.
    pub expire: Time,
}

/// Most letters that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Max {
    /// Of all kinds together.
    pub all: i64,
    /// Of the kind in question.
    pub of_kind: i64,
}

/// Keeps a letter, due at once. `false` if as many are kept already.
///
/// # Errors
/// When the database does not answer.
pub async fn put(on: &mut Transaction, letter: &New<'_>, max: Max) -> Result<bool, Error> {
    // Counts no further than it has to.
    let all = Sql::same("SELECT count(*) AS count FROM (SELECT 1 FROM letters LIMIT $1) AS kept");
    let of_kind = Sql::same(
        "SELECT count(*) AS count FROM (SELECT 1 FROM letters WHERE kind = $1 LIMIT $2) AS kept",
    );
    let of_kind = of_kind.bind(letter.kind).bind(max.of_kind);
    if count(on, all.bind(max.all)).await? >= max.all || count(on, of_kind).await? >= max.of_kind {
        return Ok(false);
    }
    let put = Sql::same(
        "INSERT INTO letters (id, kind, to_address, subject, body, created, due, expire)
         VALUES ($1, $2, $3, $4, $5, {now}, {now}, {after $6})",
    );
    let put = put
        .bind(letter.id)
        .bind(letter.kind)
        .bind(letter.to)
        .bind(letter.subject)
        .bind(letter.body)
        .bind(millis(letter.keep));
    on.execute(put).await?;
    Ok(true)
}

async fn count(on: &mut Transaction, statement: super::sql::Statement) -> Result<i64, Error> {
    let row = on.row(statement).await?;
    row.map_or(Ok(0), |row| row.get("count"))
}

/// Claims at most `limit` letters that are due, for as long as sending them may take: those by which people come in
/// before all others, which include what a newer hub may have put there.
///
/// # Errors
/// When the database does not answer.
pub async fn claim(
    on: &mut Transaction,
    limit: i64,
    lasts: Duration,
) -> Result<Vec<Claimed>, Error> {
    let claim = |skip: &str| {
        Sql::built(format!(
            "UPDATE letters SET due = {{after $2}}, attempts = attempts + 1
              WHERE id IN (SELECT id FROM letters WHERE due <= {{now}} AND expire > {{now}}
                            ORDER BY CASE WHEN kind IN ('password-reset', 'verification') THEN 0 ELSE 1 END, due
                            LIMIT $1{skip})
             RETURNING id, kind, to_address, subject, body, attempts, expire, {{now}} AS now"
        ))
    };
    let claim = match on.dialect() {
        super::Dialect::Postgres => claim(" FOR UPDATE SKIP LOCKED"),
        super::Dialect::Sqlite => claim(""),
    };
    let rows = on.rows(claim.bind(limit).bind(lasts)).await?;
    rows.iter().map(claimed).collect()
}

fn claimed(row: &Row) -> Result<Claimed, Error> {
    let (now, expire): (Time, Time) = (row.get("now")?, row.get("expire")?);
    Ok(Claimed {
        id: row.get("id")?,
        kind: row.get("kind")?,
        to: row.get("to_address")?,
        subject: row.get("subject")?,
        body: row.get("body")?,
        attempt: row.get("attempts")?,
        left: expire.since(now),
    })
}

/// Removes a letter that was sent. `false` if somebody else has claimed it since.
///
/// # Errors
/// When the database does not answer.
pub async fn sent(on: &mut Transaction, id: Uuid, attempt: i64) -> Result<bool, Error> {
    let sent = Sql::same("DELETE FROM letters WHERE id = $1 AND attempts = $2");
    Ok(on.execute(sent.bind(id).bind(attempt)).await? > 0)
}

/// Gives a letter back that nobody has tried to send: it is due, as it was before it was claimed. `false` if somebody
/// else has claimed it since.
///
/// # Errors
/// When the database does not answer.
pub async fn release(on: &mut Transaction, id: Uuid, attempt: i64) -> Result<bool, Error> {
    let release = Sql::same(
        "UPDATE letters SET due = {now}, attempts = attempts - 1 WHERE id = $1 AND attempts = $2",
    );
    Ok(on.execute(release.bind(id).bind(attempt)).await? > 0)
}

/// Notes why a letter was not sent, to be tried again after a pause. `false` if somebody else has claimed it since.
///
/// # Errors
/// When the database does not answer.
pub async fn failed(
    on: &mut Transaction,
    id: Uuid,
    attempt: i64,
    error: &str,
    pause: Duration,
) -> Result<bool, Error> {
    let failed = Sql::same(
        "UPDATE letters SET last_error = $3, due = {after $4} WHERE id = $1 AND attempts = $2",
    );
    let failed = failed.bind(id).bind(attempt).bind(error).bind(pause);
    Ok(on.execute(failed).await? > 0)
}

/// Notes that a letter is not tried again, and keeps it for a while for those who look after the site. What it says is
/// forgotten. `false` if somebody else has claimed it since.
///
/// # Errors
/// When the database does not answer.
pub async fn give_up(
    on: &mut Transaction,
    id: Uuid,
    attempt: i64,
    error: &str,
    keep: Duration,
) -> Result<bool, Error> {
    let give_up = Sql::same(
        "UPDATE letters SET last_error = $3, due = NULL, body = '', expire = {after $4}
          WHERE id = $1 AND attempts = $2",
    );
    let give_up = give_up.bind(id).bind(attempt).bind(error).bind(keep);
    Ok(on.execute(give_up).await? > 0)
}

/// Letters that were not sent yet, the oldest first; at most `limit`.
///
/// # Errors
/// When the database does not answer.
pub async fn list(on: &mut Reader, limit: i64) -> Result<Vec<Waiting>, Error> {
    let list = Sql::same(
        "SELECT id, kind, to_address, subject, created, due, attempts, last_error, expire
           FROM letters ORDER BY created, id LIMIT $1",
    );
    let rows = on.rows(list.bind(limit)).await?;
    rows.iter()
        .map(|row| {
            Ok(Waiting {
                id: row.get("id")?,
                kind: row.get("kind")?,
                to: row.get("to_address")?,
                subject: row.get("subject")?,
                created: row.get("created")?,
                due: row.maybe("due")?,
                attempts: row.get("attempts")?,
                last_error: row.maybe("last_error")?,
                expire: row.get("expire")?,
            })
        })
        .collect()
}

/// Makes letters that wait for their next attempt due now, as after a change of the settings. Returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn hurry(on: &mut Transaction) -> Result<u64, Error> {
    // Those that are being sent at this moment have not failed in this attempt, and are left alone.
    let hurry =
        Sql::same("UPDATE letters SET due = {now} WHERE due > {now} AND last_error IS NOT NULL");
    on.execute(hurry.into()).await
}
