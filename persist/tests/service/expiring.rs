//! What is over leaves a stream though nobody uses it, also when that happens while the node is away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dialtone_client::Encoding;
use dialtone_client::persist::Owner;
use dialtone_client::persist::wire::{
    Append, Appended, Config, ConsumerConfig, ConsumerCreate, Create, Created, Cursor, Fetch, Get,
    Info, KeyList, Read, Record, Request, Select, Watch,
};
use dialtone_persist::backend::log::{Config as LogConfig, Log};
use dialtone_persist::disk::Simulated;
use dialtone_persist::{Clock, Handle, Persist, Store};
use dialtone_testkit::World;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::scene::{START, Scene, ask};

struct Site {
    world: World,
    disk: Simulated,
    now: Arc<AtomicU64>,
}

struct Running {
    handle: Handle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Site {
    async fn start(&self) -> Running {
        let log = LogConfig {
            free_bytes_min: 0,
            ..LogConfig::default()
        };
        let log = Log::open(Arc::new(self.disk.clone()), log).unwrap();
        let mut config = dialtone_persist::Config::new("n1", Store::Open(Arc::new(log)));
        let now = Arc::clone(&self.now);
        config.clock = Clock::new(move || now.load(Ordering::Relaxed));
        let client = self.world.client().await.unwrap();
        let persist = Persist::bind(config, client).await.unwrap();
        let handle = persist.handle();
        let (stop, stopping) = oneshot::channel::<()>();
        let task = tokio::task::spawn(async move {
            persist.run(async { drop(stopping.await) }).await.unwrap();
        });
        Running { handle, stop, task }
    }

    async fn fill(&self, stream: &str, config: Config, ttl: Option<u64>) {
        let client = self.world.client().await.unwrap();
        let create = Request::Create(Create {
            stream: stream.to_owned(),
            config,
            exist_ok: false,
        });
        let _created: Created = ask(&client, &Owner::Hub, create, Encoding::MessagePack)
            .await
            .unwrap();
        let record = Record {
            ttl,
            ..Record::new("x")
        };
        let append = Request::Append(Append {
            stream: stream.to_owned(),
            records: vec![record],
            ..Append::default()
        });
        let _appended: Appended = ask(&client, &Owner::Hub, append, Encoding::MessagePack)
            .await
            .unwrap();
    }

    fn pass(&self, ms: u64) {
        self.now.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Running {
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }

    /// Waits until this many records are there.
    async fn until(&self, messages: u64) {
        let there = async {
            while self.handle.status().messages != messages {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_mins(1), there).await;
        waited.unwrap_or_else(|_| panic!("{messages}: {:?}", self.handle.status()));
    }
}

#[tokio::test]
async fn nobody_needs_to_look_at_what_is_over() {
    let site = Site {
        world: World::new(1).await,
        disk: Simulated::new(),
        now: Arc::new(AtomicU64::new(START)),
    };
    let node = site.start().await;
    let aged = |max_age| Config {
        max_age,
        ..Config::default()
    };
    site.fill("kept", Config::default(), None).await;
    site.fill("old", aged(10_000), None).await;
    site.fill("short", Config::default(), Some(10_000)).await;
    site.fill("later", aged(60_000), None).await;
    site.fill("latest", Config::default(), Some(90_000)).await;
    node.until(5).await;
    node.stop().await;

    // While the node was away.
    site.pass(20_000);
    let node = site.start().await;
    node.until(3).await;
    // After its start, of streams that nobody has opened since.
    site.pass(50_000);
    node.until(2).await;
    node.stop().await;

    // The same without a checkpoint and without a good end.
    for name in dialtone_persist::disk::Disk::list(&site.disk).unwrap() {
        if name.starts_with("checkpoint-") {
            dialtone_persist::disk::Disk::remove(&site.disk, &name).unwrap();
        }
    }
    let node = site.start().await;
    node.until(2).await;
    site.pass(50_000);
    node.until(1).await;
    node.stop().await;
}

/// A clock that is set forward is noticed by the timers a moment later, and by whoever reads at once.
#[tokio::test(start_paused = true)]
async fn whoever_reads_first_finds_nothing_that_is_over() {
    let stream = || "s".to_owned();
    let read = Request::Read(Read {
        stream: stream(),
        ..Read::default()
    });
    let select = |select| {
        Request::Get(Get {
            stream: stream(),
            select,
        })
    };
    let keys = Request::Keys(KeyList {
        stream: stream(),
        ..KeyList::default()
    });
    let watch = Request::Watch(Watch {
        stream: stream(),
        cursor: Cursor::Seq(1),
        prefix: None,
        max_bytes: None,
        wait: 0,
    });
    let info = Request::Info(Info { stream: stream() });
    let fetch = Request::Fetch(Fetch {
        stream: stream(),
        consumer: "c".to_owned(),
        max_msgs: 9,
        max_bytes: None,
        wait: 0,
    });
    let of_key = select(Select::Key("key".to_owned()));
    let asked = [
        read,
        select(Select::Last),
        select(Select::Seq(1)),
        of_key,
        keys,
        watch,
        info,
        fetch,
    ];
    for request in asked {
        let scene = Scene::new().await;
        scene.create("s", Config::default()).await;
        let consumer = Request::ConsumerCreate(ConsumerCreate {
            stream: stream(),
            consumer: "c".to_owned(),
            config: ConsumerConfig::default(),
            exist_ok: false,
        });
        scene.ask::<Value>(consumer).await.unwrap();
        let record = Record {
            key: Some("key".to_owned()),
            ttl: Some(2_000),
            ..Record::new("what is over")
        };
        scene.append("s", record).await.unwrap();
        let hub = Owner::Hub;
        let before: Value = scene
            .ask_as(&hub, request.clone(), Encoding::Json)
            .await
            .unwrap();
        assert!(shows(&before), "{request:?}: {before}");
        scene.jump(2_000);
        let after: Value = scene
            .ask_as(&hub, request.clone(), Encoding::Json)
            .await
            .unwrap();
        assert!(!shows(&after), "{request:?}: {after}");
    }
}

/// Whether an answer says anything of the one record. Those that give it have its key, the page of keys has that alone,
/// and `info` counts. None of the questions is told of removals, which would name the key too: the watch begins with what
/// the stream holds.
fn shows(answer: &Value) -> bool {
    let text = answer.to_string();
    text.contains(r#""key":"key""#) || text.contains("what is over") || answer["messages"] == 1
}
