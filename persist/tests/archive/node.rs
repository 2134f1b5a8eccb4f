//! A node that loses its disk, over a broker.

use std::path::Path;
use std::time::Duration;

use dialtone_client::persist::wire::{
    self, Append, Appended, Create, Created, Fault, NodeInfo, Page, Read, Record, Request,
};
use dialtone_client::persist::{Owner, Persist};
use dialtone_client::{Client, Encoding};
use dialtone_persist::archive::{
    Archive, Config as ArchiveConfig, CopyError, CopySource, Location, Point, Step, copy,
};
use dialtone_persist::backend::log::Config as LogConfig;
use dialtone_persist::node::{Archiving, Keep, KeepLog, NodeError};
use dialtone_persist::{Config, Node, Store};
use dialtone_testkit::World;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::site::name;

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(world: &World, folder: &Path, archive: &Path) -> Self {
        let archiving = Archiving {
            location: Location::Folder(archive.to_owned()),
            // Only the pass at the end counts.
            config: ArchiveConfig {
                interval: Duration::from_hours(1),
                ..ArchiveConfig::default()
            },
        };
        let keep = Keep::Log(Box::new(KeepLog {
            folder: folder.to_owned(),
            config: LogConfig {
                free_bytes_min: 0,
                ..LogConfig::default()
            },
            nodes: Vec::new(),
            archive: Some(archiving),
        }));
        let client = world.client().await.unwrap();
        let node = Node::bind(Config::new("n1", Store::Memory), keep, client)
            .await
            .unwrap();
        let (stop, stopping) = oneshot::channel::<()>();
        let task = tokio::task::spawn(async move {
            node.run(async { drop(stopping.await) }).await.unwrap();
        });
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

async fn ask<T: DeserializeOwned>(client: &Client, request: Request) -> Result<T, Fault> {
    let payload = wire::encode(&request, Encoding::MessagePack).unwrap();
    let draft = client.message(Owner::Hub.call_subject()).payload(payload);
    let answer = draft
        .encoding(Encoding::MessagePack)
        .request()
        .await
        .unwrap();
    match Fault::from_headers(&answer.headers().unwrap()) {
        Some(fault) => Err(fault),
        None => Ok(wire::decode(answer.payload(), answer.encoding()).unwrap()),
    }
}

async fn append(client: &Client, payload: &str) {
    let append = Append {
        stream: "s".to_owned(),
        records: vec![Record::new(payload)],
        ..Append::default()
    };
    let _appended: Appended = ask(client, Request::Append(append)).await.unwrap();
}

async fn payloads(client: &Client, stream: &str) -> Vec<String> {
    let read = Read {
        stream: stream.to_owned(),
        ..Read::default()
    };
    let page: Page = ask(client, Request::Read(read)).await.unwrap();
    let text = |payload: &[u8]| String::from_utf8(payload.to_vec()).unwrap();
    page.records
        .iter()
        .map(|record| text(&record.payload))
        .collect()
}

#[tokio::test]
async fn a_node_that_lost_its_disk_begins_with_its_archive() {
    let world = World::new(1).await;
    let (folder, archive) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let client = world.client().await.unwrap();
    let node = Running::start(&world, folder.path(), archive.path()).await;
    let create = Create {
        stream: "s".to_owned(),
        ..Create::default()
    };
    let _created: Created = ask(&client, Request::Create(create)).await.unwrap();
    append(&client, "a").await;
    append(&client, "b").await;
    node.stop().await;
    let store = Archive::open(&Location::Folder(archive.path().to_owned())).unwrap();
    let first = store.latest().await.unwrap().unwrap();

    let empty = tempfile::tempdir().unwrap();
    let node = Running::start(&world, empty.path(), archive.path()).await;
    assert_eq!(payloads(&client, "s").await, ["a", "b"]);
    append(&client, "c").await;
    // The archiver looks at the archive when it comes to it.
    loop {
        let status: NodeInfo = ask(&client, Request::Status).await.unwrap();
        if status.counters["archive_generation"] >= 1 {
            break;
        }
        tokio::task::yield_now().await;
    }
    node.stop().await;

    // With its log in place, the archive is not looked at.
    let node = Running::start(&world, empty.path(), archive.path()).await;
    assert_eq!(payloads(&client, "s").await, ["a", "b", "c"]);

    let scratch = tempfile::tempdir().unwrap();
    let persist = Persist::new(&client);
    let stream = name("s");
    let source = CopySource {
        archive: &store,
        point: Point::Time(first.time),
        folder: scratch.path(),
        stream: &stream,
    };
    let mut last = None;
    let copied = copy(source, &persist, "s2", |step| last = Some(step))
        .await
        .unwrap();
    assert_eq!(last, Some(Step::Copied(2, 2)));
    assert_eq!(
        (copied.messages, copied.time),
        (payloads(&client, "s2").await.len() as u64, first.time)
    );
    assert_eq!(payloads(&client, "s2").await, ["a", "b"]);
    let scratch = tempfile::tempdir().unwrap();
    let stream = name("x");
    let source = CopySource {
        point: Point::Newest,
        folder: scratch.path(),
        stream: &stream,
        ..source
    };
    let refused = copy(source, &persist, "s3", |_| {}).await.unwrap_err();
    assert!(matches!(refused, CopyError::NotThere(_)), "{refused}");
    node.stop().await;
}

#[tokio::test]
async fn a_node_is_one_of_those_that_are_named() {
    let world = World::new(1).await;
    let folder = tempfile::tempdir().unwrap();
    let keep = Keep::Log(Box::new(KeepLog {
        folder: folder.path().to_owned(),
        config: LogConfig::default(),
        nodes: vec!["n2".to_owned(), "n3".to_owned()],
        archive: None,
    }));
    let client = world.client().await.unwrap();
    let refused = Node::bind(Config::new("n1", Store::Memory), keep, client)
        .await
        .unwrap_err();
    assert!(matches!(refused, NodeError::Stranger { .. }), "{refused}");
}
