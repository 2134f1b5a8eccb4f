//! The bodies that pass: what a server answers, what a client uploads, and what the proxy says itself.

mod upload;
pub(crate) use upload::{Progress, Upload};

mod relayed;
pub(crate) use relayed::Relayed;

mod watch;
pub(crate) use watch::Watch;

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;

use crate::files::FileBody;
use crate::record::Record;

/// Why a body broke off.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer to a client. The request is over when it is dropped.
pub(crate) struct Body {
    inner: Inner,
    record: Option<Box<Record>>,
}

enum Inner {
    Full(Full<Bytes>),
    Relayed(Box<Relayed>),
    File(Box<FileBody>),
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self::full(Bytes::new())
    }

    pub(crate) fn full(bytes: Bytes) -> Self {
        Self {
            inner: Inner::Full(Full::new(bytes)),
            record: None,
        }
    }

    pub(crate) fn relayed(relayed: Relayed) -> Self {
        Self {
            inner: Inner::Relayed(Box::new(relayed)),
            record: None,
        }
    }

    pub(crate) fn file(file: FileBody) -> Self {
        Self {
            inner: Inner::File(Box::new(file)),
            record: None,
        }
    }

    /// The request whose answer this is.
    pub(crate) fn recorded(mut self, record: Box<Record>) -> Self {
        self.record = Some(record);
        self
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = match &mut this.inner {
            Inner::Full(full) => {
                let frame = ready!(Pin::new(full).poll_frame(cx));
                frame.map(|frame| frame.map_err(|never: Infallible| match never {}))
            }
            Inner::Relayed(relayed) => ready!(relayed.poll_frame(cx, this.record.as_deref_mut())),
            Inner::File(file) => ready!(file.poll_frame(cx, this.record.as_deref_mut())),
        };
        if let (Some(record), Some(Ok(frame))) = (&mut this.record, &frame) {
            let len = frame.data_ref().map_or(0, Buf::remaining);
            record.entry.sent += u64::try_from(len).unwrap_or(u64::MAX);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Full(full) => full.is_end_stream(),
            Inner::Relayed(relayed) => relayed.is_end_stream(),
            Inner::File(file) => file.remaining() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Full(full) => full.size_hint(),
            Inner::Relayed(relayed) => relayed.size_hint(),
            Inner::File(file) => SizeHint::with_exact(file.remaining()),
        }
    }
}
