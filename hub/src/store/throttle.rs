//! How often something was tried, for all hubs together. What the keys are and how many are too many is for others.

use super::error::Error;
use super::sql::Sql;
use super::transaction::{Reader, Transaction};
use crate::time::{Time, millis};

/// How often each of these was counted, in the order of the keys, and the time of the database.
///
/// # Errors
/// When the database does not answer.
pub async fn counts(on: &mut Reader, keys: &[String]) -> Result<(Vec<i64>, Time), Error> {
    let now = Sql::same("SELECT {now} AS now");
    let now = on.row(now.into()).await?;
    let now = now.ok_or_else(|| Error::Corrupt("the database has no time".to_owned()))?;
    let mut counts = Vec::with_capacity(keys.len());
    for key in keys {
        let count = Sql::same("SELECT count FROM throttle WHERE key = $1");
        let row = on.row(count.bind(key)).await?;
        counts.push(row.map_or(Ok(0), |row| row.get("count"))?);
    }
    Ok((counts, now.get("now")?))
}

/// Counts one more, and returns how many that makes. The count is forgotten after the time.
///
/// # Errors
/// When the database does not answer.
pub async fn add(on: &mut Transaction, key: &str, keep: std::time::Duration) -> Result<i64, Error> {
    let add = Sql::same(
        "INSERT INTO throttle (key, window_start, count, expire) VALUES ($1, {now}, 1, {after $2})
         ON CONFLICT (key) DO UPDATE
            SET count = CASE WHEN throttle.expire > {now} THEN throttle.count + 1 ELSE 1 END,
                window_start = CASE WHEN throttle.expire > {now} THEN throttle.window_start ELSE {now} END,
                expire = CASE WHEN throttle.expire > {now} THEN throttle.expire ELSE excluded.expire END
         RETURNING count",
    );
    let row = on.row(add.bind(key).bind(millis(keep))).await?;
    row.ok_or_else(|| Error::Corrupt("a count is not there".to_owned()))?
        .get("count")
}

/// Takes one back, for an attempt that turned out to be no abuse.
///
/// # Errors
/// When the database does not answer.
pub async fn take_back(on: &mut Transaction, key: &str) -> Result<(), Error> {
    let take_back = Sql::same("UPDATE throttle SET count = count - 1 WHERE key = $1 AND count > 0");
    on.execute(take_back.bind(key)).await.map(drop)
}

/// The time of the database.
///
/// # Errors
/// When the database does not answer.
pub async fn now(on: &mut Reader) -> Result<Time, Error> {
    Ok(counts(on, &[]).await?.1)
}
