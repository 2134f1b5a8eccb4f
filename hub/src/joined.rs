//! A hub on a broker: its services, for as long as the hub runs.
//!
//! The connection is the client's to keep: it comes back by itself, and subscriptions with it. What is done here is to
//! begin again when a broker has ended a subscription for good, and to say whether there is a connection.
//!
//! ```text
//!   calls      the functions                          ends by `system.terminate`
//!   queries    feeds                                  ends by `system.terminate`
//!   others     who is let in, models, the time
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use dialtone_client::{Client, SubscribeError};
use tokio_util::sync::CancellationToken;

use crate::api::{Api, ApiService};
use crate::clock;
use crate::gate::{self, Gate, GateService};
use crate::health::Health;
use crate::models::{ModelService, Models};
use crate::query::{FeedService, Feeds};
use crate::store::Store;

mod ends;
pub use ends::{Ends, Persist};

/// How many requests are taken from the broker at once: more than the API lets run, so that what is too much is refused
/// and does not wait.
const CONCURRENCY_MAX: usize = 4_096;

/// What health says about it.
const SERVICE: &str = "the API on the broker";

/// How long to wait until the services are begun again: the first time, and at most.
const RETRY: Duration = Duration::from_secs(3);
const RETRY_MAX: Duration = Duration::from_secs(20);

/// Services that ran for so long are begun again at once.
const RAN_WELL: Duration = Duration::from_secs(30);

/// What a hub does on a broker.
#[derive(Debug, Clone)]
pub struct Services {
    /// Answers calls.
    pub api: Arc<Api<Store>>,
    /// Answers brokers in other processes that ask who is let in.
    pub gate: Gate,
    /// Follows queries for whoever asks.
    pub feeds: Feeds<Store>,
    /// Answers questions to language models.
    pub models: Arc<Models<Store>>,
    /// What a call may end.
    pub ends: Ends,
}

/// From here on the hub is not ready while it does not answer on a broker.
pub fn expect(health: &Health) {
    health.service(SERVICE, false);
}

/// Answers requests on the broker until `stop`; what was taken by then is answered.
///
/// `client` stays open, and is the caller's to close. Nothing is waited for before this is called: a broker that cannot
/// be reached yet is one to which the client connects later.
pub async fn serve(
    client: &Client,
    services: &Services,
    health: &Health,
    stop: &CancellationToken,
) {
    let (calling, querying) = (stop.child_token(), stop.child_token());
    let ending = async {
        tokio::join!(
            until(&services.ends.calls, &calling),
            until(&services.ends.feeds, &querying),
        )
    };
    let calls = async {
        let watching = watch(client, health, &calling);
        let serving = keep("the functions", &calling, async || {
            calls_once(client, services, &calling).await
        });
        tokio::join!(watching, serving);
        // A hub whose functions were ended is not ready, until it begins anew.
        health.service(SERVICE, false);
    };
    let queries = keep("feeds", &querying, async || {
        queries_once(client, services, &querying).await
    });
    let others = keep("what else it does there", stop, async || {
        others_once(client, services, stop).await
    });
    let telling = keep_telling(client, &services.gate, stop);
    tokio::join!(ending, calls, queries, others, telling);
}

/// Ends `part` when it is asked for; it may end by itself.
async fn until(asked: &CancellationToken, part: &CancellationToken) {
    if part.run_until_cancelled(asked.cancelled()).await.is_some() {
        part.cancel();
    }
}

/// Begins something again whenever it has ended, until `stop`.
async fn keep(
    what: &'static str,
    stop: &CancellationToken,
    once: impl AsyncFn() -> Result<(), SubscribeError>,
) {
    let mut pause = RETRY;
    while !stop.is_cancelled() {
        let begun = Instant::now();
        match once().await {
            Ok(()) if stop.is_cancelled() => return,
            Ok(()) => tracing::warn!(what, "the broker has ended subscriptions of the hub"),
            Err(error) => tracing::warn!(
                what,
                error = &error as &dyn std::error::Error,
                "the hub cannot be asked on the broker"
            ),
        }
        if begun.elapsed() >= RAN_WELL {
            pause = RETRY;
            continue;
        }
        stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        pause = pause.mul_f64(1.25).min(RETRY_MAX);
    }
}

/// Answers calls until the broker ends it, or `stop`.
async fn calls_once(
    client: &Client,
    services: &Services,
    stop: &CancellationToken,
) -> Result<(), SubscribeError> {
    let beginning = ApiService::start(client, Arc::clone(&services.api), CONCURRENCY_MAX);
    let Some(begun) = stop.run_until_cancelled(beginning).await else {
        return Ok(());
    };
    let mut api = begun?;
    stop.run_until_cancelled(api.ended()).await;
    api.stop().await;
    Ok(())
}

/// Follows queries until the broker ends it, or `stop`: followers go on elsewhere.
async fn queries_once(
    client: &Client,
    services: &Services,
    stop: &CancellationToken,
) -> Result<(), SubscribeError> {
    let beginning = FeedService::start(client, &services.feeds);
    let Some(begun) = stop.run_until_cancelled(beginning).await else {
        return Ok(());
    };
    let feeds = begun?;
    stop.run_until_cancelled(feeds.ended()).await;
    feeds.stop().await;
    Ok(())
}

/// Answers brokers, questions to models, and who wants to know the time, until the broker ends it, or `stop`.
async fn others_once(
    client: &Client,
    services: &Services,
    stop: &CancellationToken,
) -> Result<(), SubscribeError> {
    let beginning = async {
        let gate = GateService::start(client, &services.gate).await?;
        let models = ModelService::start(client, Arc::clone(&services.models)).await?;
        let clock = clock::serve(client).await?;
        Ok::<_, SubscribeError>((gate, models, clock))
    };
    let Some(begun) = stop.run_until_cancelled(beginning).await else {
        return Ok(());
    };
    let (mut gate, mut models, mut clock) = begun?;
    let ended = async {
        tokio::select! {
            () = gate.ended() => {}
            () = models.ended() => {}
            () = clock.stopped() => {}
        }
    };
    stop.run_until_cancelled(ended).await;
    clock.stop().await;
    models.stop().await;
    gate.stop().await;
    Ok(())
}

/// Tells brokers in other processes whose rights change.
async fn keep_telling(client: &Client, gate: &Gate, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        if let Ok(follower) = gate.follower().await {
            gate::tell(client, follower, stop).await;
        } else {
            stop.run_until_cancelled(tokio::time::sleep(RETRY)).await;
        }
    }
}

/// Tells health whether there is a connection.
async fn watch(client: &Client, health: &Health, stop: &CancellationToken) {
    let mut status = client.status();
    let following = async {
        loop {
            health.service(SERVICE, status.borrow_and_update().is_connected());
            if status.changed().await.is_err() {
                health.service(SERVICE, false);
                return;
            }
        }
    };
    stop.run_until_cancelled(following).await;
}
