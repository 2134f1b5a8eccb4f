//! Whatever a stream decides: what PostgreSQL gives back is what memory gives back.

use std::sync::LazyLock;

use dialtone_client::persist::wire::{
    ConfigPatch, ConsumerConfig, Durability, Expect, Record, RemovalCause, StoredRecord, What,
};
use dialtone_persist::backend::memory::Memory;
use dialtone_persist::backend::postgres::PostgresBackend;
use dialtone_persist::backend::{Backend, Loaded, StreamId};
use dialtone_persist::core::commit::{Meta, Remove};
use dialtone_persist::core::feed::Budget;
use dialtone_persist::core::state::State;
use dialtone_testkit::Postgres;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::{name, store};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// Key, message id, length, lifetime.
type Given = (Option<u8>, Option<u8>, u16, Option<u64>);

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Given>, bool),
    Remove(What),
    Limit(u64, u64),
    Fetch(u8),
    Pass(u64),
    Load,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let record = (
        prop::option::of(0..6_u8),
        prop::option::of(0..20_u8),
        0..3_000_u16,
        prop::option::of(1..50_000_u64),
    );
    let step = prop_oneof![
        6 => (prop::collection::vec(record, 1..6), any::<bool>()).prop_map(|(records, atomic)| Step::Append(records, atomic)),
        2 => prop_oneof![
            (0..80_u64).prop_map(What::UpTo),
            (0..80_u64, 0..20_u64).prop_map(|(from, len)| What::Range(from, from + len)),
            prop::collection::vec(1..80_u64, 1..6).prop_map(What::Seqs),
            (0..6_u8).prop_map(|key| What::Key(format!("k\0{key}"))),
            Just(What::All),
        ].prop_map(Step::Remove),
        1 => (0..30_u64, 0..5_u64).prop_map(|(max_msgs, kept)| Step::Limit(max_msgs, kept)),
        1 => (0..3_u8).prop_map(Step::Fetch),
        1 => (1..40_000_u64).prop_map(Step::Pass),
        1 => Just(Step::Load),
    ];
    prop::collection::vec(step, 1..40)
}

fn decide(state: &mut State, step: &Step, now: u64, number: usize) {
    // Whether something is refused is the core's business; whatever it decides is stored.
    match step {
        Step::Append(records, atomic) => {
            let records = records.iter().map(|(key, id, len, ttl)| Record {
                key: key.map(|key| format!("k\0{key}")),
                id: id.map(|id| format!("id{id}")),
                headers: (len % 3 == 0).then(|| r#"{"a":"\u0000"}"#.into()),
                encoding: (len % 250) as u8,
                ttl: *ttl,
                ..Record::new(vec![b'x'; usize::from(*len)])
            });
            drop(state.append(now, records.collect(), *atomic, None));
        }
        Step::Remove(what) => drop(state.remove(now, what, None, None)),
        Step::Limit(max_msgs, removals_kept) => {
            let patch = ConfigPatch {
                max_msgs: Some(*max_msgs),
                removals_kept: Some(*removals_kept),
                description: Some("zero \0 and ä".to_owned()),
                ..ConfigPatch::default()
            };
            state.update(now, patch).unwrap();
        }
        Step::Fetch(consumer) => {
            let consumer = format!("c{consumer}");
            if number.is_multiple_of(7) {
                drop(state.delete_consumer(&consumer));
            }
            drop(state.create_consumer(now, &consumer, ConsumerConfig::default(), true));
            let budget = Budget {
                bytes: 10_000,
                entries: 3,
            };
            drop(state.fetch(now, &consumer, budget));
        }
        Step::Pass(_) | Step::Load => state.expire(now),
    }
}

/// Everything of a loaded stream but its number.
fn shown(loaded: &Loaded) -> String {
    let records: Vec<_> = loaded
        .records
        .iter_from(0)
        .map(|(seq, ..)| loaded.records.get(seq))
        .collect();
    format!(
        "{:#?}",
        (
            &loaded.meta,
            &loaded.totals,
            loaded.horizon,
            &loaded.log,
            &loaded.ids,
            &loaded.consumers,
            records
        )
    )
}

async fn read_all(backend: &dyn Backend, stream: StreamId, bytes: u64) -> Vec<StoredRecord> {
    let (mut records, mut ranges) = (Vec::new(), vec![(0, 20), (22, 22), (25, 1_000_000)]);
    loop {
        let batch = backend.read(stream, &ranges, bytes).await.unwrap();
        assert_eq!(batch.damaged, None);
        records.extend(batch.records);
        let Some(next) = batch.next else {
            return records;
        };
        ranges.retain(|(_, last)| *last >= next);
        ranges[0].0 = ranges[0].0.max(next);
    }
}

async fn compare(
    memory: (&Memory, StreamId),
    postgres: (&PostgresBackend, StreamId),
    stream: &str,
    now: u64,
) -> Loaded {
    let stream = name(stream);
    let expected = memory.0.load(&stream, now).await.unwrap().unwrap();
    let found = postgres.0.load(&stream, now).await.unwrap().unwrap();
    assert_eq!(shown(&found), shown(&expected));
    for bytes in [1, 5_000, u64::MAX] {
        let expected = read_all(memory.0, memory.1, bytes).await;
        assert_eq!(read_all(postgres.0, postgres.1, bytes).await, expected);
    }
    let verified = postgres.0.verify(postgres.1, 0, u64::MAX).await.unwrap();
    assert_eq!((verified.problems, verified.next), (Vec::new(), None));
    assert_eq!(verified.records, found.totals.messages);
    found
}

async fn run(postgres: &PostgresBackend, stream: &str, steps: Vec<Step>) {
    let memory = Memory::new();
    let meta = Meta {
        epoch: 7,
        created: 3,
        ..Meta::default()
    };
    let ids = (
        memory.create(&name(stream), &meta).await.unwrap(),
        postgres.create(&name(stream), &meta).await.unwrap(),
    );
    let mut state = State::new(meta);
    let mut now = 1_000_000;
    for (number, step) in steps.iter().enumerate() {
        now += if let Step::Pass(time) = step {
            *time
        } else {
            1
        };
        decide(&mut state, step, now, number);
        if let Some(commit) = state.take_commit(now, 0) {
            let asked = commit.durability;
            store(&memory, ids.0, commit.clone()).await.unwrap();
            let obtained = store(postgres, ids.1, commit).await.unwrap();
            assert!(obtained >= asked);
        }
        if matches!(step, Step::Load) {
            let loaded = compare((&memory, ids.0), (postgres, ids.1), stream, now).await;
            state = State::load(loaded).unwrap();
        }
    }
    compare((&memory, ids.0), (postgres, ids.1), stream, now).await;
    postgres.delete(ids.1).await.unwrap();
    assert!(postgres.load(&name(stream), now).await.unwrap().is_none());
}

#[test]
fn random_histories_are_kept_as_memory_keeps_them() {
    let url = Postgres::shared().database();
    let postgres = RUNTIME.block_on(super::open(&url));
    let config = ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let case = std::cell::Cell::new(0);
    proptest!(config, |(steps in steps())| {
        case.set(case.get() + 1);
        RUNTIME.block_on(run(&postgres, &format!("case {}", case.get()), steps));
    });
    RUNTIME.block_on(postgres.close()).unwrap();
}

/// A range that reaches behind the last number does not take what comes after it in the same commit.
#[tokio::test]
async fn the_changes_of_a_commit_happen_in_order() {
    let postgres = super::open(&Postgres::shared().database()).await;
    let (id, mut state) = super::create(&postgres, "s").await;
    let first = super::append(&mut state, "a", 0);
    store(&postgres, id, first).await.unwrap();
    state
        .remove(10, &What::UpTo(u64::MAX >> 12), None, None)
        .unwrap();
    state
        .append(10, vec![Record::new("b"), Record::new("c")], true, None)
        .unwrap();
    let mut commit = state.take_commit(10, 0).unwrap();
    if let dialtone_persist::core::commit::Change::Remove(Remove { ranges, cause, .. }) =
        &mut commit.changes[0]
    {
        *ranges = vec![(0, 1_000)];
        assert_eq!(*cause, RemovalCause::Request);
    }
    store(&postgres, id, commit).await.unwrap();
    assert_eq!(
        super::payloads(&postgres, "s").await,
        [(2, "b".to_owned()), (3, "c".to_owned())]
    );
}

#[tokio::test]
async fn names_are_listed_by_their_bytes_and_prefixes_are_exact() {
    let postgres = super::open(&Postgres::shared().database()).await;
    let long = "ä".repeat(1_900);
    let mut names: Vec<String> = [
        "a",
        "a!b",
        "a/b",
        "a/b/c",
        "a/ä",
        "ab",
        "b%",
        "b_",
        "b\\",
        "\u{10ffff}",
    ]
    .map(str::to_owned)
    .into();
    names.extend([format!("{long}/1"), format!("{long}/2"), format!("{long}x")]);
    for (number, stream) in names.iter().enumerate() {
        let (id, mut state) = super::create(&postgres, stream).await;
        let commit = super::append(&mut state, &"x".repeat(number), 0);
        store(&postgres, id, commit).await.unwrap();
    }
    names.sort();
    let long_prefix = format!("{long}/");
    for prefix in [
        "",
        "a",
        "a/",
        "ab",
        "b_",
        "b%",
        "c",
        &long,
        &long_prefix,
        "\u{10ffff}",
    ] {
        let expected: Vec<&String> = names
            .iter()
            .filter(|stream| stream.starts_with(prefix))
            .collect();
        let mut found: Vec<String> = Vec::new();
        loop {
            let page = postgres
                .list(prefix, found.last().map(String::as_str), 2)
                .await
                .unwrap();
            let len = page.len();
            found.extend(page.into_iter().map(|entry| entry.name.to_string()));
            if len < 2 {
                break;
            }
        }
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{prefix:.20}");
        let sum = postgres.sum(prefix).await.unwrap();
        assert_eq!(
            (sum.streams, sum.messages),
            (expected.len() as u64, expected.len() as u64)
        );
    }
}

#[tokio::test]
async fn a_damaged_record_is_named_and_not_served() {
    let server = Postgres::shared();
    let url = server.database();
    let postgres = super::open(&url).await;
    let (id, mut state) = super::create(&postgres, "s").await;
    for payload in ["a", "b", "c"] {
        let commit = super::append(&mut state, payload, 0);
        store(&postgres, id, commit).await.unwrap();
    }
    server.run_at(
        &url,
        "UPDATE dialtone_persist.record SET payload = 'x' WHERE seq = 2",
    );
    let batch = postgres.read(id, &[(1, 9)], u64::MAX).await.unwrap();
    let damaged = batch.damaged.unwrap();
    assert_eq!((batch.records.len(), damaged.seq), (1, 2));
    assert!(damaged.text.contains("checksum"), "{}", damaged.text);
    let rest = postgres
        .read(id, &[(batch.next.unwrap(), 9)], u64::MAX)
        .await
        .unwrap();
    assert_eq!(rest.records[0].seq, 3);
    server.run_at(&url, "DELETE FROM dialtone_persist.record WHERE seq = 3");
    let problems = postgres.verify(id, 0, u64::MAX).await.unwrap().problems;
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_eq!(problems[0].seq, Some(2));
    assert!(
        problems[1].text.contains("3 records"),
        "{}",
        problems[1].text
    );
}

#[tokio::test]
async fn deleted_streams_come_back_with_another_number() {
    let postgres = super::open(&Postgres::shared().database()).await;
    let (first, mut state) = super::create(&postgres, "s").await;
    let commit = super::append(&mut state, "a", 0);
    store(&postgres, first, commit).await.unwrap();
    let meta = Meta::default();
    assert_eq!(
        postgres.create(&name("s"), &meta).await,
        Err(dialtone_persist::backend::Error::Exists)
    );
    postgres.delete(first).await.unwrap();
    assert_eq!(
        postgres.delete(first).await,
        Err(dialtone_persist::backend::Error::NotFound)
    );
    let commit = super::append(&mut state, "b", 0);
    assert_eq!(
        store(&postgres, first, commit).await,
        Err(dialtone_persist::backend::Error::NotFound)
    );
    let (second, _) = super::create(&postgres, "s").await;
    assert_ne!(first, second);
    assert_eq!(super::payloads(&postgres, "s").await, []);
}

/// Which durability is asked for is what is obtained, or more.
#[tokio::test]
async fn every_durability_is_obtained() {
    let postgres = super::open(&Postgres::shared().database()).await;
    let (id, mut state) = super::create(&postgres, "s").await;
    for (asked, obtained) in [
        (Durability::Memory, Durability::Memory),
        (Durability::Os, Durability::Fsync),
        (Durability::Fsync, Durability::Fsync),
    ] {
        let expect = Some(Expect::LastSeq(state.last_seq()));
        let record = Record {
            expect,
            ..Record::new("x")
        };
        state.append(10, vec![record], true, Some(asked)).unwrap();
        let commit = state.take_commit(10, 0).unwrap();
        assert_eq!(store(&postgres, id, commit).await, Ok(obtained));
    }
}
