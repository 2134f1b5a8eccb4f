//! What waits to be written to a client, and how each packet looks.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::json::{put_number, put_text};

/// One WebSocket message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Out {
    /// A packet.
    Text(String),
    /// The binary part of the packet before it.
    Binary(Bytes),
}

impl Out {
    /// Its length in bytes.
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

/// WebSocket messages in their order.
#[derive(Debug, Default)]
pub struct Output {
    queue: VecDeque<Out>,
    len: usize,
}

impl Output {
    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The next message.
    pub fn pop(&mut self) -> Option<Out> {
        let out = self.queue.pop_front()?;
        self.len -= out.len();
        Some(out)
    }

    fn push(&mut self, out: Out) {
        self.len += out.len();
        self.queue.push_back(out);
    }

    /// A packet that is written as it is.
    pub(crate) fn text(&mut self, text: impl Into<String>) {
        self.push(Out::Text(text.into()));
    }

    /// An event with one argument, for which an answer is wanted if `ack` is there.
    pub(crate) fn event(&mut self, ack: Option<u64>, name: &str, argument: &serde_json::Value) {
        let ack = ack.map(|ack| ack.to_string()).unwrap_or_default();
        let json = serde_json::Value::from(vec![name.into(), argument.clone()]);
        self.text(format!("42{ack}{json}"));
    }

    /// The answer to an event of the client.
    pub(crate) fn answer(&mut self, ack: u64, argument: &serde_json::Value) {
        self.text(format!("43{ack}[{argument}]"));
    }

    /// The answer to a publish, which is the most frequent one.
    pub(crate) fn count(&mut self, ack: u64, count: u32) {
        self.text(format!("43{ack}[{{\"count\":{count}}}]"));
    }

    /// A message, or a chunk of one, for a subscription.
    pub(crate) fn deliver(&mut self, delivery: &Delivery<'_>, payload: Bytes) {
        let mut text = Vec::with_capacity(96 + delivery.pattern.len() + delivery.subject.len());
        delivery.put(&mut text);
        // All of it comes from texts and from JSON that was read as such.
        let Ok(text) = String::from_utf8(text) else {
            debug_assert!(false, "a packet is text");
            return;
        };
        self.push(Out::Text(text));
        self.push(Out::Binary(payload));
    }
}

/// A delivery without its payload.
#[derive(Debug)]
pub(crate) struct Delivery<'a> {
    /// The pattern of the subscription as a JSON string: the name of the event.
    pub(crate) pattern: &'a [u8],
    pub(crate) subject: &'a str,
    /// What the chunks of the message are known by.
    pub(crate) id: &'a str,
    pub(crate) seq: u64,
    pub(crate) done: bool,
    pub(crate) encoding: u8,
    /// One JSON object.
    pub(crate) headers: Option<&'a [u8]>,
    pub(crate) reply: Option<&'a str>,
}

impl Delivery<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"451-[");
        out.extend_from_slice(self.pattern);
        out.extend_from_slice(b",{\"subject\":");
        put_text(out, self.subject);
        out.extend_from_slice(b",\"data\":[\"");
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(b"\",");
        put_number(out, self.seq);
        out.extend_from_slice(if self.done { b",1," } else { b",0," });
        put_number(out, self.encoding.into());
        out.extend_from_slice(b",{\"_placeholder\":true,\"num\":0}");
        match (self.headers, self.reply) {
            (headers, Some(reply)) => {
                out.push(b',');
                crate::headers::put_reply(out, headers, reply);
            }
            (Some(headers), None) => {
                out.push(b',');
                out.extend_from_slice(headers);
            }
            (None, None) => {}
        }
        out.extend_from_slice(b"]}]");
    }
}

/// Names for messages, ten letters and digits each: chunks of one message are known by it.
#[derive(Debug)]
pub(crate) struct Names {
    next: u64,
}

const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

impl Names {
    /// Begins anywhere.
    pub(crate) fn new(seed: u64) -> Self {
        Self { next: seed }
    }

    /// A name that was not given before.
    pub(crate) fn next(&mut self) -> String {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        name(number)
    }
}

/// Ten letters and digits for a number.
pub(crate) fn name(mut number: u64) -> String {
    (0..10)
        .map(|_| {
            let digit = usize::try_from(number % 62).unwrap_or_default();
            number /= 62;
            LETTERS.get(digit).copied().map_or('0', char::from)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery() -> Delivery<'static> {
        Delivery {
            pattern: b"\"foo.*\"",
            subject: "foo.a",
            id: "Nbc9jcovcR",
            seq: 0,
            done: true,
            encoding: 0,
            headers: None,
            reply: None,
        }
    }

    #[track_caller]
    fn check(delivery: &Delivery<'_>, expected: &str) {
        let mut output = Output::default();
        output.deliver(delivery, Bytes::from_static(b"x"));
        assert_eq!(output.len(), expected.len() + 1);
        assert_eq!(output.pop(), Some(Out::Text(expected.to_owned())));
        assert_eq!(output.pop(), Some(Out::Binary(Bytes::from_static(b"x"))));
        assert!(output.is_empty());
        assert_eq!(output.len, 0);
    }

    #[test]
    fn deliveries_look_as_captured() {
        check(
            &delivery(),
            r#"451-["foo.*",{"subject":"foo.a","data":["Nbc9jcovcR",0,1,0,{"_placeholder":true,"num":0}]}]"#,
        );
        check(
            &Delivery {
                headers: Some(br#"{"my":{"h":1}}"#),
                ..delivery()
            },
            r#"451-["foo.*",{"subject":"foo.a","data":["Nbc9jcovcR",0,1,0,{"_placeholder":true,"num":0},{"my":{"h":1}}]}]"#,
        );
        check(
            &Delivery {
                reply: Some("_INBOX.a.b"),
                seq: 1,
                done: false,
                encoding: 1,
                ..delivery()
            },
            r#"451-["foo.*",{"subject":"foo.a","data":["Nbc9jcovcR",1,0,1,{"_placeholder":true,"num":0},{"CN-Reply":"_INBOX.a.b"}]}]"#,
        );
    }

    #[test]
    fn names_are_ten_letters_and_differ() {
        let mut names = Names::new(u64::MAX);
        let some: std::collections::BTreeSet<String> = (0..200).map(|_| names.next()).collect();
        assert_eq!(some.len(), 200);
        assert!(some.iter().all(|name| name.len() == 10));
    }
}
