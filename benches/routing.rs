//! Routes: made, kept, and outdated by changes.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dialtone_broker::router::{Member, Router, Target};
use dialtone_protocol::{Pattern, SubscriptionId};

const SUBJECT: &str = "project.17.terminal.output";

/// Patterns that match [`SUBJECT`], beside many that do not.
const MATCHING: [&str; 3] = [SUBJECT, "project.*.terminal.*", "project.17.>"];

fn member(peer: u32) -> Member<u32> {
    let target = Target {
        peer,
        subscription: SubscriptionId(1),
        drop_oldest: 0,
    };
    Member {
        target,
        group: None,
        tap: false,
    }
}

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect("the patterns of the fixtures are valid")
}

fn table() -> Router<u32> {
    let router = Router::default();
    for number in 0..10_000 {
        router.subscribe(&pattern(&format!("user.{number}.mail")), member(number));
        router.subscribe(&pattern(&format!("user.{number}.*")), member(number));
    }
    for text in MATCHING {
        router.subscribe(&pattern(text), member(1));
    }
    router
}

fn routes(c: &mut Criterion) {
    let router = table();
    let hash = router.hash(SUBJECT.as_bytes());
    let mut group = c.benchmark_group("routing");
    group.throughput(Throughput::Elements(1));
    group.bench_function("resolve", |b| {
        b.iter(|| black_box(router.resolve(black_box(SUBJECT), hash)));
    });
    let route = router.resolve(SUBJECT, hash);
    group.bench_function("cached", |b| {
        b.iter(|| {
            let hash = router.hash(black_box(SUBJECT).as_bytes());
            router.is_current(black_box(&route), hash)
        });
    });
    group.bench_function("count", |b| b.iter(|| black_box(&route).count()));
    group.finish();
}

fn changes(c: &mut Criterion) {
    let router = table();
    let mut group = c.benchmark_group("routing/subscribe-and-unsubscribe");
    group.throughput(Throughput::Elements(1));
    for (name, text) in [
        ("literal", "other.7.mail"),
        ("star", "other.*.mail"),
        ("shared", SUBJECT),
    ] {
        let pattern = pattern(text);
        group.bench_function(name, |b| {
            b.iter(|| {
                let entry = router.subscribe(&pattern, member(2));
                router.unsubscribe(&entry, |target| target.peer == 2);
            });
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

criterion_group! { name = benches; config = quick(); targets = routes, changes }
criterion_main!(benches);
