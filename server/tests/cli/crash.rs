//! The node of persist is killed again and again while programs write, and others work on what they wrote; what it
//! acknowledged is there afterwards.
//!
//! `DIALTONE_KILLS` says how often, `DIALTONE_FIRST_SEED` with which random numbers. Where a kill falls also depends on
//! the machine, so that a seed makes a failure likely again, not certain.

#![expect(
    clippy::print_stderr,
    reason = "the seed, and what a run was worth, are for who reads along"
)]

mod ledger;
mod workers;
mod writers;

use std::net::TcpListener;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use dialtone_client::persist::wire::{Select, StoredRecord};
use dialtone_client::persist::{CallError, ReadOptions, Stream};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use self::ledger::Ledger;
use self::writers::{Shared, Streams};
use crate::process::{Broker, Home, Running};

/// Kills of an ordinary run.
const KILLS: u32 = 12;

/// Most outcomes between the start of a node and its end.
const OUTCOMES_MAX: u32 = 120;

/// Writes that may begin between two kills. More than the outcomes that are waited for, so that writes are under way
/// when the node is killed; bounded, since a fast machine would spend its time on reading them again.
const WRITES: usize = 300;

/// How long the outcomes before a kill may take; far more than is ever needed.
const PATIENCE: Duration = Duration::from_mins(1);

/// A node that can be started again and again, with the same data and for the same clients.
struct Site {
    home: Home,
    url: String,
    /// It stays when the node is killed; the node is `dialtone up` where there is none.
    broker: Option<Broker>,
}

impl Site {
    fn apart() -> Self {
        let home = Home::new();
        let broker = home.broker(&[]);
        Self {
            home,
            url: broker.ws(),
            broker: Some(broker),
        }
    }

    fn together() -> Self {
        // Clients come back to the same port.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", free.local_addr().unwrap());
        Self {
            home: Home::new(),
            url,
            broker: None,
        }
    }

    fn spawn(&self) -> Running {
        let url = self.url.as_str();
        match self.broker {
            Some(_) => self
                .home
                .start(&["persist", "--node", "p1", "--url", url, "--data", "data"]),
            None => self.home.start(&[
                "up",
                "--no-hub",
                "--json",
                "--monitor",
                "off",
                "--listen",
                url,
            ]),
        }
    }

    fn start(&self) -> Running {
        let node = self.spawn();
        match self.broker {
            Some(_) => drop(node.until("is ready")),
            None => drop(node.json()),
        }
        node
    }
}

/// Whether a request may be made again: the node was killed, and another one comes.
fn may_pass(error: &CallError) -> bool {
    error.is_unknown() || error.is_transient()
}

fn kill(node: Running) {
    node.signal(Signal::KILL);
    let done = node.end();
    assert_eq!(done.code, None, "it ended by itself: {done:?}");
}

fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    let number = text.parse().ok();
    Some(number.unwrap_or_else(|| panic!("{name} is not a number: {text}")))
}

async fn all(stream: &Stream) -> Vec<StoredRecord> {
    let mut reading = stream.read(ReadOptions::default());
    let mut records = Vec::new();
    while let Some(record) = reading.next().await {
        records.push(record.unwrap());
    }
    records
}

/// The value of every key. A reading of the whole stream would miss those that are replaced meanwhile.
async fn values(stream: &Stream) -> Vec<StoredRecord> {
    let mut values = Vec::new();
    for key in writers::keys() {
        values.extend(stream.get(Select::Key(key)).await.unwrap());
    }
    values.sort_by_key(|record| record.seq);
    values
}

/// Compares what is there with what is known of it.
async fn check(streams: &Streams, shared: &Shared) -> Ledger {
    let before = shared.ledger.lock().clone();
    let (log, keyed) = (all(&streams.log).await, values(&streams.keyed).await);
    let after = shared.ledger.lock().clone();
    before.check(&after, &log, &keyed);
    after
}

/// A moment of which nobody knows what the node does in it: some outcomes later, and then anywhere in the work on the
/// next ones.
async fn some_moment(shared: &Shared, rng: &mut StdRng) {
    for counted in [&shared.outcomes, &shared.budget] {
        counted.forget_permits(Semaphore::MAX_PERMITS);
    }
    shared.budget.add_permits(WRITES);
    let wanted = rng.random_range(0..OUTCOMES_MAX);
    let outcomes = tokio::time::timeout(PATIENCE, shared.outcomes.acquire_many(wanted)).await;
    outcomes.expect("outcomes of writes").unwrap().forget();
    tokio::time::sleep(Duration::from_micros(rng.random_range(0..20_000))).await;
}

fn survive(site: &Site) {
    let seed = setting("DIALTONE_FIRST_SEED").unwrap_or_else(rand::random);
    let kills = setting("DIALTONE_KILLS").unwrap_or(KILLS);
    eprintln!("{kills} kills with DIALTONE_FIRST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut node = site.start();
    let streams = runtime.block_on(Streams::create(&site.url));
    let shared = Arc::new(Shared::default());
    let writing = writers::start(&runtime, &site.url, seed, &shared);
    let working = workers::start(&runtime, &site.url, &shared);
    for _ in 0..kills {
        runtime.block_on(some_moment(&shared, &mut rng));
        kill(node);
        if rng.random_bool(0.25) {
            kill(while_it_starts(site, &runtime, &mut rng));
        }
        node = site.start();
        runtime.block_on(check(&streams, &shared));
    }
    shared.budget.close();
    runtime.block_on(async {
        for program in writing {
            program.await.unwrap();
        }
        // The workers owe what is there now; a write that was given up may still come behind it.
        let written = all(&streams.log).await;
        shared.outcomes.close();
        for program in working {
            program.await.unwrap();
        }
        let ledger = check(&streams, &shared).await;
        ledger.check_worked(&written);
        for stream in [&streams.log, &streams.keyed] {
            let verified = stream.verify(1).await.unwrap();
            assert_eq!((verified.problems, verified.next), (Vec::new(), None));
        }
        eprintln!("{}", ledger.summary());
        ledger.assert_worth_it();
    });
    // Nothing of the writers is left that could wait for a node.
    drop(runtime);
    node.signal(Signal::TERM);
    node.end().ok();
}

/// A node that is about to read what the last one left.
fn while_it_starts(site: &Site, runtime: &Runtime, rng: &mut StdRng) -> Running {
    let starting = site.spawn();
    let moment = Duration::from_millis(rng.random_range(0..400));
    runtime.block_on(async { tokio::time::sleep(moment).await });
    starting
}

#[test]
fn a_killed_node_of_persist_keeps_what_it_acknowledged() {
    survive(&Site::apart());
}

#[test]
fn a_killed_broker_with_persist_keeps_what_it_acknowledged() {
    survive(&Site::together());
}
