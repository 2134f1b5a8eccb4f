//! The bytes of a file on their way to a client, read as fast as that takes them.

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;

use super::Content;
use crate::access::Answer;
use crate::body::{BoxError, Watch};
use crate::record::Record;

/// How much is read at once.
const READ_LEN: usize = 256 << 10;

/// Part of a file.
pub(crate) struct FileBody {
    content: Arc<dyn Content>,
    bytes: Range<u64>,
    reading: Option<Answer<'static, std::io::Result<Bytes>>>,
    watch: Watch,
}

impl FileBody {
    pub(super) fn new(content: Arc<dyn Content>, bytes: Range<u64>, watch: Watch) -> Self {
        Self {
            content,
            bytes,
            reading: None,
            watch,
        }
    }

    /// How many bytes are still to be sent.
    pub(crate) fn remaining(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        record: Option<&mut Record>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.remaining() == 0 {
            return Poll::Ready(None);
        }
        match ready!(self.poll_bytes(cx)) {
            Ok(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Err((code, error)) => {
                if let Some(record) = record {
                    record.entry.code = code;
                }
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Bytes, (&'static str, BoxError)>> {
        let len_max = usize::try_from(self.remaining())
            .unwrap_or(READ_LEN)
            .min(READ_LEN);
        let at = self.bytes.start;
        let content = &self.content;
        let reading = self
            .reading
            .get_or_insert_with(|| Arc::clone(content).read(at, len_max));
        let Poll::Ready(read) = reading.as_mut().poll(cx) else {
            return self
                .watch
                .poll_over(cx)
                .map(|_over| Err(("ended", "the file is not sent any longer".into())));
        };
        self.reading = None;
        if self.watch.moved().is_err() {
            return Poll::Ready(Err(("ended", "access has ended".into())));
        }
        let bytes = match read {
            Ok(bytes) if !bytes.is_empty() => bytes,
            // Its length has been told: whoever gets less must notice.
            Ok(_) => return Poll::Ready(Err(("broken", "the file has become shorter".into()))),
            Err(error) => return Poll::Ready(Err(("broken", error.into()))),
        };
        self.bytes.start += u64::try_from(bytes.len())
            .unwrap_or(u64::MAX)
            .min(self.bytes.end - at);
        Poll::Ready(Ok(bytes))
    }
}
