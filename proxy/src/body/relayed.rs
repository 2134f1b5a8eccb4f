//! The body of a server's answer on its way to the client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::watch::Over;
use super::{BoxError, Watch};
use crate::metrics::add;
use crate::pool::Shard;
use crate::record::Record;
use crate::upstream::Answer;

/// An answer; its connection is used again once it is whole.
pub(crate) struct Relayed {
    /// `None` once its connection was given back.
    answer: Option<Answer>,
    watch: Watch,
    shard: Arc<Shard>,
    addr: SocketAddr,
    /// Why it breaks off, once what came before is on its way.
    broken: Option<BoxError>,
}

impl Relayed {
    /// The connection to `addr` goes back to the pool of `shard`.
    pub(crate) fn new(answer: Answer, watch: Watch, shard: Arc<Shard>, addr: SocketAddr) -> Self {
        let mut relayed = Self {
            answer: Some(answer),
            watch,
            shard,
            addr,
            broken: None,
        };
        relayed.release_at_end();
        relayed
    }

    fn release_at_end(&mut self) {
        if let Some(answer) = self.answer.take_if(|answer| answer.is_end_stream())
            && let Some(connection) = answer.into_connection()
        {
            self.shard.pool.put(self.addr, connection);
        }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        record: Option<&mut Record>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(answer) = &mut self.answer else {
            return Poll::Ready(self.broken.take().map(Err));
        };
        let frame = match answer.poll_frame(cx) {
            Poll::Pending => match self.watch.poll_over(cx) {
                Poll::Ready(over) => return Poll::Ready(Some(Err(self.over(over, record)))),
                Poll::Pending => return Poll::Pending,
            },
            Poll::Ready(frame) => frame,
        };
        match frame {
            Some(Ok(frame)) => {
                if let Err(over) = self.watch.moved() {
                    return Poll::Ready(Some(Err(self.over(over, record))));
                }
                self.release_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.answer = None;
                tracing::debug!(addr = %self.addr, %error, "an answer broke off");
                if let Some(record) = record {
                    record.entry.code = "broken";
                    add(&record.metrics().upstream_failures, 1);
                }
                // An error has the connection closed at once: the client first gets what came before it.
                self.broken = Some(error.into());
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                self.release_at_end();
                Poll::Ready(None)
            }
        }
    }

    fn over(&mut self, over: Over, record: Option<&mut Record>) -> BoxError {
        self.answer = None;
        let (code, text) = match over {
            Over::Silent => ("answer_idle", "the server has stopped within its answer"),
            Over::Ended => ("ended", "access has ended"),
        };
        if let Some(record) = record {
            record.entry.code = code;
            if over == Over::Ended {
                add(&record.metrics().ended, 1);
            }
        }
        text.into()
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.broken.is_none() && self.answer.as_ref().is_none_or(Answer::is_end_stream)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match &self.answer {
            Some(answer) => answer.size_hint(),
            None if self.broken.is_some() => SizeHint::default(),
            None => SizeHint::with_exact(0),
        }
    }
}
