//! The headers of a message: one JSON object whose order is kept.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// An ordered JSON object that travels beside the payload. The broker never reads it.
///
/// Names beginning with `CN-` belong to the system; `error` and `code` say that a reply is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    entries: Vec<(String, Value)>,
}

/// Bytes that are not one JSON object.
#[derive(Debug, thiserror::Error)]
#[error("headers are not a JSON object")]
pub struct HeadersError(#[from] serde_json::Error);

impl Headers {
    /// Without any entry.
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// Reads the headers of a message.
    ///
    /// # Errors
    /// When `bytes` are not one JSON object.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeadersError> {
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.entries
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    /// The value of a name, if it is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// Sets a name, in its old place if it has one; returns what it was.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Value>) -> Option<Value> {
        let (name, value) = (name.into(), value.into());
        if let Some((_, old)) = self.entries.iter_mut().find(|(key, _)| *key == name) {
            return Some(std::mem::replace(old, value));
        }
        self.entries.push((name, value));
        None
    }

    /// The same headers with one name set.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        drop(self.insert(name, value));
        self
    }

    /// The entries in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The headers as they travel.
    ///
    /// # Panics
    /// Never: an object of JSON values under text keys can always be written.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self)
            .expect("an object of JSON values under text keys can always be written")
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.entries.len()))?;
        for (name, value) in &self.entries {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Headers;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
                let mut entries: Vec<(String, Value)> = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Headers { entries })
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_names_are_replaced_in_place() {
        let mut headers = Headers::parse(br#"{"z":1,"a":"x","m":null}"#).unwrap();
        assert_eq!(headers.insert("a", 2), Some(Value::from("x")));
        assert_eq!(headers.insert("b", true), None);
        assert_eq!(headers.to_json(), br#"{"z":1,"a":2,"m":null,"b":true}"#);
        assert_eq!(headers.len(), 4);
    }

    #[test]
    fn only_an_object_is_headers() {
        for bytes in [&b"[]"[..], b"1", b"", b"{", b"{} x"] {
            Headers::parse(bytes).unwrap_err();
        }
        assert!(Headers::parse(b"{}").unwrap().is_empty());
    }
}
