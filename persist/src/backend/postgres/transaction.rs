//! One transaction for the commits of many streams, without its beginning and its end.

use std::collections::HashMap;

use sqlx::PgConnection;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::connect::{from_sql, to_sql};
use super::plan::{Head, Plan};
use super::queue::Stored;
use super::writer::{Lane, Verdicts};
use crate::backend::{Error, StreamId};

/// Stores the commits that may be stored, and says which were not. An error concerns them all.
pub(super) async fn store(
    connection: &mut PgConnection,
    lane: Lane,
    batch: &[Stored],
) -> Result<Verdicts, sqlx::Error> {
    let heads = lock(connection, lane, batch).await?;
    let mut verdicts = Vec::with_capacity(batch.len());
    let mut admitted = Vec::with_capacity(batch.len());
    for stored in batch {
        let head = heads.get(&stored.stream).ok_or(Error::NotFound);
        let verdict = head.and_then(|head| head.admits(&stored.commit).map(|()| head));
        verdicts.push(verdict.clone().map(drop));
        if let Ok(head) = verdict {
            admitted.push((stored, *head, head.cut(&stored.commit)));
        }
    }
    let freed = trim(connection, &admitted).await?;
    let mut plan = Plan::default();
    for (stored, head, cut) in &admitted {
        let stream = to_sql(stored.stream.0);
        let freed = freed.get(&stream).copied();
        plan.add(stream, head, &stored.commit, *cut, freed)
            .map_err(|error| sqlx::Error::Encode(error.into()))?;
    }
    write(connection, &plan).await?;
    Ok(verdicts)
}

/// Counts the transaction, and reads the streams in the order of their numbers, so that transactions never wait for
/// each other in a circle.
async fn lock(
    connection: &mut PgConnection,
    lane: Lane,
    batch: &[Stored],
) -> Result<HashMap<StreamId, Head>, sqlx::Error> {
    let counted = sqlx::query(
        "UPDATE lane SET number = $2, touched = clock_timestamp() WHERE id = $1 AND number = $2 - 1",
    );
    let counted = counted
        .bind(lane.id)
        .bind(lane.number)
        .execute(&mut *connection)
        .await?;
    if counted.rows_affected() != 1 {
        return Err(sqlx::Error::Protocol(
            "the lane of this writer is not as it was left".to_owned(),
        ));
    }
    let streams: Vec<i64> = batch.iter().map(|stored| to_sql(stored.stream.0)).collect();
    let rows = sqlx::query(
        "SELECT id, revision, last_seq, horizon, horizon_seq, fence, duplicate_window
           FROM stream WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE",
    );
    let rows = rows.bind(streams).fetch_all(connection).await?;
    rows.iter().map(head).collect()
}

fn head(row: &PgRow) -> Result<(StreamId, Head), sqlx::Error> {
    let number = |name: &str| -> Result<u64, sqlx::Error> {
        from_sql(row.try_get(name)?).map_err(|error| sqlx::Error::Decode(error.into()))
    };
    let head = Head {
        revision: number("revision")?,
        last_seq: number("last_seq")?,
        horizon: (number("horizon")?, number("horizon_seq")?),
        fence: number("fence")?,
        duplicate_window: number("duplicate_window")?,
    };
    Ok((StreamId(number("id")?), head))
}

/// Frees entries of the log that nobody asks for any more, and says per stream which was the newest.
async fn trim(
    connection: &mut PgConnection,
    admitted: &[(&Stored, Head, u64)],
) -> Result<HashMap<i64, (u64, u64)>, sqlx::Error> {
    let moved = admitted
        .iter()
        .filter(|(_, head, cut)| *cut > head.horizon.0);
    let (streams, cuts): (Vec<i64>, Vec<i64>) = moved
        .map(|(stored, _, cut)| (to_sql(stored.stream.0), to_sql(*cut)))
        .unzip();
    if streams.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query_as::<_, (i64, i64, i64)>(
        "DELETE FROM removal r USING unnest($1::bigint[], $2::bigint[]) AS c(stream, cut)
          WHERE r.stream = c.stream AND r.revision <= c.cut RETURNING r.stream, r.revision, r.last_seq",
    );
    let rows = rows.bind(streams).bind(cuts).fetch_all(connection).await?;
    let mut newest: HashMap<i64, (u64, u64)> = HashMap::new();
    for (stream, revision, last_seq) in rows {
        let of = |number| from_sql(number).map_err(|error| sqlx::Error::Decode(error.into()));
        let entry = (of(revision)?, of(last_seq)?);
        let kept = newest.entry(stream).or_insert(entry);
        *kept = entry.max(*kept);
    }
    Ok(newest)
}

async fn write(connection: &mut PgConnection, plan: &Plan<'_>) -> Result<(), sqlx::Error> {
    write_heads(connection, plan).await?;
    write_records(connection, plan).await?;
    write_removals(connection, plan).await?;
    write_ids(connection, plan).await?;
    write_consumers(connection, plan).await
}

async fn write_heads(connection: &mut PgConnection, plan: &Plan<'_>) -> Result<(), sqlx::Error> {
    let heads = &plan.heads;
    sqlx::query(
        "UPDATE stream s SET
            epoch = coalesce(c.epoch, s.epoch), restoring = coalesce(c.restoring, s.restoring),
            config = coalesce(c.config::json, s.config),
            duplicate_window = coalesce(c.duplicate_window, s.duplicate_window),
            messages = c.messages, bytes = c.bytes, last_seq = c.last_seq, last_time = c.last_time,
            revision = c.revision, horizon = c.horizon, horizon_seq = c.horizon_seq, fence = c.fence,
            due = c.due
           FROM unnest($1::bigint[], $2::bigint[], $3::boolean[], $4::text[], $5::bigint[], $6::bigint[],
                $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
                $14::bigint[])
             AS c(id, epoch, restoring, config, duplicate_window, messages, bytes, last_seq, last_time, revision,
                  horizon, horizon_seq, fence, due)
          WHERE s.id = c.id",
    )
    .bind(&heads.stream)
    .bind(&heads.epoch)
    .bind(&heads.restoring)
    .bind(&heads.config)
    .bind(&heads.duplicate_window)
    .bind(&heads.messages)
    .bind(&heads.bytes)
    .bind(&heads.last_seq)
    .bind(&heads.last_time)
    .bind(&heads.revision)
    .bind(&heads.horizon)
    .bind(&heads.horizon_seq)
    .bind(&heads.fence)
    .bind(&heads.due)
    .execute(connection)
    .await
    .map(drop)
}

async fn write_records(connection: &mut PgConnection, plan: &Plan<'_>) -> Result<(), sqlx::Error> {
    let records = &plan.records;
    if !records.stream.is_empty() {
        sqlx::query(
            "INSERT INTO record (stream, seq, revision, time, size, encoding, ttl, key, message_id, headers, payload,
                    checksum)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::smallint[],
                    $7::bigint[], $8::bytea[], $9::bytea[], $10::bytea[], $11::bytea[], $12::bigint[])",
        )
        .bind(&records.stream)
        .bind(&records.seq)
        .bind(&records.revision)
        .bind(&records.time)
        .bind(&records.size)
        .bind(&records.encoding)
        .bind(&records.ttl)
        .bind(&records.key)
        .bind(&records.id)
        .bind(&records.headers)
        .bind(&records.payload)
        .bind(&records.checksum)
        .execute(&mut *connection)
        .await?;
    }
    if !plan.gone.stream.is_empty() {
        sqlx::query(
            "DELETE FROM record r USING unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS g(stream, first, last)
              WHERE r.stream = g.stream AND r.seq BETWEEN g.first AND g.last",
        )
        .bind(&plan.gone.stream)
        .bind(&plan.gone.first)
        .bind(&plan.gone.last)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn write_removals(connection: &mut PgConnection, plan: &Plan<'_>) -> Result<(), sqlx::Error> {
    let removals = &plan.removals;
    if removals.stream.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO removal (stream, revision, last_seq, removed)
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[])",
    )
    .bind(&removals.stream)
    .bind(&removals.revision)
    .bind(&removals.last_seq)
    .bind(&removals.removed)
    .execute(connection)
    .await
    .map(drop)
}

async fn write_ids(connection: &mut PgConnection, plan: &Plan<'_>) -> Result<(), sqlx::Error> {
    let (streams, before) = &plan.ids_freed;
    if !streams.is_empty() {
        sqlx::query(
            "DELETE FROM message_id m USING unnest($1::bigint[], $2::bigint[]) AS f(stream, before)
              WHERE m.stream = f.stream AND m.time < f.before",
        )
        .bind(streams)
        .bind(before)
        .execute(&mut *connection)
        .await?;
    }
    let ids = &plan.ids;
    if !ids.stream.is_empty() {
        sqlx::query(
            "INSERT INTO message_id (stream, seq, revision, time, id)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[])",
        )
        .bind(&ids.stream)
        .bind(&ids.seq)
        .bind(&ids.revision)
        .bind(&ids.time)
        .bind(&ids.id)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn write_consumers(
    connection: &mut PgConnection,
    plan: &Plan<'_>,
) -> Result<(), sqlx::Error> {
    let (streams, names) = &plan.consumers_gone;
    if !streams.is_empty() {
        sqlx::query(
            "DELETE FROM consumer c USING unnest($1::bigint[], $2::bytea[]) AS g(stream, name)
              WHERE c.stream = g.stream AND c.name = g.name",
        )
        .bind(streams)
        .bind(names)
        .execute(&mut *connection)
        .await?;
    }
    let (streams, names, parts) = &plan.consumers;
    if !streams.is_empty() {
        sqlx::query(
            "INSERT INTO consumer (stream, name, state)
             SELECT stream, name, state
               FROM unnest($1::bigint[], $2::bytea[], $3::bytea[]) WITH ORDINALITY AS p(stream, name, state, place)
              ORDER BY place",
        )
        .bind(streams)
        .bind(names)
        .bind(parts)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
