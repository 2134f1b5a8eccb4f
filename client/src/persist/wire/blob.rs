//! Bytes inside a request or answer, taken out without copying.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{EncodeError, PayloadError};
use crate::payload::Encoding;

/// Opaque bytes. In `MessagePack` a binary; in JSON a text if the bytes are UTF-8, and else `{"base64": "…"}`. A text
/// is accepted in either.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Blob(pub Bytes);

thread_local! {
    /// The message that is being decoded on this thread, so that blobs are slices of it.
    static SOURCE: RefCell<Option<Bytes>> = const { RefCell::new(None) };
}

/// Ends the life of the thread's source, also when decoding panics.
struct Sourced;

impl Drop for Sourced {
    fn drop(&mut self) {
        SOURCE.with_borrow_mut(|source| *source = None);
    }
}

/// Reads a value from a payload; blobs inside are slices of it and keep it alive.
///
/// # Errors
/// When the payload is not a `T` in that encoding, or the encoding is neither JSON nor `MessagePack`.
pub fn decode<T: DeserializeOwned>(payload: &Bytes, encoding: Encoding) -> Result<T, PayloadError> {
    SOURCE.with_borrow_mut(|source| *source = Some(payload.clone()));
    let _sourced = Sourced;
    match encoding {
        Encoding::MessagePack => Ok(rmp_serde::from_slice(payload)?),
        Encoding::Json => Ok(serde_json::from_slice(payload)?),
        Encoding::Other(number) => Err(PayloadError::UnknownEncoding(number)),
    }
}

/// Writes a value as a payload; any encoding that is not JSON is `MessagePack` with named fields.
///
/// # Errors
/// When the encoding cannot hold the value.
pub fn encode<T: Serialize + ?Sized>(
    value: &T,
    encoding: Encoding,
) -> Result<Vec<u8>, EncodeError> {
    match encoding {
        Encoding::Json => Ok(serde_json::to_vec(value)?),
        Encoding::MessagePack | Encoding::Other(_) => Ok(rmp_serde::to_vec_named(value)?),
    }
}

fn shared(bytes: &[u8]) -> Bytes {
    SOURCE.with_borrow(|source| match source {
        Some(source) if is_within(source, bytes) => source.slice_ref(bytes),
        _ => Bytes::copy_from_slice(bytes),
    })
}

fn is_within(source: &Bytes, part: &[u8]) -> bool {
    let (whole, part) = (source.as_ptr_range(), part.as_ptr_range());
    whole.start <= part.start && part.end <= whole.end
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<String> for Blob {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }
}

impl From<&str> for Blob {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return serializer.serialize_bytes(&self.0);
        }
        if let Ok(text) = std::str::from_utf8(&self.0) {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("base64", &base64(&self.0))?;
        map.end()
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(BlobVisitor)
        } else {
            deserializer.deserialize_bytes(BlobVisitor)
        }
    }
}

struct BlobVisitor;

impl<'de> Visitor<'de> for BlobVisitor {
    type Value = Blob;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("bytes, a text, or {\"base64\": …}")
    }

    fn visit_borrowed_bytes<E>(self, v: &'de [u8]) -> Result<Blob, E> {
        Ok(Blob(shared(v)))
    }

    fn visit_bytes<E>(self, v: &[u8]) -> Result<Blob, E> {
        Ok(v.into())
    }

    fn visit_byte_buf<E>(self, v: Vec<u8>) -> Result<Blob, E> {
        Ok(v.into())
    }

    fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Blob, E> {
        Ok(Blob(shared(v.as_bytes())))
    }

    fn visit_str<E>(self, v: &str) -> Result<Blob, E> {
        Ok(v.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Blob, A::Error> {
        use base64::Engine as _;
        let mut found = None;
        while let Some((name, text)) = map.next_entry::<String, String>()? {
            if name == "base64" {
                let bytes = base64::engine::general_purpose::STANDARD.decode(text);
                found = Some(bytes.map_err(A::Error::custom)?);
            }
        }
        let bytes = found.ok_or_else(|| A::Error::missing_field("base64"))?;
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_of_a_message_are_slices_of_it() {
        let blobs = vec![Blob::from("abc"), Blob::from(&[0xff, 0][..])];
        let payload = Bytes::from(encode(&blobs, Encoding::MessagePack).unwrap());
        let read: Vec<Blob> = decode(&payload, Encoding::MessagePack).unwrap();
        assert_eq!(read, blobs);
        assert!(read.iter().all(|blob| is_within(&payload, blob)));
        let alone: Vec<Blob> = rmp_serde::from_slice(&payload).unwrap();
        assert_eq!(alone, blobs);
        assert!(!is_within(&payload, &alone[0]));
    }

    #[test]
    fn json_has_texts_and_base64() {
        let blobs = vec![Blob::from("abc"), Blob::from(&[0xff, 0][..])];
        let payload = Bytes::from(encode(&blobs, Encoding::Json).unwrap());
        assert_eq!(payload, r#"["abc",{"base64":"/wA="}]"#);
        let read: Vec<Blob> = decode(&payload, Encoding::Json).unwrap();
        assert_eq!(read, blobs);
        decode::<Blob>(&r#"{"base64":"?"}"#.into(), Encoding::Json).unwrap_err();
    }
}
