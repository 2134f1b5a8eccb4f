//! Who may do what only one may do, by the clock of the database alone.
//!
//! A lease has a **generation**, which grows each time that somebody takes it. What its holder changes in the database
//! is changed in a transaction that begins with [`fence`], so that a holder that stood still and was replaced meanwhile
//! changes nothing.

use std::time::Duration;

use super::error::Error;
use super::sql::Sql;
use super::transaction::{Reader, Transaction};
use crate::time::{Time, millis};

/// A lease as its holder has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What it is for.
    pub name: String,
    /// Who has it.
    pub holder: String,
    /// How often it was taken until then.
    pub generation: i64,
}

/// What became of the wish to have a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    /// It is ours.
    Lease(Lease),
    /// Somebody has it.
    Taken {
        /// Who.
        holder: String,
        /// How long they have it, unless they renew it.
        left: Duration,
    },
}

/// A lease as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// What it is for.
    pub name: String,
    /// Who has it; nobody, if it was given back or is over.
    pub holder: Option<String>,
    /// How often it was taken so far.
    pub generation: i64,
    /// When it is over, unless it is renewed.
    pub expires: Option<Time>,
}

/// Takes a lease that nobody has, for so long.
///
/// # Errors
/// When the database does not answer.
pub async fn acquire(
    on: &mut Transaction,
    name: &str,
    holder: &str,
    ttl: Duration,
) -> Result<Acquired, Error> {
    let take = Sql::same(
        "INSERT INTO leases (name, holder, generation, expires) VALUES ($1, $2, 1, {after $3})
         ON CONFLICT (name) DO UPDATE
            SET holder = excluded.holder, generation = leases.generation + 1, expires = excluded.expires
          WHERE leases.expires IS NULL OR leases.expires <= {now}
         RETURNING generation",
    );
    let taken = on
        .row(take.bind(name).bind(holder).bind(millis(ttl)))
        .await?;
    if let Some(row) = taken {
        return Ok(Acquired::Lease(Lease {
            name: name.to_owned(),
            holder: holder.to_owned(),
            generation: row.get("generation")?,
        }));
    }
    let of = Sql::same("SELECT holder, expires, {now} AS now FROM leases WHERE name = $1");
    let row = on.row(of.bind(name)).await?;
    // Rows of leases are never removed, and this one was there a moment ago.
    let row = row.ok_or_else(|| Error::Unavailable(format!("the lease {name} is gone")))?;
    let now: Time = row.get("now")?;
    let expires: Option<Time> = row.maybe("expires")?;
    Ok(Acquired::Taken {
        holder: row.maybe("holder")?.unwrap_or_default(),
        left: expires.map_or(Duration::ZERO, |expires| expires.since(now)),
    })
}

/// Keeps a lease for so long from now on. `false` if it was over, even if nobody else has taken it.
///
/// # Errors
/// When the database does not answer.
pub async fn renew(on: &mut Transaction, lease: &Lease, ttl: Duration) -> Result<bool, Error> {
    let renew = Sql::same(
        "UPDATE leases SET expires = {after $3} WHERE name = $1 AND generation = $2 AND expires > {now}",
    );
    let renew = renew
        .bind(&lease.name)
        .bind(lease.generation)
        .bind(millis(ttl));
    Ok(on.execute(renew).await? > 0)
}

/// Gives a lease back, so that others need not wait until it is over.
///
/// # Errors
/// When the database does not answer.
pub async fn release(on: &mut Transaction, lease: &Lease) -> Result<(), Error> {
    let release = Sql::same(
        "UPDATE leases SET holder = NULL, expires = NULL WHERE name = $1 AND generation = $2",
    );
    on.execute(release.bind(&lease.name).bind(lease.generation))
        .await
        .map(drop)
}

/// Whether the lease is still that of its holder, and holds off whoever would take it until the transaction ends.
///
/// # Errors
/// When the database does not answer.
pub async fn fence(on: &mut Transaction, lease: &Lease) -> Result<bool, Error> {
    let fence = Sql::pair(
        "SELECT 1 FROM leases WHERE name = $1 AND generation = $2 AND expires > {now} FOR UPDATE",
        "SELECT 1 FROM leases WHERE name = $1 AND generation = $2 AND expires > {now}",
    );
    let found = on
        .row(fence.bind(&lease.name).bind(lease.generation))
        .await?;
    Ok(found.is_some())
}

/// All leases that were ever taken, by name.
///
/// # Errors
/// When the database does not answer.
pub async fn list(on: &mut Reader) -> Result<Vec<Listed>, Error> {
    let all = Sql::same(
        "SELECT name, generation, CASE WHEN expires > {now} THEN holder END AS holder,
                CASE WHEN expires > {now} THEN expires END AS expires
           FROM leases ORDER BY name",
    );
    let rows = on.rows(all.into()).await?;
    rows.iter()
        .map(|row| {
            Ok(Listed {
                name: row.get("name")?,
                holder: row.maybe("holder")?,
                generation: row.get("generation")?,
                expires: row.maybe("expires")?,
            })
        })
        .collect()
}
