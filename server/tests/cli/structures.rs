//! What programs keep in a service: each structure of the client goes on through the end of its service and of its
//! broker, with real processes that are killed, and has lost nothing.

use std::time::Duration;

use dialtone_client::persist::kv::{KeyValue, KvOptions};
use dialtone_client::persist::log::Log;
use dialtone_client::persist::object::{ObjectStore, PutOptions};
use dialtone_client::persist::presence::{Presence, PresenceEvent};
use dialtone_client::persist::wire::{Config, ConsumerConfig, Cursor};
use dialtone_client::persist::{Consumer, Event, Persist, Stream, WatchOptions, Watcher};
use dialtone_client::{Client, Options};
use rustix::process::Signal;
use tokio::runtime::Runtime;

use crate::process::{Broker, Home, Running};

#[expect(
    dead_code,
    unreachable_pub,
    reason = "an example is a program of its own"
)]
#[path = "../../../client/examples/key_value.rs"]
mod key_value;
#[expect(
    dead_code,
    unreachable_pub,
    reason = "an example is a program of its own"
)]
#[path = "../../../client/examples/log.rs"]
mod log;
#[expect(
    dead_code,
    unreachable_pub,
    reason = "an example is a program of its own"
)]
#[path = "../../../client/examples/objects.rs"]
mod objects;
#[expect(
    dead_code,
    unreachable_pub,
    reason = "an example is a program of its own"
)]
#[path = "../../../client/examples/presence.rs"]
mod presence;
#[expect(
    dead_code,
    unreachable_pub,
    reason = "an example is a program of its own"
)]
#[path = "../../../client/examples/streams.rs"]
mod streams;

/// A broker and a service that are killed and started again at the same places.
struct Site {
    home: Home,
    url: String,
    broker: Option<Running>,
    node: Option<Running>,
}

impl Site {
    fn new() -> Self {
        let home = Home::new();
        let Broker { running, ready } = home.broker(&[]);
        let url = ready["urls"][0].as_str().unwrap().to_owned();
        let mut site = Self {
            home,
            url,
            broker: Some(running),
            node: None,
        };
        site.start_node();
        site
    }

    fn start_node(&mut self) {
        let args = [
            "persist", "--node", "p1", "--url", &self.url, "--data", "data",
        ];
        let node = self.home.start(&args);
        node.until("is ready");
        self.node = Some(node);
    }

    fn start_broker(&mut self) {
        let args = ["broker", "--json", "--listen", &self.url];
        let broker = self.home.start(&args);
        broker.json();
        self.broker = Some(broker);
    }
}

fn kill(process: &mut Option<Running>) {
    let process = process.take().unwrap();
    process.signal(Signal::KILL);
    drop(process.end());
}

/// All of them, as a program has them open.
struct Open {
    client: Client,
    persist: Persist,
    values: KeyValue<String>,
    lines: Log<String>,
    objects: ObjectStore,
    here: Presence<u32>,
    jobs: Stream,
    worker: Consumer,
    news: Watcher,
}

impl Open {
    async fn new(url: &str) -> Self {
        let client = Options::new(url).connect().await.unwrap();
        let persist = Persist::new(&client).timeout(Duration::from_mins(2));
        let jobs = persist.create("jobs", Config::default()).await.unwrap();
        Self {
            values: KeyValue::open(&persist, "values", KvOptions::default())
                .await
                .unwrap(),
            lines: Log::open(&persist, "lines", Config::default())
                .await
                .unwrap(),
            objects: ObjectStore::open(&persist, "objects", Config::default())
                .await
                .unwrap(),
            here: Presence::join(&client, "here", "one", &0).await.unwrap(),
            worker: jobs
                .consumer("worker", ConsumerConfig::default())
                .await
                .unwrap(),
            news: jobs
                .watch(Cursor::Seq(1), WatchOptions::default())
                .await
                .unwrap(),
            jobs,
            persist,
            client,
        }
    }

    /// Something of each kind.
    async fn write(&self, round: u32) {
        let round = round.to_string();
        self.values.set("last", round.clone()).unwrap();
        self.values.set(&round, round.clone()).unwrap();
        self.lines.push(round.clone()).unwrap();
        self.jobs.append(round.as_str()).await.unwrap();
        let bytes = round.repeat(300_000).into_bytes();
        let put = self
            .objects
            .put("object", &bytes[..], PutOptions::default());
        put.await.unwrap();
    }

    /// What was written in a round, and all before it, is there.
    async fn check(&mut self, round: u32) {
        self.values.save().await.unwrap();
        self.lines.save().await.unwrap();
        let rounds: Vec<String> = (1..=round).map(|round| round.to_string()).collect();
        let last = rounds.last().cloned().unwrap();

        // As another program finds it.
        let values = KeyValue::<String>::open(&self.persist, "values", KvOptions::default());
        let values = values.await.unwrap();
        assert_eq!(values.get("last").as_ref(), Some(&last));
        assert_eq!(values.len(), rounds.len() + 1);
        assert_eq!(values.entries(), self.values.entries());
        let lines = Log::<String>::open(&self.persist, "lines", Config::default());
        let lines: Vec<String> = entries(&lines.await.unwrap());
        assert_eq!(lines, rounds);
        assert_eq!(entries(&self.lines), rounds);
        let mut object = Vec::new();
        self.objects.get("object", &mut object).await.unwrap();
        assert_eq!(object, last.repeat(300_000).into_bytes());

        // Each record once, to the one who follows and to the one who works.
        let event = self.news.next().await.unwrap().unwrap();
        let Event::Record { record: seen, .. } = &event else {
            panic!("{event:?}");
        };
        assert_eq!(
            (seen.seq, &seen.payload[..]),
            (u64::from(round), last.as_bytes())
        );
        let job = self.worker.next().await.unwrap();
        assert_eq!(job.record().seq, u64::from(round));
        job.ack().await.unwrap();
    }

    /// Somebody else sees who is here, and what it says.
    async fn is_here(&mut self, state: u32) {
        self.here.update(&state).await.unwrap();
        let mut watched = Presence::<u32>::watch(&self.client, "here").await.unwrap();
        loop {
            let members = watched.members();
            if members == [("one".to_owned(), state)] {
                return;
            }
            // Who is here says so while it listens.
            let event: Option<PresenceEvent<u32>> = tokio::select! {
                event = watched.next() => event,
                event = self.here.next() => event,
            };
            event.unwrap();
        }
    }
}

fn entries(lines: &Log<String>) -> Vec<String> {
    lines.entries().into_iter().map(|(_, line)| line).collect()
}

fn runtime() -> Runtime {
    Runtime::new().unwrap()
}

#[test]
fn every_structure_goes_on_through_the_end_of_its_service_and_its_broker() {
    let mut site = Site::new();
    let runtime = runtime();
    let mut open = runtime.block_on(Open::new(&site.url));
    runtime.block_on(async {
        open.write(1).await;
        open.check(1).await;
        open.is_here(1).await;
    });

    kill(&mut site.node);
    // What is set meanwhile is saved later.
    open.values.set("meanwhile", "a".to_owned()).unwrap();
    site.start_node();
    runtime.block_on(async {
        open.values.save().await.unwrap();
        open.values.delete("meanwhile").unwrap();
        open.write(2).await;
        open.check(2).await;
        open.is_here(2).await;
    });

    kill(&mut site.broker);
    site.start_broker();
    runtime.block_on(async {
        open.write(3).await;
        open.check(3).await;
        open.is_here(3).await;
    });

    kill(&mut site.broker);
    kill(&mut site.node);
    site.start_broker();
    site.start_node();
    runtime.block_on(async {
        open.write(4).await;
        open.check(4).await;
        open.is_here(4).await;
    });
}

#[test]
fn the_examples_do_what_they_say_with_a_real_service() {
    let site = Site::new();
    runtime().block_on(async {
        let client = Options::new(&site.url).connect().await.unwrap();
        streams::run(&client).await.unwrap();
        key_value::run(&client).await.unwrap();
        log::run(&client).await.unwrap();
        objects::run(&client).await.unwrap();
        presence::run(&client).await.unwrap();
    });
}
