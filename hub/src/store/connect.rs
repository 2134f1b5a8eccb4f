//! How each database is reached: pools with bounds, and what every connection is told first.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, PgPool, SqlitePool};

use super::config::{Config, Location};
use super::error::{Error, of};

/// Where the tables are in PostgreSQL. It is ours alone, so that a database may be shared with others.
pub(super) const SCHEMA: &str = "dialtone_hub";

/// Fewest connections with which everything works: one listens, one reads, one writes.
const CONNECTIONS_MIN: u32 = 3;

/// How long a connection may have been idle to be used without asking whether it still leads somewhere.
const IDLE_UNTESTED_MAX: Duration = Duration::from_secs(1);

/// How long it may take to end what a connection was used for.
const RELEASE_MAX: Duration = Duration::from_secs(5);

/// The pools of a database.
#[derive(Debug)]
pub(super) enum Pools {
    /// Every connection can do everything.
    Postgres(PgPool),
    /// One writes and the others read: SQLite has one writer at a time, and those who wait for it stand in our queue,
    /// in order, and not in its own, which has none.
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
}

/// Connects for the first time, so that what is wrong is said here.
pub(super) async fn pools(config: &Config) -> Result<Pools, Error> {
    match &config.location {
        Location::Postgres { url, password } => postgres(config, url, password.as_deref()).await,
        Location::Sqlite { path } => sqlite(config, path).await,
    }
}

async fn postgres(config: &Config, url: &str, password: Option<&str>) -> Result<Pools, Error> {
    let mut options: PgConnectOptions = url
        .parse()
        .map_err(|error: sqlx::Error| Error::Unusable(format!("its URL: {error}")))?;
    if let Some(password) = password {
        options = options.password(password);
    }
    let statement_max = config.statement_max.as_millis().to_string();
    let options = options
        .disable_statement_logging()
        .application_name("dialtone hub")
        .options([
            ("search_path", SCHEMA),
            ("timezone", "UTC"),
            ("statement_timeout", &statement_max),
            // A hub that stands still must not keep rows that others wait for.
            ("idle_in_transaction_session_timeout", &statement_max),
        ]);
    let pool = PgPoolOptions::new()
        .max_connections(config.connections_max.max(CONNECTIONS_MIN))
        .acquire_timeout(config.connect_max)
        .test_before_acquire(false)
        .before_acquire(|connection, seen| {
            Box::pin(async move {
                if seen.idle_for > IDLE_UNTESTED_MAX {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .after_release(|connection, _| {
            Box::pin(async move {
                // Rolls back what was given up. Without a bound, a connection that leads nowhere would keep its place.
                Ok(tokio::time::timeout(RELEASE_MAX, connection.ping())
                    .await
                    .is_ok_and(|answer| answer.is_ok()))
            })
        })
        .connect_with(options)
        .await
        .map_err(|error| of(&error))?;
    Ok(Pools::Postgres(pool))
}

async fn sqlite(config: &Config, path: &Path) -> Result<Pools, Error> {
    create_private(path)
        .map_err(|error| Error::Unusable(format!("cannot create {}: {error}", path.display())))?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .disable_statement_logging()
        .journal_mode(SqliteJournalMode::Wal)
        // What is committed is on the disk, also when the power goes.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        // For other processes: within this one the writer is alone.
        .busy_timeout(config.connect_max)
        .pragma("trusted_schema", "off");
    let pool = |connections: u32| {
        SqlitePoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(config.connect_max)
            .test_before_acquire(false)
            .after_release(|connection, _| {
                Box::pin(async move {
                    // A full disk ends a transaction by itself, after which the driver believes that it goes on.
                    let answers = connection.ping().await.is_ok();
                    Ok(answers && !connection.is_in_transaction())
                })
            })
            // Opening a file costs more than keeping it open.
            .idle_timeout(None::<Duration>)
            .max_lifetime(None::<Duration>)
    };
    let writer = pool(1)
        .connect_with(options.clone())
        .await
        .map_err(|error| of(&error))?;
    let readers = pool(config.connections_max.max(CONNECTIONS_MIN) - 1)
        .connect_with(options.pragma("query_only", "on"))
        .await
        .map_err(|error| of(&error))?;
    Ok(Pools::Sqlite { writer, readers })
}

/// Only its owner may read it: SQLite gives the files beside it the same rights.
fn create_private(path: &Path) -> std::io::Result<()> {
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match created {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

impl Pools {
    /// Waits until every connection is given back, and closes them.
    pub(super) async fn close(&self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::Sqlite { writer, readers } => {
                readers.close().await;
                // The last one to go writes the log of SQLite back into its file.
                writer.close().await;
            }
        }
    }

    /// How many connections there are, and how many of them nobody uses.
    pub(super) fn sizes(&self) -> (u32, usize) {
        match self {
            Self::Postgres(pool) => (pool.size(), pool.num_idle()),
            Self::Sqlite { writer, readers } => (
                writer.size() + readers.size(),
                writer.num_idle() + readers.num_idle(),
            ),
        }
    }
}
