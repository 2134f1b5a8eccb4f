//! As much of Socket.IO 5 over Engine.IO 4 as a load generator needs, in the words of existing Conat clients.
//!
//! Here a *frame* is what belongs together on the wire: a WebSocket message with a packet, and the binary message
//! behind it if the packet has one. Masking keys are zero, see [`websocket`](super::websocket).

use std::sync::atomic::{AtomicU64, Ordering};

use super::websocket::{BINARY, LEN_16, LEN_64, MASKED, OPCODE, TEXT, put_header};
use crate::error::LoadError;

/// What a packet with one binary message begins with.
const WITH_BINARY: &[u8] = b"451-";
/// The number under which the answer to a fence is expected; subscriptions have theirs.
const FENCE_ACK: u32 = 0;
/// Subscriptions that are not in a group of somebody's choice have each their own.
static GROUPS: AtomicU64 = AtomicU64::new(0);

/// The upgrade request of a client.
pub fn upgrade_request(host: &str) -> String {
    format!(
        "GET /conat/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ZGlhbHRvbmUtbG9hZGdlbg==\r\n\r\n"
    )
}

/// Appends a packet.
pub fn put_text(out: &mut Vec<u8>, packet: &str) {
    put_header(out, TEXT, packet.len());
    out.extend_from_slice(packet.as_bytes());
}

/// Appends a message to be published, of which no count is wanted.
pub fn publish(out: &mut Vec<u8>, subject: &str, reply: Option<&str>, payload: &[u8]) {
    let headers = reply.map_or_else(String::new, |reply| format!(r#",{{"CN-Reply":"{reply}"}}"#));
    put_text(
        out,
        &format!(
            r#"451-["publish",["{subject}","loadloadlo",0,1,0,{{"_placeholder":true,"num":0}}{headers}]]"#
        ),
    );
    put_header(out, BINARY, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a subscription; `id` numbers its answer.
pub fn subscribe(out: &mut Vec<u8>, id: u32, pattern: &str, group: Option<&str>) {
    let own = || {
        let number = GROUPS.fetch_add(1, Ordering::Relaxed);
        format!("load{}x{number}", std::process::id())
    };
    let group = group.map_or_else(own, ToOwned::to_owned);
    put_text(
        out,
        &format!(r#"42{id}["subscribe",{{"subject":"{pattern}","queue":"{group}"}}]"#),
    );
}

/// Appends the end of a subscription, which is known by its pattern here.
pub fn unsubscribe(out: &mut Vec<u8>, pattern: &str) {
    put_text(
        out,
        &format!(r#"42["unsubscribe",{{"subject":"{pattern}"}}]"#),
    );
}

/// Appends a question that is answered when all before it was handled.
pub fn fence(out: &mut Vec<u8>) {
    put_text(out, &format!(r#"42{FENCE_ACK}["cluster"]"#));
}

/// What a frame that is no delivery says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said<'f> {
    /// The server waits for the wish to talk.
    Opened,
    /// Who this client is; it is to be acknowledged under this number.
    Info(&'f str),
    /// Everything before the fence was handled.
    Fenced,
    /// Is this client there?
    Ping,
    /// A WebSocket ping with this payload.
    WebSocketPing(&'f [u8]),
    /// It is over, or something was refused.
    Over(String),
    /// Nothing of interest.
    Else,
}

/// Reads a frame that is no delivery.
pub fn said(frame: &[u8]) -> Said<'_> {
    let Ok(Some((opcode, head, len))) = header(frame) else {
        return Said::Over("a frame that cannot be read".to_owned());
    };
    let body = frame.get(head..head + len).unwrap_or_default();
    let text = std::str::from_utf8(body).unwrap_or_default();
    match opcode {
        8 => Said::Over("the server closes the WebSocket".to_owned()),
        9 => Said::WebSocketPing(body),
        TEXT => packet(text),
        _ => Said::Else,
    }
}

fn packet(text: &str) -> Said<'_> {
    if text.starts_with("0{") {
        return Said::Opened;
    }
    if text == "2" {
        return Said::Ping;
    }
    if text.starts_with("41") || text.contains(r#""error":"#) {
        return Said::Over(text.to_owned());
    }
    if let Some(rest) = text.strip_prefix("43") {
        let fence = rest.split('[').next() == Some("0");
        return if fence { Said::Fenced } else { Said::Else };
    }
    match text
        .strip_prefix("42")
        .and_then(|rest| rest.split_once('['))
    {
        Some((number, arguments)) if arguments.starts_with(r#""info""#) => Said::Info(number),
        Some(_) | None => Said::Else,
    }
}

/// Whether a frame delivers a message.
pub fn is_delivery(frame: &[u8]) -> bool {
    header(frame).is_ok_and(|header| {
        header.is_some_and(|(opcode, head, _)| {
            opcode == TEXT
                && frame
                    .get(head..)
                    .is_some_and(|body| body.starts_with(WITH_BINARY))
        })
    })
}

/// The text of a delivery.
fn text(frame: &[u8]) -> Option<&str> {
    let (_, head, len) = header(frame).ok()??;
    std::str::from_utf8(frame.get(head..head + len)?).ok()
}

/// The subject of a delivery.
pub fn subject(frame: &[u8]) -> Option<&str> {
    string_behind(text(frame)?, r#"{"subject":""#)
}

/// Where the answer to a delivery is to go.
pub fn reply(frame: &[u8]) -> Option<&str> {
    string_behind(text(frame)?, r#""CN-Reply":""#)
}

/// A JSON string without escapes, which are in nothing that the load generator sends.
fn string_behind<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let at = memchr::memmem::find(text.as_bytes(), name.as_bytes())?;
    text.get(at + name.len()..)?.split('"').next()
}

/// The length of the frame that begins `bytes`, once it can be told.
///
/// # Errors
/// When it is no frame of a server.
pub fn frame_len(bytes: &[u8]) -> Result<Option<usize>, LoadError> {
    let Some((opcode, head, len)) = header(bytes)? else {
        return Ok(None);
    };
    let end = head + len;
    if opcode != TEXT || len < WITH_BINARY.len() {
        return Ok(Some(end));
    }
    let Some(begin) = bytes.get(head..head + WITH_BINARY.len()) else {
        return Ok(None);
    };
    if begin != WITH_BINARY {
        return Ok(Some(end));
    }
    match header(bytes.get(end..).unwrap_or_default())? {
        None => Ok(None),
        Some((BINARY, binary_head, binary_len)) => Ok(Some(end + binary_head + binary_len)),
        Some((opcode, _, _)) => Err(LoadError::Peer(format!(
            "a WebSocket frame of kind {opcode} where a binary one is due"
        ))),
    }
}

/// The least that is missing of the frame that begins `bytes` before its length can be told.
pub fn head_missing(bytes: &[u8]) -> usize {
    let one = |bytes: &[u8]| header_len(bytes).saturating_sub(bytes.len()).max(1);
    match header(bytes) {
        Ok(Some((_, head, len))) if bytes.len() < head + len => {
            // At least what says whether a binary message follows.
            (head + len.min(WITH_BINARY.len()))
                .saturating_sub(bytes.len())
                .max(1)
        }
        Ok(Some((_, head, len))) => one(bytes.get(head + len..).unwrap_or_default()),
        Ok(None) | Err(_) => one(bytes),
    }
}

fn header_len(bytes: &[u8]) -> usize {
    match bytes.get(1) {
        Some(&LEN_16) => 4,
        Some(&LEN_64) => 10,
        Some(_) | None => 2,
    }
}

/// Kind, length of the header, and length of the payload of the WebSocket frame that begins `bytes`.
fn header(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>, LoadError> {
    let head = header_len(bytes);
    let Some(header) = bytes.get(..head) else {
        return Ok(None);
    };
    let (opcode, len) = match *header {
        [first, len] if len & MASKED == 0 => (first & OPCODE, usize::from(len)),
        [first, _, high, low] => (first & OPCODE, usize::from(u16::from_be_bytes([high, low]))),
        [first, _, ref len @ ..] if let Some(len) = len.first_chunk() => {
            let len = usize::try_from(u64::from_be_bytes(*len)).unwrap_or(usize::MAX);
            (first & OPCODE, len)
        }
        _ => return Err(LoadError::Peer("a masked WebSocket frame".to_owned())),
    };
    if len > super::split::FRAME_LEN_MAX {
        return Err(LoadError::Peer(format!("a frame of {len} bytes")));
    }
    Ok(Some((opcode, head, len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a server sends it: without a mask.
    fn from_server(opcode: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![0x80 | opcode];
        match u8::try_from(body.len()) {
            Ok(len @ ..0x7e) => out.push(len),
            _ => {
                out.push(LEN_16);
                out.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
            }
        }
        out.extend_from_slice(body);
        out
    }

    pub(crate) fn delivery() -> Vec<u8> {
        let text = br#"451-["a.*",{"subject":"a.b","data":["i",0,1,0,{"_placeholder":true,"num":0},{"CN-Reply":"r.1"}]}]"#;
        [from_server(TEXT, text), from_server(BINARY, b"xyz")].concat()
    }

    #[test]
    fn deliveries_are_read() {
        let frame = delivery();
        assert_eq!(frame_len(&frame).unwrap(), Some(frame.len()));
        assert!(is_delivery(&frame));
        assert_eq!((subject(&frame), reply(&frame)), (Some("a.b"), Some("r.1")));
        for end in 0..frame.len() {
            let begin = &frame[..end];
            match frame_len(begin).unwrap() {
                Some(len) => assert_eq!(len, frame.len()),
                None => assert!(head_missing(begin) <= frame.len() - end, "{end}"),
            }
        }
    }

    #[test]
    fn what_else_is_said_is_understood() {
        for (text, expected) in [
            (r#"0{"sid":"x"}"#, Said::Opened),
            (r#"40{"sid":"x"}"#, Said::Else),
            (r#"427["info",{"user":null}]"#, Said::Info("7")),
            (r#"430[["http://x"]]"#, Said::Fenced),
            (r#"4310[{"status":"added"}]"#, Said::Else),
            ("2", Said::Ping),
        ] {
            let frame = from_server(TEXT, text.as_bytes());
            assert_eq!(said(&frame), expected, "{text}");
            assert!(!is_delivery(&frame));
        }
        let refused = from_server(TEXT, br#"431[{"error":"Error: no"}]"#);
        assert!(matches!(said(&refused), Said::Over(_)));
        assert_eq!(said(&from_server(9, b"p")), Said::WebSocketPing(b"p"));
    }
}
