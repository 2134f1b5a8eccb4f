//! Payloads between the shell and the wire: how a text is encoded, and how bytes are shown.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::Value;

/// The encoding tag of `MessagePack`.
pub(crate) const MESSAGE_PACK: u8 = 0;
/// The encoding tag of JSON.
pub(crate) const JSON: u8 = 1;

/// How the payload on the command line is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Encoding {
    /// Valid JSON text as JSON, any other text as a `MessagePack` text, bytes that are no text as `MessagePack` bytes
    Auto,
    /// As JSON, which it must be
    Json,
    /// JSON text as the same value in `MessagePack`, anything else as a `MessagePack` text
    Msgpack,
    /// The bytes as they are, marked as `MessagePack`, which they should be
    Raw,
}

/// Encodes what stood on the command line or came from standard input: tag and bytes.
pub(crate) fn encode(bytes: Vec<u8>, encoding: Encoding) -> anyhow::Result<(u8, Bytes)> {
    let json = || serde_json::from_slice::<Value>(&bytes);
    match encoding {
        Encoding::Raw => Ok((MESSAGE_PACK, bytes.into())),
        Encoding::Json => {
            json().map_err(|error| anyhow::anyhow!("the payload is not JSON: {error}"))?;
            Ok((JSON, bytes.into()))
        }
        Encoding::Auto if json().is_ok() => Ok((JSON, bytes.into())),
        Encoding::Auto => Ok((MESSAGE_PACK, pack(&as_text(bytes)))),
        Encoding::Msgpack => {
            let value = match json() {
                Ok(value) => packed(value),
                Err(_) => as_text(bytes),
            };
            Ok((MESSAGE_PACK, pack(&value)))
        }
    }
}

fn as_text(bytes: Vec<u8>) -> rmpv::Value {
    match String::from_utf8(bytes) {
        Ok(text) => rmpv::Value::from(text),
        Err(error) => rmpv::Value::Binary(error.into_bytes()),
    }
}

fn pack(value: &rmpv::Value) -> Bytes {
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, value).expect("a vector takes whatever is written to it");
    out.into()
}

/// JSON texts nest at most 128 deep, which bounds the recursion.
fn packed(value: Value) -> rmpv::Value {
    match value {
        Value::Null => rmpv::Value::Nil,
        Value::Bool(value) => value.into(),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Value::String(text) => text.into(),
        Value::Array(items) => rmpv::Value::Array(items.into_iter().map(packed).collect()),
        Value::Object(entries) => rmpv::Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| (key.into(), packed(value)))
                .collect(),
        ),
    }
}

/// A payload in a form that can be shown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shown {
    /// The value it encodes.
    Value(Value),
    /// The bytes that a `MessagePack` value consists of.
    Packed(Bytes),
    /// A text that is neither JSON nor `MessagePack`.
    Text(String),
    /// Bytes that are no text.
    Bytes(Bytes),
}

/// Deepest nesting of `MessagePack` that is shown as a value; what is deeper is shown as bytes.
const DEPTH_MAX: usize = 100;

/// Makes a payload showable.
pub(crate) fn show(encoding: u8, payload: &Bytes) -> Shown {
    let value = match encoding {
        MESSAGE_PACK => unpack(payload),
        _ => serde_json::from_slice(payload).ok().map(Shown::Value),
    };
    match (value, std::str::from_utf8(payload)) {
        (Some(shown), _) => shown,
        (None, Ok(text)) if is_readable(text) => Shown::Text(text.to_owned()),
        (None, _) => Shown::Bytes(payload.clone()),
    }
}

/// Whether a terminal shows a text as it is; bytes that happen to be UTF-8 have control characters.
fn is_readable(text: &str) -> bool {
    text.chars()
        .all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
}

fn unpack(payload: &[u8]) -> Option<Shown> {
    let mut rest = payload;
    let value = rmpv::decode::read_value_with_max_depth(&mut rest, DEPTH_MAX).ok()?;
    if !rest.is_empty() {
        return None;
    }
    if let rmpv::Value::Binary(bytes) = value {
        return Some(Shown::Packed(bytes.into()));
    }
    Some(Shown::Value(unpacked(value)))
}

fn unpacked(value: rmpv::Value) -> Value {
    match value {
        rmpv::Value::Nil => Value::Null,
        rmpv::Value::Boolean(value) => value.into(),
        rmpv::Value::Integer(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => Value::Null,
        },
        rmpv::Value::F32(number) => f64::from(number).into(),
        rmpv::Value::F64(number) => number.into(),
        rmpv::Value::String(text) => String::from_utf8_lossy(text.as_bytes()).into_owned().into(),
        rmpv::Value::Binary(bytes) => bytes_value(&bytes),
        rmpv::Value::Ext(kind, bytes) => {
            serde_json::json!({ "$extension": kind, "$bytes": hex(&bytes) })
        }
        rmpv::Value::Array(items) => items.into_iter().map(unpacked).collect(),
        rmpv::Value::Map(entries) => Value::Object(
            entries
                .into_iter()
                .map(|(key, value)| (name(key), unpacked(value)))
                .collect(),
        ),
    }
}

/// How bytes appear within JSON.
pub(crate) fn bytes_value(bytes: &[u8]) -> Value {
    serde_json::json!({ "$bytes": hex(bytes) })
}

fn name(key: rmpv::Value) -> String {
    match unpacked(key) {
        Value::String(text) => text,
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Array(_)
        | Value::Object(_)) => other.to_string(),
    }
}

/// Two hexadecimal digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            write!(out, "{byte:02x}").expect("a string takes whatever is written to it");
            out
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &[u8], encoding: Encoding, tag: u8, wire: &[u8]) {
        assert_eq!(
            encode(text.to_vec(), encoding).unwrap(),
            (tag, Bytes::copy_from_slice(wire))
        );
    }

    #[test]
    fn texts_are_encoded_so_that_every_client_can_read_them() {
        check(b"{\"a\":1}", Encoding::Auto, 1, b"{\"a\":1}");
        check(b"17", Encoding::Auto, 1, b"17");
        check(b"hello", Encoding::Auto, 0, b"\xa5hello");
        check(b"", Encoding::Auto, 0, b"\xa0");
        check(b"\xff\x00", Encoding::Auto, 0, b"\xc4\x02\xff\x00");
        check(
            b"{\"a\":[1,-1,null]}",
            Encoding::Msgpack,
            0,
            b"\x81\xa1a\x93\x01\xff\xc0",
        );
        check(b"hello", Encoding::Msgpack, 0, b"\xa5hello");
        check(b"hello", Encoding::Raw, 0, b"hello");
        encode(b"hello".to_vec(), Encoding::Json).unwrap_err();
    }

    #[test]
    fn payloads_are_shown_as_what_they_hold() {
        let show = |encoding, bytes: &'static [u8]| show(encoding, &Bytes::from_static(bytes));
        assert_eq!(
            show(1, b"{\"a\":1}"),
            Shown::Value(serde_json::json!({"a": 1}))
        );
        assert_eq!(show(0, b"\xa5hello"), Shown::Value("hello".into()));
        assert_eq!(
            show(0, b"\x81\x01\xc4\x01\xff"),
            Shown::Value(serde_json::json!({"1": {"$bytes": "ff"}}))
        );
        assert_eq!(show(0, b"hello"), Shown::Text("hello".to_owned()));
        assert_eq!(
            show(1, b"\xff\xfe"),
            Shown::Bytes(Bytes::from_static(b"\xff\xfe"))
        );
        assert_eq!(
            show(0, b"\xc4\x01\xff"),
            Shown::Packed(Bytes::from_static(b"\xff"))
        );
        assert_eq!(
            show(7, b"\x00\x1b[31m"),
            Shown::Bytes(Bytes::from_static(b"\x00\x1b[31m"))
        );
        assert_eq!(show(0, b""), Shown::Text(String::new()));
        assert_eq!(show(7, b"plain"), Shown::Text("plain".to_owned()));
    }

    #[test]
    fn deep_nesting_is_shown_as_text_or_bytes() {
        let deep = Bytes::from(vec![0x91; 100_000]);
        assert_eq!(show(0, &deep), Shown::Bytes(deep.clone()));
    }
}
