//! Links to other clusters: one to some node of each, at the first of its URLs that answers.

use std::sync::Arc;

use super::super::backoff::{Backoff, Waits};
use super::super::config::Gateway;
use super::{Cluster, dial, link, note_failure, now, take_place};
use crate::broker::Shared;
use crate::chance;

/// Begins to reach every cluster that is configured with URLs.
pub(super) fn spawn(shared: &Arc<Shared>, cluster: &Arc<Cluster>) {
    for gateway in &cluster.config.gateways {
        if gateway.urls.is_empty() {
            continue;
        }
        let (runtime, seat) = shared.shards.place(0);
        let task = reach(Arc::clone(shared), Arc::clone(cluster), gateway.clone());
        let seated = async move {
            task.await;
            drop(seat);
        };
        cluster.tasks.spawn_on(seated, &runtime);
    }
}

/// Keeps a link to a cluster, for ever: the URLs take turns.
async fn reach(shared: Arc<Shared>, cluster: Arc<Cluster>, gateway: Gateway) {
    let timing = &cluster.config.timing;
    let waits = Waits {
        min: timing.redial_min,
        max: timing.redial_max,
    };
    let options = gateway.dial.as_ref().unwrap_or(&cluster.config.dial);
    let mut backoff = Backoff::new(now());
    for endpoint in gateway.urls.iter().cycle() {
        if let Some(due) = backoff.due() {
            tokio::select! {
                biased;
                () = cluster.stopping.cancelled() => return,
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
        if !cluster.membership.lock().is_active() {
            // It has left its own cluster, and comes back to this with it.
            backoff.failed(now(), waits, chance::share());
            continue;
        }
        let dialled = tokio::select! {
            biased;
            () = cluster.stopping.cancelled() => return,
            dialled = dial(&cluster, &gateway.name, options.clone(), endpoint) => dialled,
        };
        let placed = match dialled {
            // A refusal is noted where it is made.
            Ok(introduced) => take_place(&shared, &cluster, introduced, true).await.ok(),
            Err(failure) => {
                note_failure(&cluster, failure, Some(endpoint.to_string()));
                None
            }
        };
        match placed {
            Some((peer, reader, rest)) => {
                backoff.succeeded(now());
                link::serve(
                    Arc::clone(&shared),
                    Arc::clone(&cluster),
                    peer,
                    reader,
                    rest,
                )
                .await;
                backoff.failed(now(), waits, chance::share());
            }
            None => backoff.failed(now(), waits, chance::share()),
        }
    }
}
