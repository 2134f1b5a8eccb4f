//! A connection that reads, and a transaction that changes something and tells what.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments};
use sqlx::{AssertSqlSafe, PgConnection, SqlSafeStr as _, SqlStr, SqliteConnection};
use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use super::error::{Error, of};
use super::outbox::{self, Change};
use super::row::Row;
use super::sql::{Dialect, Sql, Statement, Value, uuid_text};

/// How many rows a statement may return. Repositories ask for fewer; more than that is a mistake.
const ROWS_MAX: usize = 100_000;

/// What a connection is, while somebody has it.
#[derive(Debug)]
enum Connection {
    Postgres(PoolConnection<Postgres>),
    PostgresTransaction(sqlx::Transaction<'static, Postgres>),
    Sqlite(PoolConnection<Sqlite>),
    SqliteTransaction(sqlx::Transaction<'static, Sqlite>),
}

/// The same in two kinds.
enum Either<P, S> {
    Postgres(P),
    Sqlite(S),
}

impl Connection {
    fn either(&mut self) -> Either<&mut PgConnection, &mut SqliteConnection> {
        match self {
            Self::Postgres(connection) => Either::Postgres(connection),
            Self::PostgresTransaction(connection) => Either::Postgres(connection),
            Self::Sqlite(connection) => Either::Sqlite(connection),
            Self::SqliteTransaction(connection) => Either::Sqlite(connection),
        }
    }
}

/// A connection for questions. Each is answered from what was committed before it.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    shared: Arc<Shared>,
    /// How long to wait for an answer.
    answer_max: Duration,
    failed: bool,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    pub(super) async fn begin(shared: &Arc<Shared>) -> Result<Self, Error> {
        let permit = shared.permit()?;
        let connection = match &shared.pools {
            super::connect::Pools::Postgres(pool) => Connection::Postgres(
                pool.acquire()
                    .await
                    .map_err(|error| shared.failed(&error))?,
            ),
            super::connect::Pools::Sqlite { readers, .. } => Connection::Sqlite(
                readers
                    .acquire()
                    .await
                    .map_err(|error| shared.failed(&error))?,
            ),
        };
        Ok(Self::new(connection, shared, permit))
    }

    fn new(connection: Connection, shared: &Arc<Shared>, permit: OwnedSemaphorePermit) -> Self {
        Self {
            connection,
            shared: Arc::clone(shared),
            answer_max: shared.answer_max(),
            failed: false,
            _permit: permit,
        }
    }

    /// Which database it is, where the words of [`Sql`] are not enough.
    pub(super) fn dialect(&self) -> Dialect {
        match self.connection {
            Connection::Postgres(_) | Connection::PostgresTransaction(_) => Dialect::Postgres,
            Connection::Sqlite(_) | Connection::SqliteTransaction(_) => Dialect::Sqlite,
        }
    }

    /// Runs a statement, and returns how many rows it has changed.
    pub(super) async fn execute(&mut self, statement: Statement) -> Result<u64, Error> {
        let (text, values) = statement.into_parts(self.dialect());
        let begin = Instant::now();
        let (shared, answer_max) = (Arc::clone(&self.shared), self.answer_max);
        let asked = AssertSqlSafe(text.clone()).into_sql_str();
        let work = async {
            match self.connection.either() {
                Either::Postgres(connection) => {
                    let query = bind_postgres(asked, values).execute(connection);
                    query.await.map(|done| done.rows_affected())
                }
                Either::Sqlite(connection) => {
                    let query = bind_sqlite(asked, values).execute(connection);
                    query.await.map(|done| done.rows_affected())
                }
            }
        };
        let done = shared.bounded(answer_max, work).await;
        self.finish(done, &text, begin)
    }

    /// Runs a statement, and returns its rows.
    pub(super) async fn rows(&mut self, statement: Statement) -> Result<Vec<Row>, Error> {
        let (text, values) = statement.into_parts(self.dialect());
        let begin = Instant::now();
        let (shared, answer_max) = (Arc::clone(&self.shared), self.answer_max);
        let asked = AssertSqlSafe(text.clone()).into_sql_str();
        let work = async {
            match self.connection.either() {
                Either::Postgres(connection) => {
                    let rows = bind_postgres(asked, values).fetch_all(connection).await?;
                    Ok(rows.into_iter().map(Row::Postgres).collect())
                }
                Either::Sqlite(connection) => {
                    let rows = bind_sqlite(asked, values).fetch_all(connection).await?;
                    Ok(rows.into_iter().map(Row::Sqlite).collect())
                }
            }
        };
        let done: Result<Vec<Row>, Error> = shared.bounded(answer_max, work).await;
        let rows = self.finish(done, &text, begin)?;
        if rows.len() > ROWS_MAX {
            return Err(Error::Mistake(format!("{} rows at once", rows.len())));
        }
        Ok(rows)
    }

    /// Runs a statement that returns a row at most.
    pub(super) async fn row(&mut self, statement: Statement) -> Result<Option<Row>, Error> {
        Ok(self.rows(statement).await?.pop())
    }

    /// Runs statements without values that this program has written.
    pub(super) async fn script(
        &mut self,
        script: AssertSqlSafe<&'static str>,
    ) -> Result<(), Error> {
        let begin = Instant::now();
        let text = script.0;
        let (shared, answer_max) = (Arc::clone(&self.shared), self.answer_max);
        let work = async {
            match self.connection.either() {
                Either::Postgres(connection) => {
                    sqlx::raw_sql(text).execute(connection).await.map(drop)
                }
                Either::Sqlite(connection) => {
                    sqlx::raw_sql(text).execute(connection).await.map(drop)
                }
            }
        };
        let done = shared.bounded(answer_max, work).await;
        self.finish(done, text, begin)
    }

    /// Lets statements of this transaction take longer than usual.
    pub(super) async fn be_patient(&mut self, statement_max: Duration) -> Result<(), Error> {
        if self.dialect() == Dialect::Postgres {
            let millis = statement_max.as_millis().to_string();
            let set = Sql::same("SELECT set_config('statement_timeout', $1, true)");
            self.execute(set.bind(millis)).await?;
        }
        self.answer_max = statement_max;
        Ok(())
    }

    fn finish<T>(
        &mut self,
        done: Result<T, Error>,
        statement: &str,
        begin: Instant,
    ) -> Result<T, Error> {
        self.shared
            .seen(statement, begin.elapsed(), done.as_ref().err());
        self.failed |= done.is_err();
        done
    }
}

/// A transaction: what is changed in it happens wholly or not at all.
///
/// It is rolled back when it is dropped, and after a statement that failed it can only be dropped. Those who want to
/// go on after a conflict ask for it with `ON CONFLICT`.
#[derive(Debug)]
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction {
    reader: Reader,
    changes: Vec<Change>,
}

impl Deref for Transaction {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Reader {
        &mut self.reader
    }
}

impl Transaction {
    pub(super) async fn begin(shared: &Arc<Shared>) -> Result<Self, Error> {
        let permit = shared.permit()?;
        let begun = async {
            Ok(match &shared.pools {
                super::connect::Pools::Postgres(pool) => {
                    Connection::PostgresTransaction(pool.begin().await?)
                }
                // At once with the lock of the file, so that it cannot fail to get it after it has read something.
                super::connect::Pools::Sqlite { writer, .. } => {
                    Connection::SqliteTransaction(writer.begin_with("BEGIN IMMEDIATE").await?)
                }
            })
        };
        let connection = shared.bounded(shared.answer_max(), begun).await?;
        Ok(Self {
            reader: Reader::new(connection, shared, permit),
            changes: Vec::new(),
        })
    }

    /// Notes what was changed, to be told when it is committed.
    pub(super) fn changed(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Makes it happen, and wakes those who follow the changes.
    ///
    /// # Errors
    /// [`Error::Uncertain`] if the connection breaks meanwhile; any other error means that nothing has happened.
    pub async fn commit(mut self) -> Result<(), Error> {
        if self.reader.failed {
            return Err(Error::Mistake(
                "a transaction was committed after one of its statements had failed".to_owned(),
            ));
        }
        let changes = std::mem::take(&mut self.changes);
        let seq = if changes.is_empty() {
            None
        } else {
            Some(outbox::append(&mut self.reader, &changes).await?)
        };
        let Reader {
            connection, shared, ..
        } = self.reader;
        let committed = tokio::time::timeout(shared.answer_max(), async {
            match connection {
                Connection::PostgresTransaction(transaction) => transaction.commit().await,
                Connection::SqliteTransaction(transaction) => transaction.commit().await,
                Connection::Postgres(_) | Connection::Sqlite(_) => Ok(()),
            }
        });
        match committed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.as_database_error().is_some() => return Err(of(&error)),
            Ok(Err(error)) => return Err(Error::Uncertain(error.to_string())),
            Err(_elapsed) => return Err(Error::Uncertain("it did not answer".to_owned())),
        }
        if let Some(seq) = seq {
            shared.wake(seq);
        }
        Ok(())
    }
}

fn bind_postgres(text: SqlStr, values: Vec<Value>) -> Query<'static, Postgres, PgArguments> {
    let mut query = sqlx::query(text);
    for value in values {
        query = match value {
            Value::Text(value) => query.bind(value),
            Value::Int(value) => query.bind(value),
            Value::Bool(value) => query.bind(value),
            Value::Uuid(value) => query.bind(value),
            Value::Time(value) => query.bind(value),
            Value::Json(value) => query.bind(value),
            Value::Uuids(value) => query.bind(value),
            Value::Bytes(value) => query.bind(value),
        };
    }
    query
}

fn bind_sqlite(text: SqlStr, values: Vec<Value>) -> Query<'static, Sqlite, SqliteArguments> {
    let mut query = sqlx::query(text);
    for value in values {
        query = match value {
            Value::Text(value) => query.bind(value),
            Value::Int(value) => query.bind(value),
            Value::Bool(value) => query.bind(value.map(i64::from)),
            Value::Uuid(value) => query.bind(value.map(uuid_text)),
            Value::Time(value) => query.bind(value.map(crate::time::Time::millis)),
            Value::Json(value) => query.bind(value.map(|json| json.to_string())),
            Value::Bytes(value) => query.bind(value),
            Value::Uuids(ids) => {
                let ids: Vec<String> = ids.into_iter().map(uuid_text).collect();
                query.bind(serde_json::Value::from(ids).to_string())
            }
        };
    }
    query
}
