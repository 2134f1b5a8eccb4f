//! Leases of nodes in two small tables.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::postgres::PgListener;
use sqlx::{PgConnection, PgPool};
use tokio::sync::Mutex;

use super::connect::{self, Config, from_sql, of, to_sql};
use crate::backend::Error;
use crate::placement::{LeaseError, Leases, NodeLease, Renew, Renewed};

/// Where changes are told.
const CHANNEL: &str = "dialtone_persist_view";

/// One that listens, one that renews, and one that gives back while that hangs.
const CONNECTIONS_MAX: u32 = 3;

/// How long to wait before listening is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// The leases of nodes that share a database.
#[derive(Debug)]
pub struct PostgresLeases {
    pool: PgPool,
    listener: Mutex<Option<PgListener>>,
}

impl PostgresLeases {
    /// Connects with few connections of its own, so that a busy store does not keep a node from its lease.
    ///
    /// # Errors
    /// As [`PostgresBackend::open`](super::PostgresBackend::open).
    pub async fn open(config: &Config) -> Result<Self, Error> {
        let config = Config {
            connections_max: CONNECTIONS_MAX,
            ..config.clone()
        };
        Ok(Self {
            pool: connect::connect(&config).await?,
            listener: Mutex::new(None),
        })
    }

    async fn renew(&self, renew: &Renew) -> Result<Renewed, LeaseError> {
        let mut transaction = self.pool.begin().await.map_err(store)?;
        // Whoever changes anything holds this row, so that everything below is one step.
        let before: i64 = sqlx::query_scalar("SELECT number FROM view FOR UPDATE")
            .fetch_one(&mut *transaction)
            .await
            .map_err(store)?;
        let ended = sqlx::query("DELETE FROM node WHERE expires <= clock_timestamp()")
            .execute(&mut *transaction)
            .await
            .map_err(store)?;
        let taken = match renew.session {
            Some(session) => extend(&mut transaction, renew, session).await,
            None => take(&mut transaction, renew).await,
        };
        let changed = ended.rows_affected() > 0 || (taken.is_ok() && renew.session.is_none());
        let view = if changed {
            next_view(&mut transaction).await?
        } else {
            before
        };
        let nodes = nodes(&mut transaction).await?;
        // Also where this node gets nothing: the leases that have ended are gone.
        transaction.commit().await.map_err(store)?;
        let (session, news) = taken?;
        if news && !changed {
            notify(&self.pool).await?;
        }
        Ok(Renewed {
            session,
            view: from_sql(view).map_err(LeaseError::Store)?,
            nodes,
        })
    }

    async fn leave(&self, node: &str, session: u64) -> Result<(), LeaseError> {
        let mut transaction = self.pool.begin().await.map_err(store)?;
        sqlx::query("SELECT number FROM view FOR UPDATE")
            .execute(&mut *transaction)
            .await
            .map_err(store)?;
        let gone = sqlx::query("DELETE FROM node WHERE name = $1 AND session = $2")
            .bind(node)
            .bind(to_sql(session))
            .execute(&mut *transaction)
            .await
            .map_err(store)?;
        if gone.rows_affected() > 0 {
            next_view(&mut transaction).await?;
        }
        transaction.commit().await.map_err(store)
    }

    async fn changed(&self) {
        let mut listener = self.listener.lock().await;
        loop {
            if listener.is_none() {
                *listener = listen(&self.pool).await;
            }
            match &mut *listener {
                Some(open) => match open.recv().await {
                    Ok(_) => return,
                    // Something may have been missed.
                    Err(_) => {
                        *listener = None;
                        tokio::time::sleep(LISTEN_AGAIN).await;
                        return;
                    }
                },
                None => tokio::time::sleep(LISTEN_AGAIN).await,
            }
        }
    }
}

async fn listen(pool: &PgPool) -> Option<PgListener> {
    let mut listener = PgListener::connect_with(pool).await.ok()?;
    listener.listen(CHANNEL).await.ok()?;
    Some(listener)
}

async fn notify(pool: &PgPool) -> Result<(), LeaseError> {
    sqlx::query("SELECT pg_notify($1, '')")
        .bind(CHANNEL)
        .execute(pool)
        .await
        .map(drop)
        .map_err(store)
}

/// The session, and whether others should hear of it.
async fn extend(
    connection: &mut PgConnection,
    renew: &Renew,
    session: u64,
) -> Result<(u64, bool), LeaseError> {
    let before: Option<i64> = sqlx::query_scalar(
        "UPDATE node n SET expires = clock_timestamp() + make_interval(secs => $3), seen = $4
           FROM (SELECT name, seen FROM node WHERE name = $1 AND session = $2) AS old
          WHERE n.name = old.name RETURNING old.seen",
    )
    .bind(&*renew.node)
    .bind(to_sql(session))
    .bind(renew.lease.as_secs_f64())
    .bind(to_sql(renew.seen))
    .fetch_optional(connection)
    .await
    .map_err(store)?;
    let before = before.ok_or(LeaseError::Lost)?;
    Ok((session, before != to_sql(renew.seen)))
}

async fn take(connection: &mut PgConnection, renew: &Renew) -> Result<(u64, bool), LeaseError> {
    let session: Option<i64> = sqlx::query_scalar(
        "INSERT INTO node (name, session, expires, seen)
         VALUES ($1, nextval('session'), clock_timestamp() + make_interval(secs => $2), 0)
         ON CONFLICT (name) DO NOTHING RETURNING session",
    )
    .bind(&*renew.node)
    .bind(renew.lease.as_secs_f64())
    .fetch_optional(&mut *connection)
    .await
    .map_err(store)?;
    if let Some(session) = session {
        return Ok((from_sql(session).map_err(LeaseError::Store)?, true));
    }
    let left: f64 = sqlx::query_scalar(
        "SELECT greatest(extract(epoch FROM expires - clock_timestamp()), 0)::double precision FROM node WHERE name = $1",
    )
    .bind(&*renew.node)
    .fetch_one(connection)
    .await
    .map_err(store)?;
    Err(LeaseError::Taken {
        left: Duration::from_secs_f64(left),
    })
}

/// Tells everybody when the transaction is committed.
async fn next_view(connection: &mut PgConnection) -> Result<i64, LeaseError> {
    let number = sqlx::query_scalar("UPDATE view SET number = number + 1 RETURNING number")
        .fetch_one(&mut *connection)
        .await
        .map_err(store)?;
    sqlx::query("SELECT pg_notify($1, '')")
        .bind(CHANNEL)
        .execute(connection)
        .await
        .map_err(store)?;
    Ok(number)
}

async fn nodes(connection: &mut PgConnection) -> Result<Vec<NodeLease>, LeaseError> {
    let rows = sqlx::query_as::<_, (String, f64, i64)>(
        "SELECT name, greatest(extract(epoch FROM expires - clock_timestamp()), 0)::double precision, seen
           FROM node ORDER BY name",
    );
    let rows = rows.fetch_all(connection).await.map_err(store)?;
    let nodes = rows.into_iter().map(|(name, left, seen)| {
        Ok(NodeLease {
            name: Arc::from(name),
            left: Duration::from_secs_f64(left),
            seen: from_sql(seen).map_err(LeaseError::Store)?,
        })
    });
    nodes.collect()
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn store(error: sqlx::Error) -> LeaseError {
    LeaseError::Store(of(&error))
}

impl Leases for PostgresLeases {
    fn renew(&self, renew: Renew) -> BoxFuture<'_, Result<Renewed, LeaseError>> {
        async move { Self::renew(self, &renew).await }.boxed()
    }

    fn leave<'a>(&'a self, node: &'a str, session: u64) -> BoxFuture<'a, Result<(), LeaseError>> {
        Self::leave(self, node, session).boxed()
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Self::changed(self).boxed()
    }
}
