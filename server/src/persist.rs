//! A node of the persist service in this process, beside a broker: a thread of its own, and a connection in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use dialtone_broker::auth::{Answer, Authenticate, Offer, Permissions, Principal};
use dialtone_client::{Client, Options, Refused};
use dialtone_persist::archive::{self, Location};
use dialtone_persist::backend::postgres;
use dialtone_persist::node::{Archiving, Keep, KeepLog};
use dialtone_persist::{Node, Store};
use dialtone_protocol::frame::{Action, Credentials};
use dialtone_transport::memory::Hub;
use dialtone_transport::{Endpoint, Kind, ListenOptions, Listener};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::exit::Failure;
use crate::shards;

/// Where the service dials.
const ADDRESS: &str = "memory:persist";

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
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    if let Some(url) = &s.persist_postgres.value {
        let password = s
            .persist_postgres_password
            .value
            .as_ref()
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
    log.nodes.clone_from(&s.persist_nodes.value);
    if let Some(place) = &s.persist_archive.value {
        let keys = s
            .persist_archive_keys
            .value
            .as_ref()
            .map(|path| keys(path, &read(path)?))
            .transpose()?;
        log.archive = Some(archiving(s, place, keys)?);
    }
    Ok(Keep::Log(Box::new(log)))
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

fn archiving(s: &Settings, place: &str, own_keys: Option<Keys>) -> anyhow::Result<Archiving> {
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
    let config = archive::Config {
        interval: s.persist_archive_interval.value.get(),
        bytes_per_second_max: s.persist_archive_rate.value.0,
        keep: s.persist_archive_keep.value.get(),
        ..archive::Config::default()
    };
    Ok(Archiving { location, config })
}

/// A running node.
#[derive(Debug)]
pub(crate) struct Embedded {
    stop: CancellationToken,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Embedded {
    /// Starts a node of this name, whose connection to the broker lives on `shard`. With `conat` it speaks the storage
    /// protocol of existing clients, too.
    pub(crate) async fn start(
        broker: dialtone_broker::Handle,
        inside: &Inside,
        node: String,
        keep: Keep,
        shard: &tokio::runtime::Handle,
        conat: bool,
    ) -> Result<Self, Failure> {
        let stop = CancellationToken::new();
        let config = dialtone_persist::Config::new(node, Store::Memory);
        let name = concat!("dialtone-persist/", env!("CARGO_PKG_VERSION"));
        let dial = inside.dial(broker, name, shard, stop.clone()).await?;
        let (ready, is_ready) = oneshot::channel();
        let stopping = stop.clone();
        let thread = std::thread::Builder::new()
            .name("persist".to_owned())
            .spawn(move || -> anyhow::Result<()> {
                let runtime = shards::current_thread()?;
                runtime.block_on(run(config, keep, dial, conat, ready, stopping))
            });
        let thread = thread.context("cannot start a thread for persist")?;
        is_ready
            .await
            .context("persist ended before it was ready")??;
        Ok(Self { stop, thread })
    }

    /// Stops in good order, and waits for it.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        joined.map_err(|_panic| anyhow::anyhow!("persist panicked"))?
    }
}

async fn run(
    config: dialtone_persist::Config,
    keep: Keep,
    dial: Options,
    conat: bool,
    ready: oneshot::Sender<anyhow::Result<()>>,
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
            drop(ready.send(Ok(())));
            bound
        }
        Err(error) => {
            drop(ready.send(Err(error)));
            return Ok(());
        }
    };
    let front = async {
        if conat {
            conat_storage(client.clone(), node, stop.clone()).await;
        }
    };
    let (ended, ()) = tokio::join!(persist.run(stop.cancelled()), front);
    client.close().await;
    ended.context("the store of persist was not closed in good order")
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
