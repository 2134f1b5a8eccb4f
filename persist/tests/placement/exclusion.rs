//! In simulated time, whatever happens to nodes and to what they hear: a stream is served by one node at a time, and
//! in the end by the one that owns it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dialtone_persist::backend::Error;
use dialtone_persist::placement::{
    Keeper, KeeperConfig, LeaseError, Leased, Leases, Renew, Renewed, Route,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::model::Model;

const NODES: [&str; 4] = ["a", "b", "c", "d"];
const STREAMS: usize = 12;
const LEASE: Duration = Duration::from_secs(10);

/// The leases as a node reaches them: late, or not at all.
#[derive(Debug)]
struct Faulty {
    model: Arc<Model>,
    random: Mutex<StdRng>,
    /// Until when nothing gets through.
    away_until: Mutex<Instant>,
}

impl Faulty {
    fn new(model: &Arc<Model>, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            model: Arc::clone(model),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            away_until: Mutex::new(Instant::now()),
        })
    }

    async fn delay(&self) -> Result<(), LeaseError> {
        let ms = self.random.lock().random_range(0..400);
        sleep(Duration::from_millis(ms)).await;
        if Instant::now() < *self.away_until.lock() {
            return Err(LeaseError::Store(Error::Unavailable("away".to_owned())));
        }
        Ok(())
    }
}

impl Leases for Faulty {
    fn renew(&self, renew: Renew) -> BoxFuture<'_, Result<Renewed, LeaseError>> {
        async move {
            self.delay().await?;
            let renewed = self.model.renew(renew).await?;
            // The answer may be lost after the store has done it.
            self.delay().await?;
            Ok(renewed)
        }
        .boxed()
    }

    fn leave<'a>(&'a self, node: &'a str, session: u64) -> BoxFuture<'a, Result<(), LeaseError>> {
        self.model.leave(node, session)
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        self.model.changed()
    }
}

/// A service that only opens and closes streams.
#[derive(Debug)]
struct Node {
    placement: Leased,
    leases: Arc<Faulty>,
    open: Arc<Mutex<BTreeMap<String, u64>>>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

fn streams() -> impl Iterator<Item = String> {
    (0..STREAMS).map(|number| format!("stream {number}"))
}

impl Node {
    fn start(name: &str, model: &Arc<Model>, seed: u64) -> Self {
        let leases = Faulty::new(model, seed);
        let config = KeeperConfig { lease: LEASE };
        let own: Arc<dyn Leases> = Arc::<Faulty>::clone(&leases);
        let (keeper, placement) = Keeper::new(own, name, config);
        let (open, stop) = (
            Arc::new(Mutex::new(BTreeMap::new())),
            CancellationToken::new(),
        );
        let service = serve(
            placement.clone(),
            Arc::clone(&open),
            StdRng::seed_from_u64(seed),
        );
        let tasks = vec![
            tokio::task::spawn(keeper.run(stop.clone())),
            tokio::task::spawn(service),
        ];
        Self {
            placement,
            leases,
            open,
            stop,
            tasks,
        }
    }

    /// What it would answer for at this moment.
    fn serves(&self) -> Vec<String> {
        let open = self.open.lock();
        let holds = |stream: &&String| matches!(self.placement.route(stream), Route::Here { .. });
        open.keys().filter(holds).cloned().collect()
    }

    fn kill(self) {
        for task in &self.tasks {
            task.abort();
        }
    }

    async fn leave(self) {
        self.open.lock().clear();
        self.stop.cancel();
        for task in self.tasks.into_iter().take(1) {
            task.await.unwrap();
        }
    }
}

/// Opens what it may open, and lets go of what it lost, both late.
async fn serve(placement: Leased, open: Arc<Mutex<BTreeMap<String, u64>>>, mut random: StdRng) {
    let mut views = placement.views();
    loop {
        let view = *views.borrow_and_update();
        sleep(Duration::from_millis(random.random_range(0..300))).await;
        let holds = |stream: &String| matches!(placement.route(stream), Route::Here { .. });
        open.lock().retain(|stream, _| holds(stream));
        placement.release(view);
        while !views.has_changed().unwrap() {
            for stream in streams() {
                if let Route::Here { fence } = placement.route(&stream) {
                    let previous = open.lock().insert(stream, fence);
                    assert!(previous.is_none_or(|previous| previous <= fence));
                }
            }
            sleep(Duration::from_millis(random.random_range(1..200))).await;
        }
    }
}

async fn scene(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let model = Arc::new(Model::default());
    let mut nodes: BTreeMap<&str, Node> = BTreeMap::new();
    // Fencing numbers of a stream never fall when its node changes.
    let mut last: BTreeMap<String, (&str, u64)> = BTreeMap::new();
    for _ in 0..400 {
        sleep(Duration::from_millis(random.random_range(20..500))).await;
        let name = NODES[random.random_range(0..NODES.len())];
        match random.random_range(0..20) {
            0..=2 if !nodes.contains_key(name) => {
                nodes.insert(name, Node::start(name, &model, random.random()));
            }
            3 => {
                if let Some(node) = nodes.remove(name) {
                    node.kill();
                }
            }
            4 => {
                if let Some(node) = nodes.remove(name) {
                    node.leave().await;
                }
            }
            5 => {
                if let Some(node) = nodes.get(name) {
                    let away = Duration::from_millis(random.random_range(100..15_000));
                    *node.leases.away_until.lock() = Instant::now() + away;
                }
            }
            _ => {}
        }
        check(&nodes, &mut last, seed);
    }
    settle(nodes, &model, seed).await;
}

fn check<'a>(
    nodes: &BTreeMap<&'a str, Node>,
    last: &mut BTreeMap<String, (&'a str, u64)>,
    seed: u64,
) {
    let mut served: BTreeMap<String, &str> = BTreeMap::new();
    for (name, node) in nodes {
        for stream in node.serves() {
            let fence = node.open.lock()[&stream];
            if let Some((owner, seen)) = last.get(&stream) {
                assert!(
                    fence > *seen || owner == name,
                    "{stream}: {fence} after {seen}, seed {seed}"
                );
                assert!(
                    fence >= *seen,
                    "{stream}: {fence} after {seen}, seed {seed}"
                );
            }
            last.insert(stream.clone(), (name, fence));
            if let Some(other) = served.insert(stream.clone(), name) {
                panic!("{stream} is served by {other} and {name}, seed {seed}");
            }
        }
    }
}

/// When nothing happens any more, every stream is served.
async fn settle(mut nodes: BTreeMap<&str, Node>, model: &Arc<Model>, seed: u64) {
    for name in NODES {
        nodes
            .entry(name)
            .or_insert_with(|| Node::start(name, model, seed));
    }
    sleep(LEASE * 6).await;
    let mut served: Vec<String> = nodes.values().flat_map(Node::serves).collect();
    served.sort();
    let mut all: Vec<String> = streams().collect();
    all.sort();
    assert_eq!(served, all, "seed {seed}");
    for node in nodes.into_values() {
        node.kill();
    }
}

#[test]
fn a_stream_is_served_by_one_node_at_a_time() {
    let seeds = std::env::var("DIALTONE_SEEDS").map_or(60, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(scene(seed));
    }
}
