//! Following a stream: nothing is missed, whatever happens and however long one was away.

use std::collections::BTreeMap;
use std::time::Duration;

use dialtone_client::persist::wire::{
    Change, Config, ConfigPatch, Cursor, Delete, Deleted, Position, Record, Remove, Removed,
    Request, StreamInfo, Update, Watch, Watched, What,
};

use crate::scene::Scene;

fn watch(cursor: Cursor, wait: u32) -> Request {
    Request::Watch(Watch {
        stream: "s".to_owned(),
        cursor,
        prefix: None,
        max_bytes: None,
        wait,
    })
}

async fn watched(scene: &Scene, cursor: Cursor, wait: u32) -> Watched {
    scene.ask(watch(cursor, wait)).await.unwrap()
}

async fn remove(scene: &Scene, what: What) {
    let remove = Request::Remove(Remove {
        stream: "s".to_owned(),
        what,
        expect: None,
        durability: None,
    });
    scene.ask::<Removed>(remove).await.unwrap();
}

/// What a reader holds who applies the changes.
#[derive(Default)]
struct Replica {
    records: BTreeMap<u64, Option<String>>,
}

impl Replica {
    fn apply(&mut self, watched: &Watched) {
        for change in &watched.changes {
            match change {
                Change::Append(record) => {
                    if record.key.is_some() {
                        self.records.retain(|_, key| *key != record.key);
                    }
                    self.records.insert(record.seq, record.key.clone());
                }
                Change::Remove(removal) => {
                    for (from, to) in &removal.ranges {
                        self.records.retain(|seq, _| seq < from || seq > to);
                    }
                    for removed in &removal.keys {
                        let below = removed.kept_from.unwrap_or(u64::MAX);
                        let is_gone = |seq: &u64, key: &Option<String>| {
                            *key == Some(removed.key.clone()) && *seq < below
                        };
                        self.records.retain(|seq, key| !is_gone(seq, key));
                    }
                }
                Change::Config { .. } | Change::Damaged { .. } => {}
            }
        }
    }

    async fn assert_is(&self, scene: &Scene) {
        let held = scene.read_all("s").await;
        let held: BTreeMap<u64, Option<String>> = held
            .into_iter()
            .map(|record| (record.seq, record.key))
            .collect();
        assert_eq!(self.records, held);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_comes_as_soon_as_something_happens() {
    let scene = Scene::new().await;
    scene.create("s", Config::default()).await;
    let waiting = watched(&scene, Cursor::Now, 30_000);
    let writing = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        scene.append("s", Record::new("x")).await.unwrap();
    };
    let began = tokio::time::Instant::now();
    let (told, ()) = tokio::join!(waiting, writing);
    assert_eq!(began.elapsed().as_secs(), 5);
    assert!(matches!(&told.changes[..], [Change::Append(record)] if record.seq == 1));
    let nothing = watched(&scene, Cursor::After(told.position), 2_000).await;
    assert_eq!(began.elapsed().as_secs(), 7);
    assert!(nothing.changes.is_empty() && nothing.position == told.position);
}

#[tokio::test(start_paused = true)]
async fn deletions_reach_those_who_were_away() {
    let mut scene = Scene::new().await;
    scene.create("s", Config::default()).await;
    for key in ["a", "b", "c"] {
        scene.append("s", Record::keyed(key, "1")).await.unwrap();
    }
    let mut replica = Replica::default();
    let told = watched(&scene, Cursor::Seq(1), 0).await;
    replica.apply(&told);
    scene.append("s", Record::keyed("b", "2")).await.unwrap();
    remove(&scene, What::Key("a".to_owned())).await;
    scene.restart().await;
    let told = watched(&scene, Cursor::After(told.position), 0).await;
    replica.apply(&told);
    replica.assert_is(&scene).await;
    let Change::Remove(removal) = &told.changes[1] else {
        panic!("{told:?}");
    };
    assert_eq!(
        (removal.keys[0].key.as_str(), removal.keys[0].seq),
        ("a", 1)
    );
    assert_eq!(removal.revision, 5);
}

#[tokio::test(start_paused = true)]
async fn small_answers_add_up_while_the_stream_changes() {
    let scene = Scene::new().await;
    let config = Config {
        max_msgs: 40,
        ..Config::default()
    };
    scene.create("s", config).await;
    for n in 0..60_u32 {
        let record = Record::keyed(format!("k{}", n % 50), "0123456789");
        scene.append("s", record).await.unwrap();
    }
    let mut replica = Replica::default();
    let mut cursor = Cursor::Seq(1);
    for n in 0..200_u32 {
        let request = Request::Watch(Watch {
            stream: "s".to_owned(),
            cursor,
            prefix: None,
            max_bytes: Some(150),
            wait: 0,
        });
        let told: Watched = scene.ask(request).await.unwrap();
        assert!(!told.resync && told.changes.len() <= 4, "{told:?}");
        replica.apply(&told);
        cursor = Cursor::After(told.position);
        if n % 3 == 0 {
            let record = Record::keyed(format!("k{}", n % 47), "0123456789");
            scene.append("s", record).await.unwrap();
        }
        if n % 20 == 0 {
            remove(&scene, What::UpTo(u64::from(n))).await;
        }
    }
    loop {
        let told = watched(&scene, cursor, 0).await;
        replica.apply(&told);
        cursor = Cursor::After(told.position);
        if !told.more {
            break;
        }
    }
    replica.assert_is(&scene).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_any_more_is_said() {
    let scene = Scene::new().await;
    let config = Config {
        removals_kept: 2,
        ..Config::default()
    };
    scene.create("s", config).await;
    let beginning = watched(&scene, Cursor::Now, 0).await.position;
    for n in 1..=4 {
        scene.append("s", Record::new("x")).await.unwrap();
        remove(&scene, What::Seqs(vec![n])).await;
    }
    let told = watched(&scene, Cursor::After(beginning), 1_000).await;
    assert!(told.resync && told.changes.is_empty());
    assert_eq!(told.position.revision, 8);
    let near = Position {
        revision: 4,
        ..beginning
    };
    let told = watched(&scene, Cursor::After(near), 0).await;
    assert!(!told.resync && told.changes.len() == 2, "{told:?}");
    let delete = Request::Delete(Delete {
        stream: "s".to_owned(),
    });
    scene.ask::<Deleted>(delete).await.unwrap();
    scene.create("s", Config::default()).await;
    // As many changes as the one before had, so that nothing but the epoch tells them apart.
    for _ in 0..8 {
        scene.append("s", Record::new("y")).await.unwrap();
    }
    let told = watched(&scene, Cursor::After(near), 0).await;
    assert!(told.resync, "the stream was made again");
}

#[tokio::test(start_paused = true)]
async fn prefixes_choose_and_configurations_are_told() {
    let scene = Scene::new().await;
    scene.create("s", Config::default()).await;
    for key in ["a/1", "b/1", "a/2"] {
        scene.append("s", Record::keyed(key, "x")).await.unwrap();
    }
    remove(&scene, What::Range(1, 2)).await;
    let update = Request::Update(Update {
        stream: "s".to_owned(),
        config: ConfigPatch {
            max_msgs: Some(9),
            ..ConfigPatch::default()
        },
    });
    let info: StreamInfo = scene.ask(update).await.unwrap();
    let from = Position {
        epoch: info.epoch,
        revision: 0,
        seq: None,
    };
    let request = Request::Watch(Watch {
        stream: "s".to_owned(),
        cursor: Cursor::After(from),
        prefix: Some("a/".to_owned()),
        max_bytes: None,
        wait: 0,
    });
    let told: Watched = scene.ask(request).await.unwrap();
    let [
        Change::Append(record),
        Change::Remove(removal),
        Change::Config { config, .. },
    ] = &told.changes[..]
    else {
        panic!("{told:?}");
    };
    assert_eq!(record.seq, 3);
    assert_eq!(removal.ranges, [(1, 1)]);
    assert_eq!(config.max_msgs, 9);
}

#[tokio::test(start_paused = true)]
async fn stopping_tells_those_who_wait() {
    let mut scene = Scene::new().await;
    scene.create("s", Config::default()).await;
    let client = scene.client.clone();
    let waiting = tokio::task::spawn(async move {
        let hub = dialtone_client::persist::Owner::Hub;
        let request = watch(Cursor::Now, 60_000);
        crate::scene::ask::<Watched>(&client, &hub, request, dialtone_client::Encoding::Json).await
    });
    scene.client.flush().await.unwrap();
    scene.stop().await;
    assert!(waiting.await.unwrap().unwrap().changes.is_empty());
}
