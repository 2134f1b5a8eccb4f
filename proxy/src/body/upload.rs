//! The body of a request on its way to a server.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

use super::watch::Over;
use super::{BoxError, Watch};
use crate::error::Refusal;

/// How far an upload is; shared with whoever waits for the answer to it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    bytes: AtomicU64,
    failure: AtomicU8,
}

const SILENT: u8 = 1;
const ENDED: u8 = 2;
const TOO_LONG: u8 = 3;

impl Progress {
    /// The bytes that came so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Why the upload was broken off, if the proxy did that.
    pub(crate) fn failure(&self, len_max: u64) -> Option<Refusal> {
        match self.failure.load(Ordering::Relaxed) {
            SILENT => Some(Refusal::BodyTimeout),
            ENDED => Some(Refusal::Ended),
            TOO_LONG => Some(Refusal::BodyTooLong(len_max)),
            _ => None,
        }
    }
}

/// The body of a request to a server.
pub(crate) enum Upload {
    Empty,
    Body(Box<Uploading>),
}

/// One that has bytes.
pub(crate) struct Uploading {
    inner: Incoming,
    watch: Watch,
    progress: Arc<Progress>,
    len_max: u64,
}

impl Upload {
    pub(crate) fn new(
        inner: Incoming,
        watch: Watch,
        progress: &Arc<Progress>,
        len_max: u64,
    ) -> Self {
        if inner.is_end_stream() {
            return Self::Empty;
        }
        let progress = Arc::clone(progress);
        Self::Body(Box::new(Uploading {
            inner,
            watch,
            progress,
            len_max,
        }))
    }
}

impl Uploading {
    fn fail(
        &self,
        failure: u8,
        text: &'static str,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.progress.failure.store(failure, Ordering::Relaxed);
        Poll::Ready(Some(Err(text.into())))
    }

    fn over(&self, over: Over) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match over {
            Over::Silent => self.fail(SILENT, "the client has stopped sending"),
            Over::Ended => self.fail(ENDED, "access has ended"),
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Pending => match self.watch.poll_over(cx) {
                Poll::Ready(over) => self.over(over),
                Poll::Pending => Poll::Pending,
            },
            Poll::Ready(Some(Ok(frame))) => {
                if let Err(over) = self.watch.moved() {
                    return self.over(over);
                }
                let len = frame.data_ref().map_or(0, Buf::remaining);
                let len = u64::try_from(len).unwrap_or(u64::MAX);
                let sum = self
                    .progress
                    .bytes
                    .fetch_add(len, Ordering::Relaxed)
                    .saturating_add(len);
                if self.len_max != 0 && sum > self.len_max {
                    return self.fail(TOO_LONG, "the body is too long");
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
        }
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Body(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Body(body) => body.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Body(body) => body.inner.size_hint(),
        }
    }
}
