//! A hub on a broker: its services, for as long as the hub runs.
//!
//! The connection is the client's to keep: it comes back by itself, and subscriptions with it. What is done here is to
//! begin again when a broker has ended a subscription for good, and to say whether there is a connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dialtone_client::{Client, SubscribeError};
use tokio_util::sync::CancellationToken;

use crate::api::{Api, ApiService};
use crate::clock;
use crate::gate::{self, Gate, GateService};
use crate::health::Health;
use crate::query::{FeedService, Feeds};
use crate::store::Store;

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
    let watching = watch(client, health, stop);
    let serving = keep_serving(client, services, stop);
    let telling = keep_telling(client, &services.gate, stop);
    tokio::join!(watching, serving, telling);
}

async fn keep_serving(client: &Client, services: &Services, stop: &CancellationToken) {
    let mut pause = RETRY;
    while !stop.is_cancelled() {
        let begun = Instant::now();
        match serve_once(client, services, stop).await {
            Ok(()) if stop.is_cancelled() => return,
            Ok(()) => tracing::warn!("the broker has ended the subscriptions of the hub"),
            Err(error) => tracing::warn!(
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

/// Until the broker ends it, or `stop`.
async fn serve_once(
    client: &Client,
    services: &Services,
    stop: &CancellationToken,
) -> Result<(), SubscribeError> {
    let beginning = async {
        let api = ApiService::start(client, Arc::clone(&services.api), CONCURRENCY_MAX).await?;
        let gate = GateService::start(client, &services.gate).await?;
        let feeds = FeedService::start(client, &services.feeds).await?;
        let clock = clock::serve(client).await?;
        Ok::<_, SubscribeError>((api, gate, feeds, clock))
    };
    let Some(begun) = stop.run_until_cancelled(beginning).await else {
        return Ok(());
    };
    let (mut api, gate, feeds, clock) = begun?;
    let ended = async {
        tokio::select! {
            () = api.ended() => {}
            () = feeds.ended() => {}
        }
    };
    stop.run_until_cancelled(ended).await;
    // Followers go on elsewhere while calls are finished here.
    feeds.stop().await;
    clock.stop().await;
    api.stop().await;
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
