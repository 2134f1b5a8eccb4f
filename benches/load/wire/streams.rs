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

/// Appends a question about a stream.
pub(crate) fn info(format: Format, out: &mut Vec<u8>, reply: &str, stream: usize) {
    let name = name(stream);
    match format {
        Format::Nats => {
            let subject = format!("$JS.API.STREAM.INFO.{name}");
            format.publish(out, &subject, Some(reply), b"");
        }
        Format::Dialtone | Format::SocketIo => {
            let mut request = b"\x81\xa4info\x81\xa6stream".to_vec();
            text(&mut request, &name);
            format.publish(out, PERSIST, Some(reply), &request);
        }
    }
}

/// Appends a request for records from a number on: of persist for a page, of `JetStream` for all there are.
pub(crate) fn read(format: Format, out: &mut Vec<u8>, inbox: &str, stream: usize, from: u64) {
    let name = name(stream);
    let reply = format!("{inbox}.0");
    match format {
        Format::Nats => {
            let subject = format!("$JS.API.CONSUMER.CREATE.{name}");
            let records = records(inbox);
            let config = format!(
                r#"{{"stream_name":"{name}","config":{{"deliver_subject":"{records}","deliver_policy":"all","ack_policy":"none","replay_policy":"instant"}}}}"#
            );
            format.publish(out, &subject, Some(&reply), config.as_bytes());
        }
        Format::Dialtone | Format::SocketIo => {
            let mut request = b"\x81\xa4read\x82\xa6stream".to_vec();
            text(&mut request, &name);
            request.extend_from_slice(b"\xa4from\xcf");
            request.extend_from_slice(&from.to_be_bytes());
            format.publish(out, PERSIST, Some(&reply), &request);
        }
    }
}

/// Where `JetStream` delivers a stream that is read. It begins when somebody subscribes to just this: the subscription to
/// all answers, which has a wildcard, is no reason for it.
pub(crate) fn records(inbox: &str) -> String {
    format!("{inbox}.read.records")
}

/// Whether a delivery of `JetStream` with this subject is a record.
pub(crate) fn is_kept(subject: &str) -> bool {
    subject.starts_with("bench.append.")
}

/// A page of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    /// From where to read on.
    pub(crate) next: Option<u64>,
}

/// What of an answer has arrived, which may come in fragments.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrived {
    len: u64,
    end: Vec<u8>,
}

/// The end of a page in which everything behind its records fits.
const PAGE_END_LEN: usize = 96;

impl Arrived {
    /// Takes a delivery; the page when it is whole.
    pub(crate) fn take(&mut self, frame: &[u8]) -> Option<Page> {
        let deliver = deliver(frame)?;
        let payload = deliver.message.payload;
        let tail = payload.len().saturating_sub(PAGE_END_LEN);
        self.end
            .extend_from_slice(payload.get(tail..).unwrap_or_default());
        let excess = self.end.len().saturating_sub(PAGE_END_LEN);
        self.end.drain(..excess);
        self.len += payload.len() as u64;
        if deliver
            .fragment
            .is_some_and(|fragment| self.len < fragment.total_len)
        {
            return None;
        }
        let end = std::mem::take(self).end;
        Some(Page { next: next(&end) })
    }
}

/// The value of `next` at the end of a page, in `MessagePack`.
fn next(end: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"\xa4next";
    let at = memchr::memmem::rfind(end, KEY)? + KEY.len();
    let (kind, rest) = end.get(at..)?.split_first()?;
    let number = |len: usize| {
        let bytes = rest.get(..len)?;
        Some(
            bytes
                .iter()
                .fold(0, |number, byte| (number << 8) | u64::from(*byte)),
        )
    };
    match kind {
        0..=0x7f => Some(u64::from(*kind)),
        0xcc => number(1),
        0xcd => number(2),
        0xce => number(4),
        0xcf => number(8),
        _ => None,
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
            Some(String::from_utf8_lossy(headers).into_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_where_to_read_on() {
        let page =
            |next: &[u8]| [b"\x85\xa7records\x90".as_slice(), next, b"\xa8last_seq\x07"].concat();
        assert_eq!(next(&page(b"")), None);
        assert_eq!(next(&page(b"\xa4next\x05")), Some(5));
        assert_eq!(next(&page(b"\xa4next\xcd\x01\x00")), Some(256));
        assert_eq!(next(&page(b"\xa4next\xce\x00\x01\x00\x00")), Some(65_536));
    }

    #[test]
    fn an_append_to_persist_is_message_pack() {
        let request = persist_append(7, b"xyz", false);
        let expected = b"\x81\xa6append\x83\xaadurability\xa2os\xa6stream\xd9\x06bench7\xa7records\x91\x81\xa7payload\xc6\0\0\0\x03xyz";
        assert_eq!(request, expected);
        let kept = append(Format::Nats, 7, b"xyz", true);
        assert_eq!(kept, ("bench.append.7".to_owned(), b"xyz".to_vec()));
    }
}
