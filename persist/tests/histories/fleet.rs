//! Nodes that share a store and its leases, a broker between them and programs, and everything that can happen to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use dialtone_client::Client;
use dialtone_client::persist::Persist as Programs;
use dialtone_persist::backend::Backend;
use dialtone_persist::placement::{Keeper, KeeperConfig, Leases, run_leased};
use dialtone_persist::{Clock, Config, Persist};
use dialtone_testkit::World;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::leases::Model;
use crate::store::{Reached, Shared, Store, Way};

/// When histories begin, in milliseconds since 1970.
const START: u64 = 1_700_000_000_000;

const NODES: [&str; 3] = ["n1", "n2", "n3"];

pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// How far a clock is set forward or back at once.
const JUMP_MS_MAX: i64 = 3_600_000;

/// What happened, so that a test can say that something did.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Happened {
    pub(crate) kills: u32,
    pub(crate) stops: u32,
    pub(crate) pauses: u32,
    pub(crate) outages: u32,
    pub(crate) cuts: u32,
    pub(crate) jumps: u32,
}

impl Happened {
    /// Adds what happened elsewhere.
    pub(crate) fn add(&mut self, more: Self) {
        self.kills += more.kills;
        self.stops += more.stops;
        self.pauses += more.pauses;
        self.outages += more.outages;
        self.cuts += more.cuts;
        self.jumps += more.jumps;
    }

    /// # Panics
    /// When something never happened.
    pub(crate) fn assert_everything(&self) {
        let counts = [
            self.kills,
            self.stops,
            self.pauses,
            self.outages,
            self.cuts,
            self.jumps,
        ];
        assert!(counts.iter().all(|count| *count > 0), "{self:?}");
    }
}

/// See the module.
pub(crate) struct Fleet {
    pub(crate) world: World,
    pub(crate) happened: Happened,
    shared: Arc<Shared>,
    leases: Arc<Model>,
    nodes: BTreeMap<&'static str, Node>,
    offset: Arc<AtomicI64>,
    began: Instant,
    rng: StdRng,
}

struct Node {
    client: Client,
    reached: Arc<Reached>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Fleet {
    /// All nodes run.
    pub(crate) async fn new(seed: u64) -> Self {
        let mut fleet = Self {
            world: World::new(seed).await,
            happened: Happened::default(),
            shared: Arc::default(),
            leases: Arc::default(),
            nodes: BTreeMap::new(),
            offset: Arc::default(),
            began: Instant::now(),
            rng: StdRng::seed_from_u64(seed ^ 0x0066_6c65_6574),
        };
        for name in NODES {
            fleet.start(name).await;
        }
        fleet
    }

    /// A program's view of the service.
    pub(crate) async fn persist(&self) -> Programs {
        Programs::new(&self.world.client().await.unwrap())
    }

    fn clock(&self) -> Clock {
        let (began, offset) = (self.began, Arc::clone(&self.offset));
        Clock::new(move || {
            let elapsed = u64::try_from(began.elapsed().as_millis()).unwrap();
            (START + elapsed).saturating_add_signed(offset.load(Ordering::Relaxed))
        })
    }

    async fn start(&mut self, name: &'static str) {
        let random = StdRng::seed_from_u64(self.rng.random());
        let reached = Reached::new(&self.shared, &self.leases, random);
        let leases: Arc<dyn Leases> = Arc::<Reached>::clone(&reached);
        let (keeper, placement) = Keeper::new(leases, name, KeeperConfig { lease: LEASE });
        let store: Arc<dyn Backend> = Arc::new(Store(Arc::clone(&reached)));
        let mut config = Config::new(name, dialtone_persist::Store::Open(store));
        config.placement = Some(Arc::new(placement));
        config.clock = self.clock();
        let client = self.world.client().await.unwrap();
        let persist = Persist::bind(config, client.clone()).await.unwrap();
        let (stop, stopping) = oneshot::channel();
        // A fleet that is dropped stops its nodes as well.
        let stopping = async { drop(stopping.await) };
        let running = async move { run_leased(persist, keeper, stopping).await.unwrap() };
        let node = Node {
            client,
            reached,
            stop,
            running: tokio::task::spawn(running),
        };
        self.nodes.insert(name, node);
    }

    /// Ends a node like a process that is killed: nothing it has asked for is answered, and it answers nobody.
    async fn kill(&mut self, name: &str) {
        let Some(node) = self.nodes.remove(name) else {
            return;
        };
        node.reached.set(Way::Dead);
        node.client.close().await;
        if self.rng.random_bool(0.5) {
            self.leases.expire(name);
        }
        self.happened.kills += 1;
    }

    async fn stop(&mut self, name: &str) {
        let Some(node) = self.nodes.remove(name) else {
            return;
        };
        drop(node.stop);
        node.running.await.unwrap();
        self.happened.stops += 1;
    }

    /// Lets a node be apart from what it shares for up to two leases.
    fn part(&mut self, name: &str, way: Way) {
        let longest = 2 * u64::try_from(LEASE.as_millis()).unwrap();
        let time = Duration::from_millis(self.rng.random_range(50..longest));
        let Some(node) = self.nodes.get(name) else {
            return;
        };
        let reached = Arc::clone(&node.reached);
        tokio::task::spawn(async move { reached.set_for(way, time).await });
        match way {
            Way::Away => self.happened.outages += 1,
            Way::Held | Way::Open | Way::Dead => self.happened.pauses += 1,
        }
    }

    /// Something happens.
    async fn trouble(&mut self) {
        let name = NODES[self.rng.random_range(0..NODES.len())];
        let may_end = self.nodes.len() > 1;
        match self.rng.random_range(0..10) {
            _ if !self.nodes.contains_key(name) => self.start(name).await,
            0 | 1 if may_end => self.kill(name).await,
            2 | 3 if may_end => self.stop(name).await,
            4 | 5 => self.part(name, Way::Held),
            6 => self.part(name, Way::Away),
            7 => {
                let ms = self.rng.random_range(-JUMP_MS_MAX..=JUMP_MS_MAX);
                self.offset.fetch_add(ms, Ordering::Relaxed);
                self.happened.jumps += 1;
            }
            _ => {
                self.world.cut_all();
                self.happened.cuts += 1;
            }
        }
    }

    /// Lets every node be apart from the store and the leases, or none.
    pub(crate) fn part_all(&self, way: Way) {
        for node in self.nodes.values() {
            node.reached.set(way);
        }
    }

    /// So many things happen, one after the other; then everything is well again.
    pub(crate) async fn troubles(&mut self, count: u32) {
        for _ in 0..count {
            sleep(Duration::from_millis(self.rng.random_range(1..1_500))).await;
            self.trouble().await;
        }
        self.part_all(Way::Open);
    }
}
