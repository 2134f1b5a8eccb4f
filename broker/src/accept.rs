//! One loop for each listener, with a bound on handshakes in progress.

use std::sync::Arc;
use std::time::Duration;

use dialtone_transport::{Incoming, Listener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::broker::Shared;
use crate::connection;
use crate::shards::Seat;

/// How long accepting pauses after an error such as a lack of file descriptors, which only the end
/// of other connections can mend.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts until `stop` is cancelled.
pub(crate) async fn run(
    listener: Listener,
    shard: usize,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let handshakes = Arc::new(Semaphore::new(shared.config.handshakes_max as usize));
    loop {
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(incoming) => {
                let (runtime, seat) = shared.shards.place(shard);
                let task = establish(incoming, Arc::clone(&shared), permit, seat);
                shared.tasks.spawn_on(task, &runtime);
            }
            Err(error) => {
                tracing::warn!(%error, "accepting failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn establish(
    incoming: Incoming,
    shared: Arc<Shared>,
    permit: OwnedSemaphorePermit,
    seat: Option<Seat>,
) {
    let remote = incoming.remote();
    match incoming.establish().await {
        Ok(connection) => {
            shared.metrics.accepted.add(1);
            connection::serve(connection, shared, Some(permit), seat).await;
        }
        Err(error) => {
            shared.metrics.handshake_failures.add(1);
            tracing::debug!(?remote, %error, "handshake failed");
        }
    }
}
