//! A broker on a port of its own, and a peer that speaks to it by hand.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dialtone_broker::auth::Authenticate;
use dialtone_broker::auth::open::Open;
use dialtone_broker::{Broker, Config, Handle, Listen};
use dialtone_client::{Client, Options};
use dialtone_protocol::frame::handshake::MAGIC;
use dialtone_protocol::frame::{Credentials, Hello, Ping, Subscribe, Wanted};
use dialtone_protocol::{Frame, RequestId, SubscriptionId, codec};
use dialtone_transport::tls::{ClientTls, Roots, ServerTls};
use dialtone_transport::{
    Batch, Connection, DialOptions, Endpoint, Error, Lane, ListenOptions, dial,
};
use tokio_util::sync::CancellationToken;

/// Longest time that a step may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Ws,
    Wss,
    Quic,
}

/// A broker on a port of its own.
pub(crate) struct Site {
    pub(crate) broker: Handle,
    pub(crate) endpoint: Endpoint,
    pub(crate) tls: ClientTls,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl Site {
    pub(crate) async fn new(over: Over) -> Self {
        Self::with(over, Arc::new(Open::new())).await
    }

    /// With somebody who says who may connect.
    pub(crate) async fn with(over: Over, auth: Arc<dyn Authenticate>) -> Self {
        let tls = ServerTls::development(None).unwrap();
        let trust = ClientTls::new(Roots::Fingerprint(tls.fingerprint()));
        let endpoint = match over {
            Over::Ws => "ws://127.0.0.1:0",
            Over::Wss => "wss://127.0.0.1:0",
            Over::Quic => "quic://127.0.0.1:0",
        };
        let options = ListenOptions {
            tls: Some(tls),
            ..ListenOptions::default()
        };
        let listen = vec![Listen {
            endpoint: endpoint.parse().unwrap(),
            options,
        }];
        let config = Config {
            listen,
            drain_grace: Duration::from_secs(5),
            ..Config::default()
        };
        let broker = Broker::bind(config, auth).await.unwrap();
        let (handle, endpoint, stop) = (
            broker.handle(),
            broker.endpoints().remove(0),
            CancellationToken::new(),
        );
        #[expect(clippy::disallowed_methods, reason = "the test waits for it in `stop`")]
        let running = tokio::spawn(broker.run(stop.clone()));
        Self {
            broker: handle,
            endpoint,
            tls: trust,
            stop,
            running,
        }
    }

    pub(crate) fn options(&self) -> Options {
        Options::new(self.endpoint.to_string()).tls(self.tls.clone())
    }

    pub(crate) async fn client(&self) -> Client {
        self.options().connect().await.unwrap()
    }

    /// Ends the broker, which must not take long when its clients have gone.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.running)
            .await
            .expect("the broker does not end")
            .unwrap();
    }
}

/// A peer by hand, for what a client does not show.
pub(crate) struct Hand {
    pub(crate) connection: Connection,
    received: Vec<u8>,
}

impl Hand {
    pub(crate) async fn new(site: &Site) -> Self {
        let options = DialOptions {
            tls: site.tls.clone(),
            ..DialOptions::default()
        };
        let connection = dial(&site.endpoint, &options).await.unwrap();
        let mut hand = Self {
            connection,
            received: Vec::new(),
        };
        let credentials = Credentials::None;
        let hello = Hello {
            magic: MAGIC,
            version_min: 1,
            version_max: 1,
            client: "hand".to_owned(),
            credentials,
        };
        hand.send(&Frame::Hello(hello)).await;
        hand.until(|frame| matches!(frame, Frame::Welcome(_)).then_some(()))
            .await;
        hand
    }

    pub(crate) async fn subscribe(&mut self, pattern: &str) {
        let wanted = vec![Wanted {
            id: SubscriptionId(1),
            ..Wanted::new(pattern)
        }];
        self.send(&Frame::Subscribe(Subscribe {
            request: RequestId(1),
            wanted,
        }))
        .await;
        self.until(|frame| matches!(frame, Frame::Subscribed(_)).then_some(()))
            .await;
    }

    pub(crate) async fn send(&mut self, frame: &Frame<'_>) {
        self.send_bytes(&frame.to_vec()).await;
    }

    /// Sends bytes, whatever they are.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        let mut batch: Batch = [Bytes::copy_from_slice(bytes)].into_iter().collect();
        let writer = &mut self.connection.writer;
        std::future::poll_fn(|cx| writer.poll_send(cx, Lane::Interactive, &mut batch))
            .await
            .unwrap();
    }

    /// Reads until a frame is found.
    pub(crate) async fn until<T>(&mut self, mut found: impl FnMut(&Frame<'_>) -> Option<T>) -> T {
        let reading = async {
            loop {
                while let Some((body, len)) = codec::split_frame(&self.received, u32::MAX).unwrap()
                {
                    let result = found(&Frame::decode(body).unwrap());
                    self.received.drain(..len);
                    if let Some(result) = result {
                        return result;
                    }
                }
                let (reader, received) = (&mut self.connection.reader, &mut self.received);
                let read =
                    std::future::poll_fn(|cx| reader.poll_recv(cx, Lane::Interactive, received))
                        .await;
                assert!(read.unwrap() > 0, "the connection ended");
            }
        };
        tokio::time::timeout(PATIENCE, reading)
            .await
            .expect("the broker does not answer")
    }

    /// How the connection ends, when nothing more is said.
    pub(crate) async fn end(&mut self) -> Error {
        let Connection { reader, writer, .. } = &mut self.connection;
        let mut rest = Vec::with_capacity(1_000);
        let ending = std::future::poll_fn(|cx| reader.poll_recv(cx, Lane::Interactive, &mut rest));
        let end = tokio::time::timeout(PATIENCE, ending)
            .await
            .expect("the connection does not end");
        drop(std::future::poll_fn(|cx| writer.poll_close(cx, 0, "")).await);
        end.expect_err("it ends with a code")
    }

    pub(crate) async fn ping(&mut self, token: u64) {
        self.send(&Frame::Ping(Ping { token })).await;
        self.until(|frame| matches!(frame, Frame::Pong(pong) if pong.token == token).then_some(()))
            .await;
    }
}
