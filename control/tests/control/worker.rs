//! Projects on machines that have no database: a worker asks a hub over a real broker.

use std::sync::Arc;
use std::time::Duration;

use dialtone_control::executor::Executor;
use dialtone_control::ledger::{Error, Ledger as _};
use dialtone_control::worker::{Office, Remote, SUBJECT};
use dialtone_hub::control::{Control as _, Phase};
use dialtone_hub::store::control::Claim;
use dialtone_testkit::world::World as Broker;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::on_both;
use crate::site::{Site, limits, runner};

on_both! {
    a_worker_runs_projects_and_the_next_one_of_its_name_goes_on,
    what_is_not_a_request_is_refused_by_name,
}

struct Worker {
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

async fn worker(broker: &Broker, site: &Site, host: &str) -> Worker {
    let client = broker.client().await.unwrap();
    let holder = uuid::Uuid::new_v4().to_string();
    let ledger = Remote::new(client, host, holder, None).await.unwrap();
    let runner = runner(&site.homes().display().to_string(), "", "");
    let executor = Executor::new(Arc::new(ledger), runner, limits(site.ttl));
    let stop = CancellationToken::new();
    let running = tokio::spawn(executor.run(stop.clone()));
    Worker { stop, running }
}

impl Worker {
    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap();
    }
}

async fn a_worker_runs_projects_and_the_next_one_of_its_name_goes_on(site: Site) {
    let broker = Broker::new(1).await;
    let asks = site.asks().await;
    let hub = broker.client().await.unwrap();
    let office = Office::start(
        &hub,
        asks.store.clone(),
        asks.settings.clone(),
        Duration::from_millis(site.ttl),
        asks.projects.workers_news(),
        &tokio::runtime::Handle::current(),
    )
    .await
    .unwrap();
    let id = asks.make_project().await;
    let first = worker(&broker, &site, "here").await;
    assert_eq!(asks.projects.start(id).await.unwrap().phase, Phase::Running);
    let status = asks.projects.status(id).await.unwrap();
    assert_eq!(status.host.as_deref(), Some("here"));
    first.end().await;
    // Another machine does not have its files; the order waits for one that has.
    let other = worker(&broker, &site, "elsewhere").await;
    let third = asks.make_project().await;
    let stop = asks.projects.stop(id);
    tokio::pin!(stop);
    tokio::select! {
        state = &mut stop => panic!("{state:?}"),
        started = asks.projects.start(third) => {
            assert_eq!(started.unwrap().phase, Phase::Running);
        }
    }
    assert_eq!(site.processes(id).len(), 1);
    let second = worker(&broker, &site, "here").await;
    assert_eq!(stop.await.unwrap().phase, Phase::Opened);
    assert!(site.processes(id).is_empty());
    asks.projects.stop(third).await.unwrap();
    second.end().await;
    other.end().await;
    office.stop().await;
}

async fn what_is_not_a_request_is_refused_by_name(site: Site) {
    let broker = Broker::new(1).await;
    let asks = site.asks().await;
    let hub = broker.client().await.unwrap();
    let _office = Office::start(
        &hub,
        asks.store.clone(),
        asks.settings.clone(),
        Duration::from_secs(9),
        asks.projects.workers_news(),
        &tokio::runtime::Handle::current(),
    )
    .await
    .unwrap();
    let client = broker.client().await.unwrap();
    let request = |version: u32, host: &str, uids: Option<(u32, u32)>| json!({"version": version, "host": host, "holder": "h", "uids": uids, "ask": {"do": "started"}});
    for (request, expected) in [
        (json!(7), "payload is not the expected JSON"),
        (
            request(9, "x", None),
            "the worker speaks version 9, and this hub version 1",
        ),
        (request(1, "", None), "host must have 1 to 255 bytes"),
        (request(1, "x", Some((9, 8))), "uids: 9 is above 8"),
    ] {
        let message = client.message(SUBJECT).json(&request).unwrap();
        let refused = message.request().await.unwrap().into_result().unwrap_err();
        assert!(refused.text.contains(expected), "{}", refused.text);
    }
    // A claim that nobody has.
    let remote = Remote::new(client, "x", "h", None).await.unwrap();
    let claim = Claim {
        project_id: asks.make_project().await,
        generation: 3,
    };
    assert_eq!(remote.hold(&claim).await, Err(Error::Lost));
}
