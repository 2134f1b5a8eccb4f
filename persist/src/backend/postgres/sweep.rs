//! What is done from time to time: rows of deleted streams are freed, and numbers for people are counted.

use std::sync::Arc;
use std::time::Duration;

use super::Shared;
use super::connect::from_sql;

/// How often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Most rows that are freed by one statement, so that it is a short one.
const FREED_MAX: i64 = 10_000;

/// Sweeps until the end.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        if let Err(error) = sweep(&shared).await {
            // It is tried again, and nothing depends on it meanwhile.
            tracing::debug!(%error, "the sweep failed");
        }
        tokio::select! {
            () = tokio::time::sleep(SWEEP_INTERVAL) => {}
            () = shared.stopping.cancelled() => return,
        }
    }
}

async fn sweep(shared: &Shared) -> Result<(), sqlx::Error> {
    let sum = super::read::sum(&shared.pool, "")
        .await
        .map_err(|error| sqlx::Error::Decode(error.into()))?;
    let size: Option<i64> = sqlx::query_scalar(
        "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
          WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'",
    )
    .fetch_one(&shared.pool)
    .await?;
    *shared.seen.lock() = (sum, from_sql(size.unwrap_or(0)).unwrap_or(0));
    // A lane that was left for so long belongs to nobody.
    sqlx::query("DELETE FROM lane WHERE touched < clock_timestamp() - interval '30 days'")
        .execute(&shared.pool)
        .await?;
    let dropped: Vec<i64> = sqlx::query_scalar("SELECT stream FROM dropped")
        .fetch_all(&shared.pool)
        .await?;
    for stream in dropped {
        free(shared, stream).await?;
    }
    Ok(())
}

async fn free(shared: &Shared, stream: i64) -> Result<(), sqlx::Error> {
    let statements = [
        "DELETE FROM record WHERE ctid = ANY(ARRAY(SELECT ctid FROM record WHERE stream = $1 LIMIT $2))",
        "DELETE FROM removal WHERE ctid = ANY(ARRAY(SELECT ctid FROM removal WHERE stream = $1 LIMIT $2))",
        "DELETE FROM message_id WHERE ctid = ANY(ARRAY(SELECT ctid FROM message_id WHERE stream = $1 LIMIT $2))",
        "DELETE FROM consumer WHERE ctid = ANY(ARRAY(SELECT ctid FROM consumer WHERE stream = $1 LIMIT $2))",
    ];
    for statement in statements {
        loop {
            let freed = sqlx::query(statement)
                .bind(stream)
                .bind(FREED_MAX)
                .execute(&shared.pool)
                .await?;
            if freed.rows_affected() == 0 {
                break;
            }
            if shared.stopping.is_cancelled() {
                return Ok(());
            }
        }
    }
    sqlx::query("DELETE FROM dropped WHERE stream = $1")
        .bind(stream)
        .execute(&shared.pool)
        .await
        .map(drop)
}
