//! A rolling restart of all nodes under load: no acknowledged message is lost, and everybody is connected at the end.
//!
//! Real processes; the load is clients of this process. Nothing sleeps and nothing is timed: each step waits for what it
//! needs to see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dialtone_client::{Client, Options};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;

const NODES: usize = 3;
const PUBLISHERS: usize = 3;
const SUBSCRIBERS: u32 = 3;

/// Acknowledged messages that must come about between two steps.
const PROGRESS: u64 = 200;

/// A message that is on its way between nodes while its subscriber moves may come to it at both of them. Publishers have
/// one message on its way each, and subscribers move once for each restart at most.
const AGAIN_MAX: u32 = 3 * SUBSCRIBERS * 3;

/// How long anything may take; far more than is ever needed.
const PATIENCE: Duration = Duration::from_mins(1);

/// A message: who published it, and its number there.
type Id = (usize, u64);

/// What publishers know: how many subscribers got each acknowledged message.
type Acked = Arc<Mutex<BTreeMap<Id, u32>>>;

async fn client(cluster: &Cluster, index: usize) -> Client {
    let url = cluster.node(index % NODES).ws();
    Options::new(url).connect().await.unwrap()
}

/// Publishes one message after the other, waiting for each acknowledgement, until `stop`. What fails is not
/// acknowledged, and nobody counts on it.
async fn publish(
    client: Client,
    publisher: usize,
    acked: Acked,
    progress: watch::Sender<u64>,
    stop: CancellationToken,
) -> (Client, u64) {
    let mut number = 0;
    while !stop.is_cancelled() {
        let payload = format!("{publisher} {number}");
        if let Ok(count) = client.publish_acked("load.a", payload.as_str()).await {
            acked.lock().await.insert((publisher, number), count);
            progress.send_modify(|count| *count += 1);
        }
        number += 1;
    }
    (client, number)
}

/// Publishes until everybody has got it: what was acknowledged before has arrived then, since order holds.
async fn publish_last(client: &Client, publisher: usize) {
    loop {
        let payload = format!("{publisher} last");
        if let Ok(count) = client.publish_acked("load.a", payload.as_str()).await
            && count == SUBSCRIBERS
        {
            return;
        }
    }
}

/// Collects what arrives until every publisher's last message has.
async fn collect(client: Client) -> BTreeMap<Id, u32> {
    let mut subscription = client.subscribe("load.>").await.unwrap();
    let (mut got, mut last) = (BTreeMap::new(), [false; PUBLISHERS]);
    let mut latest = [None; PUBLISHERS];
    while last.contains(&false) {
        let message = subscription.next().await.unwrap();
        let text = std::str::from_utf8(message.payload()).unwrap();
        let (publisher, number) = text.split_once(' ').unwrap();
        let publisher: usize = publisher.parse().unwrap();
        if number == "last" {
            last[publisher] = true;
            continue;
        }
        let number: u64 = number.parse().unwrap();
        assert!(
            latest[publisher] <= Some(number),
            "{number} of publisher {publisher} came after {:?}",
            latest[publisher]
        );
        latest[publisher] = Some(number);
        *got.entry((publisher, number)).or_default() += 1;
    }
    assert!(client.status().borrow().is_connected());
    got
}

struct Load {
    runtime: Runtime,
    acked: Acked,
    progress: watch::Receiver<u64>,
    stop: CancellationToken,
    publishers: Vec<JoinHandle<(Client, u64)>>,
    subscribers: Vec<JoinHandle<BTreeMap<Id, u32>>>,
}

impl Load {
    fn start(cluster: &Cluster) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (sender, progress) = watch::channel(0);
        let mut load = Self {
            acked: Acked::default(),
            progress,
            stop: CancellationToken::new(),
            publishers: Vec::new(),
            subscribers: Vec::new(),
            runtime,
        };
        for index in 0..SUBSCRIBERS as usize {
            let client = load.runtime.block_on(client(cluster, index));
            load.subscribers.push(load.runtime.spawn(collect(client)));
        }
        for index in 0..PUBLISHERS {
            let client = load.runtime.block_on(client(cluster, index + 1));
            let publisher = publish(
                client,
                index,
                Arc::clone(&load.acked),
                sender.clone(),
                load.stop.clone(),
            );
            load.publishers.push(load.runtime.spawn(publisher));
        }
        load
    }

    /// Waits until the load has gone on for a while.
    fn make_progress(&mut self) {
        let goal = *self.progress.borrow() + PROGRESS;
        let wait = self.progress.wait_for(|count| *count >= goal);
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, wait).await.map(drop) })
            .expect("messages are acknowledged");
    }

    /// Ends it; how many messages were acknowledged, and to how many receivers.
    fn finish(self) -> (usize, u64) {
        self.stop.cancel();
        let (acked, publishers, subscribers) = (self.acked, self.publishers, self.subscribers);
        self.runtime.block_on(async {
            let all = async {
                for (index, publisher) in publishers.into_iter().enumerate() {
                    let (client, _) = publisher.await.unwrap();
                    publish_last(&client, index).await;
                    assert!(client.status().borrow().is_connected());
                }
                let mut got: BTreeMap<Id, u32> = BTreeMap::new();
                for subscriber in subscribers {
                    for (id, count) in subscriber.await.unwrap() {
                        *got.entry(id).or_default() += count;
                    }
                }
                got
            };
            let got = tokio::time::timeout(PATIENCE, all)
                .await
                .expect("what was acknowledged arrives");
            let acked = acked.lock().await;
            let again: u32 = got.values().map(|count| count.saturating_sub(SUBSCRIBERS)).sum();
            assert!(again <= AGAIN_MAX, "{again} messages came again");
            let mut total = 0;
            for (id, promised) in acked.iter() {
                let arrived = got.get(id).copied().unwrap_or(0);
                assert!(
                    arrived >= *promised,
                    "message {id:?} was acknowledged for {promised} subscribers and came to {arrived}"
                );
                total += u64::from(*promised);
            }
            (acked.len(), total)
        })
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "how much was tried is worth knowing")]
fn no_acknowledged_message_is_lost_while_all_nodes_are_restarted() {
    let mut cluster = Cluster::new(NODES);
    let mut load = Load::start(&cluster);
    load.make_progress();
    for index in 0..NODES {
        cluster.restart(index);
        load.make_progress();
    }
    let (messages, deliveries) = load.finish();
    println!("{messages} messages acknowledged for {deliveries} subscribers");
    assert!(messages as u64 >= PROGRESS * (NODES as u64 + 1));
    assert!(deliveries > 0);
}
