//! Programs that share a consumer of the log: what they were told is acknowledged is never delivered again, and
//! everything is delivered.

use std::sync::Arc;
use std::time::Duration;

use dialtone_client::Options;
use dialtone_client::persist::wire::{ConsumerConfig, StoredRecord};
use dialtone_client::persist::{CallError, Consumer, OpenError, Persist};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::may_pass;
use super::writers::{LOST, Shared};

/// Programs that share the consumer.
const WORKERS: u32 = 2;

/// Deliveries that a program takes at once.
const BATCH: u32 = 16;

/// What a killed node had delivered and nobody heard of is delivered again after this; longer than any answer takes.
const ACK_WAIT: Duration = Duration::from_secs(6);

/// How long a question waits for something to deliver.
const WAIT: Duration = Duration::from_millis(500);

/// The consumer as one program has it.
async fn consumer(url: &str) -> Consumer {
    let client = Options::new(url).connect().await.unwrap();
    let log = Persist::new(&client).timeout(LOST).stream("log").unwrap();
    let config = ConsumerConfig {
        ack_wait: u64::try_from(ACK_WAIT.as_millis()).unwrap(),
        ..ConsumerConfig::default()
    };
    loop {
        match log.consumer("workers", config.clone()).await {
            Err(OpenError::Call(error)) if may_pass(&error) => {}
            made => return made.unwrap(),
        }
    }
}

/// Starts all workers. They end when nothing is written any more and everything was acknowledged.
pub(super) fn start(runtime: &Runtime, url: &str, shared: &Arc<Shared>) -> Vec<JoinHandle<()>> {
    let workers = (0..WORKERS).map(|_| {
        let (url, shared) = (url.to_owned(), Arc::clone(shared));
        runtime.spawn(async move { work(&consumer(&url).await, &shared).await })
    });
    workers.collect()
}

async fn work(consumer: &Consumer, shared: &Shared) {
    while !shared.outcomes.is_closed() || is_left(consumer).await {
        let jobs = match consumer.fetch(BATCH, WAIT).await {
            Ok(jobs) => jobs,
            Err(error) => {
                assert!(may_pass(&error), "{error}");
                continue;
            }
        };
        for job in &jobs {
            deliver(shared, job.record(), job.deliveries());
        }
        let Some(not_pending) = until_known(|| consumer.ack_all(&jobs)).await else {
            continue;
        };
        let seqs = jobs.iter().map(|job| job.record().seq);
        let acked = seqs.filter(|seq| !not_pending.contains(seq));
        shared.ledger.lock().worked.extend(acked);
    }
}

/// Whether something is yet to be delivered or acknowledged.
async fn is_left(consumer: &Consumer) -> bool {
    match consumer.info().await {
        Ok(info) => info.pending + info.ack_pending + info.redelivering > 0,
        Err(error) => {
            assert!(may_pass(&error), "{error}");
            true
        }
    }
}

fn deliver(shared: &Shared, record: &StoredRecord, deliveries: u32) {
    let seq = record.seq;
    let mut ledger = shared.ledger.lock();
    assert!(
        !ledger.worked.contains(&seq),
        "record {seq} is delivered though it was acknowledged"
    );
    assert!(deliveries > 0, "record {seq}");
    ledger.redeliveries += u64::from(deliveries > 1);
    let id = record.id.as_ref().expect("every write has an id");
    assert!(ledger.sent.contains(id), "nobody sent {id}");
    let before = ledger.delivered.insert(seq, id.clone());
    assert!(
        before.is_none_or(|before| before == *id),
        "record {seq} was another one"
    );
}

/// Asks until it is known what became of it; `None` when it was certainly for nothing.
async fn until_known<T, F: Future<Output = Result<T, CallError>>>(
    ask: impl Fn() -> F,
) -> Option<T> {
    loop {
        match ask().await {
            Ok(answer) => return Some(answer),
            Err(error) if error.is_unknown() => {}
            Err(error) => {
                assert!(may_pass(&error), "{error}");
                return None;
            }
        }
    }
}
