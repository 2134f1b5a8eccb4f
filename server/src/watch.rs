//! What a process looks after beside its broker: when certificates end, and where other nodes are.

use std::net::SocketAddr;

use anyhow::Context as _;
use dialtone_broker::Handle;
use dialtone_transport::tls::ServerTls;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::Keys;
use crate::config::Settings;
use crate::discovery::{self, Names, Own, Seed};
use crate::exit::Failure;
use crate::expiry::{self, Shown};

/// See the head of the file.
pub(crate) struct Watch {
    cluster: Option<dialtone_broker::cluster::Handle>,
    /// A reload may change them.
    seeds: watch::Receiver<Vec<Seed>>,
    own: Own,
    dns_servers: Vec<SocketAddr>,
    /// What looks names up, where seeds have any.
    names: Option<Names>,
    tls: Option<ServerTls>,
    keys: Option<Keys>,
}

impl Watch {
    /// `seeds` are told anew when a reload changes them.
    ///
    /// # Errors
    /// The name servers cannot be asked.
    pub(crate) fn new(
        settings: &Settings,
        handle: &Handle,
        tls: Option<&ServerTls>,
        keys: Option<&Keys>,
        seeds: watch::Receiver<Vec<Seed>>,
    ) -> Result<Self, Failure> {
        let cluster = handle.cluster();
        let listens = cluster
            .as_ref()
            .map(dialtone_broker::cluster::Handle::endpoints);
        let advertised = settings.cluster_advertise.value.iter();
        let mut watch = Self {
            cluster,
            seeds,
            own: Own::new(
                listens.unwrap_or_default(),
                advertised.map(|link| link.0.clone()).collect(),
            ),
            dns_servers: settings.cluster_dns_servers.value.clone(),
            names: None,
            tls: tls.cloned(),
            keys: keys.filter(|keys| keys.files).cloned(),
        };
        if watch.cluster.is_some() {
            watch.look_up(&settings.cluster_seeds.value)?;
        }
        Ok(watch)
    }

    /// Prepares to look names up, if there are any among the seeds.
    fn look_up(&mut self, seeds: &[Seed]) -> anyhow::Result<()> {
        if self.names.is_none() && seeds.iter().any(Seed::is_name) {
            let names = Names::new(&self.dns_servers);
            let names =
                names.context("cannot look names up; cluster.dns_servers names the servers")?;
            self.names = Some(names);
        }
        Ok(())
    }

    /// Goes on until `end`.
    pub(crate) async fn run(mut self, end: CancellationToken) {
        let (tls, keys) = (self.tls.take(), self.keys.take());
        let listeners = async {
            if let Some(tls) = &tls {
                expiry::watch(tls, Shown::Clients, &end).await;
            }
        };
        let node = async {
            if let Some(keys) = &keys {
                expiry::watch(&keys.server, Shown::Nodes, &end).await;
            }
        };
        tokio::join!(self.discover(&end), listeners, node);
    }

    /// Tells the broker which nodes the seeds stand for, and looks names up again and again.
    async fn discover(&mut self, end: &CancellationToken) {
        let Some(cluster) = self.cluster.clone() else {
            return;
        };
        loop {
            let seeds = self.seeds.borrow_and_update().clone();
            if let Err(error) = self.look_up(&seeds) {
                tracing::error!("{error:#}");
            }
            let publish = |nodes| cluster.set_seeds(nodes);
            let (own, names) = (self.own.clone(), self.names.clone());
            let discovery = discovery::run(seeds, own, names, end.clone(), publish);
            let looking_up = async {
                discovery.await;
                end.cancelled().await;
            };
            let changed = tokio::select! {
                () = looking_up => return,
                changed = self.seeds.changed() => changed,
            };
            if changed.is_err() {
                // Nobody reloads any more: the broker has ended.
                return;
            }
        }
    }
}
