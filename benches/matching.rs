//! Finding who gets a message in tables of ten to a million patterns, without any cache.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dialtone_benches::{Seeded, Shape};
use dialtone_broker::router::{Member, Router, Target};
use dialtone_protocol::{Pattern, Subject, SubscriptionId};

/// Subjects that are looked up in one measured step, so that a large table is met cold.
const LOOKUPS: u32 = 1_024;

fn table(shape: Shape, len: u32) -> Router<u32> {
    let router = Router::default();
    for number in 0..len {
        let target = Target {
            peer: number,
            subscription: SubscriptionId(1),
            drop_oldest: 0,
        };
        let pattern =
            Pattern::new(&shape.pattern(number)).expect("the patterns of the fixtures are valid");
        router.subscribe(
            &pattern,
            Member {
                target,
                group: None,
                tap: false,
            },
        );
    }
    router
}

fn matching(c: &mut Criterion) {
    let mut group = c.benchmark_group("matching");
    group.throughput(Throughput::Elements(LOOKUPS.into()));
    for shape in Shape::ALL {
        for len in [10, 10_000, 1_000_000] {
            let router = table(shape, len);
            let mut seeded = Seeded::new(42);
            let subjects: Vec<Subject> = (0..LOOKUPS)
                .map(|_| shape.subject(seeded.below(len)))
                .collect();
            group.bench_function(BenchmarkId::new(shape.to_string(), len), |b| {
                b.iter(|| {
                    subjects
                        .iter()
                        .map(|subject| look_up(&router, subject.as_str()))
                        .sum::<u32>()
                });
            });
        }
    }
    group.finish();
}

fn look_up(router: &Router<u32>, subject: &str) -> u32 {
    let hash = router.hash(subject.as_bytes());
    black_box(router.resolve(black_box(subject), hash)).count()
}

/// The definition of routing, which everything above is tested against.
fn definition(c: &mut Criterion) {
    let mut group = c.benchmark_group("matching/definition");
    group.throughput(Throughput::Elements(1));
    for shape in Shape::ALL {
        let pattern =
            Pattern::new(&shape.pattern(7)).expect("the patterns of the fixtures are valid");
        let subject = shape.subject(7);
        group.bench_function(shape.to_string(), |b| {
            b.iter(|| black_box(&pattern).matches(black_box(&subject)));
        });
    }
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! { name = benches; config = quick(); targets = matching, definition }
criterion_main!(benches);
