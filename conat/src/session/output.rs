//! What waits to be written to a client, and how each packet looks.

use bytes::Bytes;
use dialtone_transport::Batch;
use dialtone_transport::websocket::Opcode;
use serde_json::value::RawValue;

use crate::json::{put_number, put_text};
use crate::websocket;

/// The most room that stays between two turns, in bytes.
const SPARE_LEN_MAX: usize = 1 << 10;

/// WebSocket messages in their order, as bytes.
#[derive(Debug, Default)]
pub struct Output {
    batch: Batch,
    /// Small messages, one after the other, behind the batch.
    small: Vec<u8>,
}

impl Output {
    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.batch.len() + self.small.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything that waits, to be written.
    pub(crate) fn batch(&mut self) -> &mut Batch {
        self.seal();
        &mut self.batch
    }

    /// Gives room back, when everything is written.
    pub(crate) fn release(&mut self) {
        self.batch.release();
        if self.small.is_empty() && self.small.capacity() > SPARE_LEN_MAX {
            self.small = Vec::new();
        }
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.batch
                .push(Bytes::from(std::mem::take(&mut self.small)));
        }
    }

    /// A packet that is written as it is.
    pub(crate) fn text(&mut self, text: &str) {
        websocket::put_text(&mut self.small, text);
    }

    /// The answer to a WebSocket ping.
    pub(crate) fn pong(&mut self, payload: &[u8]) {
        websocket::put_head(&mut self.small, Opcode::Pong, payload.len());
        self.small.extend_from_slice(payload);
    }

    /// The end of the WebSocket.
    pub(crate) fn close(&mut self, code: u16) {
        websocket::put_head(&mut self.small, Opcode::Close, 2);
        self.small.extend_from_slice(&code.to_be_bytes());
    }

    /// An event with one argument, for which an answer is wanted if `ack` is there.
    pub(crate) fn event(&mut self, ack: Option<u64>, name: &str, argument: &serde_json::Value) {
        let ack = ack.map(|ack| ack.to_string()).unwrap_or_default();
        let json = serde_json::Value::from(vec![name.into(), argument.clone()]);
        self.text(&format!("42{ack}{json}"));
    }

    /// The answer to an event of the client.
    pub(crate) fn answer(&mut self, ack: u64, argument: &serde_json::Value) {
        self.text(&format!("43{ack}[{argument}]"));
    }

    /// The answer to a publish, which is the most frequent one.
    pub(crate) fn count(&mut self, ack: u64, count: u32) {
        self.text(&format!("43{ack}[{{\"count\":{count}}}]"));
    }

    /// A chunk of a message for a subscription.
    pub(crate) fn deliver(&mut self, delivery: &Delivery<'_>, payload: Bytes) {
        delivery.put_message(&mut self.small);
        websocket::put_head(&mut self.small, Opcode::Binary, payload.len());
        self.seal();
        self.batch.push(payload);
    }

    /// WebSocket messages that `write` appends; it returns the payload that belongs behind them, if that is apart.
    pub(crate) fn write(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Option<Bytes>) {
        if let Some(payload) = write(&mut self.small) {
            self.seal();
            self.batch.push(payload);
        }
    }

    /// WebSocket messages that are encoded, with the payload that belongs behind them.
    pub(crate) fn encoded(&mut self, encoded: &[u8], payload: Option<Bytes>) {
        self.small.extend_from_slice(encoded);
        if let Some(payload) = payload {
            self.seal();
            self.batch.push(payload);
        }
    }

    #[cfg(test)]
    pub(super) fn written(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.batch().pop() {
            bytes.extend_from_slice(&chunk);
        }
        bytes
    }
}

/// A delivery without its payload.
#[derive(Debug)]
pub(crate) struct Delivery<'a> {
    /// The pattern of the subscription as a JSON string: the name of the event.
    pub(crate) pattern: &'a [u8],
    pub(crate) subject: &'a str,
    /// What the chunks of the message are known by.
    pub(crate) id: &'a [u8],
    pub(crate) seq: u64,
    pub(crate) done: bool,
    pub(crate) encoding: u8,
    /// One JSON object.
    pub(crate) headers: Option<&'a [u8]>,
    pub(crate) reply: Option<&'a str>,
}

/// Room for the head of a WebSocket message; that of a packet with 126 bytes and more, which most are, has four.
const HEAD_LEN: usize = 4;

impl Delivery<'_> {
    /// Appends it as a WebSocket message; the binary one is to follow.
    pub(super) fn put_message(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEAD_LEN]);
        self.put(out);
        let len = out.len() - start - HEAD_LEN;
        let (head, size) = websocket::header(Opcode::Text, len).encode();
        let head = head.get(..size).unwrap_or_default();
        if let Some(room) = out.get_mut(start..start + HEAD_LEN)
            && room.len() == size
        {
            room.copy_from_slice(head);
        } else {
            out.splice(start..start + HEAD_LEN, head.iter().copied());
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"451-[");
        out.extend_from_slice(self.pattern);
        out.extend_from_slice(b",{\"subject\":");
        put_text(out, self.subject);
        out.extend_from_slice(b",\"data\":[\"");
        out.extend_from_slice(self.id);
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

/// Whether headers are one JSON object. Nobody checks those of other clients, and a packet with others would end the
/// connection of the one who gets it.
pub(super) fn is_object(headers: &[u8]) -> bool {
    let value: Result<&RawValue, _> = serde_json::from_slice(headers);
    value.is_ok_and(|value| value.get().starts_with('{'))
}
/// Names for messages: chunks of one message are known by it.
#[derive(Debug)]
pub(crate) struct Names {
    next: u64,
}

const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Ten letters and digits, as clients name messages and sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name([u8; 10]);

impl Name {
    /// Of a number; different ones have different names up to 62¹⁰.
    pub(crate) fn of(mut number: u64) -> Self {
        Self(std::array::from_fn(|_| {
            let digit = usize::try_from(number % 62).unwrap_or_default();
            number /= 62;
            LETTERS.get(digit).copied().unwrap_or(b'0')
        }))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .iter()
            .try_for_each(|&letter| std::fmt::Write::write_char(f, char::from(letter)))
    }
}

impl Names {
    /// Begins anywhere.
    pub(crate) fn new(seed: u64) -> Self {
        Self { next: seed }
    }

    /// A name that was not given before.
    pub(crate) fn next(&mut self) -> Name {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        Name::of(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery() -> Delivery<'static> {
        Delivery {
            pattern: b"\"foo.*\"",
            subject: "foo.a",
            id: b"Nbc9jcovcR",
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
        let mut wire = Vec::new();
        websocket::put_text(&mut wire, expected);
        websocket::put_head(&mut wire, Opcode::Binary, 1);
        wire.push(b'x');
        assert_eq!(output.len(), wire.len());
        assert_eq!(output.written(), wire, "{expected}");
        assert!(output.is_empty());
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
    fn heads_have_the_shortest_form_for_every_length() {
        for len in [1, 20, 30, 40, 60_000, 70_000] {
            let subject = "s".repeat(len);
            let delivery = Delivery {
                subject: &subject,
                ..delivery()
            };
            let mut text = Vec::new();
            delivery.put(&mut text);
            check(&delivery, std::str::from_utf8(&text).unwrap());
        }
    }

    #[test]
    fn names_are_ten_letters_and_differ() {
        let mut names = Names::new(u64::MAX);
        let some: std::collections::BTreeSet<Name> = (0..200).map(|_| names.next()).collect();
        assert_eq!(some.len(), 200);
        let is_plain = |name: &Name| name.as_bytes().iter().all(u8::is_ascii_alphanumeric);
        assert!(some.iter().all(is_plain));
        assert_eq!(Name::of(61 + 62 * 10).to_string(), "zA00000000");
    }
}
