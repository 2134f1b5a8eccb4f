//! The core does what an obvious model does, over thousands of random histories, and readers who follow the change
//! feed end with exactly what the stream holds.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use dialtone_client::persist::wire::{Config, ConfigPatch, Discard, Expect, Outcome, Record, What};
use dialtone_persist::core::commit::Meta;
use dialtone_persist::core::state::State;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, FileFailurePersistence};

mod model;
mod reader;

use model::Model;
use reader::Reader;

/// When histories begin, in milliseconds since 1970.
const START: u64 = 1_000_000;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    Append {
        records: Vec<Draft>,
        atomic: bool,
    },
    Remove(What, Option<Guess>),
    Update(ConfigPatch),
    /// Time passes, or the clock is set back.
    Clock(i64),
    Expire,
    /// A reader takes a page of at most so many bytes.
    Read(usize, u64),
}

/// A record whose expectation is made right or wrong when it is written.
#[derive(Debug, Clone)]
struct Draft {
    record: Record,
    guess: Option<Guess>,
}

/// What an expectation is about, and how far from the truth.
#[derive(Debug, Clone, Copy)]
enum Guess {
    Last(u64),
    Key(u64),
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[ab]/[0-3]"]
}

fn guess() -> impl Strategy<Value = Option<Guess>> {
    // Mostly right: 0 is the truth.
    let off = prop_oneof![4 => Just(0_u64), 1 => 1..3_u64];
    prop_oneof![
        3 => Just(None),
        1 => off.clone().prop_map(|off| Some(Guess::Last(off))),
        1 => off.prop_map(|off| Some(Guess::Key(off))),
    ]
}

fn draft() -> impl Strategy<Value = Draft> {
    let key = proptest::option::of(key());
    let ttl = proptest::option::weighted(0.2, 1..3_000_u64);
    let id = proptest::option::weighted(0.3, "[a-f]");
    (key, 0..60_usize, ttl, id, guess()).prop_map(|(key, len, ttl, id, guess)| Draft {
        record: Record {
            key,
            payload: vec![b'x'; len].into(),
            ttl,
            id,
            ..Record::default()
        },
        guess,
    })
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        proptest::collection::vec(0..40_u64, 0..4).prop_map(What::Seqs),
        (0..40_u64).prop_map(What::UpTo),
        (0..40_u64, 0..6_u64).prop_map(|(from, len)| What::Range(from, from + len)),
        Just(What::All),
        key().prop_map(What::Key),
        "[ab]".prop_map(What::Prefix),
    ]
}

fn patch() -> impl Strategy<Value = ConfigPatch> {
    let limit = |max: u64| proptest::option::of(prop_oneof![Just(0), 1..max]);
    (
        limit(12),
        limit(300),
        limit(4_000),
        proptest::option::of(1..4_u32),
        any::<bool>(),
    )
        .prop_map(
            |(max_msgs, max_bytes, max_age, max_msgs_per_key, allow_ttl)| ConfigPatch {
                max_msgs,
                max_bytes,
                max_age,
                max_msgs_per_key,
                allow_ttl: Some(allow_ttl),
                ..ConfigPatch::default()
            },
        )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (proptest::collection::vec(draft(), 1..5), any::<bool>())
            .prop_map(|(records, atomic)| Step::Append { records, atomic }),
        3 => (what(), guess()).prop_map(|(what, guess)| Step::Remove(what, guess)),
        1 => patch().prop_map(Step::Update),
        4 => (0..1_500_i64).prop_map(Step::Clock),
        1 => (-2_000..0_i64).prop_map(Step::Clock),
        1 => Just(Step::Expire),
        6 => (0..READERS, 0..400_u64).prop_map(|(who, bytes)| Step::Read(who, bytes)),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    let limit = |max: u64| prop_oneof![2 => Just(0), 1 => 1..max];
    (
        (limit(12), limit(300), limit(4_000), limit(80)),
        (limit(6), limit(200), 1..4_u32, any::<bool>()),
        (
            prop_oneof![Just(0_u64), Just(1_000)],
            prop_oneof![Just(1_u64), Just(5), Just(1_000)],
        ),
    )
        .prop_map(|(sizes, rates, windows)| Config {
            max_msgs: sizes.0,
            max_bytes: sizes.1,
            max_age: sizes.2,
            max_msg_size: sizes.3,
            max_msgs_per_second: rates.0,
            max_bytes_per_second: rates.1,
            max_msgs_per_key: rates.2,
            discard: if rates.3 { Discard::Old } else { Discard::New },
            duplicate_window: windows.0,
            removals_kept: windows.1,
            ..Config::default()
        })
}

/// How many readers follow: two of everything, one of a prefix.
const READERS: usize = 3;

struct Run {
    state: State,
    model: Model,
    readers: [Reader; READERS],
    now: u64,
}

impl Run {
    fn new(config: Config) -> Self {
        let meta = Meta {
            epoch: 7,
            created: START,
            restoring: false,
            config: config.clone(),
        };
        Self {
            state: State::new(meta),
            model: Model::new(config),
            readers: [
                Reader::new(None),
                Reader::new(None),
                Reader::new(Some("a/")),
            ],
            now: START,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append { records, atomic } => self.append(records, atomic),
            Step::Remove(what, guess) => self.remove(&what, guess),
            Step::Update(patch) => {
                self.model.update(self.now, patch.clone());
                self.state.update(self.now, patch).unwrap();
            }
            Step::Clock(ms) => self.now = self.now.saturating_add_signed(ms),
            Step::Expire => {
                self.model.expire(self.now);
                self.state.expire(self.now);
                // Timers that are told of a moment that has passed would never rest.
                let due = self.state.next_due();
                assert!(
                    due.is_none_or(|due| due > self.now),
                    "{due:?} at {}",
                    self.now
                );
            }
            Step::Read(who, bytes) => self.readers[who].read(&self.state, bytes),
        }
        self.compare();
    }

    fn append(&mut self, drafts: Vec<Draft>, atomic: bool) {
        // What is over goes first, so that guesses are about what is there.
        self.model.expire(self.now);
        let records: Vec<Record> = drafts
            .into_iter()
            .map(|draft| self.guessed(draft))
            .collect();
        let expected = self.model.append(self.now, &records, atomic);
        let got = self.state.append(self.now, records, atomic, None);
        match (got, expected) {
            (Ok(got), Ok(expected)) => {
                let got: Vec<_> = got.into_iter().map(outcome).collect();
                assert_eq!(got, expected);
            }
            (Err(fault), Err(expected)) => assert_eq!((fault.kind, fault.seq), expected),
            (got, expected) => panic!("{got:?}, and not {expected:?}"),
        }
    }

    fn guessed(&self, draft: Draft) -> Record {
        let mut record = draft.record;
        record.expect = draft.guess.and_then(|guess| match (guess, &record.key) {
            (Guess::Last(off), _) => Some(Expect::LastSeq(self.model.last_seq + off)),
            (Guess::Key(off), Some(key)) => Some(Expect::KeySeq(self.model.key_seq(key) + off)),
            (Guess::Key(_), None) => None,
        });
        record
    }

    fn remove(&mut self, what: &What, guess: Option<Guess>) {
        self.model.expire(self.now);
        let expect = guess.and_then(|guess| match (guess, what) {
            (Guess::Last(off), _) => Some(Expect::LastSeq(self.model.last_seq + off)),
            (Guess::Key(off), What::Key(key)) => {
                Some(Expect::KeySeq(self.model.key_seq(key) + off))
            }
            (Guess::Key(_), _) => None,
        });
        let expected = self.model.remove(self.now, what, expect);
        let got = self.state.remove(self.now, what, expect, None);
        match (got, expected) {
            (Ok((count, _)), Ok(expected)) => assert_eq!(count, expected),
            (Err(fault), Err(expected)) => assert_eq!((fault.kind, fault.seq), expected),
            (got, expected) => panic!("{got:?}, and not {expected:?}"),
        }
    }

    fn compare(&self) {
        assert_eq!(self.state.totals(), self.model.totals());
        let records = self.state.records();
        let got: Vec<model::Held> = records
            .iter_from(0)
            .map(|(seq, size, time)| {
                let meta = records.get(seq).unwrap();
                model::Held {
                    seq,
                    time,
                    size: u64::from(size),
                    key: meta.key.as_deref().map(str::to_owned),
                    expires: meta.expires,
                }
            })
            .collect();
        assert_eq!(got, self.model.records);
        assert_eq!(records.keys_len(), self.model.keys());
    }

    fn finish(mut self) {
        for reader in &mut self.readers {
            reader.read_all(&self.state);
            reader.assert_holds(&self.state);
        }
        let commit = self.state.take_commit(self.now, 0);
        if let Some(commit) = commit {
            assert_eq!(commit.last_revision(), self.model.revision);
        }
    }
}

/// What became of a record, as the model says it.
fn outcome(outcome: Outcome) -> model::Result<(u64, u64, u64, bool)> {
    match outcome {
        Outcome::Written(written) => Ok((
            written.seq,
            written.time,
            written.revision,
            written.duplicate,
        )),
        Outcome::Refused(fault) => Err((fault.kind, fault.seq)),
    }
}

proptest! {
    #![proptest_config(Cases {
        cases: 3_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..Cases::default()
    })]

    #[test]
    fn random_histories_agree_with_the_model(
        config in config(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut run = Run::new(config);
        for step in steps {
            run.step(step);
        }
        run.finish();
    }
}

/// Its records are in memory alone, so that the bound holds whatever the configuration says.
#[test]
fn an_ephemeral_stream_keeps_no_more_than_the_memory_it_may_have() {
    const MEBIBYTE: usize = 1 << 20;
    let config = Config {
        ephemeral: true,
        max_bytes: 1 << 40,
        ..Config::default()
    };
    let mut state = State::new(Meta {
        config,
        ..Meta::default()
    });
    for _ in 0..70 {
        let record = Record::from(vec![b'x'; MEBIBYTE]);
        let written = state.append(START, vec![record], false, None).unwrap();
        assert!(matches!(written[..], [Outcome::Written(_)]), "{written:?}");
        drop(state.take_commit(START, 0));
    }
    // 64,000,000 bytes, of docs/persist.md §3.
    assert_eq!((state.records().messages(), state.last_seq()), (61, 70));
}
