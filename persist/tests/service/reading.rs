//! Reading: pages, ranges, prefixes, times.

use dialtone_client::persist::wire::{Config, Page, Read, Record, Request, Select};

use crate::scene::{START, Scene};

fn read(read: Read) -> Request {
    Request::Read(Read {
        stream: "s".to_owned(),
        ..read
    })
}

fn seqs(page: &Page) -> Vec<u64> {
    page.records.iter().map(|record| record.seq).collect()
}

async fn filled() -> Scene {
    let scene = Scene::new().await;
    scene.create("s", Config::default()).await;
    for n in 1..=100_u64 {
        let record = Record::keyed(
            format!("{}/{n}", if n % 2 == 0 { "even" } else { "odd" }),
            "x",
        );
        scene.append("s", record).await.unwrap();
        scene.jump(10);
    }
    scene
}

#[tokio::test(start_paused = true)]
async fn pages_say_where_to_go_on() {
    let scene = filled().await;
    let all = scene.read_all("s").await;
    assert_eq!(all.len(), 100);
    assert!(all.iter().map(|record| record.seq).eq(1..=100));
    let page: Page = scene
        .ask(read(Read {
            from: 10,
            to: Some(20),
            max_msgs: Some(4),
            ..Read::default()
        }))
        .await
        .unwrap();
    assert_eq!(
        (seqs(&page), page.next, page.last_seq),
        (vec![10, 11, 12, 13], Some(14), 100)
    );
    let page: Page = scene
        .ask(read(Read {
            from: 18,
            to: Some(20),
            ..Read::default()
        }))
        .await
        .unwrap();
    assert_eq!((seqs(&page), page.next), (vec![18, 19, 20], None));
}

#[tokio::test(start_paused = true)]
async fn one_record_always_fits() {
    let scene = filled().await;
    let page: Page = scene
        .ask(read(Read {
            max_bytes: Some(0),
            ..Read::default()
        }))
        .await
        .unwrap();
    assert_eq!((seqs(&page), page.next), (vec![1], Some(2)));
}

#[tokio::test(start_paused = true)]
async fn prefixes_and_times_choose() {
    let scene = filled().await;
    let page: Page = scene
        .ask(read(Read {
            from: 90,
            prefix: Some("even/".to_owned()),
            ..Read::default()
        }))
        .await
        .unwrap();
    assert_eq!(seqs(&page), [90, 92, 94, 96, 98, 100]);
    let page: Page = scene
        .ask(read(Read {
            since: Some(START + 970),
            ..Read::default()
        }))
        .await
        .unwrap();
    assert_eq!(seqs(&page), [98, 99, 100]);
}

#[tokio::test(start_paused = true)]
async fn one_record_is_found_by_number_key_and_place() {
    let scene = filled().await;
    assert_eq!(scene.get("s", Select::Last).await.unwrap().seq, 100);
    assert_eq!(
        scene.get("s", Select::Seq(7)).await.unwrap().key.unwrap(),
        "odd/7"
    );
    assert_eq!(
        scene
            .get("s", Select::Key("odd/9".to_owned()))
            .await
            .unwrap()
            .seq,
        9
    );
    assert_eq!(scene.get("s", Select::Seq(101)).await, None);
    assert_eq!(scene.get("s", Select::Key("odd/10".to_owned())).await, None);
}
