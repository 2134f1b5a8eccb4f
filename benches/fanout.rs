//! One publisher and one to a hundred subscribers, through a broker on the same thread.
//!
//! Publisher and subscribers speak the protocol by hand and only count bytes, so that most of the
//! time is the broker's. Figures are deliveries.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dialtone_benches::{Carrier, Node, PAYLOADS, Peer, delivery_len, publishes, wanted};
use tokio::runtime::Runtime;

const SUBJECT: &str = "project.17.terminal.output";

/// Bytes that are published at once; the messages are at least one.
const BATCH_LEN: usize = 32 << 10;

/// A publisher with what it sends, and subscribers with what they get.
struct Fan {
    publisher: Peer,
    frames: bytes::Bytes,
    messages: usize,
    subscribers: Vec<Peer>,
    len: usize,
}

impl Fan {
    async fn open(
        node: &Node,
        carrier: Carrier,
        subscribers: usize,
        payload_len: usize,
    ) -> anyhow::Result<Self> {
        let publisher = node.peer(carrier).await?;
        let mut receiving = Vec::with_capacity(subscribers);
        for _ in 0..subscribers {
            let mut peer = node.peer(carrier).await?;
            peer.subscribe(vec![wanted(1, SUBJECT)]).await?;
            receiving.push(peer);
        }
        let messages = (BATCH_LEN / payload_len).clamp(1, 256);
        Ok(Self {
            publisher,
            frames: publishes(&[SUBJECT], payload_len, messages),
            messages,
            subscribers: receiving,
            len: delivery_len(SUBJECT, payload_len, 1)? * messages,
        })
    }

    async fn pass(&mut self) -> anyhow::Result<()> {
        self.publisher.send(self.frames.clone()).await?;
        for subscriber in &mut self.subscribers {
            subscriber.receive(self.len).await?;
        }
        Ok(())
    }
}

fn measure(c: &mut Criterion, name: &str, cells: &[(Carrier, usize, usize)]) {
    let runtime = runtime();
    let node = Node::start(&runtime).expect("a broker can be started");
    let mut group = c.benchmark_group(format!("fanout/{name}"));
    for &(carrier, subscribers, payload_len) in cells {
        let mut fan = runtime
            .block_on(Fan::open(&node, carrier, subscribers, payload_len))
            .expect("the broker can be reached");
        group.throughput(Throughput::Elements((fan.messages * subscribers) as u64));
        let id = BenchmarkId::new(
            carrier.scheme(),
            format!("1-to-{subscribers}-{payload_len}B"),
        );
        group.bench_function(id, |b| {
            b.iter(|| runtime.block_on(fan.pass()).expect("the broker delivers"));
        });
    }
    group.finish();
}

fn subscribers(c: &mut Criterion) {
    let cells = [1, 10, 100].map(|subscribers| (Carrier::Memory, subscribers, 128));
    measure(c, "subscribers", &cells);
}

fn payloads(c: &mut Criterion) {
    measure(c, "payload", &PAYLOADS.map(|len| (Carrier::Memory, 1, len)));
}

fn carriers(c: &mut Criterion) {
    measure(
        c,
        "carrier",
        &Carrier::ALL.map(|carrier| (carrier, 10, 128)),
    );
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

criterion_group! { name = benches; config = quick(); targets = subscribers, payloads, carriers }
criterion_main!(benches);
