//! One request and its answer over one connection.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::{Method, StatusCode, request, response};
use http_body::{Frame, SizeHint};
use thiserror::Error;
use tokio::net::TcpStream;

use super::chunks::{self, Chunks, Step};
use super::connection::Connection;
use super::head::{self, Framing, Head};
use super::request::{Sending, Stopped};
use crate::body::{BoxError, Upload};

/// Most informational answers (`103 Early Hints` and the like) before the answer itself.
const INFORMATIONAL_MAX: u32 = 8;

/// Why an exchange broke off.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// The server closed the connection, or it was lost, before the answer began.
    #[error("the server has closed the connection without an answer")]
    Unanswered(#[source] Option<io::Error>),
    /// The connection ended within the answer.
    #[error("the server has closed the connection within its answer")]
    Cut(#[source] Option<io::Error>),
    /// The answer breaks a rule of HTTP.
    #[error("the server's answer cannot be read: {0}")]
    Malformed(&'static str),
    /// The request could not be sent to its end.
    #[error("the body of the request broke off: {0}")]
    Upload(BoxError),
}

/// A request under way.
pub(crate) struct Exchange {
    connection: Connection,
    sending: Sending,
    method: Method,
    /// Why sending has failed; the answer may have come all the same.
    unsent: Option<io::Error>,
    informational: u32,
    has_answer: bool,
}

impl Exchange {
    pub(crate) fn new(connection: Connection, head: &request::Parts, upload: Upload) -> Self {
        let sending = Sending::new(head, upload);
        Self::with(connection, sending, head.method.clone())
    }

    fn with(connection: Connection, sending: Sending, method: Method) -> Self {
        Self {
            connection,
            sending,
            method,
            unsent: None,
            informational: 0,
            has_answer: false,
        }
    }

    /// The same request over another connection, if the server cannot have begun to answer it, and nothing of its body
    /// is gone.
    pub(crate) fn again(self, idempotent: bool) -> Option<impl FnOnce(Connection) -> Self> {
        let method = self.method;
        let sending = (!self.has_answer)
            .then(|| self.sending.again(idempotent))
            .flatten()?;
        Some(|connection| Self::with(connection, sending, method))
    }

    /// Sends the request, and waits for the head of the answer, which is taken. To be called until then, and may be
    /// dropped in between.
    pub(crate) async fn answered(&mut self) -> Result<Reply, Error> {
        poll_fn(|cx| self.poll_reply(cx)).await
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, Error>> {
        self.poll_send(cx)?;
        loop {
            if let Some(head) = self.parse()? {
                return Poll::Ready(Ok(Reply(head)));
            }
            match ready!(self.connection.poll_read(cx)) {
                Ok(0) => return Poll::Ready(Err(self.unanswered(None))),
                Ok(_) => self.has_answer = true,
                Err(error) => return Poll::Ready(Err(self.unanswered(Some(error)))),
            }
        }
    }

    fn unanswered(&mut self, error: Option<io::Error>) -> Error {
        if self.has_answer {
            Error::Cut(error)
        } else {
            Error::Unanswered(self.unsent.take().or(error))
        }
    }

    /// Sends on. A server that takes no more may have answered.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        match self.sending.poll(cx, &mut self.connection.stream) {
            Poll::Ready(Err(Stopped::Upload(error))) => Err(Error::Upload(error)),
            Poll::Ready(Err(Stopped::Write(error))) => {
                self.unsent = Some(error);
                Ok(())
            }
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// The head of the answer, if it is whole.
    fn parse(&mut self) -> Result<Option<Head>, Error> {
        while !self.connection.read.is_empty() {
            let connection = &mut self.connection;
            let parsed = head::parse(&connection.read, &self.method, connection.headers_max)
                .map_err(Error::Malformed)?;
            let (len, head) = match parsed {
                Some((len, _)) if len > connection.head_len_max => {
                    return Err(Error::Malformed("its head is too long"));
                }
                Some(whole) => whole,
                None if connection.read.len() < connection.head_len_max => return Ok(None),
                None => return Err(Error::Malformed("its head is too long")),
            };
            connection.read.advance(len);
            let status = head.parts.status;
            if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Some(head));
            }
            self.informational += 1;
            if self.informational > INFORMATIONAL_MAX {
                return Err(Error::Malformed("it only says that it will come"));
            }
        }
        Ok(None)
    }
}

/// The head of an answer, for [`Answer::new`].
pub(crate) struct Reply(Head);

/// The body of an answer.
pub(crate) struct Answer {
    exchange: Exchange,
    body: Rest,
    is_kept: bool,
}

/// What is to come of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    Len(u64),
    Chunks(Chunks),
    UntilClose,
}

impl Answer {
    pub(crate) fn new(exchange: Exchange, reply: Reply) -> (response::Parts, Self) {
        let Reply(head) = reply;
        let body = match head.framing {
            Framing::None | Framing::Len(0) => Rest::Nothing,
            Framing::Len(len) => Rest::Len(len),
            Framing::Chunked => Rest::Chunks(Chunks::Line),
            Framing::Close => Rest::UntilClose,
        };
        let answer = Self {
            exchange,
            body,
            is_kept: head.is_kept,
        };
        (head.parts, answer)
    }

    /// Out of HTTP: the socket itself, and what was read of it.
    pub(crate) fn into_socket(self) -> (TcpStream, Bytes) {
        self.exchange.connection.into_parts()
    }

    /// The connection, if it can take the next request.
    pub(crate) fn into_connection(self) -> Option<Connection> {
        let mut connection = self.exchange.connection;
        let is_over = self.body == Rest::Nothing && self.exchange.sending.is_whole();
        (is_over && self.is_kept && connection.read.is_empty()).then(|| {
            connection.rest();
            connection
        })
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.body == Rest::Nothing
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.body {
            Rest::Nothing => SizeHint::with_exact(0),
            Rest::Len(len) => SizeHint::with_exact(len),
            Rest::Chunks(_) | Rest::UntilClose => SizeHint::default(),
        }
    }

    /// The next part of the body. Sends on what is left of the request.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Err(error) = self.exchange.poll_send(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match self.take().map_err(Error::Malformed) {
                Ok(Step::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Step::End(trailers)) => {
                    self.body = Rest::Nothing;
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Ok(Step::More) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            match ready!(self.exchange.connection.poll_read(cx)) {
                Ok(0) if self.body == Rest::UntilClose => {
                    self.body = Rest::Nothing;
                    return Poll::Ready(None);
                }
                Ok(0) => return Poll::Ready(Some(Err(Error::Cut(None)))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(Error::Cut(Some(error))))),
            }
        }
    }

    /// What there is of the body among what has been read.
    fn take(&mut self) -> Result<Step, &'static str> {
        let read = &mut self.exchange.connection.read;
        match &mut self.body {
            Rest::Nothing => Ok(Step::End(None)),
            Rest::Chunks(chunks) => chunks.next(read),
            Rest::Len(_) | Rest::UntilClose if read.is_empty() => Ok(Step::More),
            Rest::UntilClose => Ok(Step::Data(read.split().freeze())),
            Rest::Len(left) => {
                let data = chunks::take(read, *left);
                *left -= u64::try_from(data.len()).unwrap_or(u64::MAX).min(*left);
                if *left == 0 {
                    self.body = Rest::Nothing;
                }
                Ok(Step::Data(data))
            }
        }
    }
}
