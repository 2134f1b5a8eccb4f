//! Signing in with a password beside checking the password alone: what the hub adds to argon2's cost, which is there on
//! purpose. One at a time, and as many at once as the machine has cores.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot begin has no figure"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dialtone_hub::auth::password::{Config as Hashing, Hasher};
use dialtone_hub::entry::sign_in::Request;
use dialtone_hub::entry::sign_up::Request as SignUp;
use dialtone_hub::entry::{Entry, Origin};
use dialtone_hub::letters::Letters;
use dialtone_hub::settings::Live;
use dialtone_hub::store::{Config, Location, Store};
use dialtone_testkit::Postgres;
use futures_util::future::join_all;
use tokio::runtime::Runtime;

const ADDRESS: &str = "ada@example.org";
const PASSWORD: &str = "analytical-engine-7";

async fn entry(location: Location) -> Entry {
    let store = Store::open(Config::new(location)).await.unwrap();
    let (settings, _follower) = Live::open(&store).await.unwrap();
    let entry = Entry {
        letters: Letters::new(settings.clone(), None),
        settings,
        hasher: Hasher::new(Hashing::default()).unwrap(),
        site: "https://example.org".to_owned(),
        store,
    };
    let request = SignUp {
        email_address: ADDRESS,
        password: PASSWORD,
        first_name: "Ada",
        last_name: "Lovelace",
        token: None,
        tags: Vec::new(),
        intent: None,
        origin: Origin::default(),
    };
    entry.sign_up(&request).await.unwrap();
    entry
}

async fn sign_in(entry: &Entry) {
    let request = Request {
        email_address: ADDRESS,
        password: PASSWORD,
        origin: Origin::default(),
    };
    black_box(entry.sign_in(&request).await.unwrap());
}

fn sign_ins(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Location::Sqlite {
        path: folder.path().join("hub.db"),
    };
    let postgres = Postgres::shared().database().parse().unwrap();
    let hasher = Hasher::new(Hashing::default()).unwrap();
    let hash = runtime.block_on(hasher.hash(PASSWORD)).unwrap();
    let mut group = criterion.benchmark_group("sign_in");
    group.sample_size(20);
    for together in [1, at_once] {
        group.throughput(Throughput::Elements(together as u64));
        group.bench_function(format!("argon2 alone, {together} at once"), |bencher| {
            bencher.iter(|| {
                let checks = (0..together).map(|_| hasher.check(PASSWORD, Some(&hash)));
                for verdict in runtime.block_on(join_all(checks)) {
                    black_box(verdict.unwrap());
                }
            });
        });
    }
    for (name, location) in [("SQLite", sqlite), ("PostgreSQL", postgres)] {
        let entry = runtime.block_on(entry(location));
        for together in [1, at_once] {
            group.throughput(Throughput::Elements(together as u64));
            group.bench_function(format!("{name}, {together} at once"), |bencher| {
                bencher.iter(|| {
                    let all = (0..together).map(|_| sign_in(&entry));
                    runtime.block_on(join_all(all));
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, sign_ins);
criterion_main!(benches);
