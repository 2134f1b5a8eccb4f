//! What is said to a service that keeps streams: persist over the broker, `JetStream` in a NATS server.

use super::{Format, deliver};

/// The subject of every request to persist for the site itself.
const PERSIST: &str = "persist.hub.call";

/// The name of a stream.
fn name(stream: usize) -> String {
    format!("bench{stream}")
}

/// The subject whose messages `JetStream` keeps in a stream.
fn kept(stream: usize) -> String {
    format!("bench.append.{stream}")
}

/// Appends a request that makes a stream: in files, with the defaults otherwise.
pub(crate) fn create(format: Format, out: &mut Vec<u8>, reply: &str, stream: usize) {
    let (name, kept) = (name(stream), kept(stream));
    match format {
        Format::Nats => {
            let subject = format!("$JS.API.STREAM.CREATE.{name}");
            let config = format!(
                r#"{{"name":"{name}","subjects":["{kept}"],"storage":"file","retention":"limits","num_replicas":1}}"#
            );
            format.publish(out, &subject, Some(reply), config.as_bytes());
        }
        Format::Dialtone | Format::SocketIo => {
            // `{"create": {"stream": …, "config": {}, "exist_ok": true}}`
            let mut request = b"\x81\xa6create\x83\xa6stream".to_vec();
            text(&mut request, &name);
            request.extend_from_slice(b"\xa6config\x80\xa8exist_ok\xc3");
            format.publish(out, PERSIST, Some(reply), &request);
        }
    }
}

/// A short text in `MessagePack`.
fn text(out: &mut Vec<u8>, text: &str) {
    out.push(0xd9);
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(text.as_bytes());
}

/// Where a record goes, and the payload of the request that appends it; `synced` is for persist alone.
pub(crate) fn append(
    format: Format,
    stream: usize,
    payload: &[u8],
    synced: bool,
) -> (String, Vec<u8>) {
    match format {
        Format::Nats => (kept(stream), payload.to_vec()),
        Format::Dialtone | Format::SocketIo => {
            (PERSIST.to_owned(), persist_append(stream, payload, synced))
        }
    }
}

fn persist_append(stream: usize, payload: &[u8], synced: bool) -> Vec<u8> {
    let mut out = b"\x81\xa6append".to_vec();
    out.push(if synced { 0x82 } else { 0x83 });
    if !synced {
        out.extend_from_slice(b"\xaadurability\xa2os");
    }
    out.extend_from_slice(b"\xa6stream");
    text(&mut out, &name(stream));
    out.extend_from_slice(b"\xa7records\x91\x81\xa7payload\xc6");
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// What an answer says if it is not what was hoped for. Persist says so in headers, `JetStream` in an `error`; over Socket.IO
/// headers are text, and that word is in them as well.
pub(crate) fn refusal(format: Format, frame: &[u8]) -> Option<String> {
    match format {
        Format::Nats | Format::SocketIo => memchr::memmem::find(frame, b"\"error\"")
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
        let request = persist_append(7, b"xyz", false);
        let expected = b"\x81\xa6append\x83\xaadurability\xa2os\xa6stream\xd9\x06bench7\xa7records\x91\x81\xa7payload\xc6\0\0\0\x03xyz";
        assert_eq!(request, expected);
        let kept = append(Format::Nats, 7, b"xyz", true);
        assert_eq!(kept, ("bench.append.7".to_owned(), b"xyz".to_vec()));
    }
}
