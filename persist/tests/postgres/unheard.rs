//! A commit whose end was not heard of is looked up, and never acknowledged or refused wrongly.

use dialtone_persist::backend::{Backend as _, Error};
use dialtone_testkit::Postgres;

use super::relay::{Cut, to_new_database};
use super::{append, create, open, payloads, store};

#[tokio::test]
async fn a_commit_that_was_stored_is_acknowledged_though_the_answer_was_lost() {
    let (relay, url) = to_new_database();
    let backend = open(&relay.url(&url)).await;
    let (id, mut state) = create(&backend, "s").await;
    for payload in ["a", "b", "c"] {
        relay.cut_next(Cut::After);
        let commit = append(&mut state, payload, 0);
        store(&backend, id, commit).await.unwrap();
        assert!(relay.has_cut());
    }
    let expected = ["a", "b", "c"].map(str::to_owned);
    let stored = payloads(&backend, "s").await;
    assert!(stored.into_iter().map(|(_, payload)| payload).eq(expected));
}

#[tokio::test]
async fn a_commit_that_was_not_stored_is_refused_and_never_appears() {
    let (relay, url) = to_new_database();
    let backend = open(&relay.url(&url)).await;
    let (id, mut state) = create(&backend, "s").await;
    let before = state.clone();
    relay.cut_next(Cut::Before);
    let commit = append(&mut state, "lost", 0);
    let refused = store(&backend, id, commit).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable(_)), "{refused}");
    let mut state = before;
    let commit = append(&mut state, "a", 0);
    store(&backend, id, commit).await.unwrap();
    assert_eq!(payloads(&backend, "s").await, [(1, "a".to_owned())]);
}

/// Without an answer of the database nobody knows, so that nobody is told, until the backend is closed.
#[tokio::test]
async fn a_commit_that_cannot_be_looked_up_is_not_answered_before_it_can() {
    let server = Postgres::start();
    let url = server.database();
    let relay = super::relay::Relay::new(&url);
    let backend = open(&relay.url(&url)).await;
    let (id, mut state) = create(&backend, "s").await;
    let first = append(&mut state, "a", 0);
    store(&backend, id, first).await.unwrap();
    relay.cut_next(Cut::After);
    let commit = append(&mut state, "b", 0);
    let waiting = tokio::task::spawn({
        let backend = backend.clone();
        async move { store(&backend, id, commit).await }
    });
    // Between its end and the look-up the server dies, so that the look-up has to wait.
    while !relay.has_cut() {
        tokio::task::yield_now().await;
    }
    server.kill();
    server.start_again();
    let outcome = waiting.await.unwrap();
    let stored = payloads(&backend, "s").await.len();
    // Whether the server had heard of it before it died is the machine's business; what was said is true.
    assert_eq!(stored, if outcome.is_ok() { 2 } else { 1 }, "{outcome:?}");
    server.kill();
    backend.close().await.unwrap();
    let commit = append(&mut state, "c", 0);
    assert_eq!(store(&backend, id, commit).await, Err(Error::Closed));
}
