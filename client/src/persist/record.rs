//! Saying more about a record than its payload, and reading what came back.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::wire::{Expect, Record, StoredRecord, decode};
use crate::error::{EncodeError, PayloadError};
use crate::headers::{Headers, HeadersError};
use crate::payload::Encoding;

/// A time span as the wire has it; what is longer than half a billion years is as long as that.
pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX >> 11)
}

impl Record {
    /// A record that holds a value as `MessagePack` with named fields.
    ///
    /// # Errors
    /// When `MessagePack` cannot hold the value.
    pub fn msgpack<T: Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        Ok(Self::new(rmp_serde::to_vec_named(value)?))
    }

    /// A record that holds a value as JSON.
    ///
    /// # Errors
    /// When JSON cannot hold the value.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        Ok(Self {
            encoding: Encoding::Json.number(),
            ..Self::new(serde_json::to_vec(value)?)
        })
    }

    /// Makes it the value of a key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets how the payload is to be read.
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding.number();
        self
    }

    /// Sets the headers; empty ones are not kept.
    pub fn headers(mut self, headers: &Headers) -> Self {
        self.headers = (!headers.is_empty()).then(|| headers.to_json().into());
        self
    }

    /// Lets the record be gone after a time, to the millisecond.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(millis(ttl).max(1));
        self
    }

    /// Sets the message id, which is otherwise made when the record is written.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Writes only if the last number that the stream gave is this; 0 is an empty stream that never gave one.
    pub fn after_last(mut self, seq: u64) -> Self {
        self.expect = Some(Expect::LastSeq(seq));
        self
    }

    /// Writes only if the record of the key has this number; 0: the key is absent.
    pub fn after_key(mut self, seq: u64) -> Self {
        self.expect = Some(Expect::KeySeq(seq));
        self
    }
}

impl From<&str> for Record {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Record {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<Vec<u8>> for Record {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl From<bytes::Bytes> for Record {
    fn from(bytes: bytes::Bytes) -> Self {
        Self::new(bytes)
    }
}

impl StoredRecord {
    /// Reads the payload as its encoding says.
    ///
    /// # Errors
    /// When it does not hold a `T` in that encoding, or the encoding is neither JSON nor `MessagePack`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        decode(&self.payload.0, Encoding::from_number(self.encoding))
    }

    /// The headers, read at each call; empty when there are none.
    ///
    /// # Errors
    /// When they are not one JSON object.
    pub fn read_headers(&self) -> Result<Headers, HeadersError> {
        self.headers
            .as_ref()
            .map_or(Ok(Headers::new()), |headers| Headers::parse(headers))
    }

    /// What the record counts for in the limits: its payload, headers and key, in bytes.
    pub fn size(&self) -> u64 {
        let headers = self.headers.as_ref().map_or(0, |headers| headers.len());
        let key = self.key.as_ref().map_or(0, String::len);
        (self.payload.len() + headers + key) as u64
    }
}
