//! What one WebSocket text message of Socket.IO 5 over Engine.IO 4 says.
//!
//! ```text
//! 4 │ 2          │      │ 17 │ ["subscribe",{"subject":"a.b","queue":"0"}]
//! 4 │ 5          │ 1-   │ 18 │ ["publish",["a.b","id",0,1,0,{"_placeholder":true,"num":0}]]
//!   │ kind       │ how many binary messages follow
//!   │            │      │ number of the acknowledgement, if one is wanted
//! ```

use thiserror::Error;

/// Most binary messages that may belong to a packet; the clients' own parser allows no more.
pub const ATTACHMENTS_MAX: usize = 10;

/// A text message from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Engine.IO `1`: the client leaves.
    Close,
    /// Engine.IO `2` with what a probe carries; clients of version 4 do not send it by themselves.
    Ping(&'a str),
    /// Engine.IO `3`: the client is there.
    Pong,
    /// Engine.IO `6`: nothing.
    Noop,
    /// The client wants to talk in the default namespace.
    Connect,
    /// The client leaves the default namespace.
    Disconnect,
    /// Something happened at the client.
    Event {
        /// How many binary messages follow.
        attachments: usize,
        /// Under which number an answer is expected.
        ack: Option<u64>,
        /// A JSON array of the name and the arguments.
        json: &'a str,
    },
    /// The answer to an event of ours.
    Ack(u64),
}

/// Why a text message is no packet; the connection ends.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PacketError {
    /// It has no kind.
    #[error("an empty packet")]
    Empty,
    /// A kind that clients do not send, or that does not exist.
    #[error("packet of the unknown kind {0:?}")]
    Kind(char),
    /// Only the default namespace exists.
    #[error("namespace {0:?} does not exist; only the default one does")]
    Namespace(String),
    /// The number of binary messages is not a number, or too large.
    #[error("a packet must say how many binary messages follow, at most {ATTACHMENTS_MAX}")]
    Attachments,
    /// An answer must say to what.
    #[error("an acknowledgement without its number")]
    NoAck,
    /// The number of the acknowledgement is too large.
    #[error("the number of an acknowledgement is too large")]
    Ack,
}

impl<'a> Packet<'a> {
    /// Reads a text message.
    ///
    /// # Errors
    /// When it is not a packet that a client may send.
    pub fn parse(text: &'a str) -> Result<Self, PacketError> {
        let (kind, rest) = first(text)?;
        match kind {
            '1' => Ok(Self::Close),
            '2' => Ok(Self::Ping(rest)),
            '3' => Ok(Self::Pong),
            '4' => Self::parse_message(rest),
            '6' => Ok(Self::Noop),
            other => Err(PacketError::Kind(other)),
        }
    }

    fn parse_message(text: &'a str) -> Result<Self, PacketError> {
        let (kind, rest) = first(text)?;
        match kind {
            '0' => in_default_namespace(rest).map(|_payload| Self::Connect),
            '1' => in_default_namespace(rest).map(|_nothing| Self::Disconnect),
            '2' => Self::parse_event(rest, 0),
            '5' => {
                let (attachments, rest) = parse_attachments(rest)?;
                Self::parse_event(rest, attachments)
            }
            '3' => {
                let (ack, _answers) = parse_ack(in_default_namespace(rest)?)?;
                ack.map(Self::Ack).ok_or(PacketError::NoAck)
            }
            other => Err(PacketError::Kind(other)),
        }
    }

    fn parse_event(text: &'a str, attachments: usize) -> Result<Self, PacketError> {
        let (ack, json) = parse_ack(in_default_namespace(text)?)?;
        Ok(Self::Event {
            attachments,
            ack,
            json,
        })
    }
}

fn first(text: &str) -> Result<(char, &str), PacketError> {
    let mut chars = text.chars();
    let kind = chars.next().ok_or(PacketError::Empty)?;
    Ok((kind, chars.as_str()))
}

/// What follows the namespace, which is named only where it is not the default one.
fn in_default_namespace(text: &str) -> Result<&str, PacketError> {
    if !text.starts_with('/') {
        return Ok(text);
    }
    let (namespace, rest) = text.split_once(',').unwrap_or((text, ""));
    if namespace == "/" {
        return Ok(rest);
    }
    let shown = namespace.chars().take(64).collect();
    Err(PacketError::Namespace(shown))
}

fn parse_attachments(text: &str) -> Result<(usize, &str), PacketError> {
    let (count, rest) = text.split_once('-').ok_or(PacketError::Attachments)?;
    let count: usize = count
        .parse()
        .map_err(|_not_a_number| PacketError::Attachments)?;
    if count > ATTACHMENTS_MAX {
        return Err(PacketError::Attachments);
    }
    Ok((count, rest))
}

fn parse_ack(text: &str) -> Result<(Option<u64>, &str), PacketError> {
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    if len == 0 {
        return Ok((None, text));
    }
    let (digits, rest) = text.split_at(len);
    let ack = digits.parse().map_err(|_too_large| PacketError::Ack)?;
    Ok((Some(ack), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(attachments: usize, ack: Option<u64>, json: &str) -> Packet<'_> {
        Packet::Event {
            attachments,
            ack,
            json,
        }
    }

    #[test]
    fn captured_packets_are_understood() {
        for (text, packet) in [
            ("40", Packet::Connect),
            ("40{\"token\":1}", Packet::Connect),
            ("40/,", Packet::Connect),
            ("41", Packet::Disconnect),
            ("1", Packet::Close),
            ("3", Packet::Pong),
            ("2probe", Packet::Ping("probe")),
            ("430[]", Packet::Ack(0)),
            ("4213[\"cluster\"]", event(0, Some(13), "[\"cluster\"]")),
            ("42[\"stats\",{}]", event(0, None, "[\"stats\",{}]")),
            ("451-[\"publish\",[]]", event(1, None, "[\"publish\",[]]")),
            (
                "451-2[\"publish\",[]]",
                event(1, Some(2), "[\"publish\",[]]"),
            ),
        ] {
            assert_eq!(Packet::parse(text), Ok(packet), "{text}");
        }
    }

    #[test]
    fn what_is_no_packet_is_named() {
        for (text, error) in [
            ("", PacketError::Empty),
            ("4", PacketError::Empty),
            ("0{}", PacketError::Kind('0')),
            ("44{}", PacketError::Kind('4')),
            ("4ä", PacketError::Kind('ä')),
            ("40/admin,", PacketError::Namespace("/admin".to_owned())),
            ("45[]", PacketError::Attachments),
            ("4511-[]", PacketError::Attachments),
            ("45x-[]", PacketError::Attachments),
            ("43[]", PacketError::NoAck),
            ("4299999999999999999999[]", PacketError::Ack),
        ] {
            assert_eq!(Packet::parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}", digits in "4[0-6][0-9-]{0,8}.{0,8}") {
            drop(Packet::parse(&text));
            drop(Packet::parse(&digits));
        }
    }
}
