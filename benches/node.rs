//! A broker in this process, on the runtime of whoever measures it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use dialtone_broker::auth::open::Open;
use dialtone_broker::{Broker, Config, Handle, Listen};
use dialtone_client::{Client, Options};
use dialtone_protocol::session::Timing;
use dialtone_transport::tls::{ClientTls, Roots, ServerTls};
use dialtone_transport::{DialOptions, Endpoint, ListenOptions, dial, memory};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::peer::Peer;

/// What a pipe in memory holds in each direction, in bytes: more than any batch here.
const PIPE_LEN: usize = 8 << 20;

/// What carries the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// A pipe in this process.
    Memory,
    /// A WebSocket over plain TCP on the loopback interface.
    Ws,
    /// A WebSocket over TLS on the loopback interface.
    Wss,
    /// QUIC on the loopback interface.
    Quic,
}

impl Carrier {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Ws, Self::Wss, Self::Quic];

    /// The scheme of its URLs.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Quic => "quic",
        }
    }
}

/// A running broker that listens on every carrier, at ports of the system's choice.
#[derive(Debug)]
pub struct Node {
    runtime: tokio::runtime::Handle,
    handle: Handle,
    endpoints: Vec<Endpoint>,
    hub: memory::Hub,
    tls: ClientTls,
    stop: CancellationToken,
}

impl Node {
    /// A broker whose tasks run on `runtime`.
    ///
    /// # Errors
    /// When a loopback port cannot be had.
    pub fn start(runtime: &Runtime) -> anyhow::Result<Self> {
        let hub = memory::Hub::new();
        let tls = ServerTls::development(None)?;
        let options = ListenOptions {
            tls: Some(tls.clone()),
            hub: Some(hub.clone()),
            ..ListenOptions::default()
        };
        let mut listen = Vec::new();
        for url in [
            "memory:bench",
            "ws://127.0.0.1:0",
            "wss://127.0.0.1:0",
            "quic://127.0.0.1:0",
        ] {
            listen.push(Listen {
                endpoint: url.parse()?,
                options: options.clone(),
            });
        }
        // A peer that only receives would be asked whether it is there in the middle of a figure.
        let timing = Timing {
            ping_interval: Duration::from_hours(1),
            ..Timing::default()
        };
        let config = Config {
            listen,
            timing,
            drain_grace: Duration::ZERO,
            ..Config::default()
        };
        let broker = runtime.block_on(Broker::bind(config, Arc::new(Open::new())))?;
        let (handle, endpoints) = (broker.handle(), broker.endpoints());
        let stop = CancellationToken::new();
        drop(runtime.spawn(broker.run(stop.clone())));
        let tls = ClientTls::new(Roots::Fingerprint(tls.fingerprint()));
        Ok(Self {
            runtime: runtime.handle().clone(),
            handle,
            endpoints,
            hub,
            tls,
            stop,
        })
    }

    fn endpoint(&self, carrier: Carrier) -> anyhow::Result<&Endpoint> {
        let found = self
            .endpoints
            .iter()
            .find(|endpoint| endpoint.scheme() == carrier.scheme());
        found.ok_or_else(|| anyhow!("the node does not listen on {}", carrier.scheme()))
    }

    /// A client, connected.
    ///
    /// # Errors
    /// When it cannot connect.
    pub async fn client(&self, carrier: Carrier) -> anyhow::Result<Client> {
        let options = Options::new(self.endpoint(carrier)?.to_string());
        Ok(options
            .hub(self.hub.clone())
            .tls(self.tls.clone())
            .connect()
            .await?)
    }

    /// A peer that speaks the protocol by hand, connected.
    ///
    /// # Errors
    /// When it cannot connect.
    pub async fn peer(&self, carrier: Carrier) -> anyhow::Result<Peer> {
        if carrier == Carrier::Memory {
            let (here, there) = memory::pair(PIPE_LEN);
            let _guard = self.runtime.enter();
            self.handle.serve(there);
            return Peer::open(here).await;
        }
        let options = DialOptions {
            tls: self.tls.clone(),
            ..DialOptions::default()
        };
        let connection = dial(self.endpoint(carrier)?, &options)
            .await
            .context("cannot dial the node")?;
        Peer::open(connection).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
