//! Several programs change the same keys, each value only over the one that they know, while links break, answers are
//! lost and streams move from node to node: what they are told is what could have been told one after the other.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use dialtone_client::persist::wire::{Config, Record, Select};
use dialtone_client::persist::{AppendError, Persist, Stream};
use dialtone_testkit::Manner;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::checker::{Numbers, Op, Timed, Value, is_linearizable};
use crate::fleet::{Fleet, Happened};
use crate::play;

/// Histories of an ordinary run.
const SEEDS: u64 = 60;

/// Programs, and what each of them does.
const PROGRAMS: u64 = 4;
const OPS: usize = 24;

/// Keys that all of them change.
const KEYS: usize = 4;

/// Streams that have them, so that not all are on one node.
const STREAMS: usize = 2;

/// What happens to nodes and links meanwhile.
const TROUBLES: u32 = 10;

/// When a program takes a write for lost, and goes on without knowing.
const LOST: Duration = Duration::from_millis(800);

/// What all programs note.
#[derive(Default)]
struct Notes {
    clock: Cell<u64>,
    histories: RefCell<BTreeMap<usize, Vec<Timed>>>,
    /// By stream.
    numbers: RefCell<BTreeMap<usize, Numbers>>,
}

impl Notes {
    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }

    fn number(&self, key: usize, seq: u64, id: &str) {
        let mut numbers = self.numbers.borrow_mut();
        let numbers = numbers.entry(key % STREAMS).or_default();
        let before = numbers.insert(seq, id.to_owned());
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
        notes.number(key, seq, id);
    }
    notes.done(key, began, Op::Read(value.clone()));
    (seq, value)
}

/// One program: each write is over the value that it knows, which others may have replaced.
async fn program(persist: Persist, notes: &Notes, name: u64, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(PROGRAMS).wrapping_add(name));
    let persist = persist.timeout(LOST);
    let streams: Vec<Stream> = (0..STREAMS)
        .map(|number| persist.stream(stream_name(number)).unwrap())
        .collect();
    let mut known: [(u64, Value); KEYS] = Default::default();
    for number in 0..OPS {
        let key = rng.random_range(0..KEYS);
        let stream = &streams[key % STREAMS];
        if rng.random_bool(0.4) {
            known[key] = read(stream, notes, key).await;
            continue;
        }
        let ((seq, over), id) = (known[key].clone(), format!("{name}.{number}"));
        let record = Record::keyed(key.to_string(), id.as_str()).after_key(seq);
        let began = notes.tick();
        let op = match stream.append(record.id(&id)).await {
            Ok(written) => {
                notes.number(key, written.seq, &id);
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

fn stream_name(number: usize) -> String {
    format!("s{number}")
}

/// Plays one history: how many of its writes have an unknown outcome, and what happened.
async fn history(seed: u64) -> (usize, Happened) {
    let mut fleet = Fleet::new(seed).await;
    for number in 0..STREAMS {
        let created = fleet.persist().await;
        let config = Config {
            // Clocks that jump do not make writes that are repeated new ones.
            duplicate_window: 24 * 3_600_000,
            ..Config::default()
        };
        created.create(&stream_name(number), config).await.unwrap();
    }
    fleet.world.network(Manner {
        delay_max: Duration::from_millis(50),
        ..Manner::ideal()
    });
    let notes = Notes::default();
    let mut programs = Vec::new();
    for name in 0..PROGRAMS {
        programs.push(program(fleet.persist().await, &notes, name, seed));
    }
    tokio::join!(join_all(programs), fleet.troubles(TROUBLES));
    let (histories, numbers) = (notes.histories.take(), notes.numbers.take());
    for (key, history) in &histories {
        let right = is_linearizable(history, &numbers[&(key % STREAMS)]);
        assert!(right, "key {key}: {history:#?} {numbers:?}");
    }
    let unknown = |timed: &&Timed| matches!(timed.op, Op::Unknown { .. });
    let unknown = histories.values().flatten().filter(unknown).count();
    (unknown, fleet.happened)
}

#[test]
fn keyed_writes_with_expectations_are_linearizable() {
    let (histories, are_enough) = play(SEEDS, history);
    let mut happened = Happened::default();
    for (_, more) in &histories {
        happened.add(*more);
    }
    if are_enough {
        assert!(
            histories.iter().any(|(unknown, _)| *unknown > 0),
            "no outcome was ever unknown"
        );
        happened.assert_everything();
    }
}
