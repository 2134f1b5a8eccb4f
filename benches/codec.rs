//! Frames to bytes and back: messages of several sizes, and frames of control.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dialtone_benches::{PAYLOADS, message_to, wanted};
use dialtone_protocol::frame::message::{PublishView, put_deliver};
use dialtone_protocol::frame::{Deliver, Ping, Publish, Subscribe};
use dialtone_protocol::{Frame, RequestId, SubscriptionId, codec};

const SUBJECT: &str = "project.7f3a.terminal.output";

fn messages(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec/message");
    for len in PAYLOADS {
        let payload = vec![b'x'; len];
        let message = message_to(SUBJECT, &payload);
        let publish = Frame::Publish(Publish {
            request: None,
            unreliable: false,
            fragment: None,
            message,
        });
        let deliver = Frame::Deliver(Deliver {
            subscription: SubscriptionId(7),
            unreliable: false,
            fragment: None,
            message,
        });
        let (published, delivered) = (publish.to_vec(), deliver.to_vec());
        let body = published.get(codec::LEN_FIELD..).unwrap_or_default();
        let mut out = Vec::with_capacity(published.len() + 64);
        group.throughput(Throughput::Bytes(published.len() as u64));

        group.bench_with_input(
            BenchmarkId::new("encode-publish", len),
            &publish,
            |b, frame| {
                b.iter(|| {
                    out.clear();
                    black_box(frame).encode(&mut out);
                });
            },
        );
        // What the broker does with each message: cut it out, look at it, put a new head before it.
        group.bench_with_input(
            BenchmarkId::new("cut-publish", len),
            &published,
            |b, bytes| {
                b.iter(|| {
                    let frame = codec::split_frame(black_box(bytes), 1 << 20);
                    frame.map(|frame| frame.map(|(body, _)| PublishView::decode(body)))
                });
            },
        );
        if let Ok(view) = PublishView::decode(body) {
            group.bench_with_input(BenchmarkId::new("put-deliver", len), &view, |b, view| {
                b.iter(|| {
                    out.clear();
                    put_deliver(
                        &mut out,
                        SubscriptionId(7),
                        false,
                        None,
                        black_box(view).section,
                    );
                });
            });
        }
        let body = delivered.get(codec::LEN_FIELD..).unwrap_or_default();
        group.bench_with_input(BenchmarkId::new("decode-deliver", len), body, |b, body| {
            b.iter(|| Frame::decode(black_box(body)).is_ok());
        });
    }
    group.finish();
}

fn control(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec/control");
    group.throughput(Throughput::Elements(1));
    let batch = (1..=100)
        .map(|id| wanted(id, &format!("project.{id}.>")))
        .collect();
    let subscribe = Frame::Subscribe(Subscribe {
        request: RequestId(1),
        wanted: batch,
    });
    for (name, frame) in [
        ("ping", Frame::Ping(Ping { token: 7 })),
        ("subscribe-100", subscribe),
    ] {
        let bytes = frame.to_vec();
        let body = bytes.get(codec::LEN_FIELD..).unwrap_or_default();
        let mut out = Vec::with_capacity(bytes.len());
        group.bench_function(BenchmarkId::new("encode", name), |b| {
            b.iter(|| {
                out.clear();
                black_box(&frame).encode(&mut out);
            });
        });
        group.bench_function(BenchmarkId::new("decode", name), |b| {
            b.iter(|| Frame::decode(black_box(body)).is_ok());
        });
    }
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
}

criterion_group! { name = benches; config = quick(); targets = messages, control }
criterion_main!(benches);
