//! What the broker and its clients promise, in simulated time on links that misbehave, one file for each promise.
//!
//! `DIALTONE_SEEDS=1000` runs each test with so many seeds instead of a few, `DIALTONE_FIRST_SEED=17` begins with another
//! one than 0, and `DIALTONE_LOG=debug` shows what brokers, clients and tests log, with the simulated time.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else is said ends the test alike"
)]

use std::ops::Range;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

mod cluster;
mod determinism;
mod drain;
mod examples;
mod fragments;
mod garbage;
mod interest;
mod limits;
mod mesh;
mod objects;
mod permissions;
mod persist;
mod pubsub;
mod queue_groups;
mod reconnect;
mod request;
mod slow_subscriber;
mod storm;

/// Longest simulated time of one run; what takes longer is stuck.
const RUN_MAX: Duration = Duration::from_hours(24);

/// When so many seeds have failed, no more are tried.
const FAILED_MAX: usize = 20;

/// Runs a test with each of `few` seeds, or as many as the environment asks for, in a runtime of one thread with a
/// clock that stands still while something can be done. Each has a thread of its own, so that nothing is left of the
/// seed before.
#[track_caller]
fn simulate<F: Future>(few: u64, test: impl Fn(u64) -> F + Sync) {
    let seeds = std::env::var("DIALTONE_SEEDS")
        .ok()
        .map(|count| count.parse().expect("DIALTONE_SEEDS is a number"));
    let first = std::env::var("DIALTONE_FIRST_SEED")
        .ok()
        .map(|seed| seed.parse().expect("the seed is a number"));
    let first: u64 = first.unwrap_or(0);
    simulate_all(first..first + seeds.unwrap_or(few), test);
}

/// The same with one seed, whatever the environment asks for.
#[track_caller]
fn simulate_one<F: Future>(seed: u64, test: impl Fn(u64) -> F + Sync) {
    simulate_all(seed..seed + 1, test);
}

#[track_caller]
fn simulate_all<F: Future>(all: Range<u64>, test: impl Fn(u64) -> F + Sync) {
    let mut failed = Vec::new();
    for seed in all.clone() {
        if let Err(panic) = thread::scope(|scope| scope.spawn(|| run(seed, &test)).join()) {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            failed.push(format!(
                "seed {seed} (DIALTONE_FIRST_SEED={seed} DIALTONE_SEEDS=1): {}",
                text.unwrap_or("?")
            ));
        }
        if failed.len() >= FAILED_MAX {
            break;
        }
    }
    assert!(
        failed.is_empty(),
        "{} of the seeds {all:?} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

/// Runs a test with one seed.
fn run<F: Future>(seed: u64, test: impl Fn(u64) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let began = Instant::now();
        let _log = std::env::var("DIALTONE_LOG").ok().map(|filter| {
            let log = tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_timer(Simulated(began))
                .with_writer(std::io::stderr)
                .with_ansi(false)
                .finish();
            tracing::subscriber::set_default(log)
        });
        tokio::time::timeout(RUN_MAX, test(seed))
            .await
            .expect("the run is stuck")
    });
}

/// The time of a log: since the run began.
struct Simulated(Instant);

impl FormatTime for Simulated {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        write!(w, "{:>10.3}s", self.0.elapsed().as_secs_f64())
    }
}

/// A whole number of seconds.
const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A whole number of milliseconds.
const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
