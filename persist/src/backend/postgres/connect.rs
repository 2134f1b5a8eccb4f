//! How PostgreSQL is reached: the pool with its bounds, the tables, and what its errors mean.

use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, SqlSafeStr as _};

use crate::backend::Error;

/// Where the tables are. It is ours alone, so that a database may be shared with others.
const SCHEMA: &str = "dialtone_persist";

/// The changes of the tables, by number; one that was ever published is never changed.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (
        1,
        "streams",
        include_str!("../../../../migrations/persist/0001_streams.sql"),
    ),
    (
        2,
        "placement",
        include_str!("../../../../migrations/persist/0002_placement.sql"),
    ),
    (
        3,
        "due",
        include_str!("../../../../migrations/persist/0003_due.sql"),
    ),
];

/// Where the database is, and how much is asked of it.
#[derive(Debug, Clone)]
pub struct Config {
    /// `postgres://USER@HOST:PORT/DATABASE`, with the parameters of libpq (`sslmode`, `sslrootcert`, `host`, …).
    pub url: String,
    /// The password, where the URL has none.
    pub password: Option<String>,
    /// Most connections at the same time; at least 2.
    pub connections_max: u32,
    /// How many transactions write at the same time; commits that arrive meanwhile wait and are stored together.
    pub writers: u32,
    /// How long it may take to get a connection.
    pub connect_max: Duration,
    /// How long a statement may take, as the database and as we count.
    pub statement_max: Duration,
    /// About how many bytes of records one transaction stores at most.
    pub batch_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: "postgres:///dialtone".to_owned(),
            password: None,
            connections_max: 16,
            writers: 4,
            connect_max: Duration::from_secs(5),
            statement_max: Duration::from_secs(30),
            batch_bytes_max: 8 << 20,
        }
    }
}

/// A pool of connections to a database with the tables as this version knows them.
pub(super) async fn connect(config: &Config) -> Result<PgPool, Error> {
    let mut options: PgConnectOptions = config.url.parse().map_err(|error: sqlx::Error| {
        Error::Unavailable(format!("the URL of PostgreSQL: {error}"))
    })?;
    if let Some(password) = &config.password {
        options = options.password(password);
    }
    let statement_max = config.statement_max.as_millis().to_string();
    let options = options.application_name("dialtone persist").options([
        ("search_path", SCHEMA),
        ("statement_timeout", &statement_max),
        // A node that stands still must not keep the rows that the next owner waits for.
        ("idle_in_transaction_session_timeout", &statement_max),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(config.connections_max.max(2))
        .acquire_timeout(config.connect_max)
        .connect_with(options)
        .await
        .map_err(|error| of(&error))?;
    migrate(&pool).await?;
    Ok(pool)
}

/// Brings the tables up to date. Several nodes may do so at once: the first takes a lock.
async fn migrate(pool: &PgPool) -> Result<(), Error> {
    let migrations = MIGRATIONS.iter().map(|(version, name, sql)| {
        Migration::new(
            *version,
            (*name).into(),
            MigrationType::Simple,
            (*sql).into_sql_str(),
            false,
        )
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.create_schema(SCHEMA);
    migrator.run(pool).await.map_err(|error| {
        if let MigrateError::Execute(error) = &error {
            return of(error);
        }
        Error::Unavailable(format!(
            "the tables in schema {SCHEMA} cannot be brought up to date: {error}"
        ))
    })
}

/// What an error of the database means for what was asked, when it is known that nothing was stored.
pub(super) fn of(error: &sqlx::Error) -> Error {
    let Some(database) = error.as_database_error() else {
        if matches!(error, sqlx::Error::PoolTimedOut) {
            return Error::Unavailable("PostgreSQL gave no connection in time".to_owned());
        }
        if matches!(
            error,
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)
        ) {
            return Error::Corrupt(error.to_string());
        }
        return Error::Unavailable(format!("PostgreSQL: {error}"));
    };
    let text = format!("PostgreSQL: {}", database.message());
    match database.code().as_deref() {
        // disk_full.
        Some("53100") => Error::Full(text),
        // data_corrupted, index_corrupted.
        Some("XX001" | "XX002") => Error::Corrupt(text),
        _ => Error::Unavailable(text),
    }
}

/// A number as the database has it. All of ours are below 2⁵³.
pub(super) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that came from the database; a negative one was not written by us.
pub(super) fn from_sql(number: i64) -> Result<u64, Error> {
    u64::try_from(number)
        .map_err(|error| Error::Corrupt(format!("a number of the database is {number}: {error}")))
}
