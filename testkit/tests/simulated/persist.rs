//! Streams as a program uses them, against the model of the service: through lost answers, cut links and moving streams,
//! what was acknowledged is there once, and whoever watches ends with what the stream holds.

use std::collections::{BTreeMap, BTreeSet};

use dialtone_client::persist::kv::{Bucket, KeyValue, KvEvent, KvOptions};
use dialtone_client::persist::log::{Log, LogEvent};
use dialtone_client::persist::wire::{
    Config, ConsumerConfig, Cursor, Discard, FaultKind, Record, What,
};
use dialtone_client::persist::{
    AckError, AppendError, Event, OpenError, Persist, ReadOptions, WatchOptions, Watcher,
};
use dialtone_testkit::{Manner, Streams, World};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::{millis, seconds, simulate};

/// A broker with a service of two nodes.
pub(crate) async fn service(seed: u64) -> (World, Streams) {
    let world = World::new(seed).await;
    let streams = Streams::new();
    for node in ["p1", "p2"] {
        let client = world.client().await.unwrap();
        streams.serve(&client, node).await.unwrap();
    }
    (world, streams)
}

pub(crate) async fn persist(world: &World) -> Persist {
    Persist::new(&world.client().await.unwrap()).timeout(seconds(3_600))
}

/// Makes trouble for a while.
async fn trouble(streams: &Streams, rng: &mut StdRng) {
    for _ in 0..10 {
        tokio::time::sleep(millis(rng.random_range(1..3_000))).await;
        match rng.random_range(0..4) {
            0 => streams.lose_answers(rng.random_range(1..3)),
            1 => streams.move_to("p2"),
            2 => streams.move_to("p1"),
            _ => streams.compact(),
        }
    }
}

#[test]
fn what_is_acknowledged_is_there_once_and_in_order() {
    simulate(10, async |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let (world, streams) = service(seed).await;
        world.network(Manner::rough(seed));
        let persist = persist(&world).await;
        let stream = persist.create("s", Config::default()).await.unwrap();
        let writing = async {
            for number in 0..40_u32 {
                let written = stream.append(number.to_string()).await.unwrap();
                assert_eq!(written.seq, u64::from(number) + 1);
            }
        };
        tokio::join!(writing, trouble(&streams, &mut rng));
        let expected: Vec<Vec<u8>> = (0..40).map(|n: u32| n.to_string().into_bytes()).collect();
        assert_eq!(streams.payloads("s"), expected);
    });
}

#[test]
fn reading_gives_every_record_in_order_whatever_its_size() {
    simulate(10, async |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let (world, streams) = service(seed).await;
        let persist = persist(&world).await;
        let stream = persist.create("s", Config::default()).await.unwrap();
        let mut records = Vec::new();
        for number in 0..500_u32 {
            let len = rng.random_range(0..3_000);
            let mut payload = number.to_string().into_bytes();
            payload.resize(payload.len() + len, b'.');
            records.push(Record::new(payload).key(format!("{}", number % 400)));
        }
        stream.append_many(records).await.unwrap();
        let gone: Vec<u64> = (1..500).filter(|_| rng.random_bool(0.2)).collect();
        stream.remove(What::Seqs(gone)).await.unwrap();
        streams.lose_answers(2);
        let mut read = stream.read(ReadOptions::default());
        let (mut payloads, mut last) = (Vec::new(), 0);
        while let Some(record) = read.next().await {
            let record = record.unwrap();
            assert!(record.seq > last, "{} after {last}", record.seq);
            last = record.seq;
            payloads.push(record.payload.to_vec());
        }
        assert_eq!(payloads, streams.payloads("s"));
        let mut some = stream.read(ReadOptions {
            max_msgs: Some(7),
            ..ReadOptions::from(100)
        });
        let mut count = 0;
        while let Some(record) = some.next().await {
            assert!(record.unwrap().seq >= 100);
            count += 1;
        }
        assert_eq!(count, 7);
    });
}

/// Follows a stream until a number, building what it holds.
async fn follow(mut watcher: Watcher, last: u64) -> (BTreeMap<u64, Vec<u8>>, u32) {
    let (mut held, mut resyncs) = (BTreeMap::new(), 0);
    let mut keys: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        match watcher.next().await.unwrap().unwrap() {
            Event::Record { record, .. } => {
                if let Some(key) = record.key
                    && let Some(older) = keys.insert(key, record.seq)
                {
                    held.remove(&older);
                }
                held.insert(record.seq, record.payload.to_vec());
                if record.seq >= last {
                    return (held, resyncs);
                }
            }
            Event::Removed(removal) => {
                for (from, to) in removal.ranges {
                    held.retain(|seq, _| !(from..=to).contains(seq));
                }
            }
            Event::Config(_) | Event::Damaged { .. } => {}
            Event::Resync => {
                held.clear();
                keys.clear();
                resyncs += 1;
            }
        }
    }
}

#[test]
fn a_watcher_ends_with_what_the_stream_holds() {
    simulate(20, async |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let (world, streams) = service(seed).await;
        let (writer, reader) = (persist(&world).await, persist(&world).await);
        let stream = writer.create("s", Config::default()).await.unwrap();
        let watched = reader.open("s").await.unwrap();
        let watcher = watched
            .watch(Cursor::Seq(1), WatchOptions::default())
            .await
            .unwrap();
        let writing = async {
            let mut rng = StdRng::seed_from_u64(seed + 1);
            for number in 1..200_u64 {
                let mut record = Record::new(format!("{number}"));
                if rng.random_bool(0.5) {
                    record = record.key(format!("{}", rng.random_range(0..9)));
                }
                stream.append(record).await.unwrap();
                if rng.random_bool(0.1) {
                    let seq = rng.random_range(1..=number);
                    stream.remove(What::Seqs(vec![seq])).await.unwrap();
                }
                tokio::time::sleep(millis(rng.random_range(0..200))).await;
            }
            stream.append("last").await.unwrap();
        };
        let cutting = async {
            trouble(&streams, &mut rng).await;
            world.cut_all();
        };
        let ((), (), (held, _)) = tokio::join!(writing, cutting, follow(watcher, 200));
        let held: Vec<Vec<u8>> = held.into_values().collect();
        assert_eq!(held, streams.payloads("s"));
    });
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_was_away_for_too_long_is_told_to_begin_anew() {
    let (world, streams) = service(1).await;
    let persist = persist(&world).await;
    let stream = persist.create("s", Config::default()).await.unwrap();
    stream.append("1").await.unwrap();
    let mut watcher = stream
        .watch(Cursor::Seq(1), WatchOptions::default())
        .await
        .unwrap();
    assert!(matches!(
        watcher.next().await,
        Some(Ok(Event::Record { .. }))
    ));
    let position = watcher.position();
    drop(watcher);
    stream.append("2").await.unwrap();
    let mut again = stream
        .watch(Cursor::After(position), WatchOptions::default())
        .await
        .unwrap();
    assert!(
        matches!(again.next().await, Some(Ok(Event::Record { record, .. })) if record.seq == 2)
    );
    streams.compact();
    let mut anew = stream
        .watch(Cursor::After(position), WatchOptions::default())
        .await
        .unwrap();
    assert_eq!(anew.next().await.unwrap().unwrap(), Event::Resync);
    for seq in 1..=2 {
        assert!(
            matches!(anew.next().await, Some(Ok(Event::Record { record, .. })) if record.seq == seq)
        );
    }
    persist.delete("s").await.unwrap();
    let ended = anew.next().await.unwrap().unwrap_err();
    assert_eq!(ended.to_string(), "there is no stream s");
    assert!(anew.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn refusals_have_their_own_names() {
    let (world, _streams) = service(1).await;
    let persist = persist(&world).await;
    let config = Config {
        max_msgs: 1,
        discard: Discard::New,
        ..Config::default()
    };
    let stream = persist.create("s", config.clone()).await.unwrap();
    let exists = persist.create("s", config).await.unwrap_err();
    assert!(matches!(exists, OpenError::Exists { .. }), "{exists:?}");
    let missing = persist.open("t").await.unwrap_err();
    assert_eq!(missing.to_string(), "there is no stream t");
    let name = persist.open("a//b").await.unwrap_err();
    assert!(matches!(name, OpenError::Name(_)), "{name:?}");
    let wrong = stream.append(Record::new("x").after_last(7)).await;
    assert!(
        matches!(wrong, Err(AppendError::WrongLastSequence { actual: 0, .. })),
        "{wrong:?}"
    );
    stream.append("1").await.unwrap();
    let full = stream.append("2").await;
    assert!(
        matches!(full, Err(AppendError::Rejected { .. })),
        "{full:?}"
    );
    let both = vec![Record::new("3"), Record::new("4")];
    let none = stream.append_atomic(both).await;
    assert!(
        matches!(none, Err(AppendError::Rejected { .. })),
        "{none:?}"
    );
    let alone = World::new(2).await;
    let nobody = Persist::new(&alone.client().await.unwrap());
    let nobody = nobody
        .service_wait(millis(0))
        .list_all("")
        .await
        .unwrap_err();
    assert_eq!(nobody.code().number(), 503);
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_stays_unknown_when_nobody_is_left_to_ask() {
    let (world, streams) = (World::new(1).await, Streams::new());
    let node = world.client().await.unwrap();
    streams.serve(&node, "p1").await.unwrap();
    let persist = persist(&world).await;
    let stream = persist.create("s", Config::default()).await.unwrap();
    streams.lose_answers(1);
    let going = async {
        tokio::time::sleep(seconds(1)).await;
        node.close().await;
    };
    let (written, ()) = tokio::join!(stream.append("x"), going);
    let Err(AppendError::Call(error)) = written else {
        panic!("{written:?}");
    };
    assert_eq!(streams.payloads("s"), [b"x"], "it was written");
    assert!(error.is_unknown(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn consumers_deliver_until_it_is_acknowledged() {
    let (world, _streams) = service(1).await;
    let persist = persist(&world).await;
    let stream = persist.create("s", Config::default()).await.unwrap();
    for number in 1..=3 {
        stream.append(number.to_string()).await.unwrap();
    }
    let mut consumer = stream
        .consumer("c", ConsumerConfig::default())
        .await
        .unwrap()
        .batch(1);
    let first = consumer.next().await.unwrap();
    assert_eq!((first.record().seq, first.deliveries()), (1, 1));
    first.ack().await.unwrap();
    let second = consumer.next().await.unwrap();
    second.nack(seconds(5)).await.unwrap();
    let third = consumer.next().await.unwrap();
    assert_eq!(third.record().seq, 3);
    let again = consumer.next().await.unwrap();
    assert_eq!((again.record().seq, again.deliveries()), (2, 2));
    again.in_progress().await.unwrap();
    again.ack().await.unwrap();
    tokio::time::sleep(seconds(31)).await;
    let late = consumer.fetch(1, millis(0)).await.unwrap().remove(0);
    let error = third.ack().await.unwrap_err();
    assert!(
        matches!(error, AckError::NotPending { seq: 3 }),
        "{error:?}"
    );
    assert!(consumer.ack_all(&[late]).await.unwrap().is_empty());
    assert_eq!(stream.consumers().await.unwrap(), ["c"]);
    assert!(consumer.delete().await.unwrap());
}

type Set = BTreeSet<u32>;

async fn open(persist: &Persist) -> KeyValue<Set> {
    let union = |_: &str, base: Option<&Set>, ours: Option<&Set>, theirs: Option<&Set>| {
        let all = [base, ours, theirs].into_iter().flatten().flatten();
        Some(all.copied().collect())
    };
    KeyValue::open(persist, "kv", KvOptions::default().merge(union))
        .await
        .unwrap()
}

#[test]
fn replicas_that_write_the_same_keys_converge_and_lose_nothing() {
    simulate(15, async |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let (world, streams) = service(seed).await;
        world.network(Manner::rough(seed));
        let sites = [
            open(&persist(&world).await).await,
            open(&persist(&world).await).await,
        ];
        let mut events: Vec<_> = sites.iter().map(KeyValue::events).collect();
        let writing = async {
            let mut rng = StdRng::seed_from_u64(seed + 1);
            for number in 0..60 {
                let site = &sites[rng.random_range(0..2)];
                let key = format!("k{}", rng.random_range(0..3));
                let mut set = site.get(&key).unwrap_or_default();
                set.insert(number);
                site.set(&key, set.clone()).unwrap();
                assert_eq!(site.get(&key), Some(set));
                tokio::time::sleep(millis(rng.random_range(0..300))).await;
            }
        };
        tokio::join!(writing, trouble(&streams, &mut rng));
        for site in &sites {
            site.save().await.unwrap();
            assert!(!site.has_unsaved());
        }
        let all: Set = (0..60).collect();
        for (site, events) in sites.iter().zip(&mut events) {
            let mut seen: BTreeMap<String, Set> = BTreeMap::new();
            while seen.values().flatten().count() < all.len() {
                if let KvEvent::Changed {
                    key, value, prev, ..
                } = events.recv().await.unwrap()
                {
                    assert_eq!(seen.get(&key), prev.as_ref());
                    seen.insert(key, value.unwrap());
                }
            }
            assert_eq!(site.entries().into_iter().collect::<BTreeMap<_, _>>(), seen);
            assert_eq!(seen.values().flatten().copied().collect::<Set>(), all);
        }
    });
}

#[test]
fn logs_show_what_is_pushed_at_once_and_end_the_same_everywhere() {
    simulate(10, async |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let (world, streams) = service(seed).await;
        world.network(Manner::rough(seed));
        let open = async || {
            let persist = persist(&world).await;
            Log::<u32>::open(&persist, "log", Config::default())
                .await
                .unwrap()
        };
        let sites = [open().await, open().await];
        let mut events: Vec<_> = sites.iter().map(Log::events).collect();
        let pushing = async {
            let mut rng = StdRng::seed_from_u64(seed + 1);
            for number in 0..50 {
                let site = &sites[number as usize % 2];
                site.push(number).unwrap();
                assert_eq!(site.entries().last(), Some(&(None, number)));
                tokio::time::sleep(millis(rng.random_range(0..300))).await;
            }
        };
        tokio::join!(pushing, trouble(&streams, &mut rng));
        for site in &sites {
            site.save().await.unwrap();
        }
        for (site, events) in sites.iter().zip(&mut events) {
            let mut seen = BTreeMap::new();
            while seen.len() < 50 {
                match events.recv().await.unwrap() {
                    LogEvent::Appended { seq, value } => drop(seen.insert(seq, value)),
                    LogEvent::Removed { seq, .. } => drop(seen.remove(&seq)),
                    LogEvent::Saved => {}
                    other => panic!("{other:?}"),
                }
            }
            let entries: Vec<_> = seen.into_iter().map(|(seq, n)| (Some(seq), n)).collect();
            assert_eq!(site.entries(), entries);
            let numbers: BTreeSet<u32> = entries.iter().map(|(_, number)| *number).collect();
            assert_eq!(numbers, (0..50).collect(), "each is there once");
        }
        assert_eq!(sites[0].entries(), sites[1].entries());
    });
}

#[tokio::test(start_paused = true)]
async fn deletions_reach_those_who_were_away_and_leave_no_keys() {
    let (world, streams) = service(1).await;
    let persist = persist(&world).await;
    let first: KeyValue<u32> = KeyValue::open(&persist, "kv", KvOptions::default())
        .await
        .unwrap();
    let second: KeyValue<u32> = KeyValue::open(&persist, "kv", KvOptions::default())
        .await
        .unwrap();
    let mut events = second.events();
    first.set("", 1).unwrap();
    first.set("b", 2).unwrap();
    first.save().await.unwrap();
    first.delete("").unwrap();
    assert_eq!((first.keys(), first.get("")), (vec!["b".to_owned()], None));
    first.save().await.unwrap();
    let bucket = Bucket::of(persist.open("kv").await.unwrap());
    assert_eq!(bucket.get("").await.unwrap(), None);
    assert_eq!(bucket.entries(None).await.unwrap().len(), 1);
    bucket
        .create("", Record::msgpack(&9).unwrap())
        .await
        .unwrap();
    let taken = bucket.create("", Record::msgpack(&8).unwrap()).await;
    assert!(
        matches!(taken, Err(AppendError::WrongLastSequence { .. })),
        "{taken:?}"
    );
    streams.compact();
    bucket.purge("b").await.unwrap();
    let mut gone = Vec::new();
    while gone.len() < 2 {
        if let KvEvent::Changed {
            key,
            value: None,
            prev,
            ..
        } = events.recv().await.unwrap()
        {
            gone.push((key, prev));
        }
    }
    assert_eq!(gone, [(String::new(), Some(1)), ("b".to_owned(), Some(2))]);
    assert_eq!(second.entries(), [(String::new(), 9)]);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_refused_is_taken_back_and_told() {
    let (world, _streams) = service(1).await;
    let persist = persist(&world).await;
    let config = Config {
        max_msg_size: 5,
        ..Config::default()
    };
    let options = KvOptions::default().config(config);
    let kv: KeyValue<String> = KeyValue::open(&persist, "kv", options).await.unwrap();
    let mut events = kv.events();
    kv.set("k", "far too long".to_owned()).unwrap();
    let error = kv.save().await.unwrap_err();
    assert!(error.to_string().contains("\"k\""), "{error}");
    assert_eq!(kv.get("k"), None);
    let told = events.recv().await.unwrap();
    assert!(
        matches!(&told, KvEvent::Rejected { key, fault, .. } if key == "k" && fault.kind == FaultKind::Reject),
        "{told:?}"
    );
    persist.delete("kv").await.unwrap();
    kv.set("a", "b".to_owned()).unwrap();
    kv.close().await.unwrap_err();
}
