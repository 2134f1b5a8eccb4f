//! A request on its way to a server: its head, then its body as it comes from the client.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::request::Parts;
use http_body::Body as HttpBody;
use tokio::io::AsyncWrite;

use super::head;
use crate::body::{BoxError, Upload};

/// Parts that are written at once: the head, a chunk's length, its bytes, the end of its line.
const PARTS: usize = 4;

/// What is left to be sent.
pub(super) struct Sending<U = Upload> {
    /// The whole head, for another attempt.
    head: Bytes,
    parts: [Bytes; PARTS],
    upload: U,
    body: Body,
    /// What was to come of the body at the beginning.
    whole_body: Body,
    /// Bytes that the socket has taken.
    written: u64,
    /// Whether anything of the upload was asked for.
    is_begun: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// So many bytes are to come.
    Len(u64),
    Chunked,
    /// Everything has come.
    Whole,
    /// Sending has failed: the rest is not sent.
    Failed,
}

/// What stops a request.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The client's side of it.
    Upload(BoxError),
    /// The connection to the server.
    Write(io::Error),
}

impl<U: HttpBody<Data = Bytes, Error = BoxError> + Unpin> Sending<U> {
    pub(super) fn new(head: &Parts, upload: U) -> Self {
        let body = match upload.size_hint().exact() {
            _ if upload.is_end_stream() => Body::Whole,
            Some(len) => Body::Len(len),
            None => Body::Chunked,
        };
        Self::with_head(head::encode(head, body == Body::Chunked), upload, body)
    }

    fn with_head(head: Bytes, upload: U, body: Body) -> Self {
        let mut parts = [const { Bytes::new() }; PARTS];
        parts[0] = head.clone();
        Self {
            head,
            parts,
            upload,
            body,
            whole_body: body,
            written: 0,
            is_begun: false,
        }
    }

    /// The same once more, if nothing of its body is gone. `idempotent`: the server may get it twice.
    pub(super) fn again(self, idempotent: bool) -> Option<Self> {
        (!self.is_begun && (idempotent || self.written == 0))
            .then(|| Self::with_head(self.head, self.upload, self.whole_body))
    }

    /// Whether nothing is left to be sent.
    pub(super) fn is_whole(&self) -> bool {
        self.body == Body::Whole && self.parts.iter().all(Bytes::is_empty)
    }

    /// Whether something is left that cannot be sent.
    pub(super) fn has_failed(&self) -> bool {
        self.body == Body::Failed
    }

    /// Sends what there is. Ready once nothing is left, or never will be.
    pub(super) fn poll<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut W,
    ) -> Poll<Result<(), Stopped>> {
        loop {
            let filled = self.poll_fill(cx)?;
            if self.parts.iter().all(Bytes::is_empty) {
                ready!(filled);
                return Poll::Ready(Ok(()));
            }
            match ready!(self.poll_write(cx, stream)) {
                Ok(len) => self.written = self.written.saturating_add(len),
                Err(error) => {
                    self.body = Body::Failed;
                    self.parts = [const { Bytes::new() }; PARTS];
                    return Poll::Ready(Err(Stopped::Write(error)));
                }
            }
        }
    }

    /// Takes the next part of the upload, unless one is waiting to be written.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        while matches!(self.body, Body::Len(_) | Body::Chunked) && self.has_room() {
            // Before the head is gone nothing is taken that another attempt would miss.
            if !self.parts[0].is_empty() {
                return Poll::Pending;
            }
            let frame = ready!(Pin::new(&mut self.upload).poll_frame(cx));
            self.is_begun = true;
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.put(data)?;
                    }
                }
                Some(Err(error)) => return self.fail(error),
                None => self.end()?,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn has_room(&self) -> bool {
        self.parts.iter().skip(1).all(Bytes::is_empty)
    }

    fn put(&mut self, data: Bytes) -> Result<(), Stopped> {
        let len = u64::try_from(data.len()).unwrap_or(u64::MAX);
        match &mut self.body {
            Body::Len(left) => {
                let Some(rest) = left.checked_sub(len) else {
                    self.body = Body::Failed;
                    return Err(Stopped::Upload("the body is longer than it said".into()));
                };
                *left = rest;
                if rest == 0 {
                    self.body = Body::Whole;
                }
            }
            Body::Chunked if len > 0 => {
                self.parts[1] = format!("{len:x}\r\n").into();
                self.parts[3] = Bytes::from_static(b"\r\n");
            }
            Body::Chunked | Body::Whole | Body::Failed => {}
        }
        self.parts[2] = data;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Stopped> {
        match self.body {
            Body::Len(left) if left > 0 => {
                self.body = Body::Failed;
                return Err(Stopped::Upload("the body is shorter than it said".into()));
            }
            Body::Chunked => self.parts[1] = Bytes::from_static(b"0\r\n\r\n"),
            Body::Len(_) | Body::Whole | Body::Failed => {}
        }
        self.body = Body::Whole;
        Ok(())
    }

    fn fail(&mut self, error: BoxError) -> Poll<Result<(), Stopped>> {
        self.body = Body::Failed;
        Poll::Ready(Err(Stopped::Upload(error)))
    }

    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut W,
    ) -> Poll<io::Result<u64>> {
        let slices = self.parts.each_ref().map(|part| IoSlice::new(part));
        let mut len = ready!(Pin::new(stream).poll_write_vectored(cx, &slices))?;
        if len == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let written = u64::try_from(len).unwrap_or(u64::MAX);
        for part in &mut self.parts {
            let taken = len.min(part.len());
            part.advance(taken);
            len -= taken;
        }
        Poll::Ready(Ok(written))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::poll_fn;

    use bytes::BytesMut;
    use futures_util::FutureExt as _;
    use http_body::Frame;
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::super::chunks::{Chunks, Step};
    use super::*;

    /// A body of these parts, with a length if that is said.
    struct Sent {
        parts: VecDeque<Bytes>,
        len: Option<u64>,
    }

    impl HttpBody for Sent {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Ready(self.parts.pop_front().map(|part| Ok(Frame::data(part))))
        }

        fn is_end_stream(&self) -> bool {
            self.parts.is_empty()
        }

        fn size_hint(&self) -> http_body::SizeHint {
            self.len
                .map(http_body::SizeHint::with_exact)
                .unwrap_or_default()
        }
    }

    fn sending(parts: &[&str], len: Option<u64>) -> Sending<Sent> {
        let request = http::Request::post("/p").header("host", "h");
        let request = match len {
            Some(len) => request.header("content-length", len),
            None => request,
        };
        let parts = parts
            .iter()
            .map(|part| Bytes::copy_from_slice(part.as_bytes()));
        let body = Sent {
            parts: parts.collect(),
            len,
        };
        Sending::new(&request.body(()).unwrap().into_parts().0, body)
    }

    /// Everything that is written, and how it ends.
    fn written(sending: &mut Sending<Sent>) -> (String, Result<(), Stopped>) {
        let mut out = Vec::new();
        let ended = poll_fn(|cx| sending.poll(cx, &mut out)).now_or_never();
        let ended = ended.expect("neither the body nor the socket waits");
        (String::from_utf8(out).unwrap(), ended)
    }

    #[test]
    fn a_body_is_written_with_its_length_or_in_chunks() {
        let mut told = sending(&["ab", "c"], Some(3));
        let (text, ended) = written(&mut told);
        let head = "POST /p HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\n";
        assert_eq!(text, format!("{head}abc"));
        assert!(ended.is_ok() && told.is_whole());
        let mut untold = sending(&["ab", "", "c"], None);
        let (text, ended) = written(&mut untold);
        let head = "POST /p HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(text, format!("{head}2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"));
        assert!(ended.is_ok() && untold.is_whole());
        let (text, _) = written(&mut sending(&[], None));
        assert!(text.ends_with("content-length: 0\r\n\r\n"), "{text}");
    }

    #[test]
    fn a_body_of_another_length_than_said_is_an_error() {
        for parts in [&["abcd"][..], &["ab"], &["abc", "d"]] {
            let mut wrong = sending(parts, Some(3));
            let (text, ended) = written(&mut wrong);
            let surplus = parts.concat().len() > 3;
            match ended {
                Err(Stopped::Upload(_)) => assert!(wrong.has_failed() && !wrong.is_whole()),
                // What is beyond the length was never asked for.
                Ok(()) => assert!(surplus && text.ends_with("\r\n\r\nabc"), "{text}"),
                Err(Stopped::Write(error)) => panic!("{error}"),
            }
            assert!(!text.ends_with('d'), "{text}");
        }
    }

    #[test]
    fn a_request_is_sent_again_only_while_nothing_is_lost() {
        let unsent = sending(&["a"], Some(1)).again(false);
        assert!(unsent.is_some(), "nothing has gone");
        let mut empty = sending(&[], None);
        drop(written(&mut empty));
        let mut again = empty.again(true).expect("the server may get it twice");
        assert!(
            written(&mut again).0.starts_with("POST /p "),
            "from its beginning"
        );
        assert!(again.again(false).is_none(), "the server may have done it");
        let mut begun = sending(&["a"], Some(1));
        drop(written(&mut begun));
        assert!(begun.again(true).is_none(), "its body is gone");
    }

    #[test]
    fn a_socket_that_takes_nothing_stops_it() {
        let mut sending = sending(&["a"], Some(1));
        let (mut near, far) = tokio::io::duplex(8);
        drop(far);
        let ended = poll_fn(|cx| sending.poll(cx, &mut near)).now_or_never();
        assert!(matches!(ended, Some(Err(Stopped::Write(_)))));
        assert!(sending.has_failed() && !sending.is_whole());
    }

    proptest! {
        #[test]
        fn what_is_written_is_the_same_however_little_is_taken_at_once(
            parts in prop::collection::vec("[a-z]{0,40}", 1..8),
            capacity in 1_usize..64,
        ) {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let mut sending = sending(&parts, None);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let text = runtime.block_on(async {
                let (mut near, mut far) = tokio::io::duplex(capacity);
                let sent = async {
                    let ended = poll_fn(|cx| sending.poll(cx, &mut near)).await;
                    drop(near);
                    ended.is_ok()
                };
                let mut text = Vec::new();
                let (sent, read) = tokio::join!(sent, far.read_to_end(&mut text));
                assert!(sent && read.is_ok());
                text
            });
            let begin = text.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
            let (mut read, mut chunks, mut body) = (BytesMut::from(&text[begin..]), Chunks::Line, Vec::new());
            loop {
                match chunks.next(&mut read).unwrap() {
                    Step::Data(data) => body.extend_from_slice(&data),
                    Step::More => panic!("it is not whole"),
                    Step::End(_) => break,
                }
            }
            prop_assert_eq!(body, parts.concat().into_bytes());
        }
    }
}
