//! Two nodes that think they have the same stream.

use dialtone_persist::backend::{Backend as _, Error};
use dialtone_persist::core::state::State;
use dialtone_testkit::Postgres;

use super::{append, create, name, open, payloads, store};

#[tokio::test]
async fn whoever_was_overtaken_writes_and_deletes_nothing() {
    let url = Postgres::shared().database();
    let (old, new) = (open(&url).await, open(&url).await);
    let (id, mut state) = create(&old, "s").await;
    old.claim(&name("s"), 5).await.unwrap();
    let commit = append(&mut state, "a", 5);
    store(&old, id, commit).await.unwrap();

    new.claim(&name("s"), 6).await.unwrap();
    let loaded = new.load(&name("s"), 10).await.unwrap().unwrap();
    let mut newer = State::load(loaded).unwrap();
    let late = append(&mut state, "late", 5);
    assert_eq!(store(&old, id, late).await, Err(Error::Fenced));
    assert_eq!(old.delete(id).await, Err(Error::Fenced));
    assert_eq!(old.claim(&name("s"), 5).await, Err(Error::Fenced));
    let commit = append(&mut newer, "b", 6);
    store(&new, id, commit).await.unwrap();
    let expected = [(1, "a".to_owned()), (2, "b".to_owned())];
    assert_eq!(payloads(&old, "s").await, expected);
}

/// Even without a fence, what does not follow the last commit is refused.
#[tokio::test]
async fn a_commit_follows_the_one_before() {
    let url = Postgres::shared().database();
    let (one, other) = (open(&url).await, open(&url).await);
    let (id, mut state) = create(&one, "s").await;
    let mut copy = state.clone();
    let commit = append(&mut state, "a", 0);
    store(&one, id, commit).await.unwrap();
    let commit = append(&mut copy, "b", 0);
    let refused = store(&other, id, commit).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Unavailable(text) if text.contains("revision 1")),
        "{refused}"
    );
    assert_eq!(payloads(&one, "s").await, [(1, "a".to_owned())]);
}

#[tokio::test]
async fn one_bad_commit_does_not_harm_those_that_are_stored_with_it() {
    let url = Postgres::shared().database();
    let backend = open(&url).await;
    let mut expected = Vec::new();
    let mut waiting = Vec::new();
    for number in 0..50 {
        let stream = format!("s{number}");
        let (id, mut state) = create(&backend, &stream).await;
        if number % 10 == 0 {
            // A row that is in the way: nothing that the service does, but a table may be restored by hand.
            let sql = format!(
                "INSERT INTO dialtone_persist.record (stream, seq, revision, time, size, encoding, payload, checksum)
                 VALUES ({}, 1, 1, 1, 1, 1, 'x', 1)",
                id.0
            );
            Postgres::shared().run_at(&url, &sql);
        }
        waiting.push((id, append(&mut state, "a", 0)));
        expected.push(number % 10 != 0);
    }
    let stored = waiting
        .into_iter()
        .map(|(id, commit)| store(&backend, id, commit));
    let stored = futures_util::future::join_all(stored).await;
    let good: Vec<bool> = stored.iter().map(Result::is_ok).collect();
    assert_eq!(good, expected, "{stored:?}");
}
