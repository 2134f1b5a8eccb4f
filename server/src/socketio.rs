//! Listeners for existing Conat clients, whose connections become connections of the broker.

use std::sync::Arc;

use dialtone_broker::Handle;
use dialtone_conat::cluster::Addresses;
use dialtone_conat::{Config, Gateway, Listener, Node};
use dialtone_transport::tls::ServerTls;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::config::{Place, Settings};
use crate::exit::{Exit, Failure};

/// The broker, as those listeners know it.
#[derive(Debug)]
struct Serves(Handle);

impl dialtone_conat::Broker for Serves {
    fn serve(&self, connection: dialtone_transport::Connection) {
        self.0.serve(connection);
    }
}

/// The listeners of a process.
#[derive(Debug)]
pub(crate) struct SocketIo {
    listeners: Vec<(Listener, Gateway)>,
}

impl SocketIo {
    /// Listens where the settings say.
    pub(crate) async fn bind(
        settings: &Settings,
        tls: Option<&ServerTls>,
        broker: &Handle,
    ) -> Result<Self, Failure> {
        let addresses = Addresses::default();
        let node = Node {
            id: broker.node().to_owned(),
            cluster: broker.cluster().map(|cluster| cluster.name().to_owned()),
            addresses: addresses.clone(),
        };
        let serves: Arc<dyn dialtone_conat::Broker> = Arc::new(Serves(broker.clone()));
        let mut listeners = Vec::new();
        for url in settings.listen.value.iter().filter_map(Place::socketio) {
            let listener = Listener::bind(url, tls.cloned()).await.map_err(|error| {
                Failure::new(Exit::Failure, error)
                    .hint("choose another address with --listen; port 0 takes any free port")
            })?;
            let config = config(settings, url);
            let gateway = Gateway::new(config, node.clone(), Arc::clone(&serves));
            listeners.push((listener, gateway));
        }
        let own = &settings.socketio_addresses.value;
        let found = || {
            listeners
                .iter()
                .map(|(listener, _)| listener.url().address())
        };
        addresses.set_own(if own.is_empty() {
            found().collect()
        } else {
            own.clone()
        });
        Ok(Self { listeners })
    }

    /// Where it listens.
    pub(crate) fn urls(&self) -> impl Iterator<Item = String> {
        self.listeners
            .iter()
            .map(|(listener, _)| listener.url().to_string())
    }

    /// Accepts clients until `stop`, and waits until the broker has ended their connections.
    pub(crate) async fn run(self, shards: Vec<tokio::runtime::Handle>, stop: CancellationToken) {
        let served = self.listeners.into_iter().map(|(listener, gateway)| {
            let (shards, stop) = (shards.clone(), stop.clone());
            async move {
                listener.run(gateway.clone(), shards, stop).await;
                gateway.ended().await;
            }
        });
        join_all(served).await;
    }
}

fn config(settings: &Settings, url: &dialtone_conat::Url) -> Config {
    let s = settings;
    let len = |size: crate::config::Size| usize::try_from(size.0).unwrap_or(usize::MAX);
    Config {
        base_path: url.base_path.clone(),
        max_payload: len(s.socketio_max_payload.value),
        subscriptions_max: s.socketio_subscriptions_max.value as usize,
        hub_subscriptions_max: s.socketio_hub_subscriptions_max.value as usize,
        ping_interval: s.socketio_ping_interval.value.get(),
        ping_timeout: s.socketio_ping_timeout.value.get(),
        allowed_origins: s.allowed_origins.value.clone(),
        handshakes_max: s.handshakes_max.value as usize,
        handshake_timeout: s.handshake_max.value.get(),
        ..Config::default()
    }
}
