//! A hub on a broker: its services, for as long as the hub runs.
//!
//! The connection is the client's to keep: it comes back by itself, and subscriptions with it. What is done here is to
//! begin again when a broker has ended a subscription for good, and to say whether there is a connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dialtone_client::{Client, SubscribeError};
use tokio_util::sync::CancellationToken;

use crate::api::{Api, ApiService};
use crate::health::Health;
use crate::permission::Facts;

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

/// Answers requests on the broker until `stop`; what was taken by then is answered.
///
/// `client` stays open, and is the caller's to close. Nothing is waited for before this is called: a broker that cannot
/// be reached yet is one to which the client connects later.
pub async fn serve<F: Facts>(
    client: &Client,
    api: &Arc<Api<F>>,
    health: &Health,
    stop: &CancellationToken,
) {
    let watching = watch(client, health, stop);
    let serving = keep_serving(client, api, stop);
    tokio::join!(watching, serving);
}

async fn keep_serving<F: Facts>(client: &Client, api: &Arc<Api<F>>, stop: &CancellationToken) {
    let mut pause = RETRY;
    while !stop.is_cancelled() {
        let begun = Instant::now();
        match serve_once(client, api, stop).await {
            Ok(()) => tracing::warn!("the broker has ended the subscriptions of the API"),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the API cannot be offered on the broker"
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
async fn serve_once<F: Facts>(
    client: &Client,
    api: &Arc<Api<F>>,
    stop: &CancellationToken,
) -> Result<(), SubscribeError> {
    let begun = ApiService::start(client, Arc::clone(api), CONCURRENCY_MAX);
    let Some(service) = stop.run_until_cancelled(begun).await else {
        return Ok(());
    };
    let mut service = service?;
    if stop.run_until_cancelled(service.ended()).await.is_none() {
        service.stop().await;
    }
    Ok(())
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
