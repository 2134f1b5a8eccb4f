//! A node of the persist service in this process, beside a broker: a thread of its own, and a connection in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use dialtone_broker::auth::{Answer, Authenticate, Offer, Permissions, Principal};
use dialtone_client::{Client, Options, Refused};
use dialtone_hub::joined;
use dialtone_persist::archive::{self, Location};
use dialtone_persist::backend::{log, postgres};
use dialtone_persist::node::{Archiving, Keep, KeepLog};
use dialtone_persist::{Handle, Node, Store};
use dialtone_protocol::frame::{Action, Credentials};
use dialtone_transport::memory::Hub;
use dialtone_transport::{Endpoint, Kind, ListenOptions, Listener};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::exit::Failure;
use crate::shards;

mod quotas;
pub(crate) use quotas::{QUOTA_KEYS, quotas};

mod watched;
pub(crate) use watched::Watched;

/// Where the service dials.
const ADDRESS: &str = "memory:persist";

/// What the service calls itself.
const NAME: &str = concat!("dialtone-persist/", env!("CARGO_PKG_VERSION"));

/// The folder of the log within the data folder.
pub(crate) const FOLDER: &str = "persist";

/// Lets the service in that runs in this process, whoever else may connect.
pub(crate) struct Inside {
    others: Arc<dyn Authenticate>,
    token: String,
}

impl Inside {
    /// Asks `others` about everybody else.
    pub(crate) fn new(others: Arc<dyn Authenticate>) -> Self {
        // 256 bits: nobody guesses it, and it ends with the process.
        let bytes: [u64; 4] = std::array::from_fn(|_| rand::random());
        let token = format!("{bytes:016x?}");
        Self { others, token }
    }

    fn is_it(&self, offer: &Offer<'_>) -> bool {
        let is_token =
            matches!(offer.credentials, Credentials::Token(token) if *token == self.token);
        offer.info.kind == Kind::Memory && is_token
    }

    fn principal() -> Principal {
        Principal::new("persist", Permissions::All)
    }

    /// How a part of this process of that name dials the broker, until `stop`. Its connections live on `shard`.
    pub(crate) async fn dial(
        &self,
        broker: dialtone_broker::Handle,
        name: &str,
        shard: &tokio::runtime::Handle,
        stop: CancellationToken,
    ) -> Result<Options, Failure> {
        let hub = Hub::new();
        let options = ListenOptions {
            hub: Some(hub.clone()),
            ..ListenOptions::default()
        };
        let address: Endpoint = ADDRESS.parse().context("the address within the process")?;
        let listener = Listener::bind(&address, &options).await;
        let listener = listener.context("cannot listen in memory")?;
        drop(shard.spawn(accept(listener, broker, stop)));
        let dial = Options::new(ADDRESS).hub(hub).name(name);
        Ok(dial.token(self.token.as_str()))
    }
}

impl Authenticate for Inside {
    fn authenticate<'a>(&'a self, offer: Offer<'a>) -> Answer<'a, Result<Principal, Refused>> {
        if self.is_it(&offer) {
            return Box::pin(std::future::ready(Ok(Self::principal())));
        }
        self.others.authenticate(offer)
    }

    fn authorize<'a>(
        &'a self,
        principal: &'a Principal,
        action: Action,
        subject: &'a str,
    ) -> Answer<'a, bool> {
        self.others.authorize(principal, action, subject)
    }

    fn refresh<'a>(&'a self, principal: &'a Principal) -> Answer<'a, Result<Principal, Refused>> {
        if principal.identity == Self::principal().identity {
            return Box::pin(std::future::ready(Ok(Self::principal())));
        }
        self.others.refresh(principal)
    }
}

/// Where streams are kept: in a log in `folder`, unless the settings name a database.
pub(crate) fn keep(settings: &Settings, folder: PathBuf) -> anyhow::Result<Keep> {
    let s = settings;
    if let Some(url) = &s.persist_postgres.value {
        let password = s
            .persist_postgres_password
            .value
            .as_deref()
            .map(read)
            .transpose()?;
        let config = postgres::Config {
            url: url.clone(),
            password: password.map(|text| text.trim_end_matches(['\r', '\n']).to_owned()),
            connections_max: s.persist_postgres_connections.value.into(),
            ..postgres::Config::default()
        };
        let lease = s.persist_lease.value.get();
        return Ok(Keep::Postgres { config, lease });
    }
    let mut log = KeepLog::new(folder);
    log.config = log_config(s);
    log.nodes.clone_from(&s.persist_nodes.value);
    log.archive = archive_location(s)?.map(|location| Archiving {
        location,
        config: archive::Config {
            interval: s.persist_archive_interval.value.get(),
            bytes_per_second_max: s.persist_archive_rate.value.0,
            keep: s.persist_archive_keep.value.get(),
            ..archive::Config::default()
        },
    });
    Ok(Keep::Log(Box::new(log)))
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// How the log is kept.
fn log_config(s: &Settings) -> log::Config {
    let default = log::Config::default();
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    log::Config {
        segment_len_max: s.persist_segment_len.value.0,
        reserve: s.persist_reserve.value,
        compress_len_min: match s.persist_compress_len.value.0 {
            0 => usize::MAX,
            min => bytes(min),
        },
        waiting_bytes_max: bytes(s.persist_waiting_bytes.value.0),
        free_bytes_min: s.persist_free_bytes.value.0,
        checkpoint_bytes: s.persist_checkpoint_bytes.value.0,
        compact_live_percent: u8::try_from(s.persist_compact_percent.value).unwrap_or(u8::MAX),
        compact_bytes_per_second: s.persist_compact_rate.value.0,
        workers: match s.persist_workers.value {
            0 => default.workers,
            workers => workers.into(),
        },
        ..default
    }
}

/// How the service runs.
pub(crate) fn service(s: &Settings) -> anyhow::Result<dialtone_persist::Config> {
    let node = s.persist_node.value.clone().unwrap_or_else(|| node(s));
    let mut config = dialtone_persist::Config::new(node, Store::Memory);
    let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    config.quotas = quotas(s)?;
    config.streams_open_max = count(s.persist_streams_open.value);
    config.idle_max = s.persist_idle_max.value.get();
    config.requests_max = count(s.persist_requests_max.value);
    Ok(config)
}

/// The id of an access key and its secret.
type Keys = (String, String);

fn keys(path: &Path, text: &str) -> anyhow::Result<Keys> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let [id, secret] = lines[..] else {
        anyhow::bail!(
            "{} must have two lines, the id of the access key and its secret",
            path.display()
        );
    };
    Ok((id.to_owned(), secret.to_owned()))
}

/// Where the archive is, if there is one.
pub(crate) fn archive_location(settings: &Settings) -> anyhow::Result<Option<Location>> {
    let s = settings;
    let Some(place) = &s.persist_archive.value else {
        return Ok(None);
    };
    let own_keys = s.persist_archive_keys.value.as_deref();
    let own_keys = own_keys.map(|path| keys(path, &read(path)?)).transpose()?;
    let mut location: Location = place.parse().map_err(anyhow::Error::msg)?;
    if let Location::S3 {
        endpoint,
        region,
        keys,
        ..
    } = &mut location
    {
        endpoint.clone_from(&s.persist_archive_endpoint.value);
        region.clone_from(&s.persist_archive_region.value);
        *keys = own_keys;
    }
    Ok(Some(location))
}

/// A running node.
#[derive(Debug)]
pub(crate) struct Embedded {
    stop: CancellationToken,
    ended: CancellationToken,
    thread: JoinHandle<anyhow::Result<()>>,
    handle: Handle,
}

impl Embedded {
    /// Starts a node of this name, whose connection to the broker lives on `shard`. With `conat` it speaks the storage
    /// protocol of existing clients, too.
    pub(crate) async fn start(
        broker: dialtone_broker::Handle,
        inside: &Inside,
        config: dialtone_persist::Config,
        keep: Keep,
        shard: &tokio::runtime::Handle,
        conat: bool,
    ) -> Result<Self, Failure> {
        let stop = CancellationToken::new();
        let dial = inside.dial(broker, NAME, shard, stop.clone()).await?;
        Self::at(dial, config, keep, conat, stop).await
    }

    /// Starts a node of this name at a broker of another process, which speaks the storage protocol of existing clients,
    /// too.
    pub(crate) async fn over_network(
        dial: Options,
        config: dialtone_persist::Config,
        keep: Keep,
    ) -> Result<Self, Failure> {
        let stop = CancellationToken::new();
        Self::at(dial.name(NAME), config, keep, true, stop).await
    }

    async fn at(
        dial: Options,
        config: dialtone_persist::Config,
        keep: Keep,
        conat: bool,
        stop: CancellationToken,
    ) -> Result<Self, Failure> {
        let (ready, is_ready) = oneshot::channel();
        let (stopping, ended) = (stop.clone(), CancellationToken::new());
        let is_running = ended.clone().drop_guard();
        let thread = std::thread::Builder::new()
            .name("persist".to_owned())
            .spawn(move || -> anyhow::Result<()> {
                let _is_running = is_running;
                let runtime = shards::current_thread()?;
                runtime.block_on(run(config, keep, dial, conat, ready, stopping))
            });
        let thread = thread.context("cannot start a thread for persist")?;
        let handle = is_ready
            .await
            .context("persist ended before it was ready")??;
        Ok(Self {
            stop,
            ended,
            thread,
            handle,
        })
    }

    /// The node, to be watched.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops in good order, and waits for it.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        joined.map_err(|_panic| anyhow::anyhow!("persist panicked"))?
    }
}

/// Is over when the node has ended by itself; never, if there is none. When a call asks for its end, it is stopped, and
/// the process goes on without it.
pub(crate) async fn until_failed(node: Option<&Embedded>, asked: Option<joined::Persist>) {
    let Some(node) = node else {
        return std::future::pending().await;
    };
    let Some(asked) = asked else {
        return node.ended.cancelled().await;
    };
    tokio::select! {
        () = node.ended.cancelled() => return,
        () = asked.asked.cancelled() => {}
    }
    // Whether it has failed is told where the process ends.
    node.stop.cancel();
    node.ended.cancelled().await;
    asked.ended.cancel();
    std::future::pending::<()>().await;
}

async fn run(
    config: dialtone_persist::Config,
    keep: Keep,
    dial: Options,
    conat: bool,
    ready: oneshot::Sender<anyhow::Result<Handle>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let node = config.node.clone();
    let bound = async {
        let client = dial.connect().await.context("cannot connect persist")?;
        let persist = Node::bind(config, keep, client.clone()).await?;
        anyhow::Ok((persist, client))
    };
    // Nobody waits any more when the start was given up.
    let (persist, client) = match bound.await {
        Ok(bound) => {
            drop(ready.send(Ok(bound.0.handle())));
            bound
        }
        Err(error) => {
            drop(ready.send(Err(error)));
            return Ok(());
        }
    };
    // Persist may end by itself, and then there is nothing to speak for.
    let front_end = stop.child_token();
    let front = async {
        if conat {
            conat_storage(client.clone(), node, front_end.clone()).await;
        }
    };
    let streams = async {
        let ended = persist.run(stop.cancelled()).await;
        front_end.cancel();
        ended
    };
    let (ended, ()) = tokio::join!(streams, front);
    client.close().await;
    Ok(ended?)
}

/// Speaks the storage protocol of existing clients until `stop`.
pub(crate) async fn conat_storage(client: Client, node: String, stop: CancellationToken) {
    let options = dialtone_conat::storage::Options::new(node);
    if let Err(error) = dialtone_conat::storage::serve(client, options, stop).await {
        tracing::error!("existing clients cannot reach their streams: {error:#}");
    }
}

async fn accept(listener: Listener, broker: dialtone_broker::Handle, stop: CancellationToken) {
    loop {
        let incoming = tokio::select! {
            incoming = listener.accept() => incoming,
            () = stop.cancelled() => return,
        };
        let Ok(incoming) = incoming else {
            return;
        };
        match incoming.establish().await {
            Ok(connection) => broker.serve(connection),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a connection in memory failed"
            ),
        }
    }
}

/// The name of the node beside a broker: the broker's where several nodes are known by their names.
fn node(settings: &Settings) -> String {
    match &settings.node.value {
        Some(name) if !settings.persist_nodes.value.is_empty() => node_name(name),
        Some(_) | None => node_of_machine(),
    }
}

/// The name of a node that was not given one: that of the machine, since it stays the same.
pub(crate) fn node_of_machine() -> String {
    let name = rustix::system::uname();
    node_name(&name.nodename().to_string_lossy())
}

/// The name of a node, of what something else is called.
fn node_name(other: &str) -> String {
    let name: String = other
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '-'
            }
        })
        .take(dialtone_client::persist::name::NODE_NAME_LEN_MAX)
        .collect();
    if name.is_empty() {
        "persist".to_owned()
    } else {
        name
    }
}
