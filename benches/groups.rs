//! Queue groups: choosing a member, and a broker that does so for every message.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dialtone_benches::{Carrier, Node, Peer, publishes, wanted};
use dialtone_broker::router::Target;
use dialtone_broker::router::entry::Group;
use dialtone_broker::router::group::{Dice, Load, choose_member};
use dialtone_protocol::frame::{Pick, Wanted};
use dialtone_protocol::{ConnectionId, SubscriptionId};
use tokio::runtime::Runtime;

/// Messages that are published at once.
const BATCH: usize = 256;

const SUBJECT: &str = "jobs.17.render";

/// A member whose load never changes.
#[derive(Debug, Clone, Copy)]
struct Idle(u64);

impl Load for Idle {
    fn pending(&self) -> usize {
        0
    }

    fn is_open(&self) -> bool {
        true
    }

    fn id(&self) -> ConnectionId {
        ConnectionId(self.0)
    }
}

fn choosing(c: &mut Criterion) {
    let mut bench = c.benchmark_group("groups/choose");
    bench.throughput(Throughput::Elements(1));
    for (name, pick) in [("any", Pick::Any), ("segment", Pick::Segment(1))] {
        for len in [2, 8, 64] {
            let target = |id| Target {
                peer: Idle(id),
                subscription: SubscriptionId(1),
                drop_oldest: 0,
            };
            let group = Group {
                name: "workers".into(),
                pick,
                number: SubscriptionId(1),
                remotes: Vec::new(),
                members: (1..=len).map(target).collect(),
            };
            let mut dice = Dice::new(42);
            bench.bench_function(BenchmarkId::new(name, len), |b| {
                b.iter(|| {
                    choose_member(black_box(&group), SUBJECT.as_bytes(), &mut dice)
                        .map(|target| target.peer.0)
                });
            });
        }
    }
    bench.finish();
}

/// One publisher and eight members in one group. The members share a connection, because nobody
/// can tell beforehand which of several connections a message goes to.
async fn connect(node: &Node, members: u32) -> anyhow::Result<(Peer, Peer)> {
    let (publisher, mut workers) = (
        node.peer(Carrier::Memory).await?,
        node.peer(Carrier::Memory).await?,
    );
    let member = |id| Wanted {
        group: Some("workers".to_owned()),
        ..wanted(id, SUBJECT)
    };
    workers
        .subscribe((1..=members).map(member).collect())
        .await?;
    Ok((publisher, workers))
}

fn broker(c: &mut Criterion) {
    let runtime = runtime();
    let node = Node::start(&runtime).expect("a broker can be started");
    let mut bench = c.benchmark_group("groups/broker");
    bench.throughput(Throughput::Elements(BATCH as u64));
    for members in [1, 8, 64] {
        let (mut publisher, mut workers) = runtime
            .block_on(connect(&node, members))
            .expect("the broker can be reached");
        let frames = publishes(&[SUBJECT], 128, BATCH);
        // Numbers of subscriptions below 128 take one byte.
        let len =
            dialtone_benches::delivery_len(SUBJECT, 128, 1).expect("a publish can be cut") * BATCH;
        bench.bench_function(BenchmarkId::new("memory", members), |b| {
            b.iter(|| {
                runtime
                    .block_on(async {
                        publisher.send(frames.clone()).await?;
                        workers.receive(len).await
                    })
                    .expect("the broker delivers");
            });
        });
    }
    bench.finish();
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built")
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! { name = benches; config = quick(); targets = choosing, broker }
criterion_main!(benches);
