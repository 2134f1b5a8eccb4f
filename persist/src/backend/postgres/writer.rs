//! The writers: each takes what waits, stores it in one transaction, and answers.
//!
//! A transaction whose end was not heard of is looked up before anything is answered. Each writer counts its
//! transactions in a row of its own, its lane, as the first thing that a transaction does. Counting the same number
//! once more either finds it counted, so that the transaction was committed, or counts it, so that it never will be.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use dialtone_client::persist::wire::Durability;
use sqlx::PgConnection;
use tokio::time::Instant;

use super::connect::of;
use super::queue::{self, Stored};
use super::{Shared, transaction};
use crate::backend::{Done, Error};

/// Waits between attempts to learn what became of a transaction: the first, and the longest.
const RESOLVE_WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How much longer we wait than the database lets a statement run.
const WITHIN_MARGIN: Duration = Duration::from_secs(5);

/// A lane that was not used for so long is left for a new one; long after that its row is swept away.
const LANE_IDLE_MAX: Duration = Duration::from_hours(1);

/// What a transaction says of each of its commits.
pub(super) type Verdicts = Vec<Result<(), Error>>;

/// The row in which a writer counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lane {
    pub(super) id: i64,
    /// The number of the transaction in question; the one before is known to have ended.
    pub(super) number: i64,
    /// When it was made or used last.
    pub(super) used: Instant,
}

/// How a transaction ended.
enum Ended {
    Committed(Verdicts),
    /// None of its commits may be stored.
    Refused(Verdicts),
    /// It was not asked to commit, so that it never will.
    Failed(Failure),
    /// It was asked to, and nobody answered.
    Unheard(Error, Verdicts),
}

/// Why the database did not do something.
struct Failure {
    error: Error,
    /// The database said so, and goes on: it is about what was asked.
    refused: bool,
}

/// Stores what waits until the end of the queue.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut lane = None;
    while let Some(batch) = shared.queue.take(shared.config.batch_bytes_max).await {
        let (batch, done): (Vec<Stored>, Vec<Done>) = batch.into_iter().unzip();
        let asked = queue::durability(&batch);
        let verdicts = write(&shared, &mut lane, &batch, asked).await;
        shared.counters.batch(&verdicts);
        let obtained = if asked == Durability::Memory {
            asked
        } else {
            Durability::Fsync
        };
        for (done, verdict) in done.into_iter().zip(verdicts) {
            done(verdict.map(|()| obtained));
        }
    }
}

async fn write(
    shared: &Shared,
    lane: &mut Option<Lane>,
    batch: &[Stored],
    asked: Durability,
) -> Verdicts {
    match write_together(shared, lane, batch, asked).await {
        Ok(verdicts) => verdicts,
        // What is wrong with one commit does not concern the others.
        Err(failure) if failure.refused && batch.len() > 1 => {
            let mut verdicts = Vec::with_capacity(batch.len());
            for alone in batch.chunks(1) {
                match write_together(shared, lane, alone, asked).await {
                    Ok(verdict) => verdicts.extend(verdict),
                    Err(failure) => verdicts.push(Err(failure.error)),
                }
            }
            verdicts
        }
        Err(failure) => vec![Err(failure.error); batch.len()],
    }
}

async fn write_together(
    shared: &Shared,
    lane: &mut Option<Lane>,
    batch: &[Stored],
    asked: Durability,
) -> Result<Verdicts, Failure> {
    let mut connection = within(shared, shared.pool.acquire()).await?;
    // Unless it ends well, the lane is left for a new one: the database may keep its row locked for a while.
    let current = match lane.take() {
        Some(Lane { id, number, used }) if used.elapsed() < LANE_IDLE_MAX => Lane {
            id,
            number: number + 1,
            used: Instant::now(),
        },
        _ => begin_lane(shared, &mut connection).await?,
    };
    let ended = attempt(shared, &mut connection, current, batch, asked).await;
    if let Ended::Failed(_) | Ended::Unheard(..) = &ended {
        // With the connection, the database drops the transaction.
        connection.close_on_drop();
        drop(connection);
    }
    match ended {
        Ended::Committed(verdicts) => {
            *lane = Some(current);
            Ok(verdicts)
        }
        Ended::Refused(verdicts) => {
            *lane = Some(Lane {
                number: current.number - 1,
                ..current
            });
            Ok(verdicts)
        }
        Ended::Failed(failure) => Err(failure),
        Ended::Unheard(error, verdicts) => {
            tracing::warn!(%error, "the end of a transaction was not heard of; it is looked up");
            let committed = resolve(shared, current).await.map_err(|error| Failure {
                error,
                refused: false,
            })?;
            *lane = Some(current);
            if committed {
                Ok(verdicts)
            } else {
                Err(Failure {
                    error,
                    refused: false,
                })
            }
        }
    }
}

async fn begin_lane(shared: &Shared, connection: &mut PgConnection) -> Result<Lane, Failure> {
    let id =
        sqlx::query_scalar("INSERT INTO lane DEFAULT VALUES RETURNING id").fetch_one(connection);
    let id = within(shared, id).await?;
    Ok(Lane {
        id,
        number: 1,
        used: Instant::now(),
    })
}

async fn attempt(
    shared: &Shared,
    connection: &mut PgConnection,
    lane: Lane,
    batch: &[Stored],
    asked: Durability,
) -> Ended {
    let verdicts = match prepare(shared, connection, lane, batch, asked).await {
        Ok(verdicts) => verdicts,
        Err(failure) => return Ended::Failed(failure),
    };
    if verdicts.iter().all(Result::is_err) {
        let rollback = sqlx::raw_sql("ROLLBACK").execute(connection);
        return match within(shared, rollback).await {
            Ok(_) => Ended::Refused(verdicts),
            Err(failure) => Ended::Failed(failure),
        };
    }
    let commit = sqlx::raw_sql("COMMIT").execute(connection);
    match within(shared, commit).await {
        Ok(_) => Ended::Committed(verdicts),
        Err(failure) => Ended::Unheard(failure.error, verdicts),
    }
}

/// Everything of a transaction but its end.
async fn prepare(
    shared: &Shared,
    connection: &mut PgConnection,
    lane: Lane,
    batch: &[Stored],
    asked: Durability,
) -> Result<Verdicts, Failure> {
    let begin = match asked {
        Durability::Memory => "BEGIN; SET LOCAL synchronous_commit = off",
        Durability::Os | Durability::Fsync if shared.sync_by_default => "BEGIN",
        Durability::Os | Durability::Fsync => "BEGIN; SET LOCAL synchronous_commit = on",
    };
    within(shared, sqlx::raw_sql(begin).execute(&mut *connection)).await?;
    within(shared, transaction::store(connection, lane, batch)).await
}

/// Whether a transaction was committed. While the database does not answer nobody knows, and those who wait go on
/// waiting.
async fn resolve(shared: &Shared, lane: Lane) -> Result<bool, Error> {
    let (mut wait, longest) = RESOLVE_WAIT;
    loop {
        match within(shared, look_up(shared, lane)).await {
            Ok(Some(committed)) => {
                tracing::info!(committed, "the transaction was looked up");
                return Ok(committed);
            }
            Ok(None) => {
                return Err(Error::Failed(
                    "the database has forgotten which of the last writes were stored".to_owned(),
                ));
            }
            Err(Failure { error, .. }) if shared.stopping.is_cancelled() => {
                return Err(Error::Failed(format!(
                    "nobody knows whether the last writes were stored: {error}"
                )));
            }
            Err(Failure { error, .. }) => {
                tracing::warn!(%error, "a transaction cannot be looked up yet");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(longest),
            () = shared.stopping.cancelled() => {}
        }
    }
}

/// `None` when the lane itself is gone.
async fn look_up(shared: &Shared, lane: Lane) -> Result<Option<bool>, sqlx::Error> {
    // Waits for the row while the transaction is still open.
    let counted = sqlx::query("UPDATE lane SET number = $2 WHERE id = $1 AND number = $2 - 1")
        .bind(lane.id)
        .bind(lane.number)
        .execute(&shared.pool)
        .await?;
    if counted.rows_affected() > 0 {
        return Ok(Some(false));
    }
    let number: Option<i64> = sqlx::query_scalar("SELECT number FROM lane WHERE id = $1")
        .bind(lane.id)
        .fetch_optional(&shared.pool)
        .await?;
    Ok(number.map(|number| number >= lane.number))
}

/// Waits for the database, longer than the database itself allows a statement, but not for ever: a network may be
/// silent.
async fn within<T>(
    shared: &Shared,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Failure> {
    let limit = shared.config.statement_max + WITHIN_MARGIN;
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result.map_err(|error| Failure {
            error: of(&error),
            refused: matches!(error, sqlx::Error::Database(_) | sqlx::Error::Encode(_)),
        }),
        Err(_) => Err(Failure {
            error: Error::Unavailable(format!("PostgreSQL has not answered for {limit:?}")),
            refused: false,
        }),
    }
}
