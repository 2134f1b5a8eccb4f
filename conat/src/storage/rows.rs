//! Records as clients know them.

use dialtone_client::Headers;
use dialtone_client::persist::wire::{Blob, Expect, Record, StoredRecord};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What the ids begin with that are made here for writes without one: they are not shown.
const OWN_ID: &str = "~dialtone-";

/// A row of `getAll` and of the change feed.
#[derive(Debug, Serialize)]
pub(super) struct Row<'a> {
    seq: u64,
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    encoding: u8,
    raw: &'a Blob,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Value>,
    #[serde(rename = "msgID", skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

impl<'a> Row<'a> {
    /// Without the id of the message, which only the change feed has.
    pub(super) fn of(record: &'a StoredRecord) -> Self {
        Self {
            seq: record.seq,
            time: record.time,
            key: record.key.as_deref(),
            encoding: record.encoding,
            raw: &record.payload,
            headers: user_headers(record).map(Value::Object),
            id: None,
        }
    }

    /// With the id by which a writer knows its own.
    pub(super) fn of_change(record: &'a StoredRecord) -> Self {
        let id = record.id.as_deref().filter(|id| !id.starts_with(OWN_ID));
        Self {
            id,
            ..Self::of(record)
        }
    }
}

/// The headers that were given with a record.
fn user_headers(record: &StoredRecord) -> Option<Map<String, Value>> {
    let headers = record.headers.as_ref()?;
    serde_json::from_slice(headers).ok()
}

/// The headers of the answer to `get`.
pub(super) fn get_headers(record: &StoredRecord) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in user_headers(record).unwrap_or_default() {
        headers.insert(name, value);
    }
    headers.insert("seq", record.seq);
    headers.insert("time", record.time);
    if let Some(key) = &record.key {
        headers.insert("key", key.as_str());
    }
    headers
}

/// What a write says beside its value.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Write {
    pub(super) key: Option<String>,
    pub(super) ttl: Option<f64>,
    #[serde(rename = "previousSeq")]
    pub(super) previous_seq: Option<f64>,
    #[serde(rename = "msgID")]
    pub(super) id: Option<String>,
    pub(super) headers: Option<Map<String, Value>>,
}

impl Write {
    /// The record that it makes with its value.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "JavaScript has no other numbers, and these are not negative"
    )]
    pub(super) fn record(
        self,
        encoding: u8,
        payload: Blob,
        unique: impl FnOnce() -> String,
    ) -> Record {
        let expect = self
            .previous_seq
            .filter(|_| self.key.is_some())
            .map(|seq| Expect::KeySeq(seq.max(0.0) as u64));
        let headers = self
            .headers
            .filter(|headers| !headers.is_empty())
            .map(|headers| Blob::from(Value::Object(headers).to_string()));
        let id = self.id.filter(|id| !id.is_empty());
        Record {
            key: self.key,
            payload,
            encoding,
            headers,
            ttl: self
                .ttl
                .filter(|ttl| *ttl > 0.0)
                .map(|ttl| ttl.ceil() as u64),
            id: Some(id.unwrap_or_else(|| format!("{OWN_ID}{}", unique()))),
            expect,
        }
    }
}

/// One item of `setMany`.
#[derive(Debug, Deserialize)]
pub(super) struct Item {
    key: Option<String>,
    ttl: Option<f64>,
    #[serde(rename = "previousSeq")]
    previous_seq: Option<f64>,
    #[serde(rename = "msgID")]
    id: Option<String>,
    #[serde(rename = "messageData")]
    message: Content,
}

#[derive(Debug, Deserialize)]
struct Content {
    encoding: u8,
    raw: Blob,
    headers: Option<Map<String, Value>>,
}

impl Item {
    pub(super) fn record(self, unique: impl FnOnce() -> String) -> Record {
        let write = Write {
            key: self.key,
            ttl: self.ttl,
            previous_seq: self.previous_seq,
            id: self.id,
            headers: self.message.headers,
        };
        write.record(self.message.encoding, self.message.raw, unique)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_becomes_a_record() {
        let write: Write = serde_json::from_value(serde_json::json!({
            "cmd": "set", "key": "k", "ttl": 1.5, "previousSeq": 3, "msgID": "m1", "headers": {"h": 1},
        }))
        .unwrap();
        let record = write.record(1, Blob::from("x"), || unreachable!());
        assert_eq!(record.key.as_deref(), Some("k"));
        assert_eq!(
            (record.ttl, record.expect),
            (Some(2), Some(Expect::KeySeq(3)))
        );
        assert_eq!(record.id.as_deref(), Some("m1"));
        assert_eq!(record.headers.as_deref(), Some(&br#"{"h":1}"#[..]));
        assert_eq!(record.size(), 1 + 7 + 1);
    }

    #[test]
    fn without_a_key_there_is_no_expectation_and_own_ids_are_not_shown() {
        let write = Write {
            previous_seq: Some(3.0),
            ..Write::default()
        };
        let record = write.record(0, Blob::from("x"), || "1".to_owned());
        assert_eq!(record.expect, None);
        let stored = StoredRecord {
            seq: 1,
            time: 2,
            revision: 3,
            key: None,
            encoding: 0,
            headers: None,
            ttl: None,
            id: record.id,
            payload: Blob::from("x"),
        };
        let bytes = crate::socket::encode(&Row::of_change(&stored));
        let row: rmpv::Value = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(row.as_map().map(Vec::len), Some(4), "{row}");
    }
}
