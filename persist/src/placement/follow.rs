//! A node of the service with a lease: what it loses it lets go of, and what it leaves it hands over.

use tokio_util::sync::CancellationToken;

use super::keeper::Keeper;
use super::leased::Leased;
use crate::backend;
use crate::service::{Handle, Persist};

/// Runs a node whose configuration has the keeper's placement, until `stop`. Then the node finishes what it was asked,
/// as [`Persist::run`] does, and gives its lease back, so that the others have its streams at once.
///
/// # Errors
/// As [`Persist::run`].
pub async fn run_leased(
    persist: Persist,
    keeper: Keeper,
    stop: impl Future<Output = ()>,
) -> Result<(), backend::Error> {
    let ended = CancellationToken::new();
    let (handle, placement) = (persist.handle(), keeper.placement());
    let serve = async {
        let result = persist.run(stop).await;
        ended.cancel();
        result
    };
    let (result, (), ()) = tokio::join!(
        serve,
        follow(handle, placement, ended.clone()),
        keeper.run(ended.clone())
    );
    result
}

/// After each change of the view, closes what is not this node's any more, and says so.
async fn follow(handle: Handle, placement: Leased, ended: CancellationToken) {
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
            () = ended.cancelled() => return,
        }
    }
}
