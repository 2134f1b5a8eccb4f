//! A stream as it was committed last, read in one snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use dialtone_client::persist::StreamName;
use futures_util::TryStreamExt as _;
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row as _};

use super::connect::{from_sql, of, to_sql};
use super::plan::read_remove;
use crate::backend::{Error, Loaded, Logged, MessageId, StreamId};
use crate::core::commit::{Meta, Totals};
use crate::core::ids::IDS_MAX;
use crate::core::records::{RecordMeta, Records};

/// What a name is found by.
pub(super) fn digest(stream: &str) -> Vec<u8> {
    Sha256::digest(stream.as_bytes()).to_vec()
}

/// Everything of a stream but its payloads.
pub(super) async fn load(
    pool: &PgPool,
    stream: &StreamName,
    now: u64,
) -> Result<Option<Loaded>, Error> {
    let mut transaction = pool
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await
        .map_err(|error| of(&error))?;
    let found = load_in(&mut transaction, stream, now).await?;
    transaction.rollback().await.map_err(|error| of(&error))?;
    Ok(found)
}

async fn load_in(
    connection: &mut PgConnection,
    stream: &StreamName,
    now: u64,
) -> Result<Option<Loaded>, Error> {
    let row = sqlx::query(
        "SELECT id, epoch, created, restoring, config::text AS config, messages, bytes, last_seq, last_time, revision,
                horizon, horizon_seq FROM stream WHERE digest = $1",
    );
    let row = row
        .bind(digest(stream.as_str()))
        .fetch_optional(&mut *connection)
        .await
        .map_err(|error| of(&error))?;
    let Some(row) = row else {
        return Ok(None);
    };
    let id: i64 = row.try_get("id").map_err(|error| of(&error))?;
    let meta = meta(&row)?;
    Ok(Some(Loaded {
        id: StreamId(from_sql(id)?),
        totals: totals(&row)?,
        horizon: (number(&row, "horizon")?, number(&row, "horizon_seq")?),
        records: records(connection, id).await?,
        log: log(connection, id).await?,
        ids: ids(connection, id, meta.config.duplicate_window, now).await?,
        consumers: consumers(connection, id).await?,
        meta,
    }))
}

/// A column with one of our numbers.
pub(super) fn number(row: &PgRow, name: &str) -> Result<u64, Error> {
    from_sql(row.try_get(name).map_err(|error| of(&error))?)
}

/// The description of a stream.
pub(super) fn meta(row: &PgRow) -> Result<Meta, Error> {
    let config: &str = row.try_get("config").map_err(|error| of(&error))?;
    Ok(Meta {
        epoch: number(row, "epoch")?,
        created: number(row, "created")?,
        restoring: row.try_get("restoring").map_err(|error| of(&error))?,
        config: serde_json::from_str(config)
            .map_err(|error| Error::Corrupt(format!("the configuration of a stream: {error}")))?,
    })
}

/// The totals of a stream.
pub(super) fn totals(row: &PgRow) -> Result<Totals, Error> {
    Ok(Totals {
        messages: number(row, "messages")?,
        bytes: number(row, "bytes")?,
        last_seq: number(row, "last_seq")?,
        last_time: number(row, "last_time")?,
        revision: number(row, "revision")?,
    })
}

/// A text that is stored as bytes.
pub(super) fn text(bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes)
        .map_err(|error| Error::Corrupt(format!("a text in the database: {error}")))
}

async fn records(connection: &mut PgConnection, stream: i64) -> Result<Records, Error> {
    let mut rows = sqlx::query_as::<_, (i64, i64, i64, Option<i64>, Option<Vec<u8>>)>(
        "SELECT seq, time, size, ttl, key FROM record WHERE stream = $1 ORDER BY seq",
    )
    .bind(stream)
    .fetch(connection);
    let mut records = Records::new();
    while let Some((seq, time, size, ttl, key)) =
        rows.try_next().await.map_err(|error| of(&error))?
    {
        let time = from_sql(time)?;
        let ttl = ttl.map(from_sql).transpose()?;
        records.push(RecordMeta {
            seq: from_sql(seq)?,
            time,
            size: u32::try_from(size).unwrap_or(u32::MAX),
            key: key.map(text).transpose()?.map(Arc::from),
            expires: ttl.map(|ttl| time.saturating_add(ttl)),
        });
    }
    Ok(records)
}

async fn log(connection: &mut PgConnection, stream: i64) -> Result<Vec<Logged>, Error> {
    let rows = sqlx::query_as::<_, (i64, i64, Option<Vec<u8>>)>(
        "SELECT revision, last_seq, removed FROM removal WHERE stream = $1 ORDER BY revision",
    );
    let rows = rows
        .bind(stream)
        .fetch_all(connection)
        .await
        .map_err(|error| of(&error))?;
    let logged = rows.into_iter().map(|(revision, last_seq, removed)| {
        Ok(Logged {
            revision: from_sql(revision)?,
            last_seq: from_sql(last_seq)?,
            remove: removed.as_deref().map(read_remove).transpose()?,
        })
    });
    logged.collect()
}

async fn ids(
    connection: &mut PgConnection,
    stream: i64,
    window: u64,
    now: u64,
) -> Result<Vec<MessageId>, Error> {
    let rows = sqlx::query_as::<_, (Vec<u8>, i64, i64, i64)>(
        "SELECT id, seq, time, revision FROM message_id WHERE stream = $1 AND time + $2 > $3 ORDER BY seq DESC LIMIT $4",
    );
    let most = i64::try_from(IDS_MAX).expect("it is small");
    let rows = rows
        .bind(stream)
        .bind(to_sql(window))
        .bind(to_sql(now))
        .bind(most);
    let rows = rows
        .fetch_all(connection)
        .await
        .map_err(|error| of(&error))?;
    let ids = rows.into_iter().rev().map(|(id, seq, time, revision)| {
        Ok(MessageId {
            id: text(id)?.into(),
            seq: from_sql(seq)?,
            time: from_sql(time)?,
            revision: from_sql(revision)?,
        })
    });
    ids.collect()
}

async fn consumers(
    connection: &mut PgConnection,
    stream: i64,
) -> Result<Vec<(Arc<str>, Vec<Bytes>)>, Error> {
    let rows = sqlx::query_as::<_, (Vec<u8>, Vec<u8>)>(
        "SELECT name, state FROM consumer WHERE stream = $1 ORDER BY name, part",
    );
    let rows = rows
        .bind(stream)
        .fetch_all(connection)
        .await
        .map_err(|error| of(&error))?;
    let mut consumers: BTreeMap<Arc<str>, Vec<Bytes>> = BTreeMap::new();
    for (name, state) in rows {
        consumers
            .entry(text(name)?.into())
            .or_default()
            .push(state.into());
    }
    Ok(consumers.into_iter().collect())
}
