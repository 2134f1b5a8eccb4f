//! Random histories in simulated time, while nodes that share a store are killed, stop, stand still, lose their leases
//! and start, links break and clocks jump.
//!
//! `DIALTONE_SEEDS=5000 cargo nextest run -p dialtone-persist --test histories` plays so many histories of each kind;
//! `DIALTONE_FIRST_SEED=19 DIALTONE_SEEDS=1` one again, as failures print it.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![expect(
    clippy::disallowed_methods,
    reason = "what a test spawns ends with the test's runtime"
)]

mod checker;
mod closing;
mod feeds;
mod fleet;
#[path = "../placement/model.rs"]
mod leases;
mod linearizable;
mod store;

use std::time::Duration;

/// Longest simulated time of one history; what takes longer is stuck.
const HISTORY_MAX: Duration = Duration::from_hours(24);

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse().ok();
    Some(number.unwrap_or_else(|| panic!("{name} is not a number: {text}")))
}

/// Plays `few` histories, or as many as the environment asks for, each on a thread and in a runtime of its own, so that
/// nothing is left of the one before. What they return is put together; whether there were enough to expect everything.
#[track_caller]
fn play<T: Send, F: Future<Output = T>>(
    few: u64,
    history: impl Fn(u64) -> F + Sync,
) -> (Vec<T>, bool) {
    let (first, seeds) = (setting("DIALTONE_FIRST_SEED"), setting("DIALTONE_SEEDS"));
    let (first, seeds) = (first.unwrap_or(0), seeds.unwrap_or(few));
    let one = |seed: u64| {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .unwrap();
            let history = async { tokio::time::timeout(HISTORY_MAX, history(seed)).await };
            runtime.block_on(history).expect("the history is stuck")
        };
        let played = std::thread::scope(|scope| scope.spawn(run).join());
        played.unwrap_or_else(|_| {
            panic!("DIALTONE_FIRST_SEED={seed} DIALTONE_SEEDS=1 plays it again")
        })
    };
    ((first..first + seeds).map(one).collect(), seeds >= few)
}
