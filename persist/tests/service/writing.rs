//! Appending and removing, as far as it needs more than the core: durability, batches, restarts.

use dialtone_client::persist::wire::{
    Append, Appended, Config, ConfigPatch, Durability, Expect, FaultKind, Info, KeyList, KeyPage,
    Outcome, Record, Remove, Removed, Request, Restore, Restored, Select, StreamInfo, Update, What,
};

use crate::scene::{START, Scene, kind};

fn expecting(record: Record, expect: Expect) -> Record {
    Record {
        expect: Some(expect),
        ..record
    }
}

fn with_id(record: Record, id: &str) -> Record {
    Record {
        id: Some(id.to_owned()),
        ..record
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_says_where_the_record_is() {
    let scene = Scene::new().await;
    scene.create("s", Config::default()).await;
    let append = Append {
        stream: "s".to_owned(),
        records: vec![Record::new("a"), Record::new("b")],
        ..Append::default()
    };
    let appended: Appended = scene.ask(Request::Append(append)).await.unwrap();
    let written = |outcome: &Outcome| match outcome {
        Outcome::Written(written) => *written,
        Outcome::Refused(fault) => panic!("{fault}"),
    };
    let (first, second) = (written(&appended.results[0]), written(&appended.results[1]));
    assert_eq!((first.seq, second.seq, second.revision), (1, 2, 2));
    assert!(first.time >= START && !first.duplicate);
    assert_eq!(
        appended.durability,
        Durability::Memory,
        "it says what this store can do"
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_is_created_once_and_changed_by_those_who_know_it() {
    let scene = Scene::new().await;
    scene.create("s", Config::default()).await;
    let create = || expecting(Record::keyed("k", "1"), Expect::KeySeq(0));
    assert_eq!(scene.append("s", create()).await.unwrap().seq, 1);
    let again = scene.append("s", create()).await.unwrap_err();
    assert_eq!(
        (again.kind, again.seq),
        (FaultKind::WrongLastSequence, Some(1))
    );
    let update = expecting(Record::keyed("k", "2"), Expect::KeySeq(1));
    assert_eq!(scene.append("s", update.clone()).await.unwrap().seq, 2);
    assert_eq!(
        kind(scene.append("s", update).await),
        FaultKind::WrongLastSequence
    );
    let record = scene.get("s", Select::Key("k".to_owned())).await.unwrap();
    assert_eq!((record.seq, &*record.payload), (2, &b"2"[..]));
}

#[tokio::test(start_paused = true)]
async fn message_ids_are_known_after_a_restart_and_for_the_window() {
    let mut scene = Scene::new().await;
    scene.create("s", Config::default()).await;
    let record = || with_id(Record::new("x"), "id-1");
    let first = scene.append("s", record()).await.unwrap();
    scene.restart().await;
    let again = scene.append("s", record()).await.unwrap();
    assert!(again.duplicate);
    assert_eq!((again.seq, again.time), (first.seq, first.time));
    scene.jump(120_000);
    let later = scene.append("s", record()).await.unwrap();
    assert_eq!((later.seq, later.duplicate), (2, false));
}

#[tokio::test(start_paused = true)]
async fn an_atomic_batch_is_all_or_nothing() {
    let scene = Scene::new().await;
    scene.create("s", Config::default()).await;
    let batch = |atomic| {
        Request::Append(Append {
            stream: "s".to_owned(),
            records: vec![
                Record::keyed("a", "1"),
                expecting(Record::keyed("b", "1"), Expect::KeySeq(9)),
                Record::keyed("c", "1"),
            ],
            atomic,
            ..Append::default()
        })
    };
    let refused = scene.ask::<Appended>(batch(true)).await.unwrap_err();
    assert_eq!(refused.kind, FaultKind::WrongLastSequence);
    assert!(refused.text.contains("record 1"), "{refused}");
    assert_eq!(scene.read_all("s").await.len(), 0);
    let each: Appended = scene.ask(batch(false)).await.unwrap();
    assert!(matches!(each.results[1], Outcome::Refused(_)));
    assert_eq!(scene.read_all("s").await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn limits_hold_without_anybody_writing() {
    let scene = Scene::new().await;
    let config = Config {
        max_age: 10_000,
        ..Config::default()
    };
    scene.create("s", config).await;
    scene.append("s", Record::new("old")).await.unwrap();
    let short = Record {
        ttl: Some(2_000),
        ..Record::new("short")
    };
    scene.append("s", short).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let totals = scene.handle.status();
    assert_eq!(totals.messages, 1, "a timer has seen to it");
    tokio::time::sleep(std::time::Duration::from_secs(8)).await;
    assert_eq!(scene.handle.status().messages, 0);
    // A clock that is set forward: at once for those who read.
    scene.append("s", Record::new("x")).await.unwrap();
    scene.jump(10_000);
    assert_eq!(scene.get("s", Select::Last).await, None);
}

#[tokio::test(start_paused = true)]
async fn limits_hold_in_streams_that_are_not_open() {
    let scene = Scene::with(|config| config.idle_max = std::time::Duration::from_secs(10)).await;
    scene.create("s", Config::default()).await;
    let long = Record {
        ttl: Some(3_600_000),
        ..Record::new("long")
    };
    scene.append("s", long).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_mins(1)).await;
    let status = scene.handle.status();
    assert_eq!(
        (status.streams_open, status.messages),
        (0, 1),
        "it was unloaded"
    );
    tokio::time::sleep(std::time::Duration::from_hours(1)).await;
    assert_eq!(scene.handle.status().messages, 0);
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_is_changed_holds_at_once() {
    let mut scene = Scene::new().await;
    scene.create("s", Config::default()).await;
    for n in 0..5 {
        scene.append("s", Record::new(n.to_string())).await.unwrap();
    }
    let update = |config| {
        Request::Update(Update {
            stream: "s".to_owned(),
            config,
        })
    };
    let patch = ConfigPatch {
        max_msgs: Some(2),
        ..ConfigPatch::default()
    };
    let info: StreamInfo = scene.ask(update(patch)).await.unwrap();
    assert_eq!(
        (info.messages, info.first_seq, info.config.max_msgs),
        (2, 4, 2)
    );
    let bad = ConfigPatch {
        max_msgs_per_key: Some(0),
        ..ConfigPatch::default()
    };
    assert_eq!(
        kind(scene.ask::<StreamInfo>(update(bad)).await),
        FaultKind::BadRequest
    );
    scene.restart().await;
    let info = Request::Info(Info {
        stream: "s".to_owned(),
    });
    let info: StreamInfo = scene.ask(info).await.unwrap();
    assert_eq!((info.messages, info.config.max_msgs), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn records_are_removed_by_key_and_prefix() {
    let scene = Scene::new().await;
    scene.create("s", Config::default()).await;
    for key in ["a/1", "a/2", "b/1"] {
        scene.append("s", Record::keyed(key, "v")).await.unwrap();
    }
    let remove = |what, expect| {
        Request::Remove(Remove {
            stream: "s".to_owned(),
            what,
            expect,
            durability: None,
        })
    };
    let wrong = remove(What::Key("b/1".to_owned()), Some(Expect::KeySeq(1)));
    assert_eq!(
        kind(scene.ask::<Removed>(wrong).await),
        FaultKind::WrongLastSequence
    );
    let removed: Removed = scene
        .ask(remove(What::Prefix("a/".to_owned()), None))
        .await
        .unwrap();
    assert_eq!((removed.count, removed.ranges), (2, vec![(1, 2)]));
    let keys = Request::Keys(KeyList {
        stream: "s".to_owned(),
        ..KeyList::default()
    });
    let keys: KeyPage = scene.ask(keys).await.unwrap();
    assert_eq!((keys.keys.len(), keys.keys[0].key.as_str()), (1, "b/1"));
    let none: Removed = scene
        .ask(remove(What::Seqs(vec![1, 77]), None))
        .await
        .unwrap();
    assert_eq!((none.count, none.revision), (0, removed.revision));
}

#[tokio::test(start_paused = true)]
async fn a_copy_keeps_numbers_times_and_ids() {
    let mut scene = Scene::new().await;
    scene.create("from", Config::default()).await;
    for n in 0..20 {
        let record = with_id(
            Record::keyed(format!("k{}", n % 7), n.to_string()),
            &format!("i{n}"),
        );
        scene.append("from", record).await.unwrap();
    }
    let records = scene.read_all("from").await;
    scene.create("to", Config::default()).await;
    let restore = |records, done| {
        Request::Restore(Restore {
            stream: "to".to_owned(),
            records,
            last_seq: Some(25),
            done,
        })
    };
    let restored: Restored = scene
        .ask(restore(records[..3].to_vec(), false))
        .await
        .unwrap();
    assert_eq!(restored.messages, 3);
    assert_eq!(
        kind(scene.append("to", Record::new("x")).await),
        FaultKind::Restoring
    );
    scene.restart().await;
    let rest = Request::Restore(Restore {
        stream: "to".to_owned(),
        records: records[3..].to_vec(),
        last_seq: Some(30),
        done: true,
    });
    scene.ask::<Restored>(rest).await.unwrap();
    let copied = scene.read_all("to").await;
    let facts = |records: &[dialtone_client::persist::wire::StoredRecord]| {
        let each = records
            .iter()
            .map(|r| (r.seq, r.time, r.key.clone(), r.payload.clone()));
        each.collect::<Vec<_>>()
    };
    assert_eq!(facts(&copied), facts(&records));
    let again = scene
        .append("to", with_id(Record::new("x"), "i19"))
        .await
        .unwrap();
    assert!(again.duplicate && again.seq == 20);
    assert_eq!(scene.append("to", Record::new("x")).await.unwrap().seq, 31);
    assert_eq!(
        kind(scene.ask::<Restored>(restore(Vec::new(), true)).await),
        FaultKind::Exists
    );
}

#[tokio::test(start_paused = true)]
async fn requests_without_sense_are_refused() {
    let scene = Scene::new().await;
    scene.create("s", Config::default()).await;
    let empty = Request::Append(Append {
        stream: "s".to_owned(),
        ..Append::default()
    });
    assert_eq!(
        kind(scene.ask::<Appended>(empty).await),
        FaultKind::BadRequest
    );
    let keyless = expecting(Record::new("x"), Expect::KeySeq(0));
    assert_eq!(
        kind(scene.append("s", keyless).await),
        FaultKind::BadRequest
    );
    let long = Record::keyed("k".repeat(5_000), "x");
    assert_eq!(kind(scene.append("s", long).await), FaultKind::TooLarge);
}
