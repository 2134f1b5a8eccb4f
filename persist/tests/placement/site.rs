//! Nodes of the service on one broker and one PostgreSQL, each on a thread of its own, so that it can be killed or
//! stand still like a process.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use dialtone_broker::auth::open::Open;
use dialtone_broker::{Broker, Listen};
use dialtone_client::persist::Owner;
use dialtone_client::persist::wire::{self, Fault, FaultKind, Request};
use dialtone_client::{Client, Encoding, Options};
use dialtone_persist::backend::postgres::{
    Config as PostgresConfig, PostgresBackend, PostgresLeases,
};
use dialtone_persist::placement::{Keeper, KeeperConfig, run_leased};
use dialtone_persist::{Config, Persist, Store};
use dialtone_testkit::Postgres;
use dialtone_transport::ListenOptions;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Long enough that a machine busy with other tests renews in time: leases that end for want of a processor move all
/// streams, which is work that makes the next ones end.
const LEASE: Duration = Duration::from_secs(3);

/// How long a request waits for its answer before it is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A broker and a database.
pub(crate) struct Site {
    broker: String,
    database: String,
    _stop: tokio_util::sync::DropGuard,
}

enum Order {
    Stop,
    Kill,
    Pause(mpsc::Receiver<()>),
}

/// A node on a thread of its own.
pub(crate) struct Node {
    orders: tokio::sync::mpsc::Sender<Order>,
    thread: std::thread::JoinHandle<()>,
}

impl Site {
    pub(crate) async fn new() -> Self {
        let endpoint = "ws://127.0.0.1:0".parse().unwrap();
        let listen = vec![Listen {
            endpoint,
            options: ListenOptions::default(),
        }];
        let config = dialtone_broker::Config {
            listen,
            ..dialtone_broker::Config::default()
        };
        let broker = Broker::bind(config, Arc::new(Open::new())).await.unwrap();
        let address = broker.endpoints().remove(0).to_string();
        let stop = CancellationToken::new();
        drop(tokio::task::spawn(broker.run(stop.clone())));
        Self {
            broker: address,
            database: Postgres::shared().database(),
            _stop: stop.drop_guard(),
        }
    }

    pub(crate) async fn client(&self) -> Client {
        Options::new(self.broker.as_str()).connect().await.unwrap()
    }

    /// Starts a node and waits until it answers.
    pub(crate) async fn start(&self, name: &str) -> Node {
        let (orders, taken) = tokio::sync::mpsc::channel(4);
        let (ready, is_ready) = oneshot::channel();
        let (broker, database, name) =
            (self.broker.clone(), self.database.clone(), name.to_owned());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(live(name, broker, database, ready, taken));
            // Whatever still runs is dropped where it stands.
            runtime.shutdown_background();
        });
        is_ready.await.unwrap();
        Node { orders, thread }
    }
}

async fn live(
    name: String,
    broker: String,
    database: String,
    ready: oneshot::Sender<()>,
    mut orders: tokio::sync::mpsc::Receiver<Order>,
) {
    let client = Options::new(broker).connect().await.unwrap();
    let postgres = PostgresConfig {
        url: database,
        ..PostgresConfig::default()
    };
    let store = PostgresBackend::open(postgres.clone()).await.unwrap();
    let leases = Arc::new(PostgresLeases::open(&postgres).await.unwrap());
    let (keeper, placement) = Keeper::new(leases, name.as_str(), KeeperConfig { lease: LEASE });
    let mut config = Config::new(name, Store::Open(Arc::new(store)));
    config.placement = Some(Arc::new(placement));
    let persist = Persist::bind(config, client).await.unwrap();
    ready.send(()).unwrap();
    let (stop, stopping) = oneshot::channel::<()>();
    let mut stop = Some(stop);
    let running = run_leased(persist, keeper, async { drop(stopping.await) });
    tokio::pin!(running);
    loop {
        tokio::select! {
            result = &mut running => return result.unwrap(),
            order = orders.recv() => match order {
                Some(Order::Pause(resumed)) => drop(resumed.recv()),
                Some(Order::Stop) => drop(stop.take()),
                Some(Order::Kill) | None => return,
            },
        }
    }
}

impl Node {
    async fn order(&self, order: Order) {
        self.orders.send(order).await.ok().unwrap();
    }

    /// Ends it like a process that is killed.
    pub(crate) async fn kill(self) {
        self.order(Order::Kill).await;
        self.join().await;
    }

    /// Ends it in good order.
    pub(crate) async fn stop(self) {
        self.order(Order::Stop).await;
        self.join().await;
    }

    /// Lets it stand still until what is returned is dropped.
    pub(crate) async fn pause(&self) -> mpsc::Sender<()> {
        let (resume, resumed) = mpsc::channel();
        self.order(Order::Pause(resumed)).await;
        resume
    }

    async fn join(self) {
        tokio::task::spawn_blocking(move || self.thread.join().unwrap())
            .await
            .unwrap();
    }
}

/// Asks until there is an answer, wherever the stream is. A repetition must not do anything twice.
pub(crate) async fn ask<T: DeserializeOwned>(
    client: &Client,
    request: &Request,
) -> Result<T, Fault> {
    let mut node: Option<String> = None;
    loop {
        let subject = node.take().map_or_else(
            || Owner::Hub.call_subject(),
            |node| Owner::Hub.node_subject(&node),
        );
        let payload = wire::encode(request, Encoding::MessagePack).unwrap();
        let draft = client
            .message(subject.as_str())
            .wait_for_interest(ASK_AGAIN)
            .payload(payload)
            .encoding(Encoding::MessagePack);
        let Ok(answer) = draft.timeout(ASK_AGAIN).request().await else {
            tokio::task::yield_now().await;
            continue;
        };
        match Fault::from_headers(&answer.headers().unwrap()) {
            None => return Ok(wire::decode(answer.payload(), answer.encoding()).unwrap()),
            Some(fault) if fault.kind == FaultKind::Moved => {
                node = fault.node;
            }
            // A node that expects a change of the view has waited for it before it says so.
            Some(fault) if fault.kind == FaultKind::Unavailable => tokio::task::yield_now().await,
            Some(fault) => return Err(fault),
        }
    }
}
