//! A broker, a node of the service on it, and somebody who asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use dialtone_client::persist::Owner;
use dialtone_client::persist::wire::{
    self, Append, Appended, Config, Create, Created, Fault, FaultKind, Get, Outcome, Page, Read,
    Record, Request, Select, StoredRecord, Written,
};
use dialtone_client::{Client, Encoding};
use dialtone_persist::backend::memory::Memory;
use dialtone_persist::{Clock, Handle, Persist, Store};
use dialtone_testkit::World;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// When scenes begin, in milliseconds since 1970.
pub(crate) const START: u64 = 1_700_000_000_000;

/// See the module.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) client: Client,
    pub(crate) handle: Handle,
    pub(crate) store: Arc<Memory>,
    offset: Arc<AtomicI64>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut dialtone_persist::Config)) -> Self {
        let world = World::new(1).await;
        let client = world.client().await.unwrap();
        let store = Arc::new(Memory::new());
        let offset = Arc::new(AtomicI64::new(0));
        let (handle, stop, running) = node(&world, &store, &offset, change).await;
        Self {
            world,
            client,
            handle,
            store,
            offset,
            stop: Some(stop),
            running,
        }
    }

    /// Ends the node in good order and starts another one over the same store.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.store.reopen();
        let (handle, stop, running) = node(&self.world, &self.store, &self.offset, |_| {}).await;
        self.handle = handle;
        self.stop = Some(stop);
        self.running = running;
    }

    pub(crate) async fn stop(&mut self) {
        drop(self.stop.take());
        (&mut self.running).await.unwrap();
    }

    /// Sets the clock forward or back.
    pub(crate) fn jump(&self, ms: i64) {
        self.offset.fetch_add(ms, Ordering::Relaxed);
    }

    /// Asks with the rights of the hub.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, request: Request) -> Result<T, Fault> {
        self.ask_as(&Owner::Hub, request, Encoding::MessagePack)
            .await
    }

    pub(crate) async fn ask_as<T: DeserializeOwned>(
        &self,
        owner: &Owner,
        request: Request,
        encoding: Encoding,
    ) -> Result<T, Fault> {
        ask(&self.client, owner, request, encoding).await
    }

    pub(crate) async fn create(&self, stream: &str, config: Config) -> Created {
        let create = Create {
            stream: stream.to_owned(),
            config,
            exist_ok: false,
        };
        self.ask(Request::Create(create)).await.unwrap()
    }

    pub(crate) async fn append(&self, stream: &str, record: Record) -> Result<Written, Fault> {
        let append = Append {
            stream: stream.to_owned(),
            records: vec![record],
            ..Append::default()
        };
        let appended: Appended = self.ask(Request::Append(append)).await?;
        match appended.results.into_iter().next().unwrap() {
            Outcome::Written(written) => Ok(written),
            Outcome::Refused(fault) => Err(fault),
        }
    }

    pub(crate) async fn get(&self, stream: &str, select: Select) -> Option<StoredRecord> {
        let get = Get {
            stream: stream.to_owned(),
            select,
        };
        let found: wire::Found = self.ask(Request::Get(get)).await.unwrap();
        found.record
    }

    /// Everything that a stream holds, page by page.
    pub(crate) async fn read_all(&self, stream: &str) -> Vec<StoredRecord> {
        let mut all = Vec::new();
        let mut from = Some(1);
        while let Some(next) = from {
            let read = Read {
                stream: stream.to_owned(),
                from: next,
                max_bytes: Some(1_000),
                ..Read::default()
            };
            let page: Page = self.ask(Request::Read(read)).await.unwrap();
            all.extend(page.records);
            from = page.next;
        }
        all
    }
}

/// Asks on a client.
pub(crate) async fn ask<T: DeserializeOwned>(
    client: &Client,
    owner: &Owner,
    request: Request,
    encoding: Encoding,
) -> Result<T, Fault> {
    let payload = wire::encode(&request, encoding).unwrap();
    let subject = owner.call_subject();
    let draft = client.message(subject).payload(payload).encoding(encoding);
    let answer = draft
        .timeout(std::time::Duration::from_secs(90))
        .request()
        .await
        .unwrap();
    if let Some(fault) = Fault::from_headers(&answer.headers().unwrap()) {
        return Err(fault);
    }
    Ok(wire::decode(answer.payload(), answer.encoding()).unwrap())
}

async fn node(
    world: &World,
    store: &Arc<Memory>,
    offset: &Arc<AtomicI64>,
    change: impl FnOnce(&mut dialtone_persist::Config),
) -> (Handle, oneshot::Sender<()>, JoinHandle<()>) {
    let (began, offset) = (Instant::now(), Arc::clone(offset));
    let mut config = dialtone_persist::Config::new("n1", Store::Open(Arc::<Memory>::clone(store)));
    config.clock = Clock::new(move || {
        let elapsed = u64::try_from(began.elapsed().as_millis()).unwrap();
        (START + elapsed).saturating_add_signed(offset.load(Ordering::Relaxed))
    });
    change(&mut config);
    let client = world.client().await.unwrap();
    let persist = Persist::bind(config, client).await.unwrap();
    let handle = persist.handle();
    let (stop, stopping) = oneshot::channel::<()>();
    let running = async move {
        let stopping = async {
            // A scene that is dropped stops its node as well.
            drop(stopping.await);
        };
        persist.run(stopping).await.unwrap();
    };
    (handle, stop, tokio::task::spawn(running))
}

/// The kind of a fault.
#[track_caller]
pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T, Fault>) -> FaultKind {
    result.unwrap_err().kind
}
