//! A request on its way to a server: its head, then its body as it comes from the client.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::request::Parts;
use http_body::Body as _;
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;

use super::head;
use crate::body::{BoxError, Upload};

/// Parts that are written at once: the head, a chunk's length, its bytes, the end of its line.
const PARTS: usize = 4;

/// What is left to be sent.
pub(super) struct Sending {
    /// The whole head, for another attempt.
    head: Bytes,
    parts: [Bytes; PARTS],
    upload: Upload,
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

impl Sending {
    pub(super) fn new(head: &Parts, upload: Upload) -> Self {
        let body = match upload.size_hint().exact() {
            _ if upload.is_empty() => Body::Whole,
            Some(len) => Body::Len(len),
            None => Body::Chunked,
        };
        Self::with_head(head::encode(head, body == Body::Chunked), upload, body)
    }

    fn with_head(head: Bytes, upload: Upload, body: Body) -> Self {
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

    /// Sends what there is. Ready once nothing is left, or never will be.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
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

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
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
