//! The server is killed in the middle of writes, again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dialtone_persist::backend::{Backend, Error};
use dialtone_persist::core::state::State;
use dialtone_testkit::Postgres;

use super::{append, create, name, open, payloads, store};

const STREAMS: usize = 24;
const KILLS: usize = 4;
/// Commits that are acknowledged between two kills.
const BETWEEN: usize = 400;

/// Appends until `until` commits of all streams are acknowledged, and returns what was acknowledged here, in order.
async fn write(
    backend: Arc<dyn Backend>,
    stream: String,
    acknowledged: Arc<AtomicUsize>,
    until: usize,
) -> (String, Vec<(u64, String)>) {
    let (id, mut state) = create(&*backend, &stream).await;
    let mut written = Vec::new();
    let mut number = 0;
    while acknowledged.load(Ordering::Relaxed) < until {
        number += 1;
        let payload = number.to_string();
        let commit = append(&mut state, &payload, 0);
        match store(&*backend, id, commit).await {
            Ok(_) => {
                acknowledged.fetch_add(1, Ordering::Relaxed);
                written.push((state.last_seq(), payload));
            }
            Err(Error::Unavailable(_)) => state = load(&*backend, &stream).await,
            Err(error) => panic!("{error}"),
        }
    }
    (stream, written)
}

async fn load(backend: &dyn Backend, stream: &str) -> State {
    loop {
        match backend.load(&name(stream), 10).await {
            Ok(loaded) => return State::load(loaded.unwrap()).unwrap(),
            Err(Error::Unavailable(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_commit_is_there_and_no_refused_one() {
    let server = Arc::new(Postgres::start());
    let backend: Arc<dyn Backend> = Arc::new(open(&server.database()).await);
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let until = (KILLS + 1) * BETWEEN;
    let writers: Vec<_> = (0..STREAMS)
        .map(|number| {
            let write = write(
                Arc::clone(&backend),
                format!("s{number}"),
                Arc::clone(&acknowledged),
                until,
            );
            tokio::task::spawn(write)
        })
        .collect();
    for kill in 1..=KILLS {
        while acknowledged.load(Ordering::Relaxed) < kill * BETWEEN {
            tokio::task::yield_now().await;
        }
        let server = Arc::clone(&server);
        let restarted = tokio::task::spawn_blocking(move || {
            server.kill();
            server.start_again();
        });
        restarted.await.unwrap();
    }
    for writer in writers {
        let (stream, written) = writer.await.unwrap();
        assert_eq!(payloads(&*backend, &stream).await, written, "{stream}");
    }
    backend.close().await.unwrap();
}
