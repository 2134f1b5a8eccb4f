//! Several programs change the same keys, each value only over the one that they know, while links break, answers are
//! lost and the node restarts: what they are told is what could have been told one after the other.
//!
//! `DIALTONE_SEEDS` says how many histories, `DIALTONE_FIRST_SEED` where to begin.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use dialtone_client::Client;
use dialtone_client::persist::wire::{Config, Record, Select};
use dialtone_client::persist::{AppendError, Persist, Stream};
use dialtone_testkit::Manner;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::checker::{Numbers, Op, Timed, Value, is_linearizable};
use crate::scene::Scene;

/// Histories of an ordinary run.
const SEEDS: u64 = 40;

/// Programs, and what each of them does.
const PROGRAMS: u64 = 4;
const OPS: usize = 24;

/// Keys that all of them change.
const KEYS: usize = 3;

/// When a program takes a write for lost, and goes on without knowing.
const LOST: Duration = Duration::from_millis(400);

/// What all programs note.
#[derive(Default)]
struct Notes {
    clock: Cell<u64>,
    histories: RefCell<BTreeMap<usize, Vec<Timed>>>,
    numbers: RefCell<Numbers>,
}

impl Notes {
    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }

    fn number(&self, seq: u64, id: &str) {
        let before = self.numbers.borrow_mut().insert(seq, id.to_owned());
        assert!(before.is_none_or(|before| before == id), "two ids of {seq}");
    }

    fn done(&self, key: usize, began: u64, op: Op) {
        let ended = self.tick();
        let timed = Timed { op, began, ended };
        self.histories
            .borrow_mut()
            .entry(key)
            .or_default()
            .push(timed);
    }
}

/// Reads the value of a key, however long that takes.
async fn read(stream: &Stream, notes: &Notes, key: usize) -> (u64, Value) {
    let began = notes.tick();
    let select = Select::Key(key.to_string());
    let record = loop {
        match stream.get(select.clone()).await {
            Ok(record) => break record,
            Err(error) => assert!(error.is_transient() || error.is_unknown(), "{error}"),
        }
    };
    let (seq, value) = match record {
        Some(record) => (record.seq, record.id),
        None => (0, None),
    };
    if let Some(id) = &value {
        notes.number(seq, id);
    }
    notes.done(key, began, Op::Read(value.clone()));
    (seq, value)
}

/// One program: each write is over the value that it knows, which others may have replaced.
async fn program(client: Client, notes: &Notes, name: u64, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(PROGRAMS).wrapping_add(name));
    let stream = Persist::new(&client).timeout(LOST).stream("s").unwrap();
    let mut known: [(u64, Value); KEYS] = Default::default();
    for number in 0..OPS {
        let key = rng.random_range(0..KEYS);
        if rng.random_bool(0.4) {
            known[key] = read(&stream, notes, key).await;
            continue;
        }
        let ((seq, over), id) = (known[key].clone(), format!("{name}.{number}"));
        let record = Record::keyed(key.to_string(), id.as_str()).after_key(seq);
        let began = notes.tick();
        let op = match stream.append(record.id(&id)).await {
            Ok(written) => {
                notes.number(written.seq, &id);
                known[key] = (written.seq, Some(id.clone()));
                Op::Written { id, over }
            }
            Err(AppendError::WrongLastSequence { actual, .. }) => Op::Refused { over, actual },
            Err(AppendError::Call(error)) if error.is_unknown() => Op::Unknown { id, over },
            // It was certainly not written.
            Err(AppendError::Call(error)) if error.is_transient() => continue,
            Err(error) => panic!("{error}"),
        };
        notes.done(key, began, op);
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..300))).await;
    }
}

async fn trouble(scene: &mut Scene, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..2_000))).await;
        if rng.random_bool(0.5) {
            scene.world.cut_all();
        } else {
            scene.restart().await;
        }
    }
}

/// Runs one history; how many of its writes have an unknown outcome.
async fn history(seed: u64) -> usize {
    let mut scene = Scene::new().await;
    scene.create("s", Config::default()).await;
    scene.world.network(Manner {
        delay_max: Duration::from_millis(50),
        ..Manner::ideal()
    });
    let notes = Notes::default();
    let mut programs = Vec::new();
    for name in 0..PROGRAMS {
        let client = scene.world.client().await.unwrap();
        programs.push(program(client, &notes, name, seed));
    }
    tokio::join!(join_all(programs), trouble(&mut scene, seed));
    let (histories, numbers) = (notes.histories.take(), notes.numbers.take());
    for (key, history) in &histories {
        let right = is_linearizable(history, &numbers);
        assert!(right, "seed {seed}, key {key}: {history:#?} {numbers:?}");
    }
    let unknown = |timed: &&Timed| matches!(timed.op, Op::Unknown { .. });
    histories.values().flatten().filter(unknown).count()
}

#[test]
fn keyed_writes_with_expectations_are_linearizable() {
    let setting = |name| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().expect("a number"))
    };
    let first = setting("DIALTONE_FIRST_SEED").unwrap_or(0);
    let seeds = setting("DIALTONE_SEEDS").unwrap_or(SEEDS);
    let mut unknown = 0;
    for seed in first..first + seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        unknown += runtime.block_on(history(seed));
    }
    assert!(unknown > 0 || seeds < SEEDS, "no outcome was ever unknown");
}
