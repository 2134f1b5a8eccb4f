//! The service: requests come in, streams decide, answers go out.

use std::sync::Arc;

use dialtone_client::persist::wire::NodeInfo;
use dialtone_client::persist::{StreamName, name};
use dialtone_client::{Client, Message, SubscribeError, Subscription};
use tokio::time::Instant;

mod admin;
mod consume;
mod dispatch;
mod list;
mod open;
pub(crate) mod quota;
mod read;
mod registry;
mod reply;
mod shared;
mod timers;
mod watch;
mod write;

use crate::backend::log::{self, Log};
use crate::backend::memory::Memory;
use crate::backend::{self, Backend};
use crate::config::{Config, Quotas, Store};
use crate::disk::{self, Folder};
use crate::latency::Latencies;
use crate::placement::{Alone, Placement};
use shared::Shared;

/// Most messages that are worked on before what they decided is stored, so that answers do not wait for ever.
const TURN_MAX: usize = 1_024;

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The name of the node is none.
    #[error("the name of a node has 1 to 64 letters, digits, `-` and `_`, and this is {0:?}")]
    Node(String),
    /// The folder of the log cannot be used.
    #[error(transparent)]
    Folder(#[from] disk::OpenError),
    /// The store cannot be opened.
    #[error("cannot open the store")]
    Store(#[source] backend::Error),
    /// The broker does not let the service in.
    #[error("cannot subscribe to {pattern}")]
    Subscribe {
        /// What was asked for.
        pattern: String,
        /// Why not.
        source: SubscribeError,
    },
}

/// A node of the service that has subscribed and not begun to answer.
#[derive(Debug)]
pub struct Persist {
    handle: Handle,
    calls: Subscription,
    own_calls: Subscription,
}

/// A running node, for other parts of the program. Cloning costs a reference count.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("node", &self.shared.config.node)
            .finish_non_exhaustive()
    }
}

impl Handle {
    /// The node in numbers.
    pub fn status(&self) -> NodeInfo {
        self.shared.status()
    }

    /// How long commits take, from their decision until they are as durable as was asked for.
    pub fn latency(&self) -> Latencies {
        self.shared.latency.get()
    }

    /// What owners may have from now on, whoever was heard of before. What somebody has beyond that stays.
    pub fn set_quotas(&self, quotas: Quotas) {
        self.shared.usages.set_quotas(quotas);
    }

    /// Closes a stream that this node may not have any longer: what is being decided ends, the next request asks the
    /// placement again. Returns when nothing more is written.
    pub async fn release(&self, stream: &StreamName) {
        self.shared.release(stream).await;
    }

    /// Closes every stream that the placement says this node does not hold, and waits until none of them is being
    /// opened either.
    pub async fn release_lost(&self) {
        registry::release_lost(&self.shared).await;
    }
}

impl Persist {
    /// Opens the store and subscribes.
    ///
    /// # Errors
    /// When the configuration is not valid, or the broker does not let the service subscribe.
    pub async fn bind(config: Config, client: Client) -> Result<Self, BindError> {
        if !is_node_name(&config.node) {
            return Err(BindError::Node(config.node));
        }
        let memory = Arc::new(Memory::new());
        let store = open_store(&config.store).await?;
        let placement: Arc<dyn Placement> = match &config.placement {
            Some(placement) => Arc::clone(placement),
            None => Arc::new(Alone::new(config.node.clone())),
        };
        let own_pattern = format!("persist.*.on.{}", config.node);
        let own_calls = subscribe(client.subscription(own_pattern.as_str()), &own_pattern).await?;
        let calls = client
            .subscription(name::CALL_PATTERN)
            .group(name::QUEUE_GROUP);
        let calls = subscribe(calls, name::CALL_PATTERN).await?;
        let shared = Shared::new(config, client, store, memory, placement);
        Ok(Self {
            handle: Handle {
                shared: Arc::new(shared),
            },
            calls,
            own_calls,
        })
    }

    /// A handle for other parts of the program.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Answers requests until `stop` is ready. Then no more are taken, what was taken is finished, those who wait are
    /// told, and the store is closed with everything that was acknowledged made durable; that takes at most
    /// [`Config::drain_max`], and the store as long as it needs.
    ///
    /// The node stops as well when its store has failed: what is on the disk is then known to its next start alone.
    ///
    /// # Errors
    /// When the store has failed or cannot be closed in good order, and when the broker ends the subscription.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), backend::Error> {
        let shared = Arc::clone(&self.handle.shared);
        tracing::info!(node = %shared.config.node, store = shared.store.name(), "persist runs");
        let background = &shared.background;
        drop(background.spawn(Arc::clone(&shared).complete_commits()));
        drop(background.spawn(timers::run(Arc::clone(&shared))));
        drop(background.spawn(timers::run_unused(Arc::clone(&shared))));
        drop(background.spawn(quota::run(Arc::clone(&shared))));
        background.close();
        let is_asked = self.serve(stop).await;
        let until = Instant::now() + shared.config.drain_max;
        self.drain(&shared).await;
        finish(&shared, until).await;
        shared.stopped.cancel();
        background.wait().await;
        let closed = shared.store.close().await;
        tracing::info!(node = %shared.config.node, "persist has ended");
        closed?;
        if is_asked {
            Ok(())
        } else {
            let text = "the broker has ended the subscription of the service";
            Err(backend::Error::Unavailable(text.to_owned()))
        }
    }

    /// Whether it ends because it was asked to.
    async fn serve(&mut self, stop: impl Future<Output = ()>) -> bool {
        tokio::pin!(stop);
        let shared = Arc::clone(&self.handle.shared);
        loop {
            let message = tokio::select! {
                message = self.calls.next() => message,
                message = self.own_calls.next() => message,
                () = &mut stop => return true,
                () = shared.failed.cancelled() => {
                    tracing::error!("the store accepts nothing more, so that the node stops");
                    return false;
                }
            };
            let Some(message) = message else {
                tracing::error!("the broker has ended the subscription of the service");
                return false;
            };
            self.turn(&shared, message);
            // Gives the driver and the commits their turn on a runtime of one thread.
            tokio::task::yield_now().await;
        }
    }

    /// Works on what is there, and then stores what was decided, so that writers who come together share a commit.
    fn turn(&mut self, shared: &Arc<Shared>, first: Message) {
        let mut touched = Vec::new();
        let mut next = Some(first);
        for _ in 0..TURN_MAX {
            let Some(message) = next else {
                break;
            };
            dispatch::receive(shared, message, &mut touched);
            next = self.calls.try_next().or_else(|| self.own_calls.try_next());
        }
        for stream in touched {
            shared.flush(&stream);
        }
    }

    /// Ends the subscriptions and refuses nothing that was sent before.
    async fn drain(&mut self, shared: &Arc<Shared>) {
        for subscription in [&mut self.calls, &mut self.own_calls] {
            subscription.drain().await;
            let mut touched = Vec::new();
            while let Some(message) = subscription.next().await {
                dispatch::receive(shared, message, &mut touched);
            }
            for stream in touched {
                shared.flush(&stream);
            }
        }
    }
}

/// Waits until every answer was given, or `until`.
async fn finish(shared: &Arc<Shared>, until: Instant) {
    shared.stopping.cancel();
    let settled = async {
        shared.tracker.close();
        shared.tracker.wait().await;
        for stream in shared.registry.all() {
            stream.settled().await;
        }
    };
    if tokio::time::timeout_at(until, settled).await.is_err() {
        tracing::warn!("stopping before every request was answered");
    }
    // What was answered is on its way to the broker when this returns.
    if let Err(error) = shared.client.flush().await {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "the broker has gone first"
        );
    }
}

async fn open_store(store: &Store) -> Result<Arc<dyn Backend>, BindError> {
    match store {
        Store::Memory => Ok(Arc::new(Memory::new())),
        Store::Open(backend) => Ok(Arc::clone(backend)),
        Store::Log(folder) => {
            let folder = folder.clone();
            let open = move || -> Result<Log, BindError> {
                let disk = Arc::new(Folder::open(folder)?);
                Log::open(disk, log::Config::default()).map_err(BindError::Store)
            };
            let opened = tokio::task::spawn_blocking(open).await;
            let panicked = |_panic| {
                let text = "opening the log ended early".to_owned();
                BindError::Store(backend::Error::Failed(text))
            };
            Ok(Arc::new(opened.map_err(panicked)??))
        }
    }
}

async fn subscribe(
    subscription: dialtone_client::Subscribe<'_>,
    pattern: &str,
) -> Result<Subscription, BindError> {
    subscription
        .subscribe()
        .await
        .map_err(|source| BindError::Subscribe {
            pattern: pattern.to_owned(),
            source,
        })
}

fn is_node_name(node: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !node.is_empty() && node.len() <= name::NODE_NAME_LEN_MAX && node.bytes().all(is_allowed)
}
