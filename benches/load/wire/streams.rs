//! What is said to a service that keeps streams: persist over the broker, `JetStream` in a NATS server.

use super::{Format, deliver};

/// The subject of every request to persist for the site itself.
const PERSIST: &str = "persist.hub.call";
/// The subject whose messages `JetStream` keeps.
const KEPT: &str = "bench.append";
/// How `JetStream` is asked for the stream: in files, with its defaults otherwise.
const JETSTREAM_CREATE: &str = "$JS.API.STREAM.CREATE.bench";
const JETSTREAM_CONFIG: &[u8] =
    br#"{"name":"bench","subjects":["bench.append"],"storage":"file","retention":"limits","num_replicas":1}"#;
/// The same for persist, in `MessagePack`: `{"create": {"stream": "bench", "config": {}, "exist_ok": true}}`.
const PERSIST_CREATE: &[u8] =
    b"\x81\xa6create\x83\xa6stream\xa5bench\xa6config\x80\xa8exist_ok\xc3";

/// Appends a request that makes the stream.
pub(crate) fn create(format: Format, out: &mut Vec<u8>, reply: &str) {
    match format {
        Format::Nats => format.publish(out, JETSTREAM_CREATE, Some(reply), JETSTREAM_CONFIG),
        Format::Dialtone => format.publish(out, PERSIST, Some(reply), PERSIST_CREATE),
    }
}

/// Where records go.
pub(crate) const fn append_subject(format: Format) -> &'static str {
    match format {
        Format::Nats => KEPT,
        Format::Dialtone => PERSIST,
    }
}

/// The payload of a request that appends one record; `synced` is for persist alone.
pub(crate) fn append(format: Format, payload: &[u8], synced: bool) -> Vec<u8> {
    if format == Format::Nats {
        return payload.to_vec();
    }
    let mut out = b"\x81\xa6append".to_vec();
    out.push(if synced { 0x82 } else { 0x83 });
    if !synced {
        out.extend_from_slice(b"\xaadurability\xa2os");
    }
    out.extend_from_slice(b"\xa6stream\xa5bench\xa7records\x91\x81\xa7payload\xc6");
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// What an answer says if it is not what was hoped for. Persist says so in headers, `JetStream` in an `error`.
pub(crate) fn refusal(format: Format, frame: &[u8]) -> Option<String> {
    match format {
        Format::Nats => memchr::memmem::find(frame, b"\"error\"")
            .map(|_| String::from_utf8_lossy(frame).into_owned()),
        Format::Dialtone => {
            let headers = deliver(frame)?.message.headers?;
            Some(format!("{headers:?}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_to_persist_is_message_pack() {
        let request = append(Format::Dialtone, b"xyz", false);
        let expected = b"\x81\xa6append\x83\xaadurability\xa2os\xa6stream\xa5bench\xa7records\x91\x81\xa7payload\xc6\0\0\0\x03xyz";
        assert_eq!(request, expected);
        assert_eq!(append(Format::Nats, b"xyz", true), b"xyz");
    }
}
