//! JSON texts that are borrowed where they can be, and written into buffers.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A string of a JSON document, borrowed from it unless it has escapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(v)))
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(v.to_owned())))
    }
}

/// Appends a text as a JSON string.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    // Writing to a vector cannot fail, and every text is a JSON string.
    let written = serde_json::to_writer(&mut *out, text);
    debug_assert!(written.is_ok(), "a text is always encodable");
}

/// Appends a number.
pub(crate) fn put_number(out: &mut Vec<u8>, number: u64) {
    use std::io::Write as _;
    if let Ok(digit @ ..10) = u8::try_from(number) {
        return out.push(b'0' + digit);
    }
    let written = write!(out, "{number}");
    debug_assert!(written.is_ok(), "a vector takes everything");
}
