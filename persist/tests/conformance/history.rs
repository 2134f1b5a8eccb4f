//! Random histories: what is loaded is what the core had, and what is read is what was written.

use std::collections::BTreeMap;

use dialtone_client::persist::wire::{
    AckKind, Config, ConfigPatch, ConsumerConfig, Discard, Record, What,
};
use dialtone_persist::backend::StreamId;
use dialtone_persist::core::feed::Budget;
use dialtone_persist::core::records::RecordMeta;
use dialtone_persist::core::state::State;

use crate::{Fixture, name};

/// Steps of a history.
const STEPS: u32 = 400;

/// Numbers from a seed, the same ones each time.
struct Random(u64);

impl Random {
    fn below(&mut self, max: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % max
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        let at = self.below(choices.len() as u64);
        choices[usize::try_from(at).unwrap()]
    }
}

struct Run<'a> {
    fixture: &'a mut Fixture,
    random: Random,
    stream: String,
    id: StreamId,
    state: State,
    /// What was appended, by number.
    written: BTreeMap<u64, Record>,
    now: u64,
}

pub(crate) async fn random_histories_are_given_back(mut fixture: Fixture) {
    for seed in 0..fixture.histories() {
        let mut run = Run::begin(&mut fixture, seed).await;
        for step in 0..STEPS {
            run.step().await;
            if run.random.below(20) == 0 {
                run.compare(&format!("seed {seed}, step {step}")).await;
            }
        }
        run.fixture.reopen().await;
        run.compare(&format!("seed {seed}, the end")).await;
    }
}

pub(crate) async fn what_is_verified_is_whole(mut fixture: Fixture) {
    let mut run = Run::begin(&mut fixture, 99).await;
    for _ in 0..100 {
        run.step().await;
    }
    let (mut from, mut records) = (0, 0);
    loop {
        let verified = run
            .fixture
            .backend
            .verify(run.id, from, 1_000)
            .await
            .unwrap();
        assert_eq!(verified.problems, []);
        records += verified.records;
        match verified.next {
            Some(next) => from = next,
            None => break,
        }
    }
    assert!(records >= run.state.records().messages());
}

impl<'a> Run<'a> {
    async fn begin(fixture: &'a mut Fixture, seed: u64) -> Self {
        let mut random = Random(seed);
        let config = Config {
            max_msgs: random.one_of(&[0, 30]),
            max_bytes: random.one_of(&[0, 3_000]),
            max_msgs_per_key: 1 + u32::try_from(random.below(3)).unwrap(),
            max_age: random.one_of(&[0, 5_000]),
            removals_kept: random.one_of(&[5, 10_000]),
            discard: random.one_of(&[Discard::Old, Discard::New]),
            duplicate_window: 2_000,
            ..Config::default()
        };
        let stream = format!("run/{seed}");
        let (id, meta) = fixture.create(&stream, config).await;
        Self {
            fixture,
            random,
            stream,
            id,
            state: State::new(meta),
            written: BTreeMap::new(),
            now: 1_000_000,
        }
    }

    async fn step(&mut self) {
        self.now += self.random.below(300);
        match self.random.below(20) {
            0..12 => self.append(),
            12..14 => {
                let seq = self.random.below(self.state.last_seq() + 2);
                self.remove(&What::Range(seq, seq + 3));
            }
            14 => {
                let key = format!("k{}", self.random.below(8));
                self.remove(&What::Key(key));
            }
            15 => self.remove(&What::Prefix("k1".to_owned())),
            16 => self.consume(),
            17 => {
                let patch = ConfigPatch {
                    max_msgs: Some(20 + self.random.below(20)),
                    ..ConfigPatch::default()
                };
                self.state.update(self.now, patch).unwrap();
            }
            _ => self.state.expire(self.now),
        }
        self.commit().await;
    }

    fn append(&mut self) {
        let count = 1 + self.random.below(4);
        let records: Vec<Record> = (0..count).map(|_| self.record()).collect();
        let before = self.state.last_seq();
        let is_atomic = self.random.below(2) == 0;
        // What is refused is not written, which the comparison shows.
        if let Ok(outcomes) = self
            .state
            .append(self.now, records.clone(), is_atomic, None)
        {
            for (record, outcome) in records.into_iter().zip(outcomes) {
                if let dialtone_client::persist::wire::Outcome::Written(written) = outcome
                    && written.seq > before
                    && !written.duplicate
                {
                    self.written.insert(written.seq, record);
                }
            }
        }
    }

    fn record(&mut self) -> Record {
        let len = self.random.one_of(&[0, 10, 200, 3_000]);
        let byte = u8::try_from(self.random.below(256)).unwrap();
        Record {
            key: (self.random.below(3) > 0).then(|| format!("k{}", self.random.below(12))),
            payload: vec![byte; len].into(),
            encoding: byte,
            headers: (self.random.below(4) == 0).then(|| "{\"a\":1}".into()),
            ttl: (self.random.below(5) == 0).then(|| 1 + self.random.below(2_000)),
            id: (self.random.below(3) == 0).then(|| format!("id{}", self.random.below(40))),
            expect: None,
        }
    }

    fn remove(&mut self, what: &What) {
        self.state.remove(self.now, what, None, None).unwrap();
    }

    fn consume(&mut self) {
        let budget = Budget {
            bytes: u64::MAX,
            entries: 5,
        };
        self.state
            .create_consumer(self.now, "c", ConsumerConfig::default(), true)
            .unwrap();
        let taken = self.state.fetch(self.now, "c", budget).unwrap();
        let some: Vec<(u64, u64)> = taken
            .due
            .iter()
            .step_by(2)
            .map(|due| (due.seq, due.token))
            .collect();
        self.state.ack(self.now, "c", &some, AckKind::Ack).unwrap();
    }

    async fn commit(&mut self) {
        if let Some(commit) = self.state.take_commit(self.now, 0) {
            self.fixture.commit(self.id, commit).await.unwrap();
        }
    }

    /// The store gives back what the core has and what was written.
    async fn compare(&self, at: &str) {
        let loaded = self
            .fixture
            .backend
            .load(&name(&self.stream), self.now)
            .await;
        let loaded = State::load(loaded.unwrap().unwrap()).unwrap();
        assert_eq!(loaded.meta(), self.state.meta(), "{at}");
        assert_eq!(loaded.totals(), self.state.totals(), "{at}");
        assert_eq!(facts(&loaded), facts(&self.state), "{at}");
        assert_eq!(loaded.changes_since(0), self.state.changes_since(0), "{at}");
        assert_eq!(
            loaded.known_ids(self.now),
            self.state.known_ids(self.now),
            "{at}"
        );
        let consumer = |state: &State| state.consumer("c").ok();
        assert_eq!(consumer(&loaded), consumer(&self.state), "{at}");
        self.compare_payloads(at).await;
    }

    async fn compare_payloads(&self, at: &str) {
        let seqs: Vec<u64> = self
            .state
            .records()
            .iter_from(0)
            .map(|(seq, ..)| seq)
            .collect();
        let ranges: Vec<(u64, u64)> = seqs.iter().map(|seq| (*seq, *seq)).collect();
        let read = self
            .fixture
            .backend
            .read(self.id, &ranges, u64::MAX)
            .await
            .unwrap();
        assert_eq!(read.damaged, None, "{at}");
        let got: Vec<u64> = read.records.iter().map(|record| record.seq).collect();
        assert_eq!(got, seqs, "{at}");
        for record in read.records {
            let written = &self.written[&record.seq];
            assert_eq!(record.payload, written.payload, "{at}");
            assert_eq!(
                (&record.key, &record.headers),
                (&written.key, &written.headers),
                "{at}"
            );
            assert_eq!(
                (record.ttl, record.encoding),
                (written.ttl, written.encoding),
                "{at}"
            );
        }
    }
}

/// Number, size, time, key and end of each record.
fn facts(state: &State) -> Vec<RecordMeta> {
    let records = state.records();
    let metas = records
        .iter_from(0)
        .filter_map(|(seq, ..)| records.get(seq));
    metas.collect()
}
