//! One request and its answer over one connection.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Method, StatusCode, request, response};
use http_body::{Frame, SizeHint};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use super::chunks::{self, Chunks, Step};
use super::connection::Connection;
use super::head::{self, Framing, Head};
use super::request::{Sending, Stopped};
use super::uploading::{self, Upload, Uploading};
use crate::body::{self, BoxError};

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
    pub(crate) fn new(connection: Connection, head: &request::Parts, upload: body::Upload) -> Self {
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
    from: From,
    body: Rest,
    is_kept: bool,
}

/// Where an answer comes from.
enum From {
    /// Its request was over before it.
    Connection(Connection),
    /// The request is still being sent.
    Half(Box<(Connection<OwnedReadHalf>, Upload)>),
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
    /// With it comes what is left of the request, to be run by itself.
    pub(crate) fn new(
        exchange: Exchange,
        reply: Reply,
    ) -> (response::Parts, Self, Option<Uploading>) {
        let Reply(head) = reply;
        let body = match head.framing {
            Framing::None | Framing::Len(0) => Rest::Nothing,
            Framing::Len(len) => Rest::Len(len),
            Framing::Chunked => Rest::Chunks(Chunks::Line),
            Framing::Close => Rest::UntilClose,
        };
        let Exchange {
            connection,
            sending,
            ..
        } = exchange;
        let (from, uploading) = if sending.is_whole() {
            (From::Connection(connection), None)
        } else {
            let (reading, writing) = connection.split();
            let (uploading, upload) = uploading::split(sending, writing);
            (From::Half(Box::new((reading, upload))), Some(uploading))
        };
        let answer = Self {
            from,
            body,
            is_kept: head.is_kept,
        };
        (head.parts, answer, uploading)
    }

    /// Out of HTTP: the socket itself, and what was read of it; nothing while the request is still being sent.
    pub(crate) fn into_socket(self) -> Option<(TcpStream, Bytes)> {
        match self.from {
            From::Connection(connection) => Some(connection.into_parts()),
            From::Half(_) => None,
        }
    }

    /// To be called when the answer is whole. The connection, if it can take the next request.
    pub(crate) fn into_connection(self) -> Option<Connection> {
        let mut connection = match self.from {
            From::Connection(connection) => connection,
            From::Half(half) => {
                let (_, mut upload) = *half;
                upload.tell_answered();
                return None;
            }
        };
        let is_over = self.body == Rest::Nothing && self.is_kept && connection.read.is_empty();
        is_over.then(|| {
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

    /// The next part of the body.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let From::Half(half) = &mut self.from
            && let Some(error) = half.1.poll_failed(cx)
        {
            return Poll::Ready(Some(Err(Error::Upload(error))));
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
            match ready!(self.from.poll_read(cx)) {
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
        let read = self.from.read();
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

impl From {
    fn read(&mut self) -> &mut BytesMut {
        match self {
            Self::Connection(connection) => &mut connection.read,
            Self::Half(half) => &mut half.0.read,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self {
            Self::Connection(connection) => connection.poll_read(cx),
            Self::Half(half) => half.0.poll_read(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::{Limits, Timing};

    /// A request to a server that says this and, unless it `stays`, closes its connection.
    async fn asked(method: Method, says: &str, stays: bool) -> (Exchange, Option<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let limits = Limits {
            answer_head_len_max: 256,
            ..Limits::default()
        };
        let timing = Timing::default();
        let opened = Connection::open(addr, &timing, &limits);
        let (connection, accepted) = tokio::join!(opened, listener.accept());
        let mut server = accepted.unwrap().0;
        server.write_all(says.as_bytes()).await.unwrap();
        let request = Request::builder().method(method).uri("/").body(()).unwrap();
        let (head, ()) = request.into_parts();
        let exchange = Exchange::new(connection.unwrap(), &head, body::Upload::Empty);
        if stays {
            return (exchange, Some(server));
        }
        server.shutdown().await.unwrap();
        (exchange, Some(server))
    }

    /// The answer with its body, and its connection if that can be used again.
    async fn answered(says: &str, stays: bool) -> Result<(u16, String, bool), Error> {
        let (mut exchange, _server) = asked(Method::GET, says, stays).await;
        let reply = exchange.answered().await?;
        let (head, mut answer, uploading) = Answer::new(exchange, reply);
        assert!(uploading.is_none(), "the request is over");
        let mut body = Vec::new();
        while !answer.is_end_stream() {
            match poll_fn(|cx| answer.poll_frame(cx)).await {
                Some(Ok(frame)) => body.extend(frame.into_data().into_iter().flatten()),
                Some(Err(error)) => return Err(error),
                None => break,
            }
        }
        let kept = answer.into_connection().is_some();
        Ok((head.status.as_u16(), String::from_utf8(body).unwrap(), kept))
    }

    #[tokio::test]
    async fn a_body_ends_as_its_head_says_and_its_connection_is_kept_if_it_may() {
        let ok = "HTTP/1.1 200 OK\r\n";
        for (says, stays, body, kept) in [
            ("Content-Length: 3\r\n\r\nabc", true, "abc", true),
            ("Content-Length: 0\r\n\r\n", true, "", true),
            (
                "Content-Length: 3\r\nConnection: close\r\n\r\nabc",
                true,
                "abc",
                false,
            ),
            (
                "Content-Length: 3\r\n\r\nabcHTTP/1.1 200",
                true,
                "abc",
                false,
            ),
            (
                "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\nX: 1\r\n\r\n",
                true,
                "abc",
                true,
            ),
            ("\r\nabc", false, "abc", false),
        ] {
            let got = answered(&format!("{ok}{says}"), stays).await.unwrap();
            assert_eq!(got, (200, body.to_owned(), kept), "{says:?}");
        }
    }

    #[tokio::test]
    async fn what_is_said_before_the_answer_is_passed_over_for_a_while() {
        let early = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
        let answer = "HTTP/1.1 204 No Content\r\n\r\n";
        let few = usize::try_from(INFORMATIONAL_MAX).unwrap();
        let got = answered(&(early.repeat(few) + answer), true).await.unwrap();
        assert_eq!(got.0, 204);
        let many = answered(&(early.repeat(few + 1) + answer), true).await;
        assert!(matches!(many, Err(Error::Malformed(_))), "{many:?}");
    }

    #[tokio::test]
    async fn a_connection_that_ends_tells_how_far_the_answer_was() {
        let error = |says: &'static str| async move { answered(says, false).await.unwrap_err() };
        assert!(matches!(error("").await, Error::Unanswered(_)));
        assert!(matches!(
            error("HTTP/1.1 200 OK\r\nCon").await,
            Error::Cut(_)
        ));
        let short = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab";
        assert!(matches!(error(short).await, Error::Cut(_)));
        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab";
        assert!(matches!(error(chunks).await, Error::Cut(_)));
    }

    #[tokio::test]
    async fn a_head_has_a_longest_length() {
        let fits = format!("HTTP/1.1 204 X\r\nX: {}\r\n\r\n", "y".repeat(200));
        assert!(answered(&fits, true).await.is_ok());
        for filler in [300, 3000] {
            let long = format!("HTTP/1.1 204 X\r\nX: {}\r\n\r\n", "y".repeat(filler));
            let refused = answered(&long, true).await;
            assert!(matches!(refused, Err(Error::Malformed(_))), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn a_protocol_that_is_switched_to_begins_behind_the_head() {
        let says = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nfirst";
        let (mut exchange, _server) = asked(Method::GET, says, true).await;
        let reply = exchange.answered().await.unwrap();
        let (head, answer, _) = Answer::new(exchange, reply);
        assert_eq!(head.status, StatusCode::SWITCHING_PROTOCOLS);
        let (_, first) = answer.into_socket().unwrap();
        assert_eq!(first, "first");
    }

    #[tokio::test]
    async fn a_request_is_repeated_only_before_any_answer() {
        for (method, says, repeats) in [
            (Method::GET, "", true),
            (Method::POST, "", false),
            (Method::GET, "HTTP/1.1 2", false),
        ] {
            let (mut exchange, server) = asked(method.clone(), says, false).await;
            let error = exchange.answered().await.err().unwrap();
            // The head has arrived, so that the server may have done what it says.
            let mut head = [0; 4];
            server.unwrap().read_exact(&mut head).await.unwrap();
            assert_eq!(
                exchange.again(method == Method::GET).is_some(),
                repeats,
                "{error}"
            );
        }
    }
}
