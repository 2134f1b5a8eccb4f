//! Which hubs run, as they say themselves every now and then.

use std::time::Duration;

use super::error::Error;
use super::sql::Sql;
use super::transaction::{Reader, Transaction};
use crate::time::{Time, millis};

/// A hub that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// The machine and the port.
    pub host: String,
    /// The port at which it answers.
    pub port: i64,
    /// Its version.
    pub version: String,
    /// When it was started.
    pub started: Time,
}

/// Says that a hub runs, for so long.
///
/// # Errors
/// When the database does not answer.
pub async fn put(
    on: &mut Transaction,
    host: &str,
    port: u16,
    version: &str,
    ttl: Duration,
) -> Result<(), Error> {
    let put = Sql::same(
        "INSERT INTO hub_servers (host, port, version, started, expire) VALUES ($1, $2, $3, {now}, {after $4})
         ON CONFLICT (host) DO UPDATE SET port = excluded.port, version = excluded.version, expire = excluded.expire,
            started = CASE WHEN hub_servers.expire > {now} THEN hub_servers.started ELSE excluded.started END",
    );
    let put = put
        .bind(host)
        .bind(i64::from(port))
        .bind(version)
        .bind(millis(ttl));
    on.execute(put).await.map(drop)
}

/// Says that a hub has ended.
///
/// # Errors
/// When the database does not answer.
pub async fn delete(on: &mut Transaction, host: &str) -> Result<(), Error> {
    let delete = Sql::same("DELETE FROM hub_servers WHERE host = $1");
    on.execute(delete.bind(host)).await.map(drop)
}

/// Those that run, by name.
///
/// # Errors
/// When the database does not answer.
pub async fn all(on: &mut Reader) -> Result<Vec<Hub>, Error> {
    let all = Sql::same(
        "SELECT host, port, version, started FROM hub_servers WHERE expire > {now} ORDER BY host",
    );
    let rows = on.rows(all.into()).await?;
    rows.iter()
        .map(|row| {
            Ok(Hub {
                host: row.get("host")?,
                port: row.get("port")?,
                version: row.get("version")?,
                started: row.get("started")?,
            })
        })
        .collect()
}
