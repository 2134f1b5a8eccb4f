//! Lets a service go of the streams that its node loses.

use tokio_util::sync::CancellationToken;

use super::leased::Leased;
use crate::service::Handle;

/// After each change of the view, closes what is not this node's any more, and says so. Runs until `stop`, which comes
/// after the end of the service: while it finishes, it may still lose something.
pub async fn follow(handle: Handle, placement: Leased, stop: CancellationToken) {
    let mut views = placement.views();
    loop {
        let view = *views.borrow_and_update();
        let released = async {
            handle.release_lost().await;
            placement.release(view);
            // The keeper is part of the same program; without it nothing changes any more.
            views.changed().await.is_ok()
        };
        tokio::select! {
            goes_on = released => if !goes_on { return },
            () = stop.cancelled() => return,
        }
    }
}
