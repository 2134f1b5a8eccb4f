//! Heads: the one of a request as bytes, the one of an answer from bytes. Pure.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use http::{Method, StatusCode, Uri, Version, request, response};
use httparse::{ParserConfig, Status};

use crate::headers::{has_token, tokens};

/// Most headers of an answer, whatever is configured: their places are on the stack.
const HEADERS_MAX: usize = 256;

/// How the end of an answer's body is known (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Len(u64),
    Chunked,
    /// When the server closes the connection.
    Close,
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) parts: response::Parts,
    pub(super) framing: Framing,
    /// Whether the connection can be used for the next request.
    pub(super) is_kept: bool,
}

/// The head of a request as it is sent; with `chunked`, its body comes in chunks.
pub(super) fn encode(head: &request::Parts, chunked: bool) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    let mut put = |parts: &[&[u8]]| {
        for part in parts {
            out.extend_from_slice(part);
        }
    };
    put(&[
        head.method.as_str().as_bytes(),
        b" ",
        path(&head.uri).as_bytes(),
        b" HTTP/1.1\r\n",
    ]);
    for (name, value) in &head.headers {
        put(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
    }
    if chunked {
        put(&[b"transfer-encoding: chunked\r\n"]);
    } else if has_body(&head.method) && !head.headers.contains_key(CONTENT_LENGTH) {
        put(&[b"content-length: 0\r\n"]);
    }
    put(&[b"\r\n"]);
    out.into()
}

fn path(uri: &Uri) -> &str {
    uri.path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str)
}

/// Methods whose requests say how long their body is, even when there is none (RFC 9110 §8.6).
fn has_body(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

/// The head of an answer to `method` at the beginning of `bytes`, and how long it is; `None` while it is not whole.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(
    bytes: &[u8],
    method: &Method,
    headers_max: usize,
) -> Result<Option<(usize, Head)>, &'static str> {
    let mut places = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let places = places
        .get_mut(..headers_max.min(HEADERS_MAX))
        .unwrap_or_default();
    let mut parsed = httparse::Response::new(&mut []);
    let status =
        ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, places);
    let len = match status {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err("it has too many headers"),
        Err(_) => return Err("it is no answer of HTTP/1"),
    };
    let version = match parsed.version {
        Some(1) => Version::HTTP_11,
        Some(0) => Version::HTTP_10,
        _ => return Err("its version is unknown"),
    };
    let status = parsed
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or("its status is no number from 100 to 999")?;
    let headers = headers(bytes.get(..len).unwrap_or_default(), parsed.headers)?;
    let framing = framing(status, method, &headers)?;
    let mut parts = http::Response::new(()).into_parts().0;
    let is_kept = is_kept(version, &headers, framing);
    parts.status = status;
    parts.version = version;
    parts.headers = headers;
    Ok(Some((
        len,
        Head {
            parts,
            framing,
            is_kept,
        },
    )))
}

/// Trailers behind the last chunk, and how long they are; `None` while they are not whole.
pub(super) fn trailers(bytes: &[u8]) -> Result<Option<(usize, HeaderMap)>, &'static str> {
    let mut places = [httparse::EMPTY_HEADER; 32];
    match httparse::parse_headers(bytes, &mut places) {
        Ok(Status::Complete((len, found))) => {
            let headers = headers(bytes.get(..len).unwrap_or_default(), found)?;
            Ok(Some((len, headers)))
        }
        Ok(Status::Partial) => Ok(None),
        Err(_) => Err("its trailers cannot be read"),
    }
}

/// The headers, whose values share one copy of the head.
fn headers(head: &[u8], found: &[httparse::Header<'_>]) -> Result<HeaderMap, &'static str> {
    let whole = Bytes::copy_from_slice(head);
    let mut headers = HeaderMap::with_capacity(found.len());
    for header in found {
        let name = HeaderName::from_bytes(header.name.as_bytes())
            .map_err(|_not| "a header has no name")?;
        let value = whole.slice(place(head, header.value));
        let value =
            HeaderValue::from_maybe_shared(value).map_err(|_not| "a header cannot be read")?;
        headers
            .try_append(name, value)
            .map_err(|_full| "it has too many headers")?;
    }
    Ok(headers)
}

/// Where in `head` this part of it is.
fn place(head: &[u8], part: &[u8]) -> Range<usize> {
    let begin = (part.as_ptr().addr()).saturating_sub(head.as_ptr().addr());
    let begin = begin.min(head.len());
    begin..begin.saturating_add(part.len()).min(head.len())
}

fn framing(
    status: StatusCode,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Framing, &'static str> {
    let bare = status.is_informational()
        || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    if bare || *method == Method::HEAD {
        return Ok(Framing::None);
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        let last = tokens(headers, &TRANSFER_ENCODING).last();
        let chunked = last.is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        return Ok(if chunked {
            Framing::Chunked
        } else {
            Framing::Close
        });
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return Ok(Framing::Close);
    };
    let is_number = !first.is_empty() && first.as_bytes().iter().all(u8::is_ascii_digit);
    let len = first.to_str().ok().and_then(|len| len.parse().ok());
    match len {
        Some(len) if is_number && lengths.all(|other| other == first) => Ok(Framing::Len(len)),
        _ => Err("its Content-Length is not one number"),
    }
}

fn is_kept(version: Version, headers: &HeaderMap, framing: Framing) -> bool {
    let contradicts =
        headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH);
    let says = |word| has_token(headers, &CONNECTION, word);
    let wants = if version == Version::HTTP_11 {
        !says("close")
    } else {
        says("keep-alive")
    };
    wants && !contradicts && framing != Framing::Close
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn head(text: &str) -> Head {
        let (len, head) = parse(text.as_bytes(), &Method::GET, 8).unwrap().unwrap();
        assert_eq!(len, text.len());
        head
    }

    #[test]
    fn a_request_is_written_as_it_is() {
        let request = http::Request::builder()
            .method("POST")
            .uri("/a%20b?c=d")
            .header("x", "1")
            .header("x", "2");
        let parts = request.body(()).unwrap().into_parts().0;
        let text = |chunked| String::from_utf8(encode(&parts, chunked).to_vec()).unwrap();
        let begin = "POST /a%20b?c=d HTTP/1.1\r\nx: 1\r\nx: 2\r\n";
        assert_eq!(
            text(true),
            format!("{begin}transfer-encoding: chunked\r\n\r\n")
        );
        assert_eq!(text(false), format!("{begin}content-length: 0\r\n\r\n"));
    }

    #[test]
    fn the_end_of_a_body_is_known_by_the_rules() {
        let framing = |lines: &str| head(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n")).framing;
        assert_eq!(framing("Content-Length: 5\r\n"), Framing::Len(5));
        assert_eq!(
            framing("Content-Length: 5\r\nContent-Length: 5\r\n"),
            Framing::Len(5)
        );
        assert_eq!(
            framing("Transfer-Encoding: gzip, Chunked\r\n"),
            Framing::Chunked
        );
        assert_eq!(framing("Transfer-Encoding: gzip\r\n"), Framing::Close);
        assert_eq!(
            framing("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
            Framing::Chunked
        );
        assert_eq!(framing(""), Framing::Close);
        for status in ["101", "204", "304"] {
            let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n");
            assert_eq!(head(&text).framing, Framing::None, "{status}");
        }
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        let (_, asked) = parse(text, &Method::HEAD, 8).unwrap().unwrap();
        assert_eq!(asked.framing, Framing::None);
        assert_eq!(asked.parts.headers[CONTENT_LENGTH], "5");
    }

    #[test]
    fn contradicting_lengths_are_errors() {
        for lines in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
            assert!(
                parse(text.as_bytes(), &Method::GET, 8).is_err(),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn whether_a_connection_is_kept() {
        let kept = |text: &str| head(text).is_kept;
        assert!(kept("HTTP/1.1 204 No\r\n\r\n"));
        assert!(!kept("HTTP/1.1 204 No\r\nConnection: x, Close\r\n\r\n"));
        assert!(!kept("HTTP/1.0 204 No\r\n\r\n"));
        assert!(kept("HTTP/1.0 204 No\r\nConnection: keep-alive\r\n\r\n"));
        assert!(!kept("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!kept(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"
        ));
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_what_is_not_whole_is_waited_for() {
        let refused = |text: &str| parse(text.as_bytes(), &Method::GET, 2).is_err();
        assert!(refused("SSH-2.0-OpenSSH_9.2\r\n"));
        assert!(refused("HTTP/2.0 200 OK\r\n\r\n"));
        assert!(refused("HTTP/1.1 20 OK\r\n\r\n"));
        assert!(refused("HTTP/1.1 099 OK\r\n\r\n"));
        assert!(refused("HTTP/1.1 200 OK\r\na : b\r\n\r\n"));
        assert!(refused("HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n"));
        assert!(refused("HTTP/1.1 200 OK\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n"));
        let whole = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";
        for len in 0..whole.len() {
            assert!(
                parse(&whole.as_bytes()[..len], &Method::GET, 2)
                    .unwrap()
                    .is_none()
            );
        }
        assert_eq!(head(whole).parts.headers["content-type"], "text/plain");
    }
}
