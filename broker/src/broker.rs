//! Owns the tables and the tasks: bind, run, stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use dialtone_protocol::frame::{Addresses, Close, Drain};
use dialtone_protocol::{Code, ConnectionId, Frame, Limits};
use dialtone_transport::{Connection, Endpoint, Listener};
use parking_lot::RwLock;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept;
use crate::auth::Authenticate;
use crate::chance;
use crate::cluster::{self, Cluster};
use crate::config::{Config, Listen};
use crate::connection;
use crate::error::BindError;
use crate::interest::Waiting;
use crate::metrics::Metrics;
use crate::peer::{Order, Peer};
use crate::registry::{Inbox, Registry};
use crate::router::Router;
use crate::router::hash::stable_hash;
use crate::shards::Shards;

/// A broker that listens but does not accept yet.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    listeners: Vec<Listener>,
    node_listeners: Vec<Listener>,
}

/// What other parts of a program do with a running broker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) node: Arc<str>,
    /// The node as inboxes name it: with its cluster, where it belongs to one.
    pub(crate) inbox_node: Arc<str>,
    /// The stable hash of the node's name, by which all nodes choose alike.
    pub(crate) node_hash: u64,
    pub(crate) limits: RwLock<Limits>,
    pub(crate) router: Router<Arc<Peer>>,
    pub(crate) registry: Registry,
    pub(crate) waiting: Waiting,
    pub(crate) metrics: Metrics,
    pub(crate) auth: Arc<dyn Authenticate>,
    pub(crate) addresses: RwLock<Vec<String>>,
    pub(crate) listeners: RwLock<Vec<String>>,
    pub(crate) ready: AtomicBool,
    pub(crate) draining: AtomicBool,
    pub(crate) drain_requested: CancellationToken,
    pub(crate) started: Instant,
    pub(crate) next_fragment: AtomicU64,
    /// Counts changes of permissions, so that a handshake notices one that it overlaps.
    pub(crate) permissions_epoch: AtomicU64,
    pub(crate) tasks: TaskTracker,
    /// What links the node with others, which goes on while clients move.
    nodes: TaskTracker,
    pub(crate) shards: Shards,
    /// `None` on a node that stands alone.
    pub(crate) cluster: Option<Arc<Cluster>>,
    next_connection: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

impl Broker {
    /// Checks the configuration and listens. Everything that can fail at the start fails here.
    ///
    /// # Errors
    /// When the configuration contradicts itself or an address cannot be listened on.
    pub async fn bind(config: Config, auth: Arc<dyn Authenticate>) -> Result<Self, BindError> {
        let node = node_name(config.node.as_deref())?;
        check(&config)?;
        let shards = Shards::new(&config.shards);
        let mut listeners = Vec::with_capacity(config.listen.len());
        for (index, listen) in config.listen.iter().enumerate() {
            listeners.push(bind(listen.clone(), &shards.handle(shards.of_listener(index))).await?);
        }
        let mut node_listeners = Vec::new();
        for (index, listen) in cluster::listens(&config).into_iter().enumerate() {
            let shard = shards.handle(shards.of_listener(index));
            node_listeners.push(bind(listen, &shard).await?);
        }
        let urls: Vec<String> = listeners
            .iter()
            .map(|listener| listener.local_endpoint().to_string())
            .collect();
        let cluster = config.cluster.clone().map(|cluster| {
            let clients = if config.advertise.is_empty() {
                urls.clone()
            } else {
                config.advertise.clone()
            };
            Arc::new(Cluster::new(
                cluster,
                &node,
                endpoints(&node_listeners),
                clients,
            ))
        });
        let shared = Arc::new(Shared::new(config, node, auth, shards, cluster));
        *shared.listeners.write() = urls;
        Ok(Self {
            shared,
            listeners,
            node_listeners,
        })
    }

    /// For the other parts of the program.
    pub fn handle(&self) -> Handle {
        Handle {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Where the broker listens, with the ports that were chosen.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        endpoints(&self.listeners)
    }

    /// Accepts connections until `stop` is cancelled or a drain is asked for, then tells clients to
    /// move, gives them the configured grace, writes what is due, and returns.
    pub async fn run(self, stop: CancellationToken) {
        let shared = self.shared;
        let accepting = CancellationToken::new();
        for (index, listener) in self.listeners.into_iter().enumerate() {
            let shard = shared.shards.of_listener(index);
            let task = accept::run(listener, shard, Arc::clone(&shared), accepting.clone());
            shared.tasks.spawn_on(task, &shared.shards.handle(shard));
        }
        if let Some(cluster) = &shared.cluster {
            let task = cluster::run(
                Arc::clone(&shared),
                Arc::clone(cluster),
                self.node_listeners,
            );
            shared.nodes.spawn_on(task, &shared.shards.handle(0));
        }
        shared.ready.store(true, Ordering::Release);
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = shared.drain_requested.cancelled() => {}
        }
        shared.draining.store(true, Ordering::Release);
        accepting.cancel();
        drain(&shared).await;
        if let Some(cluster) = &shared.cluster {
            cluster.stop().await;
        }
        shared.nodes.close();
        shared.nodes.wait().await;
    }
}

fn endpoints(listeners: &[Listener]) -> Vec<Endpoint> {
    listeners
        .iter()
        .map(|listener| listener.local_endpoint().clone())
        .collect()
}

/// Listens on a shard, since a socket belongs to the runtime that it was made on.
async fn bind(listen: Listen, shard: &tokio::runtime::Handle) -> Result<Listener, BindError> {
    let endpoint = listen.endpoint.clone();
    let failed = |source| BindError::Listen {
        endpoint: Box::new(endpoint),
        source,
    };
    let bound = shard.spawn(async move { Listener::bind(&listen.endpoint, &listen.options).await });
    match bound.await {
        Ok(bound) => bound.map_err(failed),
        Err(stopped) => Err(BindError::Config {
            what: format!("a shard has stopped: {stopped}"),
        }),
    }
}

/// Tells every client to move, waits, and closes those that are left.
async fn drain(shared: &Arc<Shared>) {
    if let Some(cluster) = &shared.cluster {
        // Clients of other nodes are not to come here any more; links stay as long as clients do.
        cluster.set_client_addresses(Vec::new());
    }
    let grace = shared.config.drain_grace;
    let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
    tell_all(shared, || {
        Frame::Drain(Drain {
            addresses: shared.addresses_elsewhere(),
            grace_ms,
        })
    });
    shared.tasks.close();
    if tokio::time::timeout(grace, shared.tasks.wait())
        .await
        .is_ok()
    {
        return;
    }
    for peer in shared.registry.all() {
        peer.order(Order::Close(Close {
            code: Code::Draining,
            text: "the node is going away".into(),
        }));
    }
    shared.tasks.wait().await;
}

/// Tells every client something, made anew for each.
fn tell_all(shared: &Shared, frame: impl Fn() -> Frame<'static>) {
    for peer in shared.registry.all() {
        if peer.outbox.push_frame(&frame()).claimed {
            peer.outbox.flush();
        }
    }
}

impl Handle {
    /// The provider's opinion of a principal has changed; `None` means of everybody. Their
    /// connections ask again: subscriptions that are no longer permitted end, and connections of
    /// principals that are refused are closed.
    pub fn permissions_changed(&self, identity: Option<&str>) {
        self.shared.permissions_epoch.fetch_add(1, Ordering::AcqRel);
        for peer in self.shared.registry.all() {
            if identity.is_none_or(|identity| *peer.about.identity == *identity) {
                peer.order(Order::Refresh);
            }
        }
    }

    /// Ends a connection; `false` when there is none of that number.
    pub fn kick(&self, id: ConnectionId, text: &str) -> bool {
        let Some(peer) = self.shared.registry.get(id) else {
            return false;
        };
        peer.order(Order::Close(Close {
            code: Code::Kicked,
            text: text.to_owned(),
        }));
        true
    }

    /// What new connections are granted from here on.
    pub fn set_limits(&self, limits: Limits) {
        *self.shared.limits.write() = limits;
    }

    /// Where else the broker can be reached; told to all clients.
    pub fn set_addresses(&self, addresses: Vec<String>) {
        (*self.shared.addresses.write()).clone_from(&addresses);
        if let Some(cluster) = &self.shared.cluster {
            cluster.set_client_addresses(addresses);
        }
        self.shared.tell_addresses();
    }

    /// Begins to drain, as if the node were stopped.
    pub fn drain(&self) {
        self.shared.drain_requested.cancel();
    }

    /// Whether [`drain`](Self::drain) was called, or `sys.drain` asked.
    pub fn was_asked_to_drain(&self) -> bool {
        self.shared.drain_requested.is_cancelled()
    }

    /// Serves a connection that was established elsewhere, such as one end of an in-memory pair or
    /// a WebSocket that somebody else's web server has accepted. Must be called inside a runtime.
    pub fn serve(&self, connection: Connection) {
        let shared = Arc::clone(&self.shared);
        shared.metrics.accepted.add(1);
        let task = connection::serve(connection, Arc::clone(&shared), None, None);
        shared.tasks.spawn(task);
    }

    /// The node's cluster; `None` on a node that stands alone.
    pub fn cluster(&self) -> Option<cluster::Handle> {
        let cluster = self.shared.cluster.as_ref()?;
        Some(cluster::Handle::new(Arc::clone(cluster)))
    }

    /// The node's name.
    pub fn node(&self) -> &str {
        &self.shared.node
    }
}

impl Shared {
    fn new(
        config: Config,
        node: Arc<str>,
        auth: Arc<dyn Authenticate>,
        shards: Shards,
        cluster: Option<Arc<Cluster>>,
    ) -> Self {
        Self {
            inbox_node: match &cluster {
                Some(cluster) => cluster.inbox_node(&node),
                None => Arc::clone(&node),
            },
            node_hash: stable_hash(&[node.as_bytes()]),
            cluster,
            limits: RwLock::new(config.limits.clone()),
            addresses: RwLock::new(config.advertise.clone()),
            config,
            node,
            router: Router::default(),
            registry: Registry::default(),
            waiting: Waiting::default(),
            metrics: Metrics::default(),
            auth,
            listeners: RwLock::new(Vec::new()),
            ready: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            drain_requested: CancellationToken::new(),
            started: Instant::now(),
            next_fragment: AtomicU64::new(1),
            permissions_epoch: AtomicU64::new(0),
            tasks: TaskTracker::new(),
            nodes: TaskTracker::new(),
            shards,
            next_connection: AtomicU64::new(1),
        }
    }

    /// Somebody has begun or ended a subscription to a pattern.
    #[inline]
    pub(crate) fn interest_changed(&self, pattern: &str) {
        if let Some(cluster) = &self.cluster {
            cluster.changed_here(self, pattern);
        }
    }

    /// Where else clients reach the broker: this node, and the others of its cluster.
    pub(crate) fn client_addresses(&self) -> Vec<String> {
        let mut addresses = self.addresses.read().clone();
        addresses.append(&mut self.addresses_of_others());
        addresses
    }

    /// Where clients are to go when they cannot stay here.
    fn addresses_elsewhere(&self) -> Vec<String> {
        let others = self.addresses_of_others();
        if others.is_empty() {
            return self.addresses.read().clone();
        }
        others
    }

    /// Where clients reach the other nodes, in another order each time, so that the clients of a
    /// node spread over the others when it goes.
    fn addresses_of_others(&self) -> Vec<String> {
        let Some(cluster) = &self.cluster else {
            return Vec::new();
        };
        let own = self.addresses.read();
        let mut others = cluster.client_addresses();
        others.retain(|other| !own.contains(other));
        others.shuffle(&mut StdRng::seed_from_u64(chance::number()));
        others
    }

    /// Tells all clients where else the broker can be reached.
    pub(crate) fn tell_addresses(&self) {
        tell_all(self, || {
            let addresses = self.client_addresses();
            Frame::Addresses(Addresses { addresses })
        });
    }

    /// Whose inbox the bytes of a subject lie in.
    #[inline]
    pub(crate) fn find_inbox(&self, subject: &[u8]) -> Inbox {
        self.registry
            .find_inbox(&self.inbox_node, subject, |node| match &self.cluster {
                Some(cluster) => cluster.find_inbox(node),
                None => Inbox::No,
            })
    }

    pub(crate) fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed))
    }
}

fn node_name(configured: Option<&str>) -> Result<Arc<str>, BindError> {
    let Some(name) = configured else {
        return Ok(format!("n{:08x}", rand::random::<u32>()).into());
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=64).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(name.into());
    }
    Err(BindError::NodeName {
        name: name.to_owned(),
    })
}

fn check(config: &Config) -> Result<(), BindError> {
    let wrong = |what: String| Err(BindError::Config { what });
    let needed = dialtone_protocol::session::server::frame_len_needed(&config.limits);
    if needed > u64::from(config.limits.frame_len_max) {
        return wrong(format!(
            "frame_len_max must be at least {needed} for fragments of {} bytes with their headers",
            config.limits.fragment_len_max
        ));
    }
    let outbox = &config.outbox;
    if !(outbox.low_bytes < outbox.high_bytes && outbox.high_bytes < outbox.max_bytes) {
        return wrong("outbox bytes must rise from low to high to max".to_owned());
    }
    if let Some(cluster) = &config.cluster {
        return cluster::check(cluster, needed).or_else(wrong);
    }
    Ok(())
}
