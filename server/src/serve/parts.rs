//! What runs beside a broker, and the order in which it all ends.
//!
//! The hub leaves first, since what it does for others may need persist; then persist, so that its answers still arrive;
//! then the broker, which asks the hub about its clients until the last has gone; and then the hub with its database.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dialtone_broker::monitor::Monitor;
use tokio_util::sync::CancellationToken;

use crate::hub;
use crate::persist;
use crate::watch::Watch;

/// How long an answer of the monitoring server that is under way may take after the broker has ended.
const MONITOR_GRACE: Duration = Duration::from_millis(200);

/// What runs beside a broker.
pub(super) struct Parts {
    pub(super) streams: Option<persist::Embedded>,
    pub(super) hub: Option<hub::Embedded>,
}

/// Runs a broker until it has drained; monitoring goes on meanwhile, and ends with the broker. When one of the parts
/// fails, so does the process: whoever supervises it starts it anew.
pub(super) async fn serve(
    broker: dialtone_broker::Broker,
    monitor: Option<Monitor>,
    parts: Parts,
    watch: Watch,
    stop: CancellationToken,
    failure: Arc<OnceLock<anyhow::Error>>,
) {
    let (drain, end) = (CancellationToken::new(), CancellationToken::new());
    let Parts { streams, hub } = parts;
    let ends = hub.as_ref().and_then(|hub| hub.ends().persist()).cloned();
    let failed = |error: anyhow::Error| {
        // The first one says what happened; others follow from it.
        drop(failure.set(error));
    };
    let draining = async {
        let hub_ended = hub.as_ref().map(hub::Embedded::ended);
        tokio::select! {
            () = stop.cancelled() => {}
            () = end.cancelled() => {}
            () = persist::until_failed(streams.as_ref(), ends) => tracing::error!("persist has ended, and the broker with it"),
            () = or_never(hub_ended) => tracing::error!("the hub has ended, and the broker with it"),
        }
        if let Some(hub) = &hub {
            hub.drain().await;
        }
        if let Some(streams) = streams
            && let Err(error) = streams.stop().await
        {
            failed(error.context("persist has failed"));
        }
        drain.cancel();
        end.cancelled().await;
        if let Some(hub) = hub
            && let Err(error) = hub.stop().await
        {
            failed(error.context("the hub has failed"));
        }
    };
    let monitoring = async {
        let Some(monitor) = monitor else { return };
        let cut = async {
            end.cancelled().await;
            tokio::time::sleep(MONITOR_GRACE).await;
        };
        tokio::select! {
            () = monitor.run(end.clone()) => {}
            () = cut => {}
        }
    };
    let broker = async {
        broker.run(drain.clone()).await;
        end.cancel();
    };
    tokio::join!(broker, monitoring, draining, watch.run(end.clone()));
}

async fn or_never(token: Option<CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}
