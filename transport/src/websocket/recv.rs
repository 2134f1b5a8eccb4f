//! Reads a WebSocket: bytes in, payload out, pings and the close answered on the way.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use parking_lot::Mutex;

use super::Role;
use super::deframe::{Close, Deframer, Found};
use super::io::ReadIo;
use super::send::Sender;
use crate::error::Error;

/// The reading end.
#[derive(Debug)]
pub(crate) struct Receiver {
    io: ReadIo,
    deframer: Deframer,
    /// What was read together with the upgrade.
    early: Bytes,
    sender: Arc<Mutex<Sender>>,
    /// A pong or close that did not fit into the socket yet.
    answering: bool,
    end: Option<End>,
}

/// How the stream ended; kept because it is said after the last payload.
#[derive(Debug)]
enum End {
    Orderly,
    Error(Box<Error>),
    /// The error was given out.
    Told,
}

impl Receiver {
    pub(crate) const fn new(
        io: ReadIo,
        early: Bytes,
        role: Role,
        sender: Arc<Mutex<Sender>>,
    ) -> Self {
        Self {
            io,
            deframer: Deframer::new(role),
            early,
            sender,
            answering: false,
            end: None,
        }
    }

    /// Appends payload to `buf`, which has spare capacity.
    pub(crate) fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut Vec<u8>,
    ) -> Poll<Result<usize, Error>> {
        if self.answering {
            self.answering = !self.sender.lock().try_control()?;
        }
        loop {
            if self.end.is_some() {
                return Poll::Ready(self.tell_end());
            }
            let start = buf.len();
            if self.early.is_empty() {
                if ready!(self.io.poll_read(cx, buf))? == 0 {
                    let expected = self.sender.lock().is_closing();
                    self.end = Some(if expected {
                        End::Orderly
                    } else {
                        End::Error(Box::new(Error::Reset))
                    });
                    continue;
                }
            } else {
                let take = self.early.len().min(buf.capacity() - buf.len());
                buf.extend_from_slice(&self.early[..take]);
                self.early.advance(take);
                if self.early.is_empty() {
                    self.early = Bytes::new();
                }
            }
            match self.deframer.deframe(buf, start) {
                Ok(found) => self.answer(found)?,
                Err(violation) => {
                    self.end = Some(End::Error(Box::new(Error::Violation(violation))));
                    let mut sender = self.sender.lock();
                    sender.say_close(violation.close_code(), &violation.to_string());
                    self.answering = !sender.try_control()?;
                }
            }
            let received = buf.len() - start;
            if received > 0 {
                return Poll::Ready(Ok(received));
            }
        }
    }

    fn answer(&mut self, found: Found) -> Result<(), Error> {
        if found == Found::default() {
            return Ok(());
        }
        let mut sender = self.sender.lock();
        if let Some(ping) = found.ping {
            sender.say_pong(ping);
        }
        if let Some(close) = found.close {
            sender.say_close(close.code.unwrap_or(1000), "");
            self.end = Some(End::from(close));
        }
        // A peer that has closed may not read any more, so that the answer to it may fail.
        match sender.try_control() {
            Ok(done) => self.answering = !done,
            Err(_) if self.end.is_some() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn tell_end(&mut self) -> Result<usize, Error> {
        match self.end.replace(End::Told) {
            Some(End::Error(error)) => Err(*error),
            Some(End::Orderly) => {
                self.end = Some(End::Orderly);
                Ok(0)
            }
            Some(End::Told) | None => Err(Error::Reset),
        }
    }
}

impl From<Close> for End {
    fn from(close: Close) -> Self {
        match close.code {
            // Normal, going away, no code.
            None | Some(1000 | 1001) => Self::Orderly,
            Some(code @ 4000..) => Self::Error(Box::new(Error::Closed {
                code: code - 4000,
                reason: close.reason,
            })),
            Some(code) => Self::Error(Box::new(Error::Aborted(format!(
                "WebSocket code {code}: {}",
                close.reason
            )))),
        }
    }
}
