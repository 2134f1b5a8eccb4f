//! What a WebSocket peer sends: the HTTP request, and the frames behind it.
//!
//! ```text
//! n  n bytes           lengths of the pieces in which the rest arrives, and in which it is read,
//!                      each less one and over and over; n is taken modulo 8
//! rest                 what the peer sends, after a good request in `websocket`
//! ```

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use dialtone_transport::websocket::{Upgrade, Violation, upgrade};
use dialtone_transport::{Connection, Error, Lane};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::deframe::{self, Ending};

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Reads a WebSocket in pieces and compares it with a deframer that has all bytes at once.
pub fn websocket(data: &[u8]) {
    let (pieces, raw) = split(data);
    if raw.is_empty() {
        // hyper upgrades nothing for a peer that leaves before the answer.
        return;
    }
    let expected = deframe::all(raw);
    let sent = [REQUEST, raw].concat();
    let (connection, written) = meet(&sent, pieces);
    let (payload, ending) = read(connection.expect("the request is good"), pieces);
    assert_eq!(payload, expected.payload);
    assert_eq!(ending, expected.ending);
    check_answers(&written.lock(), &expected);
}

/// Answers the bytes as a request, and reads on where that was an upgrade.
pub fn http_upgrade(data: &[u8]) {
    let (pieces, raw) = split(data);
    let (connection, written) = meet(raw, pieces);
    let answer = written.lock().clone();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."));
    let Some(connection) = connection else {
        return;
    };
    assert!(find(&answer, b" 101 Switching Protocols\r\n").is_some());
    let lower = raw.to_ascii_lowercase();
    for needed in [&b"upgrade"[..], b"websocket", b"sec-websocket-key", b"13"] {
        assert!(find(&lower, needed).is_some(), "upgraded for nothing");
    }
    read(connection, pieces);
}

fn split(data: &[u8]) -> (&[u8], &[u8]) {
    let Some((&n, rest)) = data.split_first() else {
        return (&[], &[]);
    };
    rest.split_at(usize::from(n & 7).min(rest.len()))
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// Serves one connection as a web server would; the connection is `None` when nothing was upgraded.
fn meet(sent: &[u8], pieces: &[u8]) -> (Option<Connection>, Arc<Mutex<Vec<u8>>>) {
    let written = Arc::new(Mutex::new(Vec::new()));
    let stream = Stream {
        sent: sent.to_vec(),
        at: 0,
        pieces: pieces.to_vec(),
        turn: 0,
        written: Arc::clone(&written),
    };
    let upgrades = Mutex::new(None::<Upgrade>);
    let service = service_fn(|mut request| {
        let response = match upgrade(&mut request, &[]) {
            Ok((response, upgrade)) => {
                *upgrades.lock() = Some(upgrade);
                response
            }
            Err(error) => error.response(),
        };
        std::future::ready(Ok::<hyper::Response<Full<Bytes>>, Infallible>(response))
    });
    let connection = runtime().block_on(async {
        let served = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await;
        let upgrade = upgrades.lock().take()?;
        let connection = upgrade.connect().await;
        assert!(
            connection.is_ok() || served.is_err(),
            "a socket that works is handed over"
        );
        connection.ok()
    });
    (connection, written)
}

fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without a driver needs nothing")
}

/// Reads to the end.
fn read(mut connection: Connection, pieces: &[u8]) -> (Vec<u8>, Ending) {
    let mut payload = Vec::new();
    let mut room = pieces.iter().rev().cycle();
    let ending = runtime().block_on(async {
        loop {
            let room = room.next().map_or(4_096, |room| usize::from(*room) + 1);
            let mut buf = Vec::with_capacity(room);
            let received =
                poll_fn(|cx| connection.reader.poll_recv(cx, Lane::Interactive, &mut buf)).await;
            payload.extend_from_slice(&buf);
            match received {
                Ok(0) => return Ending::Closed(0),
                Ok(len) => assert_eq!(len, buf.len()),
                Err(error) => return ending(error),
            }
        }
    });
    (payload, ending)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an error that cannot be is a finding"
)]
fn ending(error: Error) -> Ending {
    match error {
        Error::Closed { code, .. } => Ending::Closed(code),
        Error::Aborted(_) => Ending::Aborted,
        Error::Violation(violation) => Ending::Violation(violation),
        Error::Reset => Ending::Reset,
        other => panic!("the stream cannot fail with {other}"),
    }
}

/// Behind the response come pongs for some of the pings, in order, and at most one close.
fn check_answers(written: &[u8], expected: &deframe::Stream) {
    let head = find(written, b"\r\n\r\n").expect("the response is whole");
    let mut frames = written.get(head + 4..).expect("the head is inside");
    let mut pings = expected.pings.iter();
    let mut closed = None;
    while let [first, len, rest @ ..] = frames {
        assert!(
            *len <= 125 && closed.is_none(),
            "short, and none after a close"
        );
        let (payload, rest) = rest.split_at(usize::from(*len));
        match first {
            0x8a => assert!(pings.any(|ping| ping == payload), "not asked for"),
            0x88 => {
                let code = payload.first_chunk().copied();
                closed = Some(code.map(u16::from_be_bytes));
            }
            other => panic!("a frame that begins with {other:#x}"),
        }
        frames = rest;
    }
    assert!(frames.is_empty());
    let code = match expected.ending {
        Ending::Reset => None,
        Ending::Violation(violation) => Some(Some(Violation::close_code(violation))),
        Ending::Closed(_) | Ending::Aborted => Some(expected.close_code),
    };
    assert_eq!(closed, code);
}

/// A socket to a peer that has sent everything already and is gone.
struct Stream {
    sent: Vec<u8>,
    at: usize,
    pieces: Vec<u8>,
    turn: usize,
    written: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let turn = self.turn % self.pieces.len().max(1);
        let piece = self
            .pieces
            .get(turn)
            .map_or(usize::MAX, |n| usize::from(*n) + 1);
        self.turn += 1;
        let left = self.sent.get(self.at..).unwrap_or_default();
        let len = left.len().min(piece).min(buf.remaining());
        buf.put_slice(left.get(..len).unwrap_or_default());
        self.at += len;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written.lock().extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
