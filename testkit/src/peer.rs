//! A peer that speaks frames by hand: what a client would hide can be seen and done wrong here.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use dialtone_protocol::frame::handshake::MAGIC;
use dialtone_protocol::frame::{
    Addresses, Close, Credentials, Denied, Drain, Dropped, Ended, Fragment, Hello, Interest,
    Interested, Listed, Message, Ping, Pong, Publish, Published, Refused, Subscribe, Subscribed,
    Unsubscribe, Unsubscribed, Wanted, Welcome,
};
use dialtone_protocol::{Code, Frame, RequestId, SubscriptionId, VERSION, codec};
use dialtone_transport::{Batch, Connection, Lane, Reader, Writer};
use tokio::time::Instant;

use crate::recorder::Recorder;

mod asks;
pub use asks::{fragments, publish};

/// A delivery, or a fragment of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// For which subscription.
    pub subscription: SubscriptionId,
    /// Which part, of a large message.
    pub fragment: Option<Fragment>,
    /// Its name.
    pub subject: String,
    /// Where an answer is to go.
    pub reply: Option<String>,
    /// The bytes.
    pub payload: Bytes,
}

/// What a broker says to a peer after the welcome. Pings are answered and not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the frame of its name")]
pub enum Said {
    Subscribed(Subscribed),
    Unsubscribed(Unsubscribed),
    Published(Published),
    Deliver(Delivered),
    Interested(Interested),
    Listed(Listed),
    Pong(Pong),
    Denied(Denied),
    Ended(Ended),
    Dropped(Dropped),
    Drain(Drain),
    Close(Close),
    Addresses(Addresses),
}

/// A connection after its welcome.
#[derive(Debug)]
pub struct Peer {
    reader: Reader,
    writer: Writer,
    received: Vec<u8>,
    unread: VecDeque<Said>,
    welcome: Box<Welcome>,
    next: u32,
    over: bool,
    answers_pings: bool,
    recorder: Option<(Recorder, String)>,
}

/// Why a peer was not welcomed.
#[derive(Debug, thiserror::Error)]
pub enum NotWelcome {
    /// The broker said why.
    #[error("refused: {}: {}", .0.code, .0.text)]
    Closed(Close),
    /// The connection ended without a word.
    #[error("the connection ended")]
    Ended,
}

impl Peer {
    /// Says hello and waits for the welcome.
    ///
    /// # Errors
    /// When the broker does not answer with a welcome.
    pub async fn hello(
        connection: Connection,
        credentials: Credentials,
    ) -> Result<Self, NotWelcome> {
        let hello = Hello {
            magic: MAGIC,
            version_min: VERSION,
            version_max: VERSION,
            client: "testkit".to_owned(),
            credentials,
        };
        Self::begin(connection, &Frame::Hello(hello).to_vec()).await
    }

    /// Says something as the first thing and waits for the welcome.
    ///
    /// # Errors
    /// When the broker does not answer with a welcome.
    ///
    /// # Panics
    /// When it answers with something that has no place there.
    pub async fn begin(connection: Connection, first: &[u8]) -> Result<Self, NotWelcome> {
        let Connection { reader, writer, .. } = connection;
        let batch = [Bytes::copy_from_slice(first)].into_iter().collect();
        let mut raw = Raw {
            reader,
            writer,
            batch,
            received: Vec::new(),
        };
        let body = raw.body().await.ok_or(NotWelcome::Ended)?;
        match Frame::decode(&body) {
            Ok(Frame::Welcome(welcome)) => Ok(Self {
                reader: raw.reader,
                writer: raw.writer,
                received: raw.received,
                unread: VecDeque::new(),
                welcome,
                next: 1,
                over: false,
                answers_pings: true,
                recorder: None,
            }),
            Ok(Frame::Close(close)) => Err(NotWelcome::Closed(close)),
            other => panic!("the first frame of the broker is {other:?}"),
        }
    }

    /// What the broker granted.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Notes all that the broker says from here on.
    pub fn record(&mut self, recorder: &Recorder, name: &str) {
        self.recorder = Some((recorder.clone(), name.to_owned()));
    }

    /// Leaves pings unanswered from here on.
    pub fn ignore_pings(&mut self) {
        self.answers_pings = false;
    }

    /// A number that was not used before on this connection, for a request or a subscription.
    pub fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// Sends a frame. While the link is full, what arrives is read and kept, as the protocol demands.
    pub async fn send(&mut self, frame: &Frame<'_>) {
        self.send_bytes(&frame.to_vec()).await;
    }

    /// Sends bytes, whatever they are. A failure is seen as the end when reading.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let mut batch: Batch = [Bytes::copy_from_slice(bytes)].into_iter().collect();
        poll_fn(|cx| {
            let sent = self.writer.poll_send(cx, Lane::Interactive, &mut batch);
            if sent.is_ready() {
                return Poll::Ready(());
            }
            while self.poll_read(cx).is_ready() {
                if self.over {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// Sends bytes without reading anything meanwhile; gives up after `patience`. Whether all were taken.
    pub async fn push_bytes(&mut self, bytes: &[u8], patience: Duration) -> bool {
        let mut batch: Batch = [Bytes::copy_from_slice(bytes)].into_iter().collect();
        let sending = poll_fn(|cx| self.writer.poll_send(cx, Lane::Interactive, &mut batch));
        matches!(tokio::time::timeout(patience, sending).await, Ok(Ok(())))
    }

    /// The next thing that the broker says; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Said> {
        loop {
            if let Some(said) = self.unread.pop_front() {
                return Some(said);
            }
            if self.over {
                return None;
            }
            poll_fn(|cx| self.poll_read(cx)).await;
            self.answer_pings().await;
        }
    }

    /// All that the broker says within `length`, or until the end of the connection.
    pub async fn listen(&mut self, length: Duration) -> Vec<Said> {
        let until = Instant::now() + length;
        let mut said = Vec::new();
        while let Ok(Some(next)) = tokio::time::timeout_at(until, self.next()).await {
            said.push(next);
        }
        said
    }

    /// All that the broker says until the end of the connection, which must come within an hour.
    ///
    /// # Panics
    /// When the connection does not end.
    pub async fn listen_to_the_end(&mut self) -> Vec<Said> {
        let mut said = Vec::new();
        let listening = async {
            while let Some(next) = self.next().await {
                said.push(next);
            }
        };
        let ended = tokio::time::timeout(Duration::from_hours(1), listening).await;
        assert!(ended.is_ok(), "the connection does not end");
        said
    }

    /// The close that the connection ends with, if the broker said one.
    pub async fn closed(&mut self) -> Option<Close> {
        let said = self.listen_to_the_end().await;
        said.into_iter().find_map(|said| {
            if let Said::Close(close) = said {
                Some(close)
            } else {
                None
            }
        })
    }

    /// Whether the connection has ended, as far as was read.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Reads until the broker has processed all that was sent before; returns what it said meanwhile.
    pub async fn sync(&mut self) -> Vec<Said> {
        let token = u64::from(self.number()) << 32;
        self.send(&Frame::Ping(Ping { token })).await;
        let mut said = Vec::new();
        while let Some(next) = self.next().await {
            if next == Said::Pong(Pong { token }) {
                break;
            }
            said.push(next);
        }
        said
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.received.reserve(4_096);
        let Poll::Ready(read) = self
            .reader
            .poll_recv(cx, Lane::Interactive, &mut self.received)
        else {
            return Poll::Pending;
        };
        if !matches!(read, Ok(1..)) {
            self.over = true;
            self.note("end of the connection".to_owned());
            return Poll::Ready(());
        }
        let received = std::mem::take(&mut self.received);
        let mut rest = received.as_slice();
        while let Some((body, len)) =
            codec::split_frame(rest, u32::MAX).expect("the broker sends frames")
        {
            let said =
                heard(Frame::decode(body).expect("the broker sends frames that can be read"));
            self.note(format!("{said:?}"));
            self.unread.push_back(said);
            rest = &rest[len..];
        }
        self.received = rest.to_vec();
        Poll::Ready(())
    }

    fn note(&self, what: String) {
        if let Some((recorder, name)) = &self.recorder {
            recorder.note(name, what);
        }
    }

    async fn answer_pings(&mut self) {
        let is_ping = |said: &Said| matches!(said, Said::Pong(pong) if pong.token < 1 << 32);
        let pings: Vec<Said> = self
            .unread
            .iter()
            .filter(|said| is_ping(said))
            .cloned()
            .collect();
        if pings.is_empty() {
            return;
        }
        self.unread.retain(|said| !is_ping(said));
        for ping in pings {
            if let Said::Pong(pong) = ping
                && self.answers_pings
            {
                self.send(&Frame::Pong(pong)).await;
            }
        }
    }
}

/// Says the first thing and reads the first frame, both at the same time: a broker may refuse before it has read.
struct Raw {
    reader: Reader,
    writer: Writer,
    batch: Batch,
    received: Vec<u8>,
}

impl Raw {
    async fn body(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Ok(Some((body, len))) = codec::split_frame(&self.received, u32::MAX) {
                let body = body.to_vec();
                self.received.drain(..len);
                return Some(body);
            }
            let read = poll_fn(|cx| {
                // What cannot be written is seen as the end when reading.
                drop(
                    self.writer
                        .poll_send(cx, Lane::Interactive, &mut self.batch),
                );
                self.received.reserve(4_096);
                self.reader
                    .poll_recv(cx, Lane::Interactive, &mut self.received)
            });
            if !matches!(read.await, Ok(1..)) {
                return None;
            }
        }
    }
}

/// A ping is kept as the pong that answers it; the broker's tokens are small, those of [`Peer::sync`] large.
fn heard(frame: Frame<'_>) -> Said {
    match frame {
        Frame::Subscribed(said) => Said::Subscribed(said),
        Frame::Unsubscribed(said) => Said::Unsubscribed(said),
        Frame::Published(said) => Said::Published(said),
        Frame::Deliver(deliver) => Said::Deliver(Delivered {
            subscription: deliver.subscription,
            fragment: deliver.fragment,
            subject: deliver.message.subject.to_owned(),
            reply: deliver.message.reply.map(str::to_owned),
            payload: Bytes::copy_from_slice(deliver.message.payload),
        }),
        Frame::Interested(said) => Said::Interested(said),
        Frame::Listed(said) => Said::Listed(said),
        Frame::Ping(Ping { token }) => Said::Pong(Pong {
            token: token & 0xffff_ffff,
        }),
        Frame::Pong(said) => Said::Pong(said),
        Frame::Denied(said) => Said::Denied(said),
        Frame::Ended(said) => Said::Ended(said),
        Frame::Dropped(said) => Said::Dropped(said),
        Frame::Drain(said) => Said::Drain(said),
        Frame::Close(said) => Said::Close(said),
        Frame::Addresses(said) => Said::Addresses(said),
        other @ (Frame::Hello(_)
        | Frame::Welcome(_)
        | Frame::Subscribe(_)
        | Frame::Unsubscribe(_)
        | Frame::Publish(_)
        | Frame::Interest(_)
        | Frame::List(_)
        | Frame::Cancel(_)
        | Frame::Link(_)) => panic!("a broker does not say {other:?}"),
    }
}
