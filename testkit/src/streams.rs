//! A persist service that keeps everything in memory and is obviously right: the oracle for programs that use one.
//!
//! It answers as `docs/persist.md` says, without regard for speed. Tests make it forget answers, move streams from one
//! node to another, and compact what it remembers of removals.

mod consumers;
mod reading;
mod state;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dialtone_client::persist::Owner;
use dialtone_client::persist::wire::{
    Fault, FaultKind, Fetch, NodeInfo, Nodes, Request, Watch, decode, encode,
};
use dialtone_client::{Client, Encoding, Headers, Message, SubscribeError};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use state::State;

/// Simulated time begins here, in milliseconds since 1970.
const EPOCH: u64 = 1_764_000_000_000;

/// How often those who wait look whether something has expired.
const LOOK: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug, Clone)]
pub struct Streams {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    began: Instant,
    /// So many requests are carried out and not answered.
    lose: AtomicU32,
    /// The node that has all streams.
    owner: Mutex<String>,
    tasks: TaskTracker,
}

impl Default for Streams {
    fn default() -> Self {
        Self::new()
    }
}

impl Streams {
    /// A service without nodes and streams.
    pub fn new() -> Self {
        let shared = Shared {
            state: Mutex::default(),
            changed: Notify::new(),
            began: Instant::now(),
            lose: AtomicU32::new(0),
            owner: Mutex::new("p1".to_owned()),
            tasks: TaskTracker::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Runs a node of the service; `p1` has the streams until they are [moved](Self::move_to).
    ///
    /// # Errors
    /// When the broker refuses its subscriptions.
    pub async fn serve(&self, client: &Client, node: &str) -> Result<(), SubscribeError> {
        let any = client
            .subscription("persist.*.call")
            .group("persist")
            .subscribe()
            .await?;
        let own = client.subscribe(format!("persist.*.on.{node}")).await?;
        for mut requests in [any, own] {
            let (shared, node) = (Arc::clone(&self.shared), node.to_owned());
            self.shared.tasks.spawn(async move {
                while let Some(message) = requests.next().await {
                    let (served, node) = (Arc::clone(&shared), node.clone());
                    shared
                        .tasks
                        .spawn(async move { served.answer(&node, message).await });
                }
            });
        }
        Ok(())
    }

    /// The next requests are carried out, but their answers are lost.
    pub fn lose_answers(&self, count: u32) {
        self.shared.lose.store(count, Ordering::Relaxed);
    }

    /// Another node has all streams from now on.
    pub fn move_to(&self, node: &str) {
        node.clone_into(&mut self.shared.owner.lock());
    }

    /// Forgets every removal, so that those who were away must begin anew.
    pub fn compact(&self) {
        self.shared.state.lock().compact();
    }

    /// The values that a stream's keys have.
    pub fn values(&self, stream: &str) -> Vec<(String, Vec<u8>)> {
        self.shared.state.lock().values(stream)
    }

    /// The payloads that a stream holds, in order.
    pub fn payloads(&self, stream: &str) -> Vec<Vec<u8>> {
        self.shared.state.lock().payloads(stream)
    }
}

impl Shared {
    fn now(&self) -> u64 {
        EPOCH + u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
    }

    async fn answer(&self, node: &str, message: Message) {
        let encoding = message.encoding();
        let answer = self.carry_out(node, &message).await;
        let lost = |left: u32| left.checked_sub(1);
        if self
            .lose
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, lost)
            .is_ok()
        {
            return;
        }
        let (headers, payload) = match answer {
            Ok(payload) => (Headers::new(), payload),
            Err(fault) => (fault.to_headers(), vec![0xc0]),
        };
        // Who asked may have gone.
        drop(message.respond_with(&headers, encoding, payload).await);
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other requests are answered elsewhere"
    )]
    async fn carry_out(&self, node: &str, message: &Message) -> Result<Vec<u8>, Fault> {
        let encoding = message.encoding();
        let request: Request = decode(message.payload(), encoding)
            .map_err(|error| Fault::new(FaultKind::BadRequest, error.to_string()))?;
        let owner = self.owner.lock().clone();
        if owner != node {
            return Err(Fault::new(FaultKind::Moved, "another node has it").node(owner));
        }
        let scope = message.subject().as_str().split('.').nth(1).unwrap_or("");
        let scope = Owner::from_scope(scope)
            .ok_or_else(|| Fault::new(FaultKind::Denied, "no such scope"))?;
        match request {
            Request::Watch(watch) => self.watch(&watch, encoding).await,
            Request::Fetch(fetch) => self.fetch(&fetch, encoding).await,
            Request::Nodes => {
                let nodes = vec![NodeInfo {
                    node: node.to_owned(),
                    alive: true,
                    backend: "model".to_owned(),
                    ..NodeInfo::default()
                }];
                written(&Nodes { nodes }, encoding)
            }
            request => {
                let answer = self
                    .state
                    .lock()
                    .simple(request, &scope, self.now(), encoding);
                self.changed.notify_waiters();
                answer
            }
        }
    }

    async fn watch(&self, watch: &Watch, encoding: Encoding) -> Result<Vec<u8>, Fault> {
        let deadline = Instant::now() + Duration::from_millis(watch.wait.into());
        let mut cursor = None;
        loop {
            let watched = self.state.lock().watch(watch, cursor, self.now())?;
            let there = !watched.changes.is_empty() || watched.resync || watched.more;
            if there || Instant::now() >= deadline {
                return written(&watched, encoding);
            }
            cursor = Some(watched.position);
            self.wait(deadline).await;
        }
    }

    async fn fetch(&self, fetch: &Fetch, encoding: Encoding) -> Result<Vec<u8>, Fault> {
        let deadline = Instant::now() + Duration::from_millis(fetch.wait.into());
        loop {
            let fetched = self.state.lock().fetch(fetch, self.now())?;
            if !fetched.deliveries.is_empty() || Instant::now() >= deadline {
                return written(&fetched, encoding);
            }
            self.wait(deadline).await;
        }
    }

    /// Waits until something may have changed.
    async fn wait(&self, deadline: Instant) {
        let look = deadline.min(Instant::now() + LOOK);
        tokio::select! {
            () = self.changed.notified() => {}
            () = tokio::time::sleep_until(look) => {}
        }
    }
}

fn written<T: Serialize>(value: &T, encoding: Encoding) -> Result<Vec<u8>, Fault> {
    encode(value, encoding).map_err(|error| Fault::new(FaultKind::Internal, error.to_string()))
}
