//! What is written, and what is read.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeTuple as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Blob;

/// A record that is to be appended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Replaces the record of the same key; the empty text is a key too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What is kept; nobody looks into it.
    pub payload: Blob,
    /// How the payload is to be read: 0 `MessagePack`, 1 JSON, others are the users' own.
    #[serde(skip_serializing_if = "is_zero")]
    pub encoding: u8,
    /// One JSON object as text; nobody looks into it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Blob>,
    /// The record is gone after this many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    /// A second record with the same id within the stream's window is not written, but answered as the first was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Writes only if this holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
}

impl Record {
    /// A record without a key.
    pub fn new(payload: impl Into<Blob>) -> Self {
        Self {
            payload: payload.into(),
            ..Self::default()
        }
    }

    /// The value of a key.
    pub fn keyed(key: impl Into<String>, payload: impl Into<Blob>) -> Self {
        Self {
            key: Some(key.into()),
            ..Self::new(payload)
        }
    }

    /// What the record counts for in the limits: its payload, headers and key, in bytes.
    pub fn size(&self) -> u64 {
        let headers = self.headers.as_ref().map_or(0, |headers| headers.len());
        let key = self.key.as_ref().map_or(0, String::len);
        (self.payload.len() + headers + key) as u64
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u8) -> bool {
    *number == 0
}

/// What must hold for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// The last sequence number that the stream gave is this; 0: it never gave one.
    LastSeq(u64),
    /// The record of the key has this sequence number; 0: there is none.
    KeySeq(u64),
}

/// A record as it is kept. In `MessagePack` it is an array of its fields in this order; in JSON a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its number, from 1 and never given again.
    pub seq: u64,
    /// When it was accepted.
    pub time: u64,
    /// The revision of the stream that it made.
    pub revision: u64,
    /// The key whose value it is.
    pub key: Option<String>,
    /// How the payload is to be read.
    pub encoding: u8,
    /// The headers as they were given.
    pub headers: Option<Blob>,
    /// The lifetime that was asked for, in milliseconds.
    pub ttl: Option<u64>,
    /// The message id that was given.
    pub id: Option<String>,
    /// The payload as it was given.
    pub payload: Blob,
}

/// The form with names.
#[derive(Serialize, Deserialize)]
struct Named {
    seq: u64,
    time: u64,
    #[serde(default)]
    revision: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    encoding: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    headers: Option<Blob>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    payload: Blob,
}

impl From<Named> for StoredRecord {
    fn from(named: Named) -> Self {
        Self {
            seq: named.seq,
            time: named.time,
            revision: named.revision,
            key: named.key,
            encoding: named.encoding,
            headers: named.headers,
            ttl: named.ttl,
            id: named.id,
            payload: named.payload,
        }
    }
}

impl From<StoredRecord> for Named {
    fn from(record: StoredRecord) -> Self {
        Self {
            seq: record.seq,
            time: record.time,
            revision: record.revision,
            key: record.key,
            encoding: record.encoding,
            headers: record.headers,
            ttl: record.ttl,
            id: record.id,
            payload: record.payload,
        }
    }
}

impl Serialize for StoredRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return Named::from(self.clone()).serialize(serializer);
        }
        let mut tuple = serializer.serialize_tuple(9)?;
        tuple.serialize_element(&self.seq)?;
        tuple.serialize_element(&self.time)?;
        tuple.serialize_element(&self.revision)?;
        tuple.serialize_element(&self.key)?;
        tuple.serialize_element(&self.encoding)?;
        tuple.serialize_element(&self.headers)?;
        tuple.serialize_element(&self.ttl)?;
        tuple.serialize_element(&self.id)?;
        tuple.serialize_element(&self.payload)?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for StoredRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StoredVisitor)
    }
}

struct StoredVisitor;

impl<'de> Visitor<'de> for StoredVisitor {
    type Value = StoredRecord;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a stored record")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<StoredRecord, A::Error> {
        Named::deserialize(MapAccessDeserializer::new(map)).map(Into::into)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<StoredRecord, A::Error> {
        fn field<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(
            seq: &mut A,
            name: &'static str,
        ) -> Result<T, A::Error> {
            seq.next_element()?
                .ok_or_else(|| A::Error::missing_field(name))
        }
        let record = StoredRecord {
            seq: field(&mut seq, "seq")?,
            time: field(&mut seq, "time")?,
            revision: field(&mut seq, "revision")?,
            key: field(&mut seq, "key")?,
            encoding: field(&mut seq, "encoding")?,
            headers: field(&mut seq, "headers")?,
            ttl: field(&mut seq, "ttl")?,
            id: field(&mut seq, "id")?,
            payload: field(&mut seq, "payload")?,
        };
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{decode, encode};
    use super::*;
    use crate::payload::Encoding;

    #[test]
    fn records_travel_in_both_encodings() {
        let record = StoredRecord {
            seq: 7,
            time: 1_700_000_000_000,
            revision: 9,
            key: Some(String::new()),
            encoding: 1,
            headers: Some("{}".into()),
            ttl: None,
            id: None,
            payload: Blob::from(&[0xff, 1][..]),
        };
        for encoding in [Encoding::MessagePack, Encoding::Json] {
            let payload = encode(&vec![record.clone()], encoding).unwrap().into();
            let read: Vec<StoredRecord> = decode(&payload, encoding).unwrap();
            assert_eq!(read, std::slice::from_ref(&record));
        }
        let json = encode(&record, Encoding::Json).unwrap();
        assert!(String::from_utf8(json).unwrap().starts_with(r#"{"seq":7,"#));
    }

    #[test]
    fn later_versions_may_add_fields() {
        let longer = (1, 2, 3, (), 0, (), (), (), "x", "later");
        let payload = encode(&longer, Encoding::MessagePack).unwrap().into();
        let read: StoredRecord = decode(&payload, Encoding::MessagePack).unwrap();
        assert_eq!((read.seq, &*read.payload), (1, &b"x"[..]));
        let shorter = encode(&(1, 2), Encoding::MessagePack).unwrap().into();
        decode::<StoredRecord>(&shorter, Encoding::MessagePack).unwrap_err();
    }
}
