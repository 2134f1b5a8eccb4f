//! The reply subject, which is a header of a Conat message and a field of ours.

use std::borrow::Cow;
use std::fmt;

use dialtone_protocol::subject;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::Text;

/// The header that says where an answer is to go.
pub const REPLY: &str = "CN-Reply";

/// Headers without the reply subject, and the reply subject.
pub type Split<'a> = (Option<Cow<'a, str>>, Option<String>);

/// Takes the reply subject out of headers. One that is not a subject stays where it is, since nobody can answer there.
/// `null` and an object without anything else are no headers.
///
/// # Errors
/// When the headers are neither an object nor `null`.
pub fn split_reply(headers: &str) -> Result<Split<'_>, serde_json::Error> {
    let headers = headers.trim();
    if headers == "null" {
        return Ok((None, None));
    }
    if memchr::memmem::find(headers.as_bytes(), REPLY.as_bytes()).is_none() {
        // Any object without that key; whoever reads the headers will look closer.
        if headers.starts_with('{') {
            return Ok((Some(Cow::Borrowed(headers)), None));
        }
        return Err(serde::de::Error::custom("headers must be an object"));
    }
    if let Some(reply) = reply_alone(headers) {
        return Ok((None, Some(reply.to_owned())));
    }
    let mut reader = serde_json::Deserializer::from_str(headers);
    let (rest, reply) = reader.deserialize_map(WithoutReply)?;
    reader.end()?;
    if reply.is_none() {
        return Ok((Some(Cow::Borrowed(headers)), None));
    }
    let rest = (rest.len() > 2).then_some(Cow::Owned(rest));
    Ok((rest, reply))
}

/// The reply subject of headers that have nothing else, as most requests do.
fn reply_alone(headers: &str) -> Option<&str> {
    let rest = headers.strip_prefix("{\"CN-Reply\":\"")?;
    let reply = rest.strip_suffix("\"}")?;
    let is_plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    (reply.bytes().all(is_plain) && subject::check_subject(reply).is_ok()).then_some(reply)
}

/// Headers with a reply subject, as a client expects them.
pub fn put_reply(out: &mut Vec<u8>, headers: Option<&[u8]>, reply: &str) {
    out.extend_from_slice(b"{\"CN-Reply\":");
    crate::json::put_text(out, reply);
    let rest = headers.map(<[u8]>::trim_ascii).unwrap_or_default();
    let inner = rest.strip_prefix(b"{").unwrap_or_default().trim_ascii();
    if inner.is_empty() || inner == b"}" {
        out.push(b'}');
    } else {
        out.push(b',');
        out.extend_from_slice(inner);
    }
}

struct WithoutReply;

impl<'de> Visitor<'de> for WithoutReply {
    type Value = (String, Option<String>);

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of headers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut rest = vec![b'{'];
        let mut reply = None;
        while let Some(key) = map.next_key::<Text<'de>>()? {
            let value: &RawValue = map.next_value()?;
            if key.0 == REPLY
                && let Ok(text) = serde_json::from_str::<String>(value.get())
                && subject::check_subject(&text).is_ok()
            {
                reply = Some(text);
                continue;
            }
            if rest.len() > 1 {
                rest.push(b',');
            }
            crate::json::put_text(&mut rest, &key.0);
            rest.push(b':');
            rest.extend_from_slice(value.get().as_bytes());
        }
        rest.push(b'}');
        let rest = String::from_utf8(rest).map_err(serde::de::Error::custom)?;
        Ok((rest, reply))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(headers: &str, rest: Option<&str>, reply: Option<&str>) {
        let (found, found_reply) = split_reply(headers).unwrap();
        assert_eq!(found.as_deref(), rest, "{headers}");
        assert_eq!(found_reply.as_deref(), reply, "{headers}");
    }

    #[test]
    fn the_reply_is_taken_out() {
        check("null", None, None);
        check(r#"{"a":1}"#, Some(r#"{"a":1}"#), None);
        check(r#"{"CN-Reply":"_INBOX.a.b"}"#, None, Some("_INBOX.a.b"));
        check(
            r#"{"a":{"CN-Reply":"x"},"CN-Reply":"r","b":[1, 2]}"#,
            Some(r#"{"a":{"CN-Reply":"x"},"b":[1, 2]}"#),
            Some("r"),
        );
        check(r#"{"x":"CN-Reply"}"#, Some(r#"{"x":"CN-Reply"}"#), None);
    }

    #[test]
    fn a_reply_that_nobody_can_answer_stays_a_header() {
        for headers in [r#"{"CN-Reply":"a.*"}"#, r#"{"CN-Reply":7}"#] {
            check(headers, Some(headers), None);
        }
    }

    #[test]
    fn other_values_are_no_headers() {
        for headers in [
            "7",
            "[]",
            "\"CN-Reply\"",
            "{\"CN-Reply\":1",
            "[\"CN-Reply\"]",
        ] {
            split_reply(headers).unwrap_err();
        }
    }

    proptest! {
        /// What a publisher said arrives, whatever way it took.
        #[test]
        fn headers_survive_both_ways(
            keys in proptest::collection::btree_map("[a-zA-Z\"\\\\ä]{0,5}", 0_u32..9, 0..4),
            reply in proptest::option::of("[a-z]{1,3}(\\.[a-z]{1,3}){0,2}"),
        ) {
            let mut object: serde_json::Map<String, serde_json::Value> =
                keys.into_iter().map(|(key, value)| (key, value.into())).collect();
            if let Some(reply) = &reply {
                object.insert(REPLY.to_owned(), reply.clone().into());
            }
            let text = serde_json::to_string(&object).unwrap();
            let (rest, found) = split_reply(&text).unwrap();
            prop_assert_eq!(&found, &reply);
            let mut out = Vec::new();
            match &found {
                Some(reply) => put_reply(&mut out, rest.as_deref().map(str::as_bytes), reply),
                None => out.extend_from_slice(rest.unwrap().as_bytes()),
            }
            let back: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(back, object);
        }
    }
}
