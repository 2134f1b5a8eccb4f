//! A broker, its peers and clients, and the links between them, in one place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dialtone_broker::auth::Authenticate;
use dialtone_broker::auth::open::Open;
use dialtone_broker::{Broker, Config, Handle};
use dialtone_client::{Client, ConnectError, Options};
use dialtone_protocol::frame::Credentials;
use dialtone_protocol::session::Timing;
use dialtone_transport::memory::Hub;
use dialtone_transport::{Connection, ListenOptions, Listener};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::link::{Link, Manner};
use crate::peer::{NotWelcome, Peer};
use crate::relay;

/// Where clients of a world dial.
pub const ADDRESS: &str = "memory:broker";

/// The broker's defaults, except that silent peers are not asked whether they are there: a peer that is driven by hand
/// answers only while somebody reads from it.
pub fn patient() -> Config {
    let timing = Timing {
        ping_interval: Duration::from_hours(24),
        ..Timing::default()
    };
    Config {
        timing,
        ..Config::default()
    }
}

/// See the module.
#[derive(Debug)]
pub struct World {
    broker: Handle,
    shared: Arc<Shared>,
    stop: CancellationToken,
    running: TaskTracker,
}

/// What the network knows.
#[derive(Debug)]
struct Shared {
    seed: u64,
    manner: Mutex<Manner>,
    next_link: AtomicU64,
    links: Mutex<Vec<Link>>,
    hub: Hub,
}

impl World {
    /// An open broker on an ideal network, with the defaults of [`patient`].
    pub async fn new(seed: u64) -> Self {
        Self::open(seed, patient()).await
    }

    /// An open broker with a configuration.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    pub async fn open(seed: u64, config: Config) -> Self {
        Self::with(seed, config, Arc::new(Open::new())).await
    }

    /// A broker of one's own. It has the name `n1` unless the configuration says otherwise, and no listeners.
    ///
    /// # Panics
    /// When the configuration is not valid, which is the test's mistake.
    pub async fn with(seed: u64, config: Config, auth: Arc<dyn Authenticate>) -> Self {
        let config = Config {
            node: config.node.or_else(|| Some("n1".to_owned())),
            ..config
        };
        let broker = Broker::bind(config, auth)
            .await
            .expect("the test's configuration is valid");
        let shared = Arc::new(Shared {
            seed,
            manner: Mutex::new(Manner::ideal()),
            next_link: AtomicU64::new(0),
            links: Mutex::default(),
            hub: Hub::new(),
        });
        let (handle, stop, running) = (
            broker.handle(),
            CancellationToken::new(),
            TaskTracker::new(),
        );
        running.spawn(broker.run(stop.clone()));
        running.close();
        let options = ListenOptions {
            hub: Some(shared.hub.clone()),
            ..ListenOptions::default()
        };
        let address = ADDRESS.parse().expect("the address is valid");
        let listener = Listener::bind(&address, &options)
            .await
            .expect("the hub is new");
        let network = TaskTracker::new();
        network.spawn(accept(
            listener,
            Arc::clone(&shared),
            handle.clone(),
            network.clone(),
        ));
        // The broker is ready when its task has run for the first time.
        tokio::task::yield_now().await;
        Self {
            broker: handle,
            shared,
            stop,
            running,
        }
    }

    /// The broker.
    pub fn broker(&self) -> &Handle {
        &self.broker
    }

    /// Sets how links behave that are made from here on.
    pub fn network(&self, manner: Manner) {
        *self.shared.manner.lock() = manner;
    }

    /// A connection to the broker that nobody has said hello on.
    pub fn connect(&self) -> Connection {
        self.connect_on(&self.shared.manner.lock().clone()).0
    }

    /// As [`connect`](Self::connect), over a link of another manner, with a hand on it.
    pub fn connect_on(&self, manner: &Manner) -> (Connection, Link) {
        let (here, there, link) = self.shared.link(manner);
        self.broker.serve(there);
        (here, link)
    }

    /// A peer without credentials.
    ///
    /// # Panics
    /// When the broker does not welcome it.
    pub async fn peer(&self) -> Peer {
        Peer::hello(self.connect(), Credentials::None)
            .await
            .expect("the broker is open")
    }

    /// A peer without credentials over a link of another manner.
    ///
    /// # Panics
    /// When the broker does not welcome it.
    pub async fn peer_on(&self, manner: &Manner) -> (Peer, Link) {
        let (connection, link) = self.connect_on(manner);
        (
            Peer::hello(connection, Credentials::None)
                .await
                .expect("the broker is open"),
            link,
        )
    }

    /// A peer with a token.
    ///
    /// # Errors
    /// When the broker does not welcome it.
    pub async fn user(&self, token: &str) -> Result<Peer, NotWelcome> {
        Peer::hello(self.connect(), Credentials::Token(token.to_owned())).await
    }

    /// Options for a client of this world.
    pub fn options(&self) -> Options {
        Options::new(ADDRESS).hub(self.shared.hub.clone())
    }

    /// A client with defaults.
    ///
    /// # Errors
    /// When it cannot connect.
    pub async fn client(&self) -> Result<Client, ConnectError> {
        self.options().connect().await
    }

    /// Cuts every link there is; returns how many were whole.
    pub fn cut_all(&self) -> usize {
        let links = self.shared.links.lock().clone();
        links
            .iter()
            .filter(|link| !link.is_cut())
            .map(Link::cut)
            .count()
    }

    /// Cuts every link but the one that was made first; returns how many were whole.
    pub fn cut_all_but_first(&self) -> usize {
        let links = self.shared.links.lock().clone();
        links
            .iter()
            .skip(1)
            .filter(|link| !link.is_cut())
            .map(Link::cut)
            .count()
    }

    /// Waits until the broker has ended.
    ///
    /// # Panics
    /// When it does not end within an hour.
    pub async fn ended(&self) {
        let ended = tokio::time::timeout(Duration::from_hours(1), self.running.wait()).await;
        assert!(ended.is_ok(), "the broker does not end");
    }

    /// Stops the broker and waits until it has ended; how long that took.
    ///
    /// # Panics
    /// When it does not end within an hour.
    pub async fn stop(&self) -> Duration {
        let began = tokio::time::Instant::now();
        self.stop.cancel();
        self.ended().await;
        began.elapsed()
    }
}

impl Shared {
    fn link(&self, manner: &Manner) -> (Connection, Connection, Link) {
        let number = self.next_link.fetch_add(1, Ordering::Relaxed);
        let (here, there, link) = Link::new(manner, self.seed.wrapping_mul(1_000_003) + number);
        self.links.lock().push(link.clone());
        (here, there, link)
    }
}

async fn accept(listener: Listener, shared: Arc<Shared>, broker: Handle, tasks: TaskTracker) {
    while let Ok(incoming) = listener.accept().await {
        let Ok(client) = incoming.establish().await else {
            continue;
        };
        let manner = shared.manner.lock().clone();
        let (here, there, _) = shared.link(&manner);
        broker.serve(there);
        tasks.spawn(relay::join(client, here));
    }
}
