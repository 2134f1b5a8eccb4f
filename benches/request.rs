//! Requests and their answers between two clients, over every transport: one at a time, which is
//! latency, and many at once.
//!
//! Both clients and the broker share one thread. Over the loopback interface this is what the
//! system calls, the cryptography and all three programs cost together.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dialtone_benches::{Carrier, Node};
use dialtone_client::service::{Answer, Service, ServiceError};
use dialtone_client::{Client, Encoding, Message};
use futures_util::future::try_join_all;
use tokio::runtime::Runtime;

const SUBJECT: &str = "service.echo";

const PAYLOAD: [u8; 128] = [b'x'; 128];

async fn echo(request: Message) -> Result<Answer, ServiceError> {
    Ok(Answer::new(Encoding::MessagePack, request.into_payload()))
}

/// A client that asks, and one that answers. Both end with this.
struct Pair {
    asking: Client,
    _answering: Client,
    _service: Service,
}

impl Pair {
    async fn open(node: &Node, carrier: Carrier) -> anyhow::Result<Self> {
        let (asking, answering) = (node.client(carrier).await?, node.client(carrier).await?);
        let service = answering.service(SUBJECT, "0", echo).await?;
        Ok(Self {
            asking,
            _answering: answering,
            _service: service,
        })
    }

    async fn ask(&self, at_once: usize) -> anyhow::Result<()> {
        if at_once == 1 {
            self.asking.request(SUBJECT, &PAYLOAD).await?;
        } else {
            try_join_all((0..at_once).map(|_| self.asking.request(SUBJECT, &PAYLOAD))).await?;
        }
        Ok(())
    }
}

fn requests(c: &mut Criterion) {
    let runtime = runtime();
    let node = Node::start(&runtime).expect("a broker can be started");
    let mut group = c.benchmark_group("request");
    for carrier in Carrier::ALL {
        let pair = runtime
            .block_on(Pair::open(&node, carrier))
            .expect("the broker can be reached");
        for at_once in [1, 64] {
            group.throughput(Throughput::Elements(at_once as u64));
            group.bench_function(BenchmarkId::new(carrier.scheme(), at_once), |b| {
                b.iter(|| {
                    runtime
                        .block_on(pair.ask(at_once))
                        .expect("requests are answered");
                });
            });
        }
    }
    group.finish();
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
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = quick(); targets = requests }
criterion_main!(benches);
