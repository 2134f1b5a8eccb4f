//! Records with their payloads, and what is kept in numbers.

use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::{StoredRecord, VerifyProblem};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row as _};

use super::checksum;
use super::connect::{from_sql, of, to_sql};
use super::load::{meta, number, text, totals};
use crate::backend::{Batch, Damaged, Entry, Error, StreamId, Sum, Verified};

/// Most records that one question is about.
const PAGE_RECORDS: usize = 4_096;

/// Most ranges that one question is about.
const PAGE_RANGES: usize = 4_096;

/// Most problems of a verification.
const PROBLEMS_MAX: usize = 1_000;

/// What a prefix is compared with in the index, in characters.
const ORDER_CHARS: usize = 512;

pub(super) async fn read(
    pool: &PgPool,
    stream: StreamId,
    ranges: &[(u64, u64)],
    bytes: u64,
) -> Result<Batch, Error> {
    let (seqs, next) = match ranges {
        [] => return Ok(Batch::default()),
        [(first, last)] if first == last => (vec![to_sql(*first)], None),
        _ => choose(pool, stream, ranges, bytes).await?,
    };
    let rows = sqlx::query(
        "SELECT seq, time, revision, encoding, ttl, key, message_id, headers, payload, checksum
           FROM record WHERE stream = $1 AND seq = ANY($2) ORDER BY seq",
    );
    let rows = rows
        .bind(to_sql(stream.0))
        .bind(seqs)
        .fetch_all(pool)
        .await
        .map_err(|error| of(&error))?;
    let mut batch = Batch {
        next,
        ..Batch::default()
    };
    for row in &rows {
        let (record, damage) = stored(row)?;
        if let Some(text) = damage {
            batch.next = Some(record.seq + 1);
            batch.damaged = Some(Damaged {
                seq: record.seq,
                text,
            });
            break;
        }
        batch.records.push(record);
    }
    Ok(batch)
}

/// The numbers of the first records of the ranges, of about so many bytes, and where to go on.
async fn choose(
    pool: &PgPool,
    stream: StreamId,
    ranges: &[(u64, u64)],
    bytes: u64,
) -> Result<(Vec<i64>, Option<u64>), Error> {
    let asked = &ranges[..ranges.len().min(PAGE_RANGES)];
    let (firsts, lasts): (Vec<i64>, Vec<i64>) = asked
        .iter()
        .map(|(first, last)| (to_sql(*first), to_sql(*last)))
        .unzip();
    // The ranges are gone through one after the other, so that the first page needs no more than the first ranges.
    let rows = sqlx::query_as::<_, (i64, i64)>(
        "SELECT found.seq, found.size FROM unnest($2::bigint[], $3::bigint[]) AS ranges(first, last),
            LATERAL (SELECT seq, size FROM record
                      WHERE stream = $1 AND seq BETWEEN ranges.first AND ranges.last ORDER BY seq LIMIT $4) AS found
          LIMIT $4",
    );
    let limit = i64::try_from(PAGE_RECORDS).expect("it is small");
    let rows = rows
        .bind(to_sql(stream.0))
        .bind(firsts)
        .bind(lasts)
        .bind(limit);
    let mut found = rows.fetch_all(pool).await.map_err(|error| of(&error))?;
    found.sort_unstable();
    let mut size = 0;
    let mut taken = 0;
    for (_, record) in &found {
        size += from_sql(*record)?;
        if taken > 0 && size > bytes {
            break;
        }
        taken += 1;
    }
    let cut = taken < found.len();
    let full = found.len() == PAGE_RECORDS;
    found.truncate(taken);
    let last = found.last().map(|(seq, _)| from_sql(*seq)).transpose()?;
    let next = match last {
        Some(last) if cut || full => Some(last + 1),
        _ => ranges.get(asked.len()).map(|(first, _)| *first),
    };
    let end = ranges.last().map_or(0, |(_, last)| *last);
    Ok((
        found.into_iter().map(|(seq, _)| seq).collect(),
        next.filter(|next| *next <= end),
    ))
}

/// A record of a row, and what is wrong with it.
fn stored(row: &PgRow) -> Result<(StoredRecord, Option<String>), Error> {
    let seq = number(row, "seq")?;
    let bytes = |name: &str| {
        row.try_get::<Option<Vec<u8>>, _>(name)
            .map_err(|error| of(&error))
    };
    let ttl: Option<i64> = row.try_get("ttl").map_err(|error| of(&error))?;
    let encoding: i16 = row.try_get("encoding").map_err(|error| of(&error))?;
    let kept: i64 = row.try_get("checksum").map_err(|error| of(&error))?;
    let record = StoredRecord {
        seq,
        time: number(row, "time")?,
        revision: number(row, "revision")?,
        key: bytes("key")?.map(text).transpose()?,
        encoding: u8::try_from(encoding)
            .map_err(|error| Error::Corrupt(format!("record {seq}: {error}")))?,
        headers: bytes("headers")?.map(Into::into),
        ttl: ttl.map(from_sql).transpose()?,
        id: bytes("message_id")?.map(text).transpose()?,
        payload: bytes("payload")?.unwrap_or_default().into(),
    };
    let found = checksum::of_record(&record);
    let damage = (kept != found).then(|| {
        format!(
            "record {seq} in table record: its checksum is {found:08x} and should be {kept:08x}"
        )
    });
    Ok((record, damage))
}

pub(super) async fn verify(
    pool: &PgPool,
    stream: StreamId,
    from: u64,
    bytes: u64,
) -> Result<Verified, Error> {
    let mut verified = Verified::default();
    let mut next = Some(from);
    while let Some(from) =
        next.filter(|_| verified.bytes < bytes && verified.problems.len() < PROBLEMS_MAX)
    {
        let batch = read(
            pool,
            stream,
            &[(from, u64::MAX >> 11)],
            bytes - verified.bytes,
        )
        .await?;
        verified.records += batch.records.len() as u64;
        verified.bytes += batch
            .records
            .iter()
            .map(|record| record.payload.len() as u64)
            .sum::<u64>();
        if let Some(Damaged { seq, text }) = batch.damaged {
            verified.records += 1;
            verified.problems.push(VerifyProblem {
                seq: Some(seq),
                text,
            });
        }
        next = batch.next;
    }
    verified.next = next;
    if next.is_none() {
        verified.problems.extend(compare(pool, stream).await?);
    }
    Ok(verified)
}

/// Compares what a stream says that it has with what is there.
async fn compare(pool: &PgPool, stream: StreamId) -> Result<Option<VerifyProblem>, Error> {
    let row = sqlx::query_as::<_, (i64, i64, i64, i64)>(
        "SELECT s.messages, s.bytes, r.messages, r.bytes FROM stream s,
            LATERAL (SELECT count(*) AS messages, coalesce(sum(size), 0)::bigint AS bytes
                       FROM record WHERE stream = s.id) AS r
          WHERE s.id = $1",
    );
    let row = row
        .bind(to_sql(stream.0))
        .fetch_optional(pool)
        .await
        .map_err(|error| of(&error))?;
    let (messages, bytes, messages_found, bytes_found) = row.ok_or(Error::NotFound)?;
    let same = (messages, bytes) == (messages_found, bytes_found);
    Ok((!same).then(|| VerifyProblem {
        seq: None,
        text: format!(
            "table stream says {messages} records of {bytes} bytes, table record has {messages_found} of {bytes_found}"
        ),
    }))
}

pub(super) async fn list(
    pool: &PgPool,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Entry>, Error> {
    // The index knows the beginnings of names; where they are the same, the whole name decides.
    let from = after.filter(|after| *after > prefix).unwrap_or(prefix);
    let from: String = from.chars().take(ORDER_CHARS).collect();
    let rows = sqlx::query(
        "SELECT name, epoch, created, restoring, config::text AS config, messages, bytes, last_seq, last_time, revision
           FROM stream
          WHERE left(name, 512) >= $1 AND ($2::text IS NULL OR left(name, 512) < $2)
            AND starts_with(name, $3) AND ($4::text IS NULL OR name > $4)
          ORDER BY left(name, 512), name LIMIT $5",
    );
    let rows = rows
        .bind(from)
        .bind(behind(prefix))
        .bind(prefix)
        .bind(after);
    let rows = rows
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(pool)
        .await
        .map_err(|error| of(&error))?;
    rows.iter().map(entry).collect()
}

fn entry(row: &PgRow) -> Result<Entry, Error> {
    let name: String = row.try_get("name").map_err(|error| of(&error))?;
    Ok(Entry {
        name: StreamName::new(name)
            .map_err(|error| Error::Corrupt(format!("the name of a stream: {error}")))?,
        meta: meta(row)?,
        totals: totals(row)?,
    })
}

pub(super) async fn sum(pool: &PgPool, prefix: &str) -> Result<Sum, Error> {
    let start: String = prefix.chars().take(ORDER_CHARS).collect();
    let row = sqlx::query_as::<_, (i64, i64, i64)>(
        "SELECT count(*), coalesce(sum(messages), 0)::bigint, coalesce(sum(bytes), 0)::bigint FROM stream
          WHERE left(name, 512) >= $1 AND ($2::text IS NULL OR left(name, 512) < $2) AND starts_with(name, $3)",
    );
    let row = row
        .bind(start)
        .bind(behind(prefix))
        .bind(prefix)
        .fetch_one(pool)
        .await;
    let (streams, messages, bytes) = row.map_err(|error| of(&error))?;
    Ok(Sum {
        streams: from_sql(streams)?,
        messages: from_sql(messages)?,
        bytes: from_sql(bytes)?,
    })
}

/// The first text behind all that begin with this, so far as the index knows them; `None` where there is none.
fn behind(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().take(ORDER_CHARS).collect();
    while let Some(last) = chars.pop() {
        let next = if last == '\u{d7ff}' {
            Some('\u{e000}')
        } else {
            char::from_u32(u32::from(last) + 1)
        };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// Streams of which something is over at `now`, or may be, the longest waiting first.
pub(super) async fn due(pool: &PgPool, now: u64, limit: usize) -> Result<Vec<StreamName>, Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = sqlx::query_as::<_, (String,)>(
        "SELECT name FROM stream WHERE due <= $1 ORDER BY due LIMIT $2",
    );
    let rows = rows.bind(to_sql(now)).bind(limit).fetch_all(pool).await;
    let rows = rows.map_err(|error| of(&error))?;
    let name = |(name,)| {
        StreamName::new(name)
            .map_err(|error| Error::Corrupt(format!("the name of a stream: {error}")))
    };
    rows.into_iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_behind_everything_that_begins_with_it() {
        let cases = [
            ("", None),
            ("a", Some("b")),
            ("a/", Some("a0")),
            ("\u{d7ff}", Some("\u{e000}")),
        ];
        for (prefix, end) in cases {
            assert_eq!(behind(prefix).as_deref(), end, "{prefix:?}");
        }
        assert_eq!(behind("a\u{10ffff}\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(behind("\u{10ffff}"), None);
        assert_eq!(
            behind(&"ä".repeat(600)).map(|end| end.chars().count()),
            Some(ORDER_CHARS)
        );
    }
}
