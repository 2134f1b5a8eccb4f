//! Making, listing and deleting streams, who may use them, and stopping.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dialtone_client::Encoding;
use dialtone_client::persist::wire::{
    Append, Config, Create, Created, Delete, Deleted, Durability, Fault, FaultKind, Get, Info,
    List, NodeInfo, Nodes, Record, Request, Select, StreamInfo, StreamList,
};
use dialtone_client::persist::{Owner, StreamName};
use dialtone_persist::{Place, Placement, Quotas};
use futures_util::future::{BoxFuture, ready};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::scene::{Scene, kind};

const ID: &str = "5f3a2c51-7d2e-4c39-9d4b-5a0d0c3f7b11";

fn create(stream: &str, config: Config, exist_ok: bool) -> Request {
    Request::Create(Create {
        stream: stream.to_owned(),
        config,
        exist_ok,
    })
}

fn info(stream: &str) -> Request {
    Request::Info(Info {
        stream: stream.to_owned(),
    })
}

fn append(stream: &str) -> Request {
    Request::Append(Append {
        stream: stream.to_owned(),
        records: vec![Record::new("not theirs")],
        ..Append::default()
    })
}

fn delete(stream: &str) -> Request {
    Request::Delete(Delete {
        stream: stream.to_owned(),
    })
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_made_once_and_found_again() {
    let scene = Scene::new().await;
    assert_eq!(
        kind(scene.ask::<Value>(info("notes")).await),
        FaultKind::NotFound
    );
    let made = scene.create("notes", Config::default()).await;
    assert!(made.created && made.info.first_seq == 1 && made.info.last_seq == 0);
    let again = scene.ask::<Created>(create("notes", Config::default(), false));
    assert_eq!(kind(again.await), FaultKind::Exists);
    let again: Created = scene
        .ask(create("notes", Config::default(), true))
        .await
        .unwrap();
    assert!(!again.created);
    assert_eq!(again.info.epoch, made.info.epoch);
}

#[tokio::test(start_paused = true)]
async fn opening_with_another_durability_is_an_error() {
    let scene = Scene::new().await;
    scene.create("notes", Config::default()).await;
    let lower = Config {
        durability: Durability::Memory,
        ..Config::default()
    };
    let ephemeral = Config {
        ephemeral: true,
        ..Config::default()
    };
    for config in [lower, ephemeral] {
        let again = scene.ask::<Created>(create("notes", config, true)).await;
        assert_eq!(kind(again), FaultKind::Exists);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_made_again_has_another_epoch() {
    let scene = Scene::new().await;
    let first = scene.create("notes", Config::default()).await;
    scene.append("notes", Record::new("x")).await.unwrap();
    let deleted: Deleted = scene.ask(delete("notes")).await.unwrap();
    assert!(deleted.deleted);
    let deleted: Deleted = scene.ask(delete("notes")).await.unwrap();
    assert!(!deleted.deleted);
    let appended = scene.append("notes", Record::new("x")).await;
    assert_eq!(kind(appended), FaultKind::NotFound);
    let second = scene.create("notes", Config::default()).await;
    assert_ne!(first.info.epoch, second.info.epoch);
    assert_eq!(second.info.messages, 0);
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_sent_before_a_stream_is_open_keep_their_order() {
    let mut scene = Scene::new().await;
    scene.create("notes", Config::default()).await;
    scene.restart().await;
    let appends = (0..50).map(|n: u32| scene.append("notes", Record::new(n.to_string())));
    let written = futures_util::future::join_all(appends).await;
    let seqs: Vec<u64> = written
        .into_iter()
        .map(|written| written.unwrap().seq)
        .collect();
    assert_eq!(seqs, (1..=50).collect::<Vec<u64>>());
}

#[tokio::test(start_paused = true)]
async fn owners_are_kept_apart() {
    let scene = Scene::new().await;
    let project = Owner::Project(ID.into());
    let own = format!("projects/{ID}/notes");
    let made: Created = scene
        .ask_as(
            &project,
            create(&own, Config::default(), false),
            Encoding::MessagePack,
        )
        .await
        .unwrap();
    assert!(made.created);
    let other = Owner::Account(ID.into());
    for request in [
        info(&own),
        create(&own, Config::default(), true),
        // The stream is open, which is where appends are decided at once.
        append(&own),
        delete(&own),
    ] {
        let asked = scene
            .ask_as::<Value>(&other, request, Encoding::MessagePack)
            .await;
        assert_eq!(kind(asked), FaultKind::Denied);
    }
    let asked = scene
        .ask_as::<Value>(&project, info("notes"), Encoding::Json)
        .await;
    assert_eq!(kind(asked), FaultKind::Denied);
    for request in [Request::Status, Request::Nodes] {
        let asked = scene
            .ask_as::<Value>(&project, request, Encoding::Json)
            .await;
        assert_eq!(kind(asked), FaultKind::Denied);
    }
    scene.create("shared", Config::default()).await;
    let list = |owner: Owner, prefix: &str| {
        let list = Request::List(List {
            prefix: prefix.to_owned(),
            ..List::default()
        });
        let scene = &scene;
        async move {
            let list = scene
                .ask_as::<StreamList>(&owner, list, Encoding::MessagePack)
                .await;
            list.map(|list| {
                list.streams
                    .into_iter()
                    .map(|entry| entry.stream)
                    .collect::<Vec<_>>()
            })
        }
    };
    assert_eq!(
        list(project.clone(), "").await.unwrap(),
        std::slice::from_ref(&own)
    );
    assert_eq!(list(other, "").await.unwrap(), Vec::<String>::new());
    assert_eq!(
        list(Owner::Hub, "").await.unwrap(),
        [own, "shared".to_owned()]
    );
    assert_eq!(
        list(project, "shared").await.unwrap_err().kind,
        FaultKind::Denied
    );
}

#[tokio::test(start_paused = true)]
async fn names_are_checked() {
    let scene = Scene::new().await;
    for name in ["", "/a", "a/", "a/../b", "a\n"] {
        let asked = scene
            .ask::<Value>(create(name, Config::default(), false))
            .await;
        assert_eq!(kind(asked), FaultKind::BadRequest, "{name:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn json_is_answered_with_json() {
    let scene = Scene::new().await;
    let ask = async |request: Value| {
        let draft = scene
            .client
            .message("persist.hub.call")
            .json(&request)
            .unwrap();
        draft.request().await.unwrap()
    };
    let made = ask(json!({"create": {"stream": "notes"}})).await;
    assert_eq!(made.json::<Value>().unwrap()["created"], json!(true));
    let written =
        ask(json!({"append": {"stream": "notes", "records": [{"payload": "hi", "new": 1}]}}));
    let written: Value = written.await.json().unwrap();
    assert_eq!(written["results"][0]["written"]["seq"], json!(1));
    let got = ask(json!({"get": {"stream": "notes", "select": "last"}})).await;
    assert_eq!(
        got.json::<Value>().unwrap()["record"]["payload"],
        json!("hi")
    );
    let refused = ask(json!({"eat": {}})).await;
    let headers = refused.headers().unwrap();
    assert_eq!(headers.text("kind"), Some("bad-request"));
    assert!(
        headers.text("error").unwrap().contains("eat"),
        "{headers:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_describes_itself() {
    let scene = Scene::new().await;
    scene.create("notes", Config::default()).await;
    scene.append("notes", Record::new("abc")).await.unwrap();
    let status: NodeInfo = scene.ask(Request::Status).await.unwrap();
    assert_eq!(
        (status.node.as_str(), status.streams, status.bytes),
        ("n1", 1, 3)
    );
    assert_eq!(status.counters["records_appended"], 1);
    let nodes: Nodes = scene.ask(Request::Nodes).await.unwrap();
    assert!(nodes.nodes.len() == 1 && nodes.nodes[0].alive);
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_survives_stopping() {
    let mut scene = Scene::new().await;
    scene.create("notes", Config::default()).await;
    scene
        .append("notes", Record::keyed("k", "v"))
        .await
        .unwrap();
    scene.restart().await;
    let described: StreamInfo = scene.ask(info("notes")).await.unwrap();
    assert_eq!(
        (described.messages, described.keys, described.last_seq),
        (1, 1, 1)
    );
    assert_eq!(scene.read_all("notes").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn quotas_refuse_and_say_so() {
    let scene = Scene::with(|config| {
        config.quotas.all = dialtone_persist::Quota {
            streams_max: 1,
            bytes_max: 10,
            ..dialtone_persist::Quota::default()
        };
    })
    .await;
    let project = Owner::Project(ID.into());
    let name = |n: u32| format!("projects/{ID}/{n}");
    let make = async |n| {
        let request = create(&name(n), Config::default(), false);
        scene
            .ask_as::<Value>(&project, request, Encoding::Json)
            .await
    };
    make(1).await.unwrap();
    assert_eq!(kind(make(2).await), FaultKind::Quota);
    scene
        .append(&name(1), Record::new("12345678"))
        .await
        .unwrap();
    let refused = scene
        .append(&name(1), Record::new("123"))
        .await
        .unwrap_err();
    assert_eq!(refused.kind, FaultKind::Quota);
    assert!(refused.text.contains("8 bytes of at most 10"), "{refused}");
    scene.ask::<Value>(delete(&name(1))).await.unwrap();
    make(2).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn other_quotas_hold_at_once_for_those_who_write_already() {
    let quota = |bytes_max| dialtone_persist::Quota {
        bytes_max,
        ..dialtone_persist::Quota::default()
    };
    let scene = Scene::new().await;
    let name = format!("projects/{ID}/notes");
    let request = create(&name, Config::default(), false);
    scene.ask::<Value>(request).await.unwrap();
    let append = async || scene.append(&name, Record::new("12345678")).await;
    append().await.unwrap();
    let mut quotas = Quotas {
        all: quota(10),
        ..Quotas::default()
    };
    scene.handle.set_quotas(quotas.clone());
    let refused = append().await.unwrap_err();
    assert_eq!(refused.kind, FaultKind::Quota);
    let project = Owner::Project(ID.into());
    quotas.by_scope.insert(project.scope(), quota(16));
    scene.handle.set_quotas(quotas.clone());
    append().await.unwrap();
    assert!(append().await.unwrap_err().text.contains("of at most 16"));
    quotas.by_scope.clear();
    quotas.all = quota(0);
    scene.handle.set_quotas(quotas);
    append().await.unwrap();
}

/// A node that has every stream as long as its lease lasts.
#[derive(Debug, Default)]
struct Lease {
    is_lost: AtomicBool,
}

impl Placement for Lease {
    fn locate<'a>(&'a self, _stream: &'a StreamName) -> BoxFuture<'a, Result<Place, Fault>> {
        Box::pin(ready(Ok(Place::Here { fence: 1 })))
    }

    fn left(&self, _stream: &StreamName) {}

    fn holds(&self, _stream: &StreamName) -> bool {
        !self.is_lost.load(Ordering::Relaxed)
    }

    fn nodes(&self) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        Box::pin(ready(Ok(vec!["n1".to_owned()])))
    }
}

/// A node that stood still has its streams open when it goes on, and another one may have written to them meanwhile.
#[tokio::test(start_paused = true)]
async fn a_node_whose_lease_has_ended_answers_nothing_about_streams_that_it_has_open() {
    let lease = Arc::new(Lease::default());
    let placement: Arc<dyn Placement> = Arc::<Lease>::clone(&lease);
    let scene = Scene::with(|config| config.placement = Some(placement)).await;
    scene.create("notes", Config::default()).await;
    scene.append("notes", Record::new("a")).await.unwrap();
    let get = || {
        Request::Get(Get {
            stream: "notes".to_owned(),
            select: Select::Last,
        })
    };
    scene.ask::<IgnoredAny>(get()).await.unwrap();
    lease.is_lost.store(true, Ordering::Relaxed);
    assert_eq!(
        kind(scene.ask::<IgnoredAny>(get()).await),
        FaultKind::Unavailable
    );
    let refused = scene.append("notes", Record::new("b")).await;
    assert_eq!(kind(refused), FaultKind::Unavailable);
    lease.is_lost.store(false, Ordering::Relaxed);
    let written = scene.append("notes", Record::new("c")).await.unwrap();
    assert_eq!(written.seq, 2);
}
