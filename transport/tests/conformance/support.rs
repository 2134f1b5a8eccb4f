//! A listener and diallers on this machine, and the loops around `poll_*`.

use std::future::poll_fn;

use dialtone_transport::memory::Hub;
use dialtone_transport::tls::{ClientTls, Roots, ServerTls};
use dialtone_transport::{
    Batch, Connection, DialError, DialOptions, Error, HandshakeError, Lane, ListenOptions,
    Listener, Reader, Writer, dial,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Memory,
    Ws,
    Wss,
    Quic,
}

/// A listener with options for diallers that it will let in.
pub(crate) struct Link {
    pub(crate) listener: Listener,
    pub(crate) dialling: DialOptions,
}

impl Link {
    pub(crate) async fn new(over: Over) -> Self {
        Self::with(over, ListenOptions::default()).await
    }

    pub(crate) async fn with(over: Over, mut options: ListenOptions) -> Self {
        let hub = Hub::new();
        let tls = options
            .tls
            .get_or_insert_with(|| ServerTls::development(None).unwrap());
        let dialling = DialOptions {
            tls: ClientTls::new(Roots::Fingerprint(tls.fingerprint())),
            hub: Some(hub.clone()),
            ..DialOptions::default()
        };
        options.hub = Some(hub);
        let endpoint = match over {
            Over::Memory => "memory:test",
            Over::Ws => "ws://127.0.0.1:0",
            Over::Wss => "wss://localhost:0",
            Over::Quic => "quic://127.0.0.1:0",
        };
        let listener = Listener::bind(&endpoint.parse().unwrap(), &options)
            .await
            .unwrap();
        Self { listener, dialling }
    }

    pub(crate) async fn dial(&self) -> Result<Connection, DialError> {
        dial(self.listener.local_endpoint(), &self.dialling).await
    }

    pub(crate) async fn accept(&self) -> Result<Connection, HandshakeError> {
        self.listener.accept().await.unwrap().establish().await
    }

    /// The dialling end and the listening end.
    pub(crate) async fn pair(&self) -> (Connection, Connection) {
        let (client, server) = tokio::join!(self.dial(), self.accept());
        (client.unwrap(), server.unwrap())
    }
}

pub(crate) async fn send(writer: &mut Writer, lane: Lane, batch: &mut Batch) -> Result<(), Error> {
    poll_fn(|cx| writer.poll_send(cx, lane, batch)).await
}

pub(crate) async fn receive(
    reader: &mut Reader,
    lane: Lane,
    buf: &mut Vec<u8>,
) -> Result<usize, Error> {
    poll_fn(|cx| reader.poll_recv(cx, lane, buf)).await
}

pub(crate) async fn receive_exactly(reader: &mut Reader, lane: Lane, len: usize) -> Vec<u8> {
    let mut buf = Vec::with_capacity(len);
    while buf.len() < len {
        assert!(
            receive(reader, lane, &mut buf).await.unwrap() > 0,
            "ended after {} of {len} bytes",
            buf.len()
        );
    }
    assert_eq!(buf.len(), len);
    buf
}

/// Everything until the end, and how it ended.
pub(crate) async fn receive_all(reader: &mut Reader) -> (Vec<u8>, Result<(), Error>) {
    let mut buf = Vec::new();
    loop {
        buf.reserve(64 << 10);
        match receive(reader, Lane::Interactive, &mut buf).await {
            Ok(0) => return (buf, Ok(())),
            Ok(_) => {}
            Err(error) => return (buf, Err(error)),
        }
    }
}

/// Bytes that depend on nothing but the seed.
pub(crate) fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    StdRng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes
}
