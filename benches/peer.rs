//! One end of a connection that sends frames made beforehand and counts the bytes that come back.

use std::future::poll_fn;
use std::net::Ipv4Addr;

use anyhow::{anyhow, bail, ensure};
use bytes::Bytes;
use dialtone_protocol::frame::handshake::MAGIC;
use dialtone_protocol::frame::{
    Credentials, Hello, Message, Ping, Publish, Subscribe, Wanted, message,
};
use dialtone_protocol::limits::SUBSCRIBE_BATCH_MAX;
use dialtone_protocol::{Frame, RequestId, SubscriptionId, VERSION, VERSION_MIN, codec};
use dialtone_transport::{Batch, Connection, Lane};

/// Bytes that are read at once.
const READ_LEN: usize = 256 << 10;

/// Longest frame that a peer here is sent, in bytes.
const FRAME_LEN_MAX: u32 = 1 << 20;

/// A connected peer.
#[derive(Debug)]
pub struct Peer {
    connection: Connection,
    buffer: Vec<u8>,
}

impl Peer {
    pub(crate) async fn open(connection: Connection) -> anyhow::Result<Self> {
        let mut peer = Self {
            connection,
            buffer: Vec::with_capacity(READ_LEN),
        };
        let hello = Frame::Hello(Hello {
            magic: MAGIC,
            version_min: VERSION_MIN,
            version_max: VERSION,
            client: "bench".to_owned(),
            credentials: Credentials::None,
        });
        peer.send(hello.to_vec().into()).await?;
        peer.answer("welcome").await?;
        Ok(peer)
    }

    /// Subscribes, and waits for the confirmation.
    ///
    /// # Errors
    /// When the connection ends or another frame comes first.
    pub async fn subscribe(&mut self, wanted: Vec<Wanted>) -> anyhow::Result<()> {
        for (request, batch) in (1..).zip(wanted.chunks(SUBSCRIBE_BATCH_MAX)) {
            let subscribe = Subscribe {
                request: RequestId(request),
                wanted: batch.to_vec(),
            };
            self.send(Frame::Subscribe(subscribe).to_vec().into())
                .await?;
            self.answer("subscribed").await?;
        }
        Ok(())
    }

    /// Sends whole frames.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send(&mut self, frames: Bytes) -> anyhow::Result<()> {
        let mut batch = Batch::new();
        batch.push(frames);
        poll_fn(|cx| {
            self.connection
                .writer
                .poll_send(cx, Lane::Interactive, &mut batch)
        })
        .await?;
        Ok(())
    }

    /// Waits until `len` more bytes have come.
    ///
    /// # Errors
    /// When the connection ends before, or more has come than that.
    pub async fn receive(&mut self, len: usize) -> anyhow::Result<()> {
        let mut received = 0;
        while received < len {
            self.buffer.clear();
            received += self.read().await?;
        }
        self.buffer.clear();
        ensure!(received == len, "{received} bytes came instead of {len}");
        Ok(())
    }

    /// Asks whether the broker is there, and waits for the answer.
    ///
    /// # Errors
    /// When the connection has ended or another frame comes first.
    pub async fn ping(&mut self) -> anyhow::Result<()> {
        let ping = Frame::Ping(Ping { token: 1 });
        self.send(ping.to_vec().into()).await?;
        self.answer("pong").await
    }

    /// Moves a QUIC connection to another UDP port of this machine.
    ///
    /// # Errors
    /// When the connection is of another kind, or no port can be had.
    pub fn change_address(&self) -> anyhow::Result<()> {
        let rebind = &self.connection.info.rebind;
        let rebind = rebind
            .as_ref()
            .ok_or_else(|| anyhow!("only QUIC can move"))?;
        rebind.rebind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(())
    }

    async fn read(&mut self) -> anyhow::Result<usize> {
        let Self { connection, buffer } = self;
        match poll_fn(|cx| connection.reader.poll_recv(cx, Lane::Interactive, buffer)).await? {
            0 => bail!("the broker closed the connection"),
            len => Ok(len),
        }
    }

    /// Waits for the one frame that must come next.
    async fn answer(&mut self, expected: &str) -> anyhow::Result<()> {
        loop {
            if let Some((body, len)) = codec::split_frame(&self.buffer, FRAME_LEN_MAX)? {
                let frame = Frame::decode(body)?;
                ensure!(
                    frame.name() == expected,
                    "{frame:?} came instead of {expected}"
                );
                ensure!(len == self.buffer.len(), "something came after {expected}");
                self.buffer.clear();
                return Ok(());
            }
            self.read().await?;
        }
    }
}

/// Publish frames for messages of `payload_len` bytes, one to each subject in turn.
///
/// # Panics
/// When there is no subject.
pub fn publishes(subjects: &[&str], payload_len: usize, count: usize) -> Bytes {
    let payload = vec![b'x'; payload_len];
    let mut out = Vec::new();
    for subject in subjects.iter().copied().cycle().take(count) {
        let message = message_to(subject, &payload);
        Frame::Publish(Publish {
            request: None,
            unreliable: false,
            fragment: None,
            message,
        })
        .encode(&mut out);
    }
    assert_eq!(out.is_empty(), count == 0, "messages need a subject");
    out.into()
}

/// Length of the deliver frame that such a message becomes, in bytes.
///
/// # Errors
/// When the message cannot be cut out of its publish frame, which is always possible.
pub fn delivery_len(subject: &str, payload_len: usize, subscription: u32) -> anyhow::Result<usize> {
    let publish = publishes(&[subject], payload_len, 1);
    let body = publish
        .get(codec::LEN_FIELD..)
        .ok_or_else(|| anyhow!("a frame has a length"))?;
    let view = message::PublishView::decode(body)?;
    let mut deliver = Vec::new();
    message::put_deliver(
        &mut deliver,
        SubscriptionId(subscription),
        false,
        None,
        view.section,
    );
    Ok(deliver.len())
}

/// A plain message.
pub fn message_to<'a>(subject: &'a str, payload: &'a [u8]) -> Message<'a> {
    Message {
        subject,
        reply: None,
        encoding: 0,
        headers: None,
        payload,
    }
}

/// A plain subscription under a number.
pub fn wanted(id: u32, pattern: &str) -> Wanted {
    Wanted {
        id: SubscriptionId(id),
        ..Wanted::new(pattern)
    }
}
