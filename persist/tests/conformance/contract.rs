//! The promises of the trait one by one.

use std::sync::Arc;

use bytes::Bytes;
use dialtone_client::persist::wire::{Config, Record, RemovalCause};
use dialtone_persist::backend::{Error, StreamId};
use dialtone_persist::core::commit::{
    Append, Change, Commit, ConsumerChange, ConsumerWhat, Remove, Totals,
};

use dialtone_persist::core::state::State;

use crate::{Fixture, name};

/// When commits are made, in milliseconds since 1970.
const NOW: u64 = 5_000;

pub(crate) fn append(seq: u64, key: Option<&str>, payload: &[u8]) -> Append {
    Append {
        seq,
        time: NOW,
        key: key.map(Arc::from),
        encoding: 1,
        headers: None,
        ttl: None,
        id: None,
        payload: Bytes::copy_from_slice(payload),
        replaced: Vec::new(),
    }
}

/// A commit with its totals, for a stream that has nothing but these appends.
fn commit(revision: u64, changes: Vec<Change>) -> Commit {
    let seqs = changes.iter().map(|change| match change {
        Change::Append(append) => append.seq,
        Change::Remove(_) | Change::Meta(_) => 0,
    });
    let last_seq = seqs.max().unwrap_or(0);
    let sizes = changes.iter().map(|change| match change {
        Change::Append(append) => append.size(),
        Change::Remove(_) | Change::Meta(_) => 0,
    });
    let totals = Totals {
        messages: last_seq,
        bytes: sizes.sum(),
        last_seq,
        last_time: NOW,
        revision: revision + changes.len() as u64 - 1,
    };
    Commit {
        revision,
        changes,
        consumers: Vec::new(),
        horizon: 0,
        totals,
        durability: dialtone_client::persist::wire::Durability::Fsync,
        fence: 0,
        time: NOW,
        due: None,
    }
}

pub(crate) async fn a_stream_is_made_once(mut fixture: Fixture) {
    let (id, meta) = fixture.create("a", Config::default()).await;
    let again = fixture.backend.create(&name("a"), &meta).await;
    assert_eq!(again, Err(Error::Exists));
    fixture.reopen().await;
    let loaded = fixture
        .backend
        .load(&name("a"), NOW)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (loaded.id, loaded.meta, loaded.totals),
        (id, meta, Totals::default())
    );
    assert_eq!((loaded.horizon, loaded.records.messages()), ((0, 0), 0));
}

pub(crate) async fn what_is_not_there_is_not_found(fixture: Fixture) {
    assert!(
        fixture
            .backend
            .load(&name("a"), NOW)
            .await
            .unwrap()
            .is_none()
    );
    let nobody = StreamId(999_999);
    let deleted = fixture.backend.delete(nobody).await;
    assert_eq!(deleted, Err(Error::NotFound));
    let committed = fixture.commit(
        nobody,
        commit(1, vec![Change::Append(append(1, None, b"x"))]),
    );
    assert_eq!(committed.await, Err(Error::NotFound));
}

pub(crate) async fn streams_are_listed_in_order_and_counted(mut fixture: Fixture) {
    for stream in ["b/2", "a/1", "b/1", "b0", "b"] {
        let (id, _) = fixture.create(stream, Config::default()).await;
        let changes = vec![Change::Append(append(1, None, b"12345"))];
        fixture.commit(id, commit(1, changes)).await.unwrap();
    }
    for _ in 0..2 {
        let names = async |prefix, after, limit| {
            let entries = fixture.backend.list(prefix, after, limit).await.unwrap();
            let names = entries.iter().map(|entry| entry.name.as_str().to_owned());
            names.collect::<Vec<String>>()
        };
        assert_eq!(names("", None, 9).await, ["a/1", "b", "b/1", "b/2", "b0"]);
        assert_eq!(names("b/", None, 9).await, ["b/1", "b/2"]);
        assert_eq!(names("b/", Some("b/1"), 9).await, ["b/2"]);
        assert_eq!(names("b/", Some("a"), 1).await, ["b/1"]);
        assert_eq!(names("", Some("b0"), 9).await, Vec::<String>::new());
        let sum = fixture.backend.sum("b").await.unwrap();
        assert_eq!((sum.streams, sum.messages, sum.bytes), (4, 4, 20));
        let entry = &fixture.backend.list("a", None, 1).await.unwrap()[0];
        assert_eq!((entry.totals.last_seq, entry.meta.epoch), (1, 7));
        fixture.reopen().await;
    }
}

pub(crate) async fn a_deleted_stream_is_gone_for_good(mut fixture: Fixture) {
    let (id, _) = fixture.create("a", Config::default()).await;
    let one = || vec![Change::Append(append(1, None, b"old"))];
    fixture.commit(id, commit(1, one())).await.unwrap();
    fixture.backend.delete(id).await.unwrap();
    assert!(
        fixture
            .backend
            .load(&name("a"), NOW)
            .await
            .unwrap()
            .is_none()
    );
    fixture.reopen().await;
    assert!(
        fixture
            .backend
            .load(&name("a"), NOW)
            .await
            .unwrap()
            .is_none()
    );
    let (again, _) = fixture.create("a", Config::default()).await;
    assert_ne!(again, id, "numbers of streams are not given twice");
    fixture.reopen().await;
    let loaded = fixture
        .backend
        .load(&name("a"), NOW)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((loaded.id, loaded.totals.messages), (again, 0));
    let read = fixture.backend.read(again, &[(1, 9)], 1_000).await.unwrap();
    assert!(read.records.is_empty());
}

pub(crate) async fn a_gap_in_the_revisions_is_refused(fixture: Fixture) {
    let (id, _) = fixture.create("a", Config::default()).await;
    let one = |seq| vec![Change::Append(append(seq, None, b"x"))];
    fixture.commit(id, commit(1, one(1))).await.unwrap();
    for revision in [1, 3] {
        fixture
            .commit(id, commit(revision, one(2)))
            .await
            .unwrap_err();
    }
    fixture.commit(id, commit(2, one(2))).await.unwrap();
    let read = fixture.backend.read(id, &[(1, 9)], 1_000).await.unwrap();
    assert_eq!(read.records.len(), 2);
}

pub(crate) async fn a_lower_fencing_number_is_refused(mut fixture: Fixture) {
    let (id, _) = fixture.create("a", Config::default()).await;
    let one = |revision, fence| Commit {
        fence,
        ..commit(revision, vec![Change::Append(append(revision, None, b"x"))])
    };
    fixture.commit(id, one(1, 5)).await.unwrap();
    assert_eq!(fixture.commit(id, one(2, 4)).await, Err(Error::Fenced));
    fixture.commit(id, one(2, 5)).await.unwrap();
    fixture.commit(id, one(3, 7)).await.unwrap();
    fixture.reopen().await;
    assert_eq!(fixture.commit(id, one(4, 6)).await, Err(Error::Fenced));
    fixture.commit(id, one(4, 7)).await.unwrap();
    let read = fixture.backend.read(id, &[(1, 9)], 1_000).await.unwrap();
    assert_eq!(read.records.len(), 4);
}

pub(crate) async fn ranges_and_bytes_bound_a_read(fixture: Fixture) {
    let (id, _) = fixture.create("a", Config::default()).await;
    let changes = (1..=20).map(|seq| Change::Append(append(seq, None, &[b'x'; 100])));
    fixture
        .commit(id, commit(1, changes.collect()))
        .await
        .unwrap();
    let read = fixture
        .backend
        .read(id, &[(2, 3), (7, 7), (19, 30)], u64::MAX)
        .await
        .unwrap();
    let seqs: Vec<u64> = read.records.iter().map(|record| record.seq).collect();
    assert_eq!((seqs, read.next), (vec![2, 3, 7, 19, 20], None));
    let read = fixture.backend.read(id, &[(1, 20)], 0).await.unwrap();
    assert!(!read.records.is_empty(), "one is read whatever the bound");
    // Page by page everything comes once.
    let (mut from, mut seqs) = (1, Vec::new());
    loop {
        let read = fixture.backend.read(id, &[(from, 20)], 350).await.unwrap();
        assert!(read.records.len() < 20, "the bound is heeded");
        seqs.extend(read.records.iter().map(|record| record.seq));
        match read.next {
            Some(next) => from = next,
            None => break,
        }
    }
    assert!(seqs.into_iter().eq(1..=20));
    let read = fixture.backend.read(id, &[(21, 99)], 1_000).await.unwrap();
    assert!(read.records.is_empty() && read.next.is_none());
}

pub(crate) async fn everything_of_a_record_is_kept(mut fixture: Fixture) {
    let (id, _) = fixture.create("a", Config::default()).await;
    let full = Append {
        ttl: Some(123),
        id: Some("id".into()),
        headers: Some(Bytes::from_static(b"{\"a\":1}")),
        encoding: 200,
        ..append(1, Some(""), &vec![7; 100_000])
    };
    let changes = vec![Change::Append(full), Change::Append(append(2, None, b""))];
    fixture.commit(id, commit(1, changes)).await.unwrap();
    for _ in 0..2 {
        let read = fixture.backend.read(id, &[(1, 2)], u64::MAX).await.unwrap();
        let [first, second] = &read.records[..] else {
            panic!("{} records", read.records.len());
        };
        assert_eq!(
            (first.seq, first.time, first.revision, first.encoding),
            (1, NOW, 1, 200)
        );
        assert_eq!(
            (first.key.as_deref(), first.ttl, first.id.as_deref()),
            (Some(""), Some(123), Some("id"))
        );
        assert_eq!(first.headers.as_deref(), Some(&b"{\"a\":1}"[..]));
        assert!(first.payload.len() == 100_000 && first.payload.iter().all(|byte| *byte == 7));
        assert_eq!(
            (
                second.key.as_deref(),
                second.headers.as_deref(),
                second.revision
            ),
            (None, None, 2)
        );
        assert!(second.payload.is_empty());
        fixture.reopen().await;
        let loaded = fixture
            .backend
            .load(&name("a"), NOW)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(loaded.records.get(1).unwrap().expires, Some(NOW + 123));
    }
}

pub(crate) async fn ids_outlive_their_records(mut fixture: Fixture) {
    let config = Config {
        duplicate_window: 1_000,
        ..Config::default()
    };
    let (id, _) = fixture.create("a", config).await;
    let with_id = Append {
        id: Some("id".into()),
        ..append(1, None, b"x")
    };
    fixture
        .commit(id, commit(1, vec![Change::Append(with_id)]))
        .await
        .unwrap();
    let gone = Remove {
        time: NOW,
        cause: RemovalCause::Request,
        ranges: vec![(1, 1)],
        keys: Vec::new(),
    };
    let mut removal = commit(2, vec![Change::Remove(gone.clone())]);
    removal.totals.last_seq = 1;
    fixture.commit(id, removal).await.unwrap();
    fixture.reopen().await;
    let loaded = fixture
        .backend
        .load(&name("a"), NOW + 999)
        .await
        .unwrap()
        .unwrap();
    let ids: Vec<(&str, u64, u64, u64)> = loaded
        .ids
        .iter()
        .map(|id| (&*id.id, id.seq, id.time, id.revision))
        .collect();
    assert_eq!(ids, [("id", 1, NOW, 1)]);
    assert_eq!(loaded.records.messages(), 0);
    assert_eq!(
        (
            loaded.log.len(),
            loaded.log[0].revision,
            loaded.log[0].last_seq
        ),
        (1, 2, 1)
    );
    assert_eq!(loaded.log[0].remove, Some(gone));
}

pub(crate) async fn consumers_are_kept_in_parts(mut fixture: Fixture) {
    let (id, _) = fixture.create("a", Config::default()).await;
    let change = |name: &str, what| ConsumerChange {
        name: name.into(),
        what,
    };
    let bytes = Bytes::from_static;
    let mut first = commit(1, vec![Change::Append(append(1, None, b"x"))]);
    first.consumers = vec![
        change("c", ConsumerWhat::Snapshot(bytes(b"old"))),
        change("d", ConsumerWhat::Snapshot(bytes(b"gone"))),
        change("c", ConsumerWhat::Delta(bytes(b"old too"))),
    ];
    fixture.commit(id, first).await.unwrap();
    let mut second = commit(2, Vec::new());
    second.totals.last_seq = 1;
    second.totals.messages = 1;
    second.consumers = vec![
        change("c", ConsumerWhat::Snapshot(bytes(b"new"))),
        change("d", ConsumerWhat::Delete),
        change("c", ConsumerWhat::Delta(bytes(b"1"))),
        change("c", ConsumerWhat::Delta(bytes(b"2"))),
    ];
    fixture.commit(id, second).await.unwrap();
    for _ in 0..2 {
        let loaded = fixture
            .backend
            .load(&name("a"), NOW)
            .await
            .unwrap()
            .unwrap();
        let parts = vec![bytes(b"new"), bytes(b"1"), bytes(b"2")];
        assert_eq!(loaded.consumers, [("c".into(), parts)]);
        assert_eq!(loaded.totals.revision, 1, "consumers make no revisions");
        fixture.reopen().await;
    }
}

pub(crate) async fn a_closed_store_refuses(fixture: Fixture) {
    let (id, _) = fixture.create("a", Config::default()).await;
    fixture.backend.close().await.unwrap();
    let one = vec![Change::Append(append(1, None, b"x"))];
    fixture.commit(id, commit(1, one)).await.unwrap_err();
    fixture.backend.load(&name("a"), NOW).await.unwrap_err();
}

pub(crate) async fn streams_do_not_mix(mut fixture: Fixture) {
    let (a, _) = fixture.create("a", Config::default()).await;
    let (b, _) = fixture.create("b", Config::default()).await;
    for n in 1..=50 {
        for (stream, payload) in [(a, b"a"), (b, b"b")] {
            let mut commit = commit(n, vec![Change::Append(append(n, Some("k"), payload))]);
            commit.totals.messages = n;
            fixture.commit(stream, commit).await.unwrap();
        }
    }
    for _ in 0..2 {
        for (stream, payload) in [(a, b"a"), (b, b"b")] {
            let read = fixture
                .backend
                .read(stream, &[(1, 50)], u64::MAX)
                .await
                .unwrap();
            assert!(
                read.records.len() == 50 && read.records.iter().all(|r| &*r.payload == payload)
            );
        }
        fixture.reopen().await;
    }
}

pub(crate) async fn what_is_over_while_nobody_looks_is_due(mut fixture: Fixture) {
    let aged = Config {
        max_age: 200,
        ..Config::default()
    };
    for (stream, config, ttl) in [
        ("kept", Config::default(), None),
        ("age", aged, None),
        ("ttl", Config::default(), Some(100)),
    ] {
        let (id, meta) = fixture.create(stream, config).await;
        let mut state = State::new(meta);
        let record = Record {
            ttl,
            ..Record::new("x")
        };
        drop(state.append(NOW, vec![record], true, None).unwrap());
        let commit = state.take_commit(NOW, 0).unwrap();
        fixture.commit(id, commit).await.unwrap();
    }
    fixture.reopen().await;
    if !fixture.is_durable() {
        return;
    }
    for (time, expected) in [
        (99, None),
        (100, Some("ttl")),
        (199, None),
        (200, Some("age")),
    ] {
        let due = fixture.backend.due(NOW + time, 9).await.unwrap();
        // One that was told and not loaded may be told again.
        let newest = due
            .iter()
            .map(ToString::to_string)
            .find(|name| name != "ttl" || time == 100);
        assert_eq!(newest.as_deref(), expected, "{time}: {due:?}");
    }
    let due = fixture.backend.due(u64::MAX >> 12, 9).await.unwrap();
    assert!(!due.contains(&name("kept")), "{due:?}");
}
