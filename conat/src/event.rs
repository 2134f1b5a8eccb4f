//! The seven events that a client sends.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Error, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::Text;

/// Most subscriptions in one event; clients send all of theirs at once after they reconnect.
pub const BATCH_MAX: usize = 20_000;

/// What a client wants.
#[derive(Debug)]
pub enum Event<'a> {
    /// A message, or a chunk of one.
    Publish(Publish<'a>),
    /// Begin subscriptions.
    Subscribe(Batch<Subscribe>),
    /// End subscriptions.
    Unsubscribe(Batch<Unsubscribe>),
    /// Which subscriptions are there?
    Subscriptions,
    /// Tell me when somebody subscribes.
    WaitForInterest(WaitForInterest),
    /// Where can the nodes be reached?
    Cluster,
    /// What the client has received so far.
    Stats(Stats),
    /// An event of another name.
    Unknown(Cow<'a, str>),
}

/// One or several of something: the answer has the same form.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch<T> {
    /// What is asked for, in order.
    pub items: Vec<T>,
    /// They came as an array.
    pub is_array: bool,
}

/// A message, or a chunk of one.
#[derive(Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// The concrete subject.
    pub subject: Cow<'a, str>,
    /// Names the message among those in flight.
    pub id: Cow<'a, str>,
    /// 0, 1, 2, … without gaps.
    pub seq: u64,
    /// This is the last chunk.
    pub done: bool,
    /// How the payload is to be read.
    pub encoding: u8,
    /// Which binary message is the payload.
    pub payload: usize,
    /// The headers, as JSON; of the last chunk.
    pub headers: Option<&'a str>,
}

/// A wanted subscription.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Subscribe {
    /// The pattern; anything but a text is not valid.
    #[serde(default, deserialize_with = "text_or_nothing")]
    pub subject: Option<String>,
    /// The queue group.
    #[serde(default, deserialize_with = "text_or_nothing")]
    pub queue: Option<String>,
}

/// A subscription that is to end.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Unsubscribe {
    /// The pattern.
    #[serde(default, deserialize_with = "text_or_nothing")]
    pub subject: Option<String>,
}

/// A question about interest.
#[derive(Debug, PartialEq, Deserialize)]
pub struct WaitForInterest {
    /// The concrete subject.
    #[serde(default, deserialize_with = "text_or_nothing")]
    pub subject: Option<String>,
    /// How long to wait, in milliseconds; nothing and 0 do not wait.
    #[serde(default)]
    pub timeout: Option<f64>,
}

/// What a client has received, as it says itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Stats {
    /// Since the last connect.
    #[serde(default)]
    pub recv0: Received,
}

/// What was received.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Received {
    /// Number of messages.
    pub messages: u64,
    /// Their payloads, in bytes.
    pub bytes: u64,
}

fn text_or_nothing<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    match serde_json::Value::deserialize(d)? {
        serde_json::Value::String(text) => Ok(Some(text)),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => Ok(None),
    }
}

impl<'a> Event<'a> {
    /// Reads the array of a name and its arguments.
    ///
    /// # Errors
    /// When it is not such an array, or the arguments are not those of the event.
    pub fn parse(json: &'a str) -> Result<Self, serde_json::Error> {
        if let Some(publish) = Publish::plain(json) {
            return Ok(Self::Publish(publish));
        }
        Self::parse_any(json)
    }

    fn parse_any(json: &'a str) -> Result<Self, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_str(json);
        let event = serde::Deserializer::deserialize_seq(&mut reader, EventVisitor)?;
        reader.end()?;
        Ok(event)
    }
}

struct EventVisitor;

impl<'de> Visitor<'de> for EventVisitor {
    type Value = Event<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of an event's name and its arguments")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Event<'de>, A::Error> {
        let name: Text<'de> = seq
            .next_element()?
            .ok_or_else(|| A::Error::custom("an event without a name"))?;
        let event = match &*name.0 {
            "publish" => Event::Publish(argument(&mut seq, "publish")?),
            "subscribe" => Event::Subscribe(argument(&mut seq, "subscribe")?),
            "unsubscribe" => Event::Unsubscribe(argument(&mut seq, "unsubscribe")?),
            "subscriptions" => Event::Subscriptions,
            "wait-for-interest" => Event::WaitForInterest(argument(&mut seq, "wait-for-interest")?),
            "cluster" => Event::Cluster,
            "stats" => Event::Stats(argument(&mut seq, "stats")?),
            _ => Event::Unknown(name.0),
        };
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(event)
    }
}

fn argument<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(
    seq: &mut A,
    event: &str,
) -> Result<T, A::Error> {
    seq.next_element()?
        .ok_or_else(|| A::Error::custom(format_args!("{event} without its argument")))
}

impl<'a> Publish<'a> {
    /// Reads a message in the form in which all clients write it, which takes a fraction of what a JSON parser takes;
    /// nothing for what has another form, which may be valid all the same.
    fn plain(json: &'a str) -> Option<Self> {
        let rest = json.strip_prefix(r#"["publish",["#)?;
        let (subject, rest) = plain_text(rest)?;
        let (id, rest) = plain_text(rest)?;
        let (number, rest) = plain_number(rest)?;
        let (done, rest) = plain_number(rest)?;
        let (encoding, rest) = plain_number(rest)?;
        let rest = rest.strip_prefix(r#"{"_placeholder":true,"num":0}"#)?;
        let headers = match rest {
            "]]" => None,
            _ => {
                let headers = rest.strip_prefix(',')?.strip_suffix("]]")?;
                let headers: &RawValue = serde_json::from_str(headers).ok()?;
                Some(headers.get())
            }
        };
        Some(Self {
            subject: Cow::Borrowed(subject),
            id: Cow::Borrowed(id),
            seq: number,
            done: done != 0,
            encoding: u8::try_from(encoding).ok()?,
            payload: 0,
            headers,
        })
    }
}

/// A string without escapes and the comma behind it; what follows.
fn plain_text(json: &str) -> Option<(&str, &str)> {
    let rest = json.strip_prefix('"')?;
    let ends = |byte: u8| byte == b'"' || byte == b'\\' || byte < 0x20;
    let end = rest.bytes().position(ends)?;
    let (text, rest) = rest.split_at_checked(end)?;
    Some((text, rest.strip_prefix("\",")?))
}

/// Numbers of no more digits fit.
const DIGITS_MAX: usize = 19;

/// A number that is not negative and the comma behind it; what follows.
fn plain_number(json: &str) -> Option<(u64, &str)> {
    let digits = json.bytes().take_while(u8::is_ascii_digit);
    let (len, number) = digits
        .take(DIGITS_MAX)
        .fold((0, 0_u64), |(len, number), digit| {
            (len + 1, number * 10 + u64::from(digit - b'0'))
        });
    if len == 0 || (len > 1 && json.starts_with('0')) {
        return None;
    }
    Some((number, json.get(len..)?.strip_prefix(',')?))
}

impl<'de> Deserialize<'de> for Publish<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(PublishVisitor)
    }
}

struct PublishVisitor;

impl<'de> Visitor<'de> for PublishVisitor {
    type Value = Publish<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array [subject, id, seq, done, encoding, payload, headers?]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Publish<'de>, A::Error> {
        fn element<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(
            seq: &mut A,
            name: &'static str,
        ) -> Result<T, A::Error> {
            seq.next_element()?
                .ok_or_else(|| A::Error::missing_field(name))
        }
        let subject: Text<'de> = element(&mut seq, "subject")?;
        let id: Text<'de> = element(&mut seq, "id")?;
        let number = element(&mut seq, "seq")?;
        let done: Done = element(&mut seq, "done")?;
        let encoding = element(&mut seq, "encoding")?;
        let Placeholder { num, .. } = element(&mut seq, "payload")?;
        let headers: Option<&'de RawValue> = seq.next_element()?;
        // What follows would be the routing of the predecessor's own nodes, which nobody may give.
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Publish {
            subject: subject.0,
            id: id.0,
            seq: number,
            done: done.0,
            encoding,
            payload: num,
            headers: headers.map(RawValue::get),
        })
    }
}

/// Where a binary message belongs.
#[derive(Deserialize)]
struct Placeholder {
    #[serde(rename = "_placeholder")]
    _placeholder: bool,
    num: usize,
}

/// 0 or 1, or a truth value.
struct Done(bool);

impl<'de> Deserialize<'de> for Done {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DoneVisitor;
        impl Visitor<'_> for DoneVisitor {
            type Value = Done;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("0 or 1")
            }

            fn visit_u64<E: Error>(self, v: u64) -> Result<Done, E> {
                Ok(Done(v != 0))
            }

            fn visit_bool<E: Error>(self, v: bool) -> Result<Done, E> {
                Ok(Done(v))
            }
        }
        deserializer.deserialize_any(DoneVisitor)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Batch<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BatchVisitor(std::marker::PhantomData))
    }
}

struct BatchVisitor<T>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for BatchVisitor<T> {
    type Value = Batch<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with a subject, or an array of such")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Batch<T>, A::Error> {
        let reader = serde::de::value::MapAccessDeserializer::new(map);
        Ok(Batch {
            items: vec![T::deserialize(reader)?],
            is_array: false,
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Batch<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            if items.len() == BATCH_MAX {
                return Err(A::Error::custom(format_args!(
                    "more than {BATCH_MAX} subscriptions in one event"
                )));
            }
            items.push(item);
        }
        Ok(Batch {
            items,
            is_array: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Text that may be JSON of a publish, and often is.
    fn publishes() -> impl Strategy<Value = String> {
        let text = prop_oneof![
            12 => "\"[a-z.ä]{0,8}\"",
            1 => r#""a\\""#,
            1 => r#""\\u0061b""#,
            1 => "7",
        ];
        let number = prop_oneof![
            12 => "[0-9]{1,3}",
            1 => "0[0-9]",
            1 => "-1",
            1 => "1.5",
            1 => " 1",
            1 => "true",
            1 => "99999999999999999999",
        ];
        let payload = prop_oneof![
            3 => Just(r#"{"_placeholder":true,"num":0}"#),
            1 => Just(r#"{"num":1,"_placeholder":true}"#),
        ];
        let headers = prop_oneof![
            3 => Just(""),
            1 => Just(",null"),
            1 => Just(r#",{"CN-Reply":"r"}"#),
            1 => Just(r#",{"a":[1, 2]},[{"pattern":"x"}]"#),
            1 => Just(",{]"),
            1 => Just(","),
        ];
        let end = prop_oneof![3 => Just("]]"), 1 => Just("] ]"), 1 => Just("]]]")];
        ((text.clone(), text), (number.clone(), number.clone(), number), payload, headers, end).prop_map(
            |((subject, id), (seq, done, encoding), payload, headers, end)| {
                format!("[\"publish\",[{subject},{id},{seq},{done},{encoding},{payload}{headers}{end}")
            },
        )
    }

    proptest! {
        /// The quick way and the JSON parser read the same, where the quick way reads something.
        #[test]
        fn a_plain_publish_is_what_the_parser_reads(json in publishes()) {
            if let Some(plain) = Publish::plain(&json) {
                let parsed = Event::parse_any(&json);
                let Ok(Event::Publish(parsed)) = parsed else {
                    return Err(TestCaseError::fail(format!("{json}: {parsed:?}")));
                };
                prop_assert_eq!(plain, parsed);
            }
        }
    }

    #[test]
    fn what_clients_write_is_read_the_quick_way() {
        for json in [
            r#"["publish",["foo.a","Nbc9jcovcR",0,1,0,{"_placeholder":true,"num":0}]]"#,
            r#"["publish",["foo.a","leqnaxcOpt",12,0,1,{"_placeholder":true,"num":0},{"CN-Reply":"_INBOX.x"}]]"#,
        ] {
            assert!(Publish::plain(json).is_some(), "{json}");
        }
        // The parser says what these are.
        for args in [
            r#""a\\b","i",0,1,0"#,
            r#""a","\u0069",0,1,0"#,
            r#""a","i",00,1,0"#,
            r#""a","i",0,-1,0"#,
            r#""a","i",,1,0"#,
            r#""a","i",0,1,256"#,
            r#""a","i",18446744073709551616,1,0"#,
        ] {
            let json = format!(r#"["publish",[{args},{{"_placeholder":true,"num":0}}]]"#);
            assert_eq!(Publish::plain(&json), None, "{json}");
        }
    }

    #[test]
    fn a_publish_is_read_with_its_headers_as_they_came() {
        let json = r#"["publish",["foo.a","leqnaxcOpt",0,1,0,{"_placeholder":true,"num":0},{"my":{"h": 1}},[{"pattern":"x"}]]]"#;
        let Event::Publish(publish) = Event::parse(json).unwrap() else {
            panic!("not a publish");
        };
        assert_eq!(
            (
                &*publish.subject,
                &*publish.id,
                publish.seq,
                publish.done,
                publish.encoding,
                publish.payload
            ),
            ("foo.a", "leqnaxcOpt", 0, true, 0, 0)
        );
        assert_eq!(publish.headers, Some(r#"{"my":{"h": 1}}"#));
    }

    #[test]
    fn subscriptions_come_alone_or_together() {
        let wanted = |subject: &str, queue: Option<&str>| Subscribe {
            subject: Some(subject.to_owned()),
            queue: queue.map(str::to_owned),
        };
        let Event::Subscribe(one) =
            Event::parse(r#"["subscribe",{"subject":"a.*","queue":"q"}]"#).unwrap()
        else {
            panic!("not a subscribe");
        };
        assert_eq!(
            (one.items, one.is_array),
            (vec![wanted("a.*", Some("q"))], false)
        );
        let Event::Subscribe(many) = Event::parse(
            r#"["subscribe",[{"subject":"a","queue":7},{"subject":"b","queue":"1"}]]"#,
        )
        .unwrap() else {
            panic!("not a subscribe");
        };
        assert_eq!(
            (many.items, many.is_array),
            (vec![wanted("a", None), wanted("b", Some("1"))], true)
        );
    }

    #[test]
    fn the_other_events_are_known() {
        assert!(matches!(
            Event::parse(r#"["subscriptions",null]"#).unwrap(),
            Event::Subscriptions
        ));
        assert!(matches!(
            Event::parse(r#"["cluster"]"#).unwrap(),
            Event::Cluster
        ));
        let Event::WaitForInterest(wait) =
            Event::parse(r#"["wait-for-interest",{"subject":"a","timeout":30000}]"#).unwrap()
        else {
            panic!("not a wait");
        };
        assert_eq!(
            (wait.subject.as_deref(), wait.timeout),
            (Some("a"), Some(30_000.0))
        );
        let Event::Stats(stats) =
            Event::parse(r#"["stats",{"recv0":{"messages":3,"bytes":9}}]"#).unwrap()
        else {
            panic!("not stats");
        };
        assert_eq!((stats.recv0.messages, stats.recv0.bytes), (3, 9));
        assert!(matches!(
            Event::parse(r#"["hello",1,2]"#).unwrap(),
            Event::Unknown(name) if name == "hello"
        ));
    }

    #[test]
    fn wrong_arguments_are_errors() {
        for json in [
            "",
            "{}",
            "[]",
            "[7]",
            r#"["publish"]"#,
            r#"["publish",["a","b",0,1,0]]"#,
            r#"["publish",["a","b",0,1,0,"text"]]"#,
            r#"["publish",["a","b",0,1,300,{"_placeholder":true,"num":0}]]"#,
            r#"["publish",["a","b",-1,1,0,{"_placeholder":true,"num":0}]]"#,
            r#"["subscribe",7]"#,
            r#"["cluster"] x"#,
        ] {
            assert!(Event::parse(json).is_err(), "{json}");
        }
    }
}
