//! A checksum over each record, because not every database has its own, and no copy of a row is beyond doubt.

use crc_fast::{CrcAlgorithm, Digest};
use dialtone_client::persist::wire::StoredRecord;

use crate::core::commit::Append;

/// The checksum of a record that is to be stored.
pub(super) fn of_append(revision: u64, append: &Append) -> i64 {
    sum(
        &[
            append.seq,
            append.time,
            revision,
            u64::from(append.encoding),
        ],
        append.ttl,
        append.key.as_deref(),
        append.id.as_deref(),
        append.headers.as_deref(),
        &append.payload,
    )
}

/// The checksum that a record should have.
pub(super) fn of_record(record: &StoredRecord) -> i64 {
    sum(
        &[
            record.seq,
            record.time,
            record.revision,
            u64::from(record.encoding),
        ],
        record.ttl,
        record.key.as_deref(),
        record.id.as_deref(),
        record.headers.as_deref(),
        &record.payload,
    )
}

fn sum(
    numbers: &[u64],
    ttl: Option<u64>,
    key: Option<&str>,
    id: Option<&str>,
    headers: Option<&[u8]>,
    payload: &[u8],
) -> i64 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for number in numbers {
        digest.update(&number.to_le_bytes());
    }
    let ttl = ttl.map(u64::to_le_bytes);
    let parts = [
        ttl.as_ref().map(|ttl| &ttl[..]),
        key.map(str::as_bytes),
        id.map(str::as_bytes),
        headers,
    ];
    for part in parts.into_iter().chain([Some(payload)]) {
        // A length that no part has stands for one that is missing.
        let len = part.map_or(u64::MAX, |part| part.len() as u64);
        digest.update(&len.to_le_bytes());
        digest.update(part.unwrap_or_default());
    }
    i64::try_from(digest.finalize()).expect("it has 32 bits")
}
