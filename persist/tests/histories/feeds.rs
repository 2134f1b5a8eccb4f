//! Readers follow a stream, each at its own pace, with small answers, pauses and new beginnings, while others write,
//! limits evict, lifetimes end, links break and the stream moves from node to node: each ends with exactly what the
//! stream holds.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use dialtone_client::persist::wire::{
    Config, ConfigPatch, Cursor, Discard, Record, Removal, StoredRecord, What,
};
use dialtone_client::persist::{
    AppendError, CallError, Event, ReadOptions, Stream, WatchError, WatchOptions, Watcher,
};
use dialtone_testkit::Manner;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::sleep;

use crate::fleet::{Fleet, Happened};
use crate::play;

/// Histories of an ordinary run.
const SEEDS: u64 = 20;

const WRITERS: u64 = 2;

/// Things that each writer does.
const STEPS: u32 = 60;

/// What happens to nodes and links meanwhile.
const TROUBLES: u32 = 10;

/// Two readers want everything, one the keys with a prefix.
const PREFIXES: [Option<&str>; 3] = [None, None, Some("a/")];

/// The key of the last record, which every reader wants.
const END: &str = "a/end";

/// A request that a dead node has taken is over after this.
const SETTLED: Duration = Duration::from_mins(2);

/// What was seen, so that a test can say that it saw everything.
#[derive(Debug, Default)]
struct Seen {
    resyncs: Cell<u32>,
    removals: Cell<u32>,
    /// Records that left older ones of their key in the stream.
    kept: Cell<u32>,
    begun_anew: Cell<u32>,
}

fn count(cell: &Cell<u32>) {
    cell.set(cell.get() + 1);
}

/// A record, as far as readers can tell one from another.
type Held = BTreeMap<u64, (Option<String>, Vec<u8>)>;

fn entry(record: StoredRecord) -> (u64, (Option<String>, Vec<u8>)) {
    (record.seq, (record.key, record.payload.to_vec()))
}

fn forget(held: &mut Held, key: &str, below: u64) {
    held.retain(|seq, (own, _)| *seq >= below || own.as_deref() != Some(key));
}

fn remove(held: &mut Held, removal: Removal) {
    for (from, to) in removal.ranges {
        held.retain(|seq, _| *seq < from || *seq > to);
    }
    for removed in removal.keys {
        forget(held, &removed.key, removed.kept_from.unwrap_or(u64::MAX));
    }
}

/// Follows a stream until its last record.
struct Reader<'h> {
    stream: Stream,
    prefix: Option<&'static str>,
    rng: StdRng,
    held: Held,
    seen: &'h Seen,
}

impl Reader<'_> {
    async fn watch(&mut self, cursor: Cursor) -> Watcher {
        let options = WatchOptions {
            prefix: self.prefix.map(str::to_owned),
            max_bytes: self.rng.random_range(1..2_000),
            wait: Duration::from_millis(self.rng.random_range(0..20_000)),
        };
        loop {
            match self.stream.watch(cursor, options.clone()).await {
                Ok(watcher) => return watcher,
                Err(WatchError::Call(error)) => may_fail(&error),
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn follow(mut self) -> Held {
        let mut watcher = self.watch(Cursor::Seq(1)).await;
        loop {
            if self.rng.random_bool(0.05) {
                let position = watcher.position();
                drop(watcher);
                count(&self.seen.begun_anew);
                watcher = self.watch(Cursor::After(position)).await;
            }
            if self.rng.random_bool(0.1) {
                sleep(Duration::from_millis(self.rng.random_range(0..4_000))).await;
            }
            let event = watcher.next().await.unwrap().unwrap();
            if self.apply(event) {
                return self.held;
            }
        }
    }

    /// Whether that was the last record.
    fn apply(&mut self, event: Event) -> bool {
        match event {
            Event::Record { record, kept_from } => {
                let is_last = record.key.as_deref() == Some(END);
                if let Some(key) = &record.key {
                    forget(&mut self.held, key, kept_from.unwrap_or(record.seq));
                }
                if kept_from.is_some() {
                    count(&self.seen.kept);
                }
                self.held.extend([entry(record)]);
                return is_last;
            }
            Event::Removed(removal) => {
                count(&self.seen.removals);
                remove(&mut self.held, removal);
            }
            Event::Resync => {
                count(&self.seen.resyncs);
                self.held.clear();
            }
            Event::Config(_) => {}
            Event::Damaged { seq, error } => panic!("record {seq}: {error}"),
        }
        false
    }
}

/// A limit that is often none.
fn limit(rng: &mut StdRng, min: u64, max: u64) -> u64 {
    if rng.random_bool(0.5) {
        return 0;
    }
    rng.random_range(min..max)
}

fn config(rng: &mut StdRng) -> Config {
    Config {
        max_msgs: limit(rng, 5, 40),
        max_bytes: limit(rng, 300, 3_000),
        max_age: limit(rng, 500, 20_000),
        max_msgs_per_key: rng.random_range(1..4),
        discard: [Discard::Old, Discard::New][rng.random_range(0..2)],
        removals_kept: [1, 4, 20, 16_384][rng.random_range(0..4)],
        ..Config::default()
    }
}

fn what(rng: &mut StdRng, last: u64) -> What {
    let seq = rng.random_range(0..=last);
    match rng.random_range(0..6) {
        0 => What::Key(key(rng)),
        1 => What::UpTo(seq / 2),
        2 => What::Range(seq, seq + rng.random_range(0..5)),
        3 => What::Prefix("a/".to_owned()),
        4 if rng.random_bool(0.2) => What::All,
        _ => What::Seqs(vec![seq, rng.random_range(0..=last)]),
    }
}

fn key(rng: &mut StdRng) -> String {
    let half = ["a", "b"][rng.random_range(0..2)];
    format!("{half}/{}", rng.random_range(0..4))
}

fn record(rng: &mut StdRng) -> Record {
    let mut record =
        Record::new("x".repeat(rng.random_range(0..100)) + &rng.random::<u16>().to_string());
    if rng.random_bool(0.6) {
        record = record.key(key(rng));
    }
    if rng.random_bool(0.2) {
        record.ttl = Some(rng.random_range(1..10_000));
    }
    record
}

fn patch(rng: &mut StdRng) -> ConfigPatch {
    ConfigPatch {
        max_msgs: Some(limit(rng, 5, 40)),
        max_age: Some(limit(rng, 500, 20_000)),
        max_msgs_per_key: Some(rng.random_range(1..4)),
        ..ConfigPatch::default()
    }
}

#[track_caller]
fn may_fail(error: &CallError) {
    assert!(error.is_transient() || error.is_unknown(), "{error}");
}

/// Does anything to a stream. Whether something was done does not matter: the stream says what it holds.
async fn write(stream: Stream, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut last = 0;
    for _ in 0..STEPS {
        sleep(Duration::from_millis(rng.random_range(0..400))).await;
        let error = match rng.random_range(0..20) {
            0..3 => stream.remove(what(&mut rng, last)).await.err(),
            3 => stream.update(patch(&mut rng)).await.err(),
            _ => match stream.append(record(&mut rng)).await {
                Ok(written) => {
                    last = written.seq;
                    None
                }
                Err(AppendError::Rejected { .. }) => None,
                Err(AppendError::Call(error)) => Some(error),
                Err(error) => panic!("{error}"),
            },
        };
        if let Some(error) = error {
            may_fail(&error);
        }
    }
}

/// From here on nothing leaves the stream by itself, and one more record is in it.
async fn end(stream: &Stream) {
    sleep(SETTLED).await;
    let unlimited = ConfigPatch {
        max_msgs: Some(0),
        max_bytes: Some(0),
        max_age: Some(0),
        allow_ttl: Some(false),
        ..ConfigPatch::default()
    };
    stream.update(unlimited).await.unwrap();
    stream.append(Record::keyed(END, "end")).await.unwrap();
}

async fn contents(stream: &Stream) -> Held {
    let mut records = stream.read(ReadOptions::default());
    let mut held = Held::new();
    while let Some(record) = records.next().await {
        held.extend([entry(record.unwrap())]);
    }
    held
}

/// Plays one history.
async fn history(seed: u64) -> (Seen, Happened) {
    let mut fleet = Fleet::new(seed).await;
    let mut rng = StdRng::seed_from_u64(seed);
    let persist = fleet.persist().await.timeout(Duration::from_secs(20));
    let stream = persist.create("s", config(&mut rng)).await.unwrap();
    fleet.world.network(Manner {
        delay_max: Duration::from_millis(50),
        ..Manner::ideal()
    });
    let (seen, mut readers) = (Seen::default(), Vec::new());
    for prefix in PREFIXES {
        let reader = Reader {
            stream: fleet.persist().await.stream("s").unwrap(),
            prefix,
            rng: StdRng::seed_from_u64(rng.random()),
            held: Held::new(),
            seen: &seen,
        };
        readers.push(reader.follow());
    }
    let writing = async {
        let writers = (0..WRITERS).map(|_| write(stream.clone(), rng.random()));
        tokio::join!(join_all(writers), fleet.troubles(TROUBLES));
        end(&stream).await;
    };
    let (readers, ()) = tokio::join!(join_all(readers), writing);
    let contents = contents(&stream).await;
    for (prefix, held) in PREFIXES.into_iter().zip(readers) {
        let mut wanted = contents.clone();
        if let Some(prefix) = prefix {
            let is_wanted =
                |key: &Option<String>| key.as_ref().is_some_and(|key| key.starts_with(prefix));
            wanted.retain(|_, (key, _)| is_wanted(key));
        }
        assert_eq!(
            held, wanted,
            "what the reader of {prefix:?} holds, and the stream"
        );
    }
    (seen, fleet.happened)
}

#[test]
fn readers_end_with_what_the_stream_holds() {
    let (histories, are_enough) = play(SEEDS, history);
    if !are_enough {
        return;
    }
    let mut happened = Happened::default();
    let mut sums = [0; 4];
    for (seen, more) in histories {
        happened.add(more);
        let counts = [seen.resyncs, seen.removals, seen.kept, seen.begun_anew];
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count.get();
        }
    }
    happened.assert_everything();
    assert!(sums.iter().all(|sum| *sum > 0), "{sums:?}");
}
