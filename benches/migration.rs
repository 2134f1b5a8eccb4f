//! What it costs a QUIC client to change its address: a ping and its answer on a quiet connection,
//! and the same when the client's UDP port has changed just before. The session goes on; a WebSocket
//! would have to connect, authenticate and subscribe again, which `connect again` measures.

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use dialtone_benches::{Carrier, Node};
use tokio::runtime::Runtime;

fn migration(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built");
    let node = Node::start(&runtime).expect("a broker can be started");
    let mut group = c.benchmark_group("migration");
    group.bench_function("quic, same address", |b| {
        let mut peer = runtime
            .block_on(node.peer(Carrier::Quic))
            .expect("the broker can be reached");
        b.iter(|| runtime.block_on(peer.ping()).expect("pings are answered"));
    });
    group.bench_function("quic, new address", |b| {
        let mut peer = runtime
            .block_on(node.peer(Carrier::Quic))
            .expect("the broker can be reached");
        b.iter_custom(|rounds| {
            runtime.block_on(async {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    peer.change_address().expect("QUIC connections can move");
                    let begin = Instant::now();
                    peer.ping().await.expect("the session goes on");
                    spent += begin.elapsed();
                }
                spent
            })
        });
    });
    group.bench_function("ws, connect again", |b| {
        b.iter(|| reconnect(&runtime, &node));
    });
    group.finish();
}

fn reconnect(runtime: &Runtime, node: &Node) {
    runtime.block_on(async {
        let mut peer = node
            .peer(Carrier::Ws)
            .await
            .expect("the broker can be reached");
        peer.ping().await.expect("pings are answered");
    });
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = quick(); targets = migration }
criterion_main!(benches);
