//! How a record stands in the head of a frame, and its headers and payload in the data.
//! `docs/persist-log.md` §4.

use std::cell::RefCell;

use bytes::Bytes;
use dialtone_client::persist::wire::{Blob, StoredRecord};

use super::bytes::{Cursor, len_number, put_bytes, put_number, unzigzag, zigzag};
use super::frame::checksum;
use crate::core::commit::Append;

const KEY: u8 = 1;
const HEADERS: u8 = 2;
const TTL: u8 = 4;
const ID: u8 = 8;
const ENCODING: u8 = 16;
const COMPRESSED: u8 = 32;
const SEQ: u8 = 64;
const REVISION: u8 = 128;

/// Fast, and most of what text and JSON give.
const COMPRESSION_LEVEL: i32 = 1;

/// What is known of a record without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) seq: u64,
    pub(crate) revision: u64,
    pub(crate) time: u64,
    pub(crate) key: Option<&'a str>,
    pub(crate) encoding: u8,
    pub(crate) id: Option<&'a str>,
    pub(crate) ttl: Option<u64>,
    pub(crate) headers_len: Option<usize>,
    pub(crate) payload_len: usize,
    /// Bytes in the data of the frame: headers and payload, perhaps compressed together.
    pub(crate) stored_len: usize,
    pub(crate) compressed: bool,
    /// Of the bytes as they are stored.
    pub(crate) checksum: u32,
}

/// What the next record is like unless it says something else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) seq: u64,
    pub(crate) revision: u64,
    pub(crate) time: u64,
}

impl Expected {
    fn follow(&mut self, record: &Record<'_>) {
        self.seq = record.seq.wrapping_add(1);
        self.revision = record.revision.wrapping_add(1);
        self.time = record.time;
    }
}

impl<'a> Record<'a> {
    /// The record as the core decided it, and the parts of the data that it needs. Payloads of
    /// at least `compress_len_min` bytes are compressed where that saves an eighth.
    pub(crate) fn of(
        append: &'a Append,
        revision: u64,
        compress_len_min: usize,
        data: &mut Vec<Bytes>,
    ) -> Self {
        let headers = append.headers.as_ref();
        let raw_len = headers.map_or(0, Bytes::len) + append.payload.len();
        let compressed = (raw_len >= compress_len_min)
            .then(|| compress(headers, &append.payload, raw_len))
            .flatten();
        let from = data.len();
        let is_compressed = compressed.is_some();
        match compressed {
            Some(bytes) => data.push(bytes),
            None => {
                data.extend(headers.cloned());
                data.push(append.payload.clone());
            }
        }
        Self {
            seq: append.seq,
            revision,
            time: append.time,
            key: append.key.as_deref(),
            encoding: append.encoding,
            id: append.id.as_deref(),
            ttl: append.ttl,
            headers_len: headers.map(Bytes::len),
            payload_len: append.payload.len(),
            stored_len: data[from..].iter().map(Bytes::len).sum(),
            compressed: is_compressed,
            checksum: checksum_of(&data[from..]),
        }
    }

    /// What the record counts for in the limits.
    pub(crate) fn size(&self) -> u64 {
        let key = self.key.map_or(0, str::len);
        len_number(self.payload_len + self.headers_len.unwrap_or(0) + key)
    }

    pub(crate) fn put(&self, head: &mut Vec<u8>, expected: &mut Expected) {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        head.push(
            flag(self.key.is_some(), KEY)
                | flag(self.headers_len.is_some(), HEADERS)
                | flag(self.ttl.is_some(), TTL)
                | flag(self.id.is_some(), ID)
                | flag(self.encoding != 0, ENCODING)
                | flag(self.compressed, COMPRESSED)
                | flag(self.seq != expected.seq, SEQ)
                | flag(self.revision != expected.revision, REVISION),
        );
        if self.seq != expected.seq {
            put_number(head, zigzag(expected.seq, self.seq));
        }
        if self.revision != expected.revision {
            put_number(head, zigzag(expected.revision, self.revision));
        }
        put_number(head, zigzag(expected.time, self.time));
        if let Some(key) = self.key {
            put_bytes(head, key.as_bytes());
        }
        if let Some(id) = self.id {
            put_bytes(head, id.as_bytes());
        }
        if let Some(ttl) = self.ttl {
            put_number(head, ttl);
        }
        if self.encoding != 0 {
            head.push(self.encoding);
        }
        if let Some(len) = self.headers_len {
            put_number(head, len_number(len));
        }
        put_number(head, len_number(self.payload_len));
        if self.compressed {
            put_number(head, len_number(self.stored_len));
        }
        head.extend_from_slice(&self.checksum.to_le_bytes());
        expected.follow(self);
    }

    pub(crate) fn read(cursor: &mut Cursor<'a>, expected: &mut Expected) -> Option<Self> {
        let flags = cursor.byte()?;
        let has = |flag: u8| flags & flag != 0;
        let seq = if has(SEQ) {
            unzigzag(expected.seq, cursor.number()?)
        } else {
            expected.seq
        };
        let revision = if has(REVISION) {
            unzigzag(expected.revision, cursor.number()?)
        } else {
            expected.revision
        };
        let time = unzigzag(expected.time, cursor.number()?);
        let key = if has(KEY) { Some(cursor.text()?) } else { None };
        let id = if has(ID) { Some(cursor.text()?) } else { None };
        let ttl = if has(TTL) {
            Some(cursor.number()?)
        } else {
            None
        };
        let encoding = if has(ENCODING) { cursor.byte()? } else { 0 };
        let headers_len = if has(HEADERS) {
            Some(cursor.len()?)
        } else {
            None
        };
        let payload_len = cursor.len()?;
        let stored_len = if has(COMPRESSED) {
            cursor.len()?
        } else {
            payload_len.checked_add(headers_len.unwrap_or(0))?
        };
        let record = Self {
            seq,
            revision,
            time,
            key,
            encoding,
            id,
            ttl,
            headers_len,
            payload_len,
            stored_len,
            compressed: has(COMPRESSED),
            checksum: cursor.fixed_u32()?,
        };
        expected.follow(&record);
        Some(record)
    }

    /// The record as it was given, from its part of the data.
    ///
    /// # Errors
    /// What is wrong with the data, in words.
    pub(crate) fn stored(&self, data: &Bytes) -> Result<StoredRecord, String> {
        if checksum(data) != self.checksum {
            return Err("its checksum is wrong".to_owned());
        }
        let headers_len = self.headers_len.unwrap_or(0);
        let raw_len = headers_len + self.payload_len;
        let raw = if self.compressed {
            let raw = zstd::bulk::decompress(data, raw_len);
            Bytes::from(raw.map_err(|error| format!("it cannot be decompressed: {error}"))?)
        } else {
            data.clone()
        };
        if raw.len() != raw_len {
            return Err(format!("it has {} bytes instead of {raw_len}", raw.len()));
        }
        Ok(StoredRecord {
            seq: self.seq,
            time: self.time,
            revision: self.revision,
            key: self.key.map(str::to_owned),
            encoding: self.encoding,
            headers: self.headers_len.map(|len| Blob(raw.slice(..len))),
            ttl: self.ttl,
            id: self.id.map(str::to_owned),
            payload: Blob(raw.slice(headers_len..)),
        })
    }
}

fn checksum_of(parts: &[Bytes]) -> u32 {
    if let [only] = parts {
        return checksum(only);
    }
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    u32::try_from(digest.finalize()).expect("a checksum of 32 bits")
}

thread_local! {
    /// Its tables are large, so that it is kept.
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

/// The bytes compressed, if that saves an eighth: below, reading them again costs more than the
/// space is worth.
fn compress(headers: Option<&Bytes>, payload: &Bytes, raw_len: usize) -> Option<Bytes> {
    let joined: Vec<u8>;
    let raw: &[u8] = match headers {
        Some(headers) => {
            joined = [&headers[..], &payload[..]].concat();
            &joined
        }
        None => payload,
    };
    let mut compressed = vec![0; raw_len - raw_len / 8];
    let len = COMPRESSOR.with_borrow_mut(|kept| {
        if kept.is_none() {
            // Without memory for its tables the payload is stored as it is.
            *kept = zstd::bulk::Compressor::new(COMPRESSION_LEVEL).ok();
        }
        // It fails when the result does not fit, which is the usual way of not being worth it.
        let compressor = kept.as_mut()?;
        compressor.compress_to_buffer(raw, &mut compressed).ok()
    })?;
    compressed.truncate(len);
    Some(Bytes::from(compressed))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn append() -> impl Strategy<Value = Append> {
        let payload = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            (any::<u8>(), 0..5000_usize).prop_map(|(byte, len)| vec![byte; len]),
        ];
        let text = || prop::option::of(".{0,12}");
        (
            (
                1..u64::from(u32::MAX),
                any::<u64>(),
                any::<u8>(),
                prop::option::of(any::<u64>()),
            ),
            (text(), text(), text(), payload),
        )
            .prop_map(
                |((seq, time, encoding, ttl), (key, id, headers, payload))| Append {
                    seq,
                    time,
                    key: key.map(Arc::from),
                    encoding,
                    headers: headers.map(Bytes::from),
                    ttl,
                    id: id.map(Arc::from),
                    payload: Bytes::from(payload),
                    replaced: Vec::new(),
                },
            )
    }

    proptest! {
        #[test]
        fn records_come_back(appends in prop::collection::vec(append(), 1..6)) {
            let start = Expected { seq: 1, revision: 1, time: 0 };
            let (mut head, mut data, mut expected) = (Vec::new(), Vec::new(), start);
            for (append, revision) in appends.iter().zip(1..) {
                let record = Record::of(append, revision, 1024, &mut data);
                prop_assert_eq!(record.size(), append.size());
                record.put(&mut head, &mut expected);
            }
            let mut data = Bytes::from(data.concat());
            let (mut cursor, mut expected) = (Cursor::new(&head), start);
            for append in &appends {
                let record = Record::read(&mut cursor, &mut expected).unwrap();
                let stored = record.stored(&data.split_to(record.stored_len)).unwrap();
                prop_assert_eq!(stored.seq, append.seq);
                prop_assert_eq!(stored.time, append.time);
                prop_assert_eq!(stored.encoding, append.encoding);
                prop_assert_eq!(stored.ttl, append.ttl);
                prop_assert_eq!(stored.key.as_deref(), append.key.as_deref());
                prop_assert_eq!(stored.id.as_deref(), append.id.as_deref());
                prop_assert_eq!(stored.headers.map(|blob| blob.0), append.headers.clone());
                prop_assert_eq!(&stored.payload.0, &append.payload);
            }
            prop_assert!(cursor.is_empty() && data.is_empty());
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut expected = Expected { seq: 1, revision: 1, time: 0 };
            let mut cursor = Cursor::new(&bytes);
            while let Some(record) = Record::read(&mut cursor, &mut expected) {
                drop(record.stored(&Bytes::copy_from_slice(&bytes)));
            }
        }
    }

    #[test]
    fn a_small_record_costs_few_bytes_beside_its_payload() {
        let append = Append {
            seq: 1000,
            time: 1_700_000_000_000,
            key: None,
            encoding: 0,
            headers: None,
            ttl: None,
            id: None,
            payload: Bytes::from_static(&[7; 256]),
            replaced: Vec::new(),
        };
        let (mut head, mut data) = (Vec::new(), Vec::new());
        let mut expected = Expected {
            seq: append.seq,
            revision: 1000,
            time: append.time,
        };
        Record::of(&append, 1000, 1024, &mut data).put(&mut head, &mut expected);
        assert_eq!(head.len(), 8);
    }
}
