//! How messages look on the wire, for both kinds of server: building what is sent, and cutting what
//! is received into frames cheaply enough that the server stays the bottleneck.

use dialtone_protocol::frame::{
    Deliver, Fragment, Message, Pick, Publish, Subscribe, Unsubscribe, Wanted,
};
use dialtone_protocol::{Frame, RequestId, SubscriptionId};

pub mod split;
pub use split::Splitter;

pub mod socketio;

pub mod streams;

pub mod websocket;

/// The languages of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `PUB subject size`, `MSG subject sid size`.
    Nats,
    /// Length-prefixed frames, as in `docs/protocol.md`.
    Dialtone,
    /// WebSocket messages with Socket.IO packets, as of existing Conat clients.
    SocketIo,
}

impl Format {
    /// Appends a message to be published.
    pub fn publish(self, out: &mut Vec<u8>, subject: &str, reply: Option<&str>, payload: &[u8]) {
        match self {
            Self::Nats => nats_publish(out, subject, reply, payload),
            Self::Dialtone => dialtone_publish(out, subject, reply, payload, None),
            Self::SocketIo => socketio::publish(out, subject, reply, payload),
        }
    }

    /// Appends one part of a large message. Only Dialtone has parts; elsewhere each is a message.
    pub fn publish_part(self, out: &mut Vec<u8>, subject: &str, payload: &[u8], part: Fragment) {
        match self {
            Self::Nats => nats_publish(out, subject, None, payload),
            Self::Dialtone => dialtone_publish(out, subject, None, payload, Some(part)),
            Self::SocketIo => socketio::publish(out, subject, None, payload),
        }
    }

    /// Appends a subscription under the number `id`, which must not be 0.
    pub fn subscribe(self, out: &mut Vec<u8>, id: u32, pattern: &str, group: Option<&str>) {
        match self {
            Self::Nats => {
                let line = match group {
                    Some(group) => format!("SUB {pattern} {group} {id}\r\n"),
                    None => format!("SUB {pattern} {id}\r\n"),
                };
                out.extend_from_slice(line.as_bytes());
            }
            Self::Dialtone => {
                let wanted = Wanted {
                    id: SubscriptionId(id),
                    pattern: pattern.to_owned(),
                    group: group.map(ToOwned::to_owned),
                    pick: Pick::Any,
                    tap: false,
                    drop_oldest: 0,
                };
                Frame::Subscribe(Subscribe {
                    request: RequestId(id),
                    wanted: vec![wanted],
                })
                .encode(out);
            }
            Self::SocketIo => socketio::subscribe(out, id, pattern, group),
        }
    }

    /// Appends the end of the subscription to `pattern` under the number `id`.
    pub fn unsubscribe(self, out: &mut Vec<u8>, id: u32, pattern: &str) {
        match self {
            Self::Nats => out.extend_from_slice(format!("UNSUB {id}\r\n").as_bytes()),
            Self::Dialtone => {
                let ids = vec![SubscriptionId(id)];
                Frame::Unsubscribe(Unsubscribe {
                    request: RequestId(id),
                    ids,
                })
                .encode(out);
            }
            Self::SocketIo => socketio::unsubscribe(out, pattern),
        }
    }

    /// Appends a question whose answer says that everything before it was handled.
    pub fn fence(self, out: &mut Vec<u8>) {
        match self {
            Self::Nats => out.extend_from_slice(b"PING\r\n"),
            Self::Dialtone => {
                Frame::Ping(dialtone_protocol::frame::Ping { token: FENCE }).encode(out);
            }
            Self::SocketIo => socketio::fence(out),
        }
    }

    /// The payload, known to be `len` bytes long, of a whole delivery.
    pub fn payload(self, frame: &[u8], len: usize) -> &[u8] {
        let end = match self {
            Self::Nats => frame.len().saturating_sub(2),
            Self::Dialtone | Self::SocketIo => frame.len(),
        };
        frame.get(end.saturating_sub(len)..end).unwrap_or_default()
    }

    /// The subject of a whole delivery.
    pub fn subject(self, frame: &[u8]) -> Option<&str> {
        match self {
            Self::Nats => {
                let subject = frame.split(|&byte| byte == b' ').nth(1)?;
                std::str::from_utf8(subject).ok()
            }
            Self::Dialtone => Some(deliver(frame)?.message.subject),
            Self::SocketIo => socketio::subject(frame),
        }
    }

    /// Where the answer to a whole delivery is to go.
    pub fn reply(self, frame: &[u8]) -> Option<&str> {
        match self {
            Self::Nats => {
                let line = frame.split(|&byte| byte == b'\r').next()?;
                let mut fields = line.split(|&byte| byte == b' ').skip(3);
                let (reply, _size) = (fields.next()?, fields.next()?);
                std::str::from_utf8(reply).ok()
            }
            Self::Dialtone => deliver(frame)?.message.reply,
            Self::SocketIo => socketio::reply(frame),
        }
    }
}

/// A whole frame, if it is a delivery.
fn deliver(frame: &[u8]) -> Option<Deliver<'_>> {
    match Frame::decode(frame.get(dialtone_protocol::codec::LEN_FIELD..)?) {
        Ok(Frame::Deliver(deliver)) => Some(deliver),
        Ok(_) | Err(_) => None,
    }
}

/// About how long a delivery is on any wire, in bytes: for windows between sent and received.
pub const fn delivery_len(subject: &str, payload: usize) -> usize {
    subject.len() + payload + 16
}

/// The token of the pings of [`Format::fence`].
pub(crate) const FENCE: u64 = 0x0066_656e_6365;

fn nats_publish(out: &mut Vec<u8>, subject: &str, reply: Option<&str>, payload: &[u8]) {
    let line = match reply {
        Some(reply) => format!("PUB {subject} {reply} {}\r\n", payload.len()),
        None => format!("PUB {subject} {}\r\n", payload.len()),
    };
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

fn dialtone_publish(
    out: &mut Vec<u8>,
    subject: &str,
    reply: Option<&str>,
    payload: &[u8],
    part: Option<Fragment>,
) {
    let message = Message {
        subject,
        reply,
        encoding: 0,
        headers: None,
        payload,
    };
    Frame::Publish(Publish {
        request: None,
        unreliable: false,
        fragment: part,
        message,
    })
    .encode(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nats_lines_are_as_the_server_expects() {
        let mut out = Vec::new();
        Format::Nats.publish(&mut out, "a.b", None, b"xyz");
        Format::Nats.publish(&mut out, "a.b", Some("r.1"), b"");
        Format::Nats.subscribe(&mut out, 7, "a.>", Some("g"));
        Format::Nats.unsubscribe(&mut out, 7, "a.>");
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "PUB a.b 3\r\nxyz\r\nPUB a.b r.1 0\r\n\r\nSUB a.> g 7\r\nUNSUB 7\r\n"
        );
    }

    #[test]
    fn replies_and_payloads_are_found_in_deliveries() {
        let frame = b"MSG a.b 1 r.5 3\r\nxyz\r\n";
        assert_eq!(Format::Nats.reply(frame), Some("r.5"));
        assert_eq!(Format::Nats.subject(frame), Some("a.b"));
        assert_eq!(Format::Nats.payload(frame, 3), b"xyz");
        assert_eq!(Format::Nats.reply(b"MSG a.b 1 3\r\nxyz\r\n"), None);
        let message = Message {
            subject: "a",
            reply: Some("r.6"),
            encoding: 0,
            headers: None,
            payload: b"pay",
        };
        let deliver = Deliver {
            subscription: SubscriptionId(1),
            unreliable: false,
            fragment: None,
            message,
        };
        let frame = Frame::Deliver(deliver).to_vec();
        assert_eq!(Format::Dialtone.reply(&frame), Some("r.6"));
        assert_eq!(Format::Dialtone.subject(&frame), Some("a"));
        assert_eq!(Format::Dialtone.payload(&frame, 3), b"pay");
    }
}
