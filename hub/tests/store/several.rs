//! Several hubs on one PostgreSQL.

use std::time::Duration;

use dialtone_hub::feed::{Follower, News};
use dialtone_hub::store::{Config, Error, Store, hubs, leases, settings};
use dialtone_hub::{Hub, hub, stats};
use dialtone_testkit::Postgres;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Site;

/// A hub that runs, on threads of its own, as if it were a process.
struct Running {
    runtime: Runtime,
    stop: CancellationToken,
    task: JoinHandle<()>,
    host: String,
}

impl Running {
    /// Ends it in good order.
    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
        self.runtime.shutdown_background();
    }

    /// Ends it where it stands.
    fn crash(self) {
        self.runtime.shutdown_background();
    }
}

async fn start(site: &Site, number: usize) -> Running {
    let config = hub::Config {
        lease_ttl: Duration::from_secs(2),
        lease_retry: Duration::from_millis(20),
        stats: stats::Config {
            every: Duration::from_millis(20),
            ..stats::Config::default()
        },
        ..hub::Config::new(format!("machine-{number}"), "127.0.0.1:0".parse().unwrap())
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let location = site.config();
    let bound = runtime.spawn(async move {
        let store = Store::open(location).await.unwrap();
        Hub::bind(store, config, Vec::new()).await.unwrap()
    });
    let hub = bound.await.unwrap();
    let host = format!("machine-{number}-{}", hub.local_addr().port());
    let stop = CancellationToken::new();
    let task = runtime.spawn(hub.run(stop.clone()));
    Running {
        runtime,
        stop,
        task,
        host,
    }
}

/// Who has the lease of counting, and how often it was taken.
async fn counts(store: &Store) -> Option<(String, i64)> {
    let mut on = store.read().await.unwrap();
    let all = leases::list(&mut on).await.unwrap();
    let lease = all.into_iter().find(|lease| lease.name == "stats")?;
    Some((lease.holder?, lease.generation))
}

/// Waits until somebody has it who took it this time.
async fn holder(store: &Store, hubs: &[Running], generation: i64) -> usize {
    loop {
        if let Some((holder, found)) = counts(store).await
            && found == generation
        {
            let place = hubs.iter().position(|hub| holder.starts_with(&hub.host));
            return place.unwrap_or_else(|| panic!("{holder} is nobody"));
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_hub_counts_and_is_replaced_however_it_ends() {
    let site = Site::postgres();
    let looking = site.open().await;
    let mut hubs = Vec::new();
    for number in 0..4 {
        hubs.push(start(&site, number).await);
    }
    let first = holder(&looking, &hubs, 1).await;
    // It ends in good order, and gives the lease back.
    let ended = hubs.remove(first);
    let ended_host = ended.host.clone();
    ended.end().await;
    let second = holder(&looking, &hubs, 2).await;
    // It is cut off where it stands, and nobody gives anything back.
    hubs.remove(second).crash();
    let third = holder(&looking, &hubs, 3).await;
    assert!(third < hubs.len());
    let said = hubs::all(&mut looking.read().await.unwrap()).await.unwrap();
    let said: Vec<String> = said.into_iter().map(|hub| hub.host).collect();
    assert!(!said.contains(&ended_host), "{said:?}");
    assert!(hubs.iter().all(|hub| said.contains(&hub.host)), "{said:?}");
    for hub in hubs {
        hub.end().await;
    }
    // What was counted meanwhile can be read, and is of one place at a time.
    let mut on = looking.read().await.unwrap();
    let latest = dialtone_hub::store::stats::latest(&mut on)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((latest.accounts, latest.projects), (0, 0));
}

async fn names(follower: &mut Follower, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    while names.len() < count {
        match follower.next().await {
            Ok(News::Changes(entries)) => {
                let new = entries
                    .iter()
                    .map(|entry| entry.change.key["name"].as_str().unwrap().to_owned());
                names.extend(new);
            }
            Ok(News::Gap) => panic!("a gap"),
            Err(error) => assert!(error.is_temporary(), "{error}"),
        }
    }
    names
}

async fn set(store: &Store, name: &str) -> Result<(), Error> {
    let mut on = store.write().await?;
    settings::set(&mut on, name, "x").await?;
    on.commit().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_goes_on_at_another_hub_and_after_a_restart() {
    let server = Postgres::start();
    let site = Site::postgres_at(&server);
    let config = Config {
        connect_max: Duration::from_secs(1),
        // What nobody tells of is looked for.
        poll: Duration::from_millis(50),
        ..site.config()
    };
    let writing = Store::open(config.clone()).await.unwrap();
    for number in 0..3 {
        set(&writing, &number.to_string()).await.unwrap();
    }
    let one = Store::open(config.clone()).await.unwrap();
    let mut follower = Follower::after(&one, 0);
    assert_eq!(names(&mut follower, 3).await, ["0", "1", "2"]);
    let at = follower.at();
    // That hub is gone, and more happens before somebody reads on elsewhere.
    drop((follower, one));
    set(&writing, "3").await.unwrap();
    let other = Store::open(config).await.unwrap();
    let mut follower = Follower::after(&other, at);
    assert_eq!(names(&mut follower, 1).await, ["3"]);
    server.kill();
    server.start_again();
    while let Err(error) = set(&writing, "4").await {
        assert!(error.is_temporary(), "{error}");
    }
    assert_eq!(names(&mut follower, 1).await, ["4"]);
}
