//! Listeners for existing Conat clients, whose connections become connections of the broker.

use std::sync::Arc;

use dialtone_broker::Handle;
use dialtone_client::{Client, Options, SubscribeError};
use dialtone_conat::cluster::Addresses;
use dialtone_conat::registry::Registry;
use dialtone_conat::sys::Sys;
use dialtone_conat::{Config, Gateway, Listener, Node, time};
use dialtone_transport::tls::ServerTls;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::config::{Place, Settings};
use crate::exit::{Exit, Failure};
use crate::persist::Inside;
use crate::shards::Shards;

/// The broker, as those listeners know it.
#[derive(Debug)]
struct Serves(Handle);

impl dialtone_conat::Broker for Serves {
    fn serve(&self, connection: dialtone_transport::Connection) {
        self.0.serve(connection);
    }

    fn join(&self, address: &str) -> Result<(), String> {
        let cluster = self.0.cluster().ok_or("this node belongs to no cluster")?;
        let endpoint = address
            .parse()
            .map_err(|error: dialtone_transport::EndpointError| error.to_string())?;
        cluster.join(endpoint);
        Ok(())
    }

    fn forget(&self, id: &str) -> Result<(), String> {
        let cluster = self.0.cluster().ok_or("this node belongs to no cluster")?;
        cluster.forget(id).map_err(|error| error.to_string())
    }
}

/// The listeners of a process.
#[derive(Debug)]
pub(crate) struct SocketIo {
    listeners: Vec<(Listener, Gateway)>,
    sys: Sys,
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
        let sys = Sys {
            node: node.clone(),
            registry: Arc::new(Registry::default()),
            broker: Arc::clone(&serves),
            answers: settings.system_password.value.is_some(),
        };
        let mut listeners = Vec::new();
        for url in settings.listen.value.iter().filter_map(Place::socketio) {
            let listener = Listener::bind(url, tls.cloned()).await.map_err(|error| {
                Failure::new(Exit::Failure, error)
                    .hint("choose another address with --listen; port 0 takes any free port")
            })?;
            let config = config(settings, url);
            let gateway = Gateway::new(
                config,
                node.clone(),
                Arc::clone(&sys.registry),
                Arc::clone(&serves),
            );
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
        Ok(Self { listeners, sys })
    }

    /// Where it listens.
    pub(crate) fn urls(&self) -> impl Iterator<Item = String> {
        self.listeners
            .iter()
            .map(|(listener, _)| listener.url().to_string())
    }

    /// Whether there is anything to do.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.listeners.is_empty() || self.sys.answers
    }

    /// How what administrators ask is heard, if anybody may ask.
    pub(crate) async fn dial(
        &self,
        inside: &Inside,
        broker: Handle,
        shards: &Shards,
        stop: CancellationToken,
    ) -> Result<Option<Options>, Failure> {
        let handles = shards.handles();
        let Some(shard) = handles.first().filter(|_| self.is_wanted()) else {
            return Ok(None);
        };
        let name = concat!("dialtone-sys/", env!("CARGO_PKG_VERSION"));
        inside.dial(broker, name, shard, stop).await.map(Some)
    }

    /// Accepts clients until `stop`, and waits until the broker has ended their connections. `inside` dials the broker
    /// for what administrators ask.
    pub(crate) async fn run(
        self,
        inside: Option<Options>,
        shards: Vec<tokio::runtime::Handle>,
        stop: CancellationToken,
    ) {
        let (sys, answering) = (self.sys, stop.clone());
        let tells_time = !self.listeners.is_empty();
        let sys = async {
            let Some(inside) = inside else { return };
            let served = async {
                let client = inside.connect().await?;
                let (served, told) = tokio::join!(
                    sys.serve(client.clone(), answering.clone()),
                    tell_time(client.clone(), tells_time, answering),
                );
                client.close().await;
                if let Err(error) = told {
                    let error = anyhow::Error::from(error);
                    tracing::error!("existing clients are not told the time: {error:#}");
                }
                anyhow::Ok(served?)
            };
            if let Err(error) = served.await {
                tracing::error!("administrators cannot ask this node: {error:#}");
            }
        };
        let served = self.listeners.into_iter().map(|(listener, gateway)| {
            let (shards, stop) = (shards.clone(), stop.clone());
            async move {
                listener.run(gateway.clone(), shards, stop).await;
                gateway.ended().await;
            }
        });
        tokio::join!(join_all(served), sys);
    }
}

/// Tells existing clients the time where there are some.
async fn tell_time(
    client: Client,
    tells_time: bool,
    stop: CancellationToken,
) -> Result<(), SubscribeError> {
    if tells_time {
        time::serve(client, stop).await
    } else {
        Ok(())
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
