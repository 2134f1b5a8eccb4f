//! The body of a server's answer on its way to the client.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::watch::Over;
use super::{BoxError, Watch};
use crate::metrics::add;
use crate::pool::{Sender, Shard};
use crate::record::Record;

/// An answer; its connection is used again once it is whole.
pub(crate) struct Relayed {
    inner: Incoming,
    watch: Watch,
    upstream: Option<(Sender, Arc<Shard>, SocketAddr)>,
}

impl Relayed {
    /// Without `upstream`, the connection is not used again.
    pub(crate) fn new(
        inner: Incoming,
        watch: Watch,
        upstream: Option<(Sender, Arc<Shard>, SocketAddr)>,
    ) -> Self {
        let mut relayed = Self {
            inner,
            watch,
            upstream,
        };
        if relayed.inner.is_end_stream() {
            relayed.release();
        }
        relayed
    }

    fn release(&mut self) {
        if let Some((sender, shard, addr)) = self.upstream.take() {
            shard.pool.put(addr, sender);
        }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        record: Option<&mut Record>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
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
                if self.inner.is_end_stream() {
                    self.release();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.upstream = None;
                if let Some(record) = record {
                    record.entry.code = "broken";
                    add(&record.metrics().upstream_failures, 1);
                }
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                self.release();
                Poll::Ready(None)
            }
        }
    }

    fn over(&mut self, over: Over, record: Option<&mut Record>) -> BoxError {
        self.upstream = None;
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
        self.inner.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
