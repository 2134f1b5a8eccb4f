//! The hub: `system.ping` through broker and hub, one at a time and many at once, and at a fixed rate; whether somebody
//! may publish, where that is known.
//!
//! Client, broker and hub share one thread, so that a figure is what all of them cost together. What the calls at a fixed
//! rate show is printed: criterion knows no percentiles, and no CPU time.

#![expect(
    clippy::print_stdout,
    reason = "criterion has no place for percentiles"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dialtone_benches::{Carrier, Node};
use dialtone_client::{Client, Encoding};
use dialtone_hub::api::{ApiService, Bounds};
use dialtone_hub::auth::password::{self, Hasher};
use dialtone_hub::caller::Caller;
use dialtone_hub::functions::{self, Parts};
use dialtone_hub::id::{AccountId, ProjectId};
use dialtone_hub::permission::{Action, Authority, Config as Keep};
use dialtone_hub::settings::Live;
use dialtone_hub::store::{Config, Location, Store};
use futures_util::future::try_join_all;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const PING: &[u8] = br#"{"name":"system.ping","args":[]}"#;

/// As many as a caller may have under way.
const AT_ONCE: usize = 32;

/// Calls in a second at the fixed rate, in portions of this time: half of what a hub is to answer at least.
const RATE: u64 = 25_000;
const PORTION: Duration = Duration::from_millis(1);

/// How long that is measured, after a second without measuring.
const MEASURED: Duration = Duration::from_secs(5);

/// Callers at the fixed rate, so that none of them has too many calls under way when the machine does something else.
const CALLERS: usize = 64;

/// A hub on a file of its own.
struct Hub {
    parts: Parts,
    _folder: TempDir,
}

impl Hub {
    async fn open() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("hub.db");
        let store = Store::open(Config::new(Location::Sqlite { path })).await?;
        let (settings, _follower) = Live::open(&store).await?;
        let authority = Authority::new(store.clone(), Keep::default());
        let parts = Parts {
            store,
            authority: Arc::new(authority),
            settings,
            hasher: Hasher::new(password::Config::default())?,
        };
        Ok(Self {
            parts,
            _folder: folder,
        })
    }
}

async fn ping(client: &Client, subject: &str, at_once: usize) -> anyhow::Result<()> {
    let one = || {
        client
            .message(subject)
            .encoding(Encoding::Json)
            .payload(PING)
            .request()
    };
    if at_once == 1 {
        one().await?;
    } else {
        try_join_all((0..at_once).map(|_| one())).await?;
    }
    Ok(())
}

fn pings(c: &mut Criterion) {
    let runtime = runtime();
    let node = Node::start(&runtime).expect("a broker can be started");
    let Hub { parts, _folder } = runtime.block_on(Hub::open()).expect("a file can be made");
    let api = Arc::new(functions::api(parts, Bounds::default()));
    let subject = Caller::Account(AccountId::random()).request_subject();
    let subject = subject.expect("accounts ask");
    let own = runtime.block_on(node.client(Carrier::Memory));
    let own = own.expect("the broker can be reached");
    let service = runtime.block_on(ApiService::start(&own, api, 4_096));
    let service = service.expect("a hub may subscribe");
    let mut group = c.benchmark_group("hub/ping");
    for carrier in [Carrier::Memory, Carrier::Ws] {
        let client = runtime.block_on(node.client(carrier));
        let client = client.expect("the broker can be reached");
        for at_once in [1, AT_ONCE] {
            group.throughput(Throughput::Elements(at_once as u64));
            group.bench_function(BenchmarkId::new(carrier.scheme(), at_once), |b| {
                b.iter(|| {
                    runtime
                        .block_on(ping(&client, &subject, at_once))
                        .expect("calls are answered");
                });
            });
        }
    }
    group.finish();
    runtime.block_on(service.stop());
}

fn permissions(c: &mut Criterion) {
    let runtime = runtime();
    let hub = runtime.block_on(Hub::open()).expect("a file can be made");
    let authority = &hub.parts.authority;
    let (caller, project) = (Caller::Account(AccountId::random()), ProjectId::random());
    let subject = format!("project.{project}.files.changed");
    let known = runtime.block_on(authority.may(caller, Action::Publish, &subject));
    known.expect("it can be looked up");
    let mut group = c.benchmark_group("hub/permission");
    group.throughput(Throughput::Elements(1));
    group.bench_function("known", |b| {
        b.iter(|| authority.may_now(black_box(caller), Action::Publish, black_box(&subject)));
    });
    group.finish();
}

/// Calls that begin when they are due, whether others are answered or not: a caller that waits for the answer before it
/// calls again would hide how long the others wait.
fn paced(_criterion: &mut Criterion) {
    // Tests of benchmarks, and lists of them, measure nothing.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let runtime = runtime();
    let node = Node::start(&runtime).expect("a broker can be started");
    let Hub { parts, _folder } = runtime.block_on(Hub::open()).expect("a file can be made");
    let api = Arc::new(functions::api(parts, Bounds::default()));
    let own = runtime.block_on(node.client(Carrier::Memory));
    let own = own.expect("the broker can be reached");
    let service = runtime.block_on(ApiService::start(&own, api, 4_096));
    let service = service.expect("a hub may subscribe");
    for carrier in [Carrier::Memory, Carrier::Ws] {
        let client = runtime.block_on(node.client(carrier));
        let client = client.expect("the broker can be reached");
        runtime.block_on(at_rate(&client, Duration::from_secs(1)));
        let (begun, cpu) = (Instant::now(), cpu_time());
        let mut waited = runtime.block_on(at_rate(&client, MEASURED));
        let (cpu, elapsed) = (cpu_time().saturating_sub(cpu), begun.elapsed());
        waited.sort_unstable();
        let at = |percent: usize| waited[(waited.len() - 1) * percent / 100];
        let calls = u32::try_from(waited.len()).unwrap_or(u32::MAX);
        println!(
            "hub/paced/{}: {:.0} calls/s, p50 {:?}, p99 {:?}, longest {:?}; CPU {:?} per call of all three",
            carrier.scheme(),
            f64::from(calls) / elapsed.as_secs_f64(),
            at(50),
            at(99),
            at(100),
            cpu / calls,
        );
    }
    runtime.block_on(service.stop());
}

/// How long each call took, from when it was due.
async fn at_rate(client: &Client, during: Duration) -> Vec<Duration> {
    let subjects: Vec<String> = (0..CALLERS)
        .map(|_| Caller::Account(AccountId::random()).request_subject())
        .map(|subject| subject.expect("accounts ask"))
        .collect();
    let portion = RATE * u64::try_from(PORTION.as_micros()).unwrap_or(0) / 1_000_000;
    let mut ticks = tokio::time::interval(PORTION);
    let (mut under_way, mut waited) = (FuturesUnordered::new(), Vec::new());
    let mut next = subjects.iter().cycle();
    let begun = Instant::now();
    while begun.elapsed() < during || !under_way.is_empty() {
        tokio::select! {
            due = ticks.tick(), if begun.elapsed() < during => {
                for subject in next.by_ref().take(usize::try_from(portion).unwrap_or(0)) {
                    under_way.push(async move {
                        ping(client, subject, 1).await.expect("calls are answered");
                        due.elapsed()
                    });
                }
            }
            Some(took) = under_way.next() => waited.push(took),
        }
    }
    waited
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
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

criterion_group! { name = benches; config = quick(); targets = pings, permissions, paced }
criterion_main!(benches);
