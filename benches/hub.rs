//! The hub: `system.ping` through broker and hub, one at a time and many at once; whether somebody may publish, where
//! that is known.
//!
//! Client, broker and hub share one thread, so that a figure is what all of them cost together.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

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
use tempfile::TempDir;
use tokio::runtime::Runtime;

const PING: &[u8] = br#"{"name":"system.ping","args":[]}"#;

/// As many as a caller may have under way.
const AT_ONCE: usize = 32;

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
    c.bench_function("hub/permission/known", |b| {
        b.iter(|| authority.may_now(black_box(caller), Action::Publish, black_box(&subject)));
    });
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

criterion_group! { name = benches; config = quick(); targets = pings, permissions }
criterion_main!(benches);
