//! The PostgreSQL backend on a real server.
#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]
#![expect(
    clippy::disallowed_methods,
    reason = "tasks of a test end with its runtime"
)]

mod agrees;
mod fencing;
mod killed;
mod relay;
mod unheard;

use std::time::Duration;

use dialtone_client::persist::StreamName;
use dialtone_client::persist::wire::{Durability, Record};
use dialtone_persist::backend::postgres::{Config, PostgresBackend};
use dialtone_persist::backend::{Backend, Error, StreamId};
use dialtone_persist::core::commit::{Commit, Meta};
use dialtone_persist::core::state::State;

fn config(url: &str) -> Config {
    Config {
        url: url.to_owned(),
        ..Config::default()
    }
}

async fn open(url: &str) -> PostgresBackend {
    PostgresBackend::open(config(url)).await.unwrap()
}

fn name(text: &str) -> StreamName {
    StreamName::new(text).unwrap()
}

/// Stores a commit and waits for it.
async fn store(
    backend: &dyn Backend,
    stream: StreamId,
    commit: Commit,
) -> Result<Durability, Error> {
    let (done, result) = tokio::sync::oneshot::channel();
    backend.commit(
        stream,
        commit,
        Box::new(move |stored| done.send(stored).unwrap()),
    );
    tokio::time::timeout(Duration::from_secs(100), result)
        .await
        .expect("every commit is answered")
        .unwrap()
}

/// A stream made anew.
async fn create(backend: &dyn Backend, stream: &str) -> (StreamId, State) {
    let meta = Meta {
        epoch: 1,
        created: 5,
        ..Meta::default()
    };
    let id = backend.create(&name(stream), &meta).await.unwrap();
    (id, State::new(meta))
}

/// Decides to append a text.
fn append(state: &mut State, payload: &str, fence: u64) -> Commit {
    let outcomes = state.append(10, vec![Record::new(payload)], true, None);
    outcomes.unwrap();
    state.take_commit(10, fence).unwrap()
}

/// The payloads of a stream as it is stored, by number.
async fn payloads(backend: &dyn Backend, stream: &str) -> Vec<(u64, String)> {
    let loaded = backend.load(&name(stream), 10).await.unwrap().unwrap();
    let mut records = Vec::new();
    let mut next = Some(1);
    while let Some(from) = next {
        let ranges = [(from, u64::MAX >> 12)];
        let batch = backend.read(loaded.id, &ranges, 1_000).await.unwrap();
        assert_eq!(batch.damaged, None);
        next = batch.next;
        records.extend(batch.records);
    }
    let text = |payload: &[u8]| String::from_utf8(payload.to_vec()).unwrap();
    records
        .iter()
        .map(|record| (record.seq, text(&record.payload)))
        .collect()
}
