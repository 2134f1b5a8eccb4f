//! The tables as this version knows them: changes with numbers, forward only, made by one hub at a time.
//!
//! All that is new is done in one transaction with a lock that others wait for, so that a hub finds the tables whole or
//! as they were, whatever ends another one.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::connect::SCHEMA;
use super::error::Error;
use super::sql::{Dialect, Sql};
use super::transaction::{Reader, Transaction};
use crate::time::Time;

/// A change of the tables. One that was ever published is never changed.
struct Migration {
    version: i64,
    name: &'static str,
    postgres: &'static str,
    sqlite: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal,)*) => {
        &[$(Migration {
            version: $version,
            name: $name,
            postgres: include_str!(concat!("../../../migrations/hub/postgres/", $name, ".sql")),
            sqlite: include_str!(concat!("../../../migrations/hub/sqlite/", $name, ".sql")),
        }),*]
    };
}

const MIGRATIONS: &[Migration] = migrations! {
    1 "0001_infrastructure",
    2 "0002_accounts",
    3 "0003_projects",
    4 "0004_services",
    5 "0005_control",
    6 "0006_letters",
    7 "0007_stats",
    8 "0008_entry",
};

/// Holds others back in PostgreSQL: any number that no other program uses for the same. In SQLite the transaction does.
const LOCK: i64 = 0x6469_616c_6875_6221;

/// How long a change of the tables may take, and how long a hub waits for another one that makes them.
const STATEMENT_MAX: Duration = Duration::from_hours(1);

const JOURNAL: Sql = Sql::pair(
    "CREATE TABLE IF NOT EXISTS schema_migrations (
        version bigint PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL)",
    "CREATE TABLE IF NOT EXISTS schema_migrations (
        version INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT",
);

/// A change of the tables, and when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its number.
    pub version: i64,
    /// What it is about.
    pub name: String,
    /// When it was made; `None` if it is still to come.
    pub applied_at: Option<Time>,
}

impl Migration {
    fn script(&self, dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Postgres => self.postgres,
            Dialect::Sqlite => self.sqlite,
        }
    }
}

fn checksum(script: &str) -> String {
    crate::auth::token::hash(script)
}

/// Brings the tables up to date, and returns how many changes that took.
pub(super) async fn run(mut on: Transaction) -> Result<usize, Error> {
    on.be_patient(STATEMENT_MAX).await?;
    if on.dialect() == Dialect::Postgres {
        // First of all: two hubs that make the schema at the same time would disturb each other.
        on.execute(Sql::same("SELECT pg_advisory_xact_lock($1)").bind(LOCK))
            .await?;
        // Where somebody else has made it, the right to do so is not needed.
        let made = Sql::same("SELECT 1 FROM pg_namespace WHERE nspname = $1").bind(SCHEMA);
        if on.row(made).await?.is_none() {
            on.execute(Sql::built(format!("CREATE SCHEMA {SCHEMA}")).into())
                .await?;
        }
    }
    on.execute(JOURNAL.into()).await?;
    let applied = applied(&mut on).await?;
    let dialect = on.dialect();
    let waiting = compare(&applied, dialect)?;
    for migration in waiting {
        on.script(AssertSqlSafe(migration.script(dialect)))
            .await
            .map_err(|error| Error::Unusable(format!("migration {}: {error}", migration.name)))?;
        on.execute(
            Sql::same(
                "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, {now})",
            )
            .bind(migration.version)
            .bind(migration.name)
            .bind(checksum(migration.script(dialect))),
        )
        .await?;
    }
    on.commit().await?;
    Ok(waiting.len())
}

struct Applied {
    version: i64,
    name: String,
    checksum: String,
    at: Time,
}

async fn applied(on: &mut Reader) -> Result<Vec<Applied>, Error> {
    let rows = on
        .rows(Sql::same("SELECT version, name, checksum, applied_at FROM schema_migrations ORDER BY version").into())
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Applied {
                version: row.get("version")?,
                name: row.get("name")?,
                checksum: row.get("checksum")?,
                at: row.get("applied_at")?,
            })
        })
        .collect()
}

/// What is still to be done.
fn compare(applied: &[Applied], dialect: Dialect) -> Result<&'static [Migration], Error> {
    if applied.len() > MIGRATIONS.len() {
        let newest = applied.last().map_or("", |last| last.name.as_str());
        return Err(Error::Unusable(format!(
            "its tables are of a newer version of this program (they have {newest})"
        )));
    }
    for (ours, theirs) in MIGRATIONS.iter().zip(applied) {
        if ours.version != theirs.version || checksum(ours.script(dialect)) != theirs.checksum {
            return Err(Error::Unusable(format!(
                "its migration {} ({}) is not that of this program",
                theirs.version, theirs.name
            )));
        }
    }
    Ok(MIGRATIONS.get(applied.len()..).unwrap_or_default())
}

/// All changes of the tables that this version knows.
///
/// # Errors
/// When the database does not answer.
pub async fn status(on: &mut Reader) -> Result<Vec<Status>, Error> {
    let there = Sql::pair(
        "SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = 'schema_migrations'",
        "SELECT 1 FROM sqlite_schema WHERE $1 <> '' AND name = 'schema_migrations'",
    );
    let applied = match on.row(there.bind(SCHEMA)).await? {
        Some(_) => applied(on).await?,
        None => Vec::new(),
    };
    let status = MIGRATIONS.iter().map(|migration| Status {
        version: migration.version,
        name: migration.name.to_owned(),
        applied_at: applied
            .iter()
            .find(|applied| applied.version == migration.version)
            .map(|applied| applied.at),
    });
    Ok(status.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_from_one_as_their_names_say() {
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(usize::try_from(migration.version).unwrap(), index + 1);
            let number = format!("{:04}_", migration.version);
            assert!(migration.name.starts_with(&number), "{}", migration.name);
        }
    }
}
