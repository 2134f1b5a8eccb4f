//! Consumers: each record is worked on by one of those who share, and not lost when one of them fails.

use dialtone_client::persist::wire::{
    Ack, AckKind, Acked, Append, Appended, Config, ConsumerConfig, ConsumerCreate, ConsumerInfo,
    ConsumerShow, Delivery, FaultKind, Fetch, Fetched, Record, Request,
};

use crate::scene::{Scene, kind};

async fn with_consumer(config: ConsumerConfig) -> Scene {
    let scene = Scene::new().await;
    scene.create("s", Config::default()).await;
    scene.create("dead", Config::default()).await;
    let create = Request::ConsumerCreate(ConsumerCreate {
        stream: "s".to_owned(),
        consumer: "c".to_owned(),
        config,
        exist_ok: false,
    });
    scene.ask::<ConsumerInfo>(create).await.unwrap();
    for n in 1..=6 {
        scene.append("s", Record::new(n.to_string())).await.unwrap();
    }
    scene
}

async fn fetch(scene: &Scene, max_msgs: u32, wait: u32) -> Vec<Delivery> {
    let fetch = Request::Fetch(Fetch {
        stream: "s".to_owned(),
        consumer: "c".to_owned(),
        max_msgs,
        wait,
        max_bytes: None,
    });
    scene.ask::<Fetched>(fetch).await.unwrap().deliveries
}

async fn ack(scene: &Scene, deliveries: &[Delivery], kind: AckKind) -> Acked {
    let ack = Request::Ack(Ack {
        stream: "s".to_owned(),
        consumer: "c".to_owned(),
        deliveries: deliveries.iter().map(|d| (d.record.seq, d.token)).collect(),
        kind,
    });
    scene.ask(ack).await.unwrap()
}

async fn info(scene: &Scene) -> ConsumerInfo {
    let show = Request::ConsumerInfo(ConsumerShow {
        stream: "s".to_owned(),
        consumer: "c".to_owned(),
    });
    scene.ask(show).await.unwrap()
}

fn seqs(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries
        .iter()
        .map(|delivery| delivery.record.seq)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn each_record_is_delivered_to_one() {
    let scene = with_consumer(ConsumerConfig::default()).await;
    let (one, two) = tokio::join!(fetch(&scene, 3, 0), fetch(&scene, 9, 0));
    let mut all = seqs(&one);
    all.extend(seqs(&two));
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3, 4, 5, 6]);
    assert_eq!(ack(&scene, &one, AckKind::Ack).await.count, 3);
    assert_eq!(
        ack(&scene, &one, AckKind::Ack).await.not_pending,
        seqs(&one)
    );
    let info = info(&scene).await;
    assert_eq!((info.ack_pending, info.pending, info.delivered), (3, 0, 6));
}

#[tokio::test(start_paused = true)]
async fn the_place_survives_a_restart() {
    let mut scene = with_consumer(ConsumerConfig::default()).await;
    let first = fetch(&scene, 2, 0).await;
    ack(&scene, &first, AckKind::Ack).await;
    let open = fetch(&scene, 1, 0).await;
    scene.restart().await;
    assert_eq!(info(&scene).await.ack_floor, 2);
    assert_eq!(
        seqs(&fetch(&scene, 9, 0).await),
        [4, 5, 6],
        "3 is still being worked on"
    );
    assert_eq!(ack(&scene, &open, AckKind::Ack).await.count, 1);
    assert_eq!(info(&scene).await.ack_floor, 3);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_not_acknowledged_is_made_again() {
    let scene = with_consumer(ConsumerConfig::default()).await;
    let first = fetch(&scene, 1, 0).await;
    let rest = fetch(&scene, 9, 0).await;
    ack(&scene, &rest, AckKind::Ack).await;
    let began = tokio::time::Instant::now();
    let again = fetch(&scene, 1, 60_000).await;
    assert_eq!((seqs(&again), again[0].deliveries), (vec![1], 2));
    assert_eq!(began.elapsed().as_secs(), 30, "ack_wait");
    assert_eq!(
        ack(&scene, &first, AckKind::Ack).await.not_pending,
        [1],
        "the old token"
    );
    ack(&scene, &again, AckKind::Nack(5_000)).await;
    let third = fetch(&scene, 1, 60_000).await;
    assert_eq!((third[0].deliveries, began.elapsed().as_secs()), (3, 35));
    assert_eq!(ack(&scene, &third, AckKind::Ack).await.count, 1);
    assert_eq!(info(&scene).await.ack_floor, 6);
}

#[tokio::test(start_paused = true)]
async fn whoever_still_works_on_a_delivery_keeps_it() {
    let scene = with_consumer(ConsumerConfig::default()).await;
    let first = fetch(&scene, 1, 0).await;
    let rest = fetch(&scene, 9, 0).await;
    ack(&scene, &rest, AckKind::Ack).await;
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    let began = tokio::time::Instant::now();
    assert_eq!(ack(&scene, &first, AckKind::Progress).await.count, 1);
    let again = fetch(&scene, 1, 60_000).await;
    assert_eq!((seqs(&again), again[0].deliveries), (vec![1], 2));
    assert_eq!(began.elapsed().as_secs(), 30, "ack_wait began anew");
}

#[tokio::test(start_paused = true)]
async fn only_so_many_wait_for_an_acknowledgement() {
    let config = ConsumerConfig {
        max_ack_pending: 2,
        ..ConsumerConfig::default()
    };
    let scene = with_consumer(config).await;
    let two = fetch(&scene, 9, 0).await;
    assert_eq!(seqs(&two), [1, 2]);
    assert!(fetch(&scene, 9, 0).await.is_empty());
    let (next, _) = tokio::join!(
        fetch(&scene, 9, 10_000),
        ack(&scene, &two[..1], AckKind::Ack)
    );
    assert_eq!(seqs(&next), [3]);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_goes_to_the_dead_letters() {
    let config = ConsumerConfig {
        max_deliveries: 2,
        dead_letter: Some("dead".to_owned()),
        ..ConsumerConfig::default()
    };
    let scene = with_consumer(config).await;
    let all = fetch(&scene, 9, 0).await;
    ack(&scene, &all[2..], AckKind::Ack).await;
    ack(&scene, &all[1..2], AckKind::Terminate).await;
    ack(&scene, &all[..1], AckKind::Nack(0)).await;
    let again = fetch(&scene, 9, 0).await;
    assert_eq!((seqs(&again), again[0].deliveries), (vec![1], 2));
    ack(&scene, &again, AckKind::Nack(0)).await;
    assert!(fetch(&scene, 9, 0).await.is_empty());
    let dead = scene.read_all("dead").await;
    let payloads: Vec<&[u8]> = dead.iter().map(|record| &*record.payload).collect();
    assert_eq!(payloads, [b"2", b"1"]);
    let headers: serde_json::Value =
        serde_json::from_slice(dead[1].headers.as_ref().unwrap()).unwrap();
    assert_eq!(headers["dead_letter_stream"], "s");
    assert_eq!(headers["dead_letter_seq"], 1);
    let info = info(&scene).await;
    assert_eq!(
        (info.ack_floor, info.ack_pending, info.redelivering),
        (6, 0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn consumers_are_made_once_and_checked() {
    let scene = with_consumer(ConsumerConfig::default()).await;
    let create = |consumer: &str, config, exist_ok| {
        Request::ConsumerCreate(ConsumerCreate {
            stream: "s".to_owned(),
            consumer: consumer.to_owned(),
            config,
            exist_ok,
        })
    };
    let ask = async |request| scene.ask::<ConsumerInfo>(request).await;
    let again = ask(create("c", ConsumerConfig::default(), false)).await;
    assert_eq!(kind(again), FaultKind::Exists);
    let other = ConsumerConfig {
        ack_wait: 1_000,
        ..ConsumerConfig::default()
    };
    assert_eq!(
        ask(create("c", other.clone(), true)).await.unwrap().config,
        other
    );
    for name in ["", "a b", "a/b"] {
        let bad = ask(create(name, ConsumerConfig::default(), false)).await;
        assert_eq!(kind(bad), FaultKind::BadRequest);
    }
    let short = ConsumerConfig {
        ack_wait: 1,
        ..ConsumerConfig::default()
    };
    assert_eq!(
        kind(ask(create("d", short, false)).await),
        FaultKind::BadRequest
    );
}

/// What a consumer with a prefix wants may stand behind more records than are looked at in one go.
#[tokio::test(start_paused = true)]
async fn what_is_wanted_is_found_behind_much_that_is_not() {
    let config = ConsumerConfig {
        prefix: Some("wanted".to_owned()),
        ..ConsumerConfig::default()
    };
    let scene = with_consumer(config).await;
    for _ in 0..7 {
        let append = Request::Append(Append {
            stream: "s".to_owned(),
            records: vec![Record::new(""); 10_000],
            ..Append::default()
        });
        scene.ask::<Appended>(append).await.unwrap();
    }
    let wanted = Record::new("x").key("wanted");
    let wanted = scene.append("s", wanted).await.unwrap();
    assert_eq!(seqs(&fetch(&scene, 9, 0).await), [wanted.seq]);
}
