//! Moving a site from SQLite to PostgreSQL: everything, compared, in one transaction, or nothing.
//!
//! The source stands still meanwhile: nobody writes to it, and no hub may run on it, since what it wrote afterwards would
//! be missing. The target has to be new. Each table is written in the order in which they refer to each other, and read
//! back: as many rows, with the same content. Numbers that were given go on behind the last one, and readers of the log of
//! changes go on where they were.

use std::time::Duration;

use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use crate::store::copy::{self as rows, Table};
use crate::store::{self, Location, Reader, Store, Transaction, hubs};

/// How long a statement of a copy may take.
const STATEMENT_MAX: Duration = Duration::from_hours(1);

/// Why nothing was copied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source is not SQLite, or the target is not PostgreSQL.
    #[error("a site is copied from SQLite to PostgreSQL, not from {from} to {to}")]
    Kind {
        /// The source.
        from: String,
        /// The target.
        to: String,
    },
    /// A hub runs on the source.
    #[error("the hub {0} runs on the source; stop it first")]
    Running(String),
    /// The target is not new.
    #[error("the target is not empty: there are rows in {0}")]
    NotEmpty(String),
    /// What was read back is not what was written.
    #[error(
        "{table} came out different: {source_rows} rows with digest {source_digest} became {target_rows} with {target_digest}"
    )]
    Different {
        /// Which table.
        table: String,
        /// How many rows the source has.
        source_rows: u64,
        /// Their digest.
        source_digest: String,
        /// How many rows the target has.
        target_rows: u64,
        /// Their digest.
        target_digest: String,
    },
    /// The source did not do it.
    #[error("the source")]
    Source(#[source] store::Error),
    /// The target did not do it.
    #[error("the target{}", table.as_deref().map(|table| format!(", table {table}")).unwrap_or_default())]
    Target {
        /// With which table.
        table: Option<String>,
        /// Why.
        #[source]
        source: store::Error,
    },
}

/// What was copied of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Its name.
    pub table: String,
    /// How many rows it has.
    pub rows: u64,
    /// Of all of them, in any order, as hexadecimal digits.
    pub digest: String,
}

/// How far a copy is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The table that is copied now.
    pub table: &'a str,
    /// How many of its rows are written.
    pub rows: u64,
    /// How many it has.
    pub of: u64,
}

/// Copies a site. Returns what was copied, table by table.
///
/// # Errors
/// See [`Error`]; the target then is as it was. If the connection breaks while it is committed, the target has everything
/// or nothing, which another attempt tells.
pub async fn run(
    source: &Store,
    target: &Store,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<Vec<Copied>, Error> {
    check(source, target).await?;
    // Keeps every writer away from the file until the end.
    let mut from = source.write().await.map_err(Error::Source)?;
    rows::be_patient(&mut from, STATEMENT_MAX)
        .await
        .map_err(Error::Source)?;
    let of_target = |source| Error::Target {
        table: None,
        source,
    };
    let mut to = target.write().await.map_err(of_target)?;
    rows::be_patient(&mut to, STATEMENT_MAX)
        .await
        .map_err(of_target)?;
    let tables = rows::tables(&mut to).await.map_err(of_target)?;
    if let Some(used) = rows::first_used(&mut to, &tables)
        .await
        .map_err(of_target)?
    {
        return Err(Error::NotEmpty(used.name().to_owned()));
    }
    let mut copied = Vec::with_capacity(tables.len());
    for table in &tables {
        copied.push(one(&mut from, &mut to, table, &mut progress).await?);
    }
    to.commit().await.map_err(of_target)?;
    Ok(copied)
}

async fn check(source: &Store, target: &Store) -> Result<(), Error> {
    let (from, to) = (source.location(), target.location());
    if !matches!(
        (from, to),
        (Location::Sqlite { .. }, Location::Postgres { .. })
    ) {
        return Err(Error::Kind {
            from: from.to_string(),
            to: to.to_string(),
        });
    }
    let running = async {
        let mut on = source.read().await?;
        hubs::all(&mut on).await
    };
    let running = running.await.map_err(Error::Source)?;
    match running.into_iter().next() {
        Some(hub) => Err(Error::Running(hub.host)),
        None => Ok(()),
    }
}

async fn one(
    from: &mut Transaction,
    to: &mut Transaction,
    table: &Table,
    progress: &mut impl FnMut(Progress<'_>),
) -> Result<Copied, Error> {
    let of_target = |source| Error::Target {
        table: Some(table.name().to_owned()),
        source,
    };
    let written = write(from, to, table, progress).await?;
    if let Some((column, last)) = rows::last_given(from, table).await.map_err(Error::Source)? {
        let set = rows::go_on_behind(to, table, &column, last).await;
        set.map_err(of_target)?;
    }
    let back = read_back(to, table).await.map_err(of_target)?;
    if written != back {
        return Err(Error::Different {
            table: table.name().to_owned(),
            source_rows: written.rows,
            source_digest: written.hex(),
            target_rows: back.rows,
            target_digest: back.hex(),
        });
    }
    Ok(Copied {
        table: table.name().to_owned(),
        rows: written.rows,
        digest: written.hex(),
    })
}

async fn write(
    from: &mut Reader,
    to: &mut Transaction,
    table: &Table,
    progress: &mut impl FnMut(Progress<'_>),
) -> Result<Digest, Error> {
    let of_target = |source| Error::Target {
        table: Some(table.name().to_owned()),
        source,
    };
    let of = rows::count(from, table).await.map_err(Error::Source)?;
    // A new database has rows of its own in one table.
    rows::clear(to, table).await.map_err(of_target)?;
    let mut digest = Digest::default();
    // Numbers of rows may be below zero, though SQLite gives none that is.
    let mut place = i64::MIN;
    while let Some((lines, next)) = rows::read(from, table, place)
        .await
        .map_err(Error::Source)?
    {
        for line in &lines {
            digest.add(&table.canonical(line).map_err(Error::Source)?);
        }
        rows::write(to, table, lines).await.map_err(of_target)?;
        place = next;
        progress(Progress {
            table: table.name(),
            rows: digest.rows,
            of: u64::try_from(of).unwrap_or(0),
        });
    }
    Ok(digest)
}

async fn read_back(to: &mut Transaction, table: &Table) -> Result<Digest, store::Error> {
    let mut digest = Digest::default();
    rows::open_back(to, table).await?;
    loop {
        let lines: Vec<Json> = rows::read_back(to, table).await?;
        if lines.is_empty() {
            return Ok(digest);
        }
        for line in &lines {
            digest.add(&table.canonical(line)?);
        }
    }
}

/// Rows and their content, in whatever order they come: the sum of the hashes of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Digest {
    rows: u64,
    sum: [u64; 4],
}

impl Digest {
    fn add(&mut self, row: &str) {
        self.rows += 1;
        let hash = Sha256::digest(row.as_bytes());
        for (sum, part) in self.sum.iter_mut().zip(hash.chunks_exact(8)) {
            let part = part
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte));
            *sum = sum.wrapping_add(part);
        }
    }

    fn hex(&self) -> String {
        let [a, b, c, d] = self.sum;
        format!("{a:016x}{b:016x}{c:016x}{d:016x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_minds_content_and_not_order() {
        let of = |rows: &[&str]| {
            let mut digest = Digest::default();
            for row in rows {
                digest.add(row);
            }
            digest
        };
        assert_eq!(of(&["a", "b"]), of(&["b", "a"]));
        assert_ne!(of(&["a", "b"]), of(&["a", "c"]));
        assert_ne!(of(&["a"]), of(&["a", "a"]));
        assert_eq!(of(&["a", "b"]).hex().len(), 64);
    }
}
