//! Whoever loses the right to a stream hears of it at once, also while waiting for something to happen in it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dialtone_broker::auth::Permissions;
use dialtone_client::persist::wire::{Config, ConsumerConfig, Cursor, Record};
use dialtone_client::persist::{CallError, Persist, Stream, WatchError, WatchOptions};
use dialtone_persist::Store;
use dialtone_persist::backend::memory::Memory;
use dialtone_testkit::World;
use dialtone_testkit::providers::Scripted;
use dialtone_testkit::world::patient;
use tokio::time::Instant;

/// Far more than an answer takes, and far less than those who wait here would wait.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A stream that somebody may use until told otherwise.
struct Guarded {
    world: World,
    may: Arc<AtomicBool>,
    /// As the hub, whose rights nobody takes away, and as somebody.
    own: Stream,
    theirs: Stream,
}

impl Guarded {
    async fn new() -> Self {
        let provider = Scripted::new(1, Duration::ZERO);
        provider.user("hub", Permissions::All);
        provider.user("ann", Permissions::Ask);
        let may = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&may);
        provider.decide(move |_, _, _| asked.load(Ordering::Relaxed));
        let world = World::with(1, patient(), Arc::new(provider)).await;
        let options = world.options();
        let hub = options.clone().token("hub").connect().await.unwrap();
        let store = Store::Open(Arc::new(Memory::new()));
        let node = dialtone_persist::Persist::bind(
            dialtone_persist::Config::new("n1", store),
            options.clone().token("hub").connect().await.unwrap(),
        );
        let node = node.await.unwrap();
        tokio::task::spawn(async move { node.run(std::future::pending()).await.unwrap() });
        let ann = options.token("ann").connect().await.unwrap();
        let own = Persist::new(&hub).create("s", Config::default()).await;
        Self {
            world,
            may,
            own: own.unwrap(),
            theirs: Persist::new(&ann).stream("s").unwrap(),
        }
    }

    /// Takes the right away from everybody who has to be asked about.
    fn withdraw(&self) -> Instant {
        self.may.store(false, Ordering::Relaxed);
        self.world.broker().permissions_changed(None);
        Instant::now()
    }
}

/// Panics unless the broker has said that this may not be asked.
#[track_caller]
fn denied(error: &CallError, began: Instant) {
    assert_eq!(error.code().number(), 403, "{error:?}");
    assert!(!error.is_transient(), "{error:?}");
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_waits_ends_with_the_right_to_read() {
    let guarded = Guarded::new().await;
    let options = WatchOptions {
        wait: Duration::from_mins(1),
        ..WatchOptions::default()
    };
    let mut watcher = guarded.theirs.watch(Cursor::Now, options).await.unwrap();
    // The question is with the service, and nothing happens.
    let nothing = tokio::time::timeout(Duration::from_secs(10), watcher.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    let began = guarded.withdraw();
    match watcher.next().await {
        Some(Err(WatchError::Call(error))) => denied(&error, began),
        told => panic!("{told:?}"),
    }
    guarded.own.append(Record::new("secret")).await.unwrap();
    assert_eq!(watcher.next().await.map(|told| told.is_ok()), None);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_waits_ends_with_the_right_to_read() {
    let guarded = Guarded::new().await;
    let consumer = guarded.theirs.consumer("c", ConsumerConfig::default());
    let mut consumer = consumer.await.unwrap();
    let mut waiting = pin!(consumer.next());
    let nothing = tokio::time::timeout(Duration::from_secs(10), &mut waiting).await;
    assert!(nothing.is_err(), "{nothing:?}");
    let began = guarded.withdraw();
    denied(&waiting.await.unwrap_err(), began);
}
