//! The storage protocol over Socket.IO, in front of a node of persist on a disk.

use std::path::Path;
use std::process::Stdio;

use dialtone_client::Client;
use dialtone_conat::storage;
use dialtone_persist::node::{Keep, KeepLog};
use dialtone_persist::{Config, Node, Store};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::site::Site;

/// A node of persist with the storage protocol in front of it.
struct Service {
    stop: CancellationToken,
    persist: JoinHandle<()>,
    front: JoinHandle<()>,
}

impl Service {
    async fn start(client: Client, folder: &Path) -> Self {
        let stop = CancellationToken::new();
        let keep = Keep::Log(Box::new(KeepLog::new(folder.to_owned())));
        let node = Node::bind(
            Config::new("p1".to_owned(), Store::Memory),
            keep,
            client.clone(),
        );
        let node = node.await.unwrap();
        let stopping = stop.clone();
        let tasks = TaskTracker::new();
        let persist = tasks.spawn(async move {
            node.run(stopping.cancelled()).await.unwrap();
        });
        let serving = storage::serve(client, storage::Options::new("p1"), stop.clone());
        let front = tasks.spawn(async move { serving.await.unwrap() });
        Self {
            stop,
            persist,
            front,
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.front.await.unwrap();
        self.persist.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_kept_for_existing_clients() {
    let site = Site::open().await;
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(site.client("ws").await, folder.path()).await;
    let mut script = site
        .node("storage.mjs")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(script.stdout.take().unwrap()).lines();
    let mut heard = String::new();
    let mut service = Some(service);
    while let Some(line) = said.next_line().await.unwrap() {
        if line == "restart" {
            service.take().unwrap().end().await;
            service = Some(Service::start(site.client("ws").await, folder.path()).await);
            let stdin = script.stdin.as_mut().unwrap();
            stdin.write_all(b"done\n").await.unwrap();
        }
        heard.push_str(&line);
        heard.push('\n');
    }
    let mut failed = String::new();
    script
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut failed)
        .await
        .unwrap();
    assert!(script.wait().await.unwrap().success(), "{heard}\n{failed}");
    service.unwrap().end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_of_several_clients_agree() {
    let site = Site::open().await;
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(site.client("ws").await, folder.path()).await;
    site.run("sync.mjs").await;
    service.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn structures_of_existing_clients_are_shared() {
    let site = Site::open().await;
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(site.client("ws").await, folder.path()).await;
    site.run("structures.mjs").await;
    service.end().await;
}
