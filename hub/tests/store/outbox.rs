//! What was changed is told once, in order and without gaps, to whoever reads on from where they were.

use std::time::Duration;

use dialtone_hub::feed::{Follower, News};
use dialtone_hub::store::outbox::{self, Batch, Entry, Table};
use dialtone_hub::store::{Location, Store, settings};
use dialtone_testkit::Postgres;
use tokio_util::sync::CancellationToken;

use crate::{NEVER, Site, on_both};

on_both! {
    a_change_is_told_with_its_transaction_or_not_at_all,
    a_reader_gets_every_change_once_while_many_hubs_write,
    who_comes_after_changes_were_trimmed_is_told,
    a_number_that_was_never_given_is_a_gap,
    who_follows_goes_on_after_the_database_was_restored,
}

async fn set(store: &Store, name: &str, value: &str) {
    let mut on = store.write().await.unwrap();
    assert!(settings::set(&mut on, name, value).await.unwrap());
    on.commit().await.unwrap();
}

async fn read(store: &Store, after: i64) -> Batch {
    let mut on = store.read().await.unwrap();
    outbox::read(&mut on, after, outbox::BATCH_MAX)
        .await
        .unwrap()
}

fn name(entry: &Entry) -> &str {
    assert_eq!(entry.change.table, Table::ServerSettings);
    entry.change.key["name"].as_str().unwrap()
}

async fn a_change_is_told_with_its_transaction_or_not_at_all(site: Site) {
    let store = site.open().await;
    let mut on = store.write().await.unwrap();
    settings::set(&mut on, "given_up", "1").await.unwrap();
    drop(on);
    let mut on = store.write().await.unwrap();
    settings::set(&mut on, "first", "1").await.unwrap();
    settings::set(&mut on, "second", "2").await.unwrap();
    assert!(settings::unset(&mut on, "first").await.unwrap());
    on.commit().await.unwrap();
    let Batch::Changes { entries, next } = read(&store, 0).await else {
        panic!("a gap");
    };
    let told: Vec<_> = entries.iter().map(|one| (one.seq, name(one))).collect();
    assert_eq!(told, [(1, "first"), (2, "second"), (3, "first")]);
    assert_eq!(next, 3);
    let stored = settings::all(&mut store.read().await.unwrap())
        .await
        .unwrap();
    assert_eq!(stored.len(), 1);
}

/// Writers in several hubs, each of which gives up every third change, and one reader meanwhile.
async fn a_reader_gets_every_change_once_while_many_hubs_write(site: Site) {
    const WRITERS: usize = 6;
    const EACH: usize = 30;
    let reading = site.open().await;
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let store = site.open().await;
        writers.push(async move {
            for turn in 0..EACH {
                let mut on = store.write().await.unwrap();
                let name = format!("{writer}-{turn}");
                settings::set(&mut on, &name, "x").await.unwrap();
                if turn % 3 == 2 {
                    drop(on);
                } else {
                    on.commit().await.unwrap();
                }
            }
        });
    }
    let reader = async {
        let mut told = Vec::new();
        let mut next = 0;
        while told.len() < WRITERS * EACH * 2 / 3 {
            let Batch::Changes { entries, next: at } = read(&reading, next).await else {
                panic!("a gap");
            };
            next = at;
            told.extend(entries);
        }
        told
    };
    let (told, _) = tokio::join!(reader, futures_util::future::join_all(writers));
    let numbers: Vec<i64> = told.iter().map(|one| one.seq).collect();
    assert_eq!(numbers, (1..=120).collect::<Vec<_>>());
    for writer in 0..WRITERS {
        let own = format!("{writer}-");
        let names: Vec<_> = told
            .iter()
            .map(name)
            .filter(|one| one.starts_with(&own))
            .collect();
        let all = (0..EACH).filter(|turn| turn % 3 != 2);
        assert_eq!(
            names,
            all.map(|turn| format!("{own}{turn}")).collect::<Vec<_>>()
        );
    }
}

async fn who_comes_after_changes_were_trimmed_is_told(site: Site) {
    let store = site.open().await;
    for name in ["a", "b", "c"] {
        set(&store, name, "1").await;
    }
    let mut on = store.write().await.unwrap();
    assert_eq!(outbox::trim(&mut on, NEVER, 100).await.unwrap(), 0);
    drop(on);
    site.beside(match site.location {
        Location::Postgres { .. } => {
            "UPDATE change_log SET time = time - interval '2 hours' WHERE seq <= 2"
        }
        Location::Sqlite { .. } => "UPDATE change_log SET time = time - 7200000 WHERE seq <= 2",
    })
    .await;
    let mut on = store.write().await.unwrap();
    assert_eq!(outbox::trim(&mut on, NEVER, 100).await.unwrap(), 2);
    on.commit().await.unwrap();
    assert_eq!(read(&store, 0).await, Batch::Gap { head: 3 });
    assert_eq!(read(&store, 1).await, Batch::Gap { head: 3 });
    let Batch::Changes { entries, next } = read(&store, 2).await else {
        panic!("a gap");
    };
    assert_eq!((name(&entries[0]), next), ("c", 3));
}

async fn a_number_that_was_never_given_is_a_gap(site: Site) {
    let store = site.open().await;
    set(&store, "a", "1").await;
    assert_eq!(read(&store, 7).await, Batch::Gap { head: 1 });
    assert_eq!(
        read(&store, 1).await,
        Batch::Changes {
            entries: Vec::new(),
            next: 1
        }
    );
}

/// As if a copy of yesterday had been put in its place.
async fn who_follows_goes_on_after_the_database_was_restored(site: Site) {
    let store = site.open().await;
    let mut follower = Follower::from_now(&store).await.unwrap();
    for name in ["a", "b", "c"] {
        set(&store, name, "1").await;
    }
    assert_eq!(next(&mut follower).await.len(), 3);
    site.beside("DELETE FROM change_log WHERE seq > 1").await;
    site.beside("UPDATE outbox_head SET seq = 1").await;
    assert_eq!(follower.next().await.unwrap(), News::Gap);
    assert_eq!(follower.at(), 1);
    let (told, ()) = tokio::join!(next(&mut follower), set(&store, "d", "1"));
    assert_eq!((name(&told[0]), told[0].seq), ("d", 2));
}

/// What a follower hears next.
async fn next(follower: &mut Follower) -> Vec<Entry> {
    match follower.next().await.unwrap() {
        News::Changes(entries) => entries,
        News::Gap => panic!("a gap"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hubs_hear_of_each_others_changes_at_once() {
    let site = Site::postgres();
    let (ours, theirs) = (site.open().await, site.open().await);
    let stop = CancellationToken::new();
    let listening = tokio::task::spawn({
        let (ours, stop) = (ours.clone(), stop.clone());
        async move { ours.listen(stop).await }
    });
    let mut follower = Follower::from_now(&ours).await.unwrap();
    // Nobody looks by himself: what is heard was told.
    for turn in 0..3 {
        set(&theirs, &format!("s{turn}"), "1").await;
        let told = next(&mut follower).await;
        assert_eq!(name(&told[0]), format!("s{turn}"));
    }
    stop.cancel();
    listening.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_while_the_database_was_away_are_heard_of_when_it_is_back() {
    let server = Postgres::start();
    let site = Site::postgres_at(&server);
    let config = dialtone_hub::store::Config {
        poll: Duration::from_millis(10),
        ..site.config()
    };
    let ours = Store::open(config).await.unwrap();
    let stop = CancellationToken::new();
    let listening = tokio::task::spawn({
        let (ours, stop) = (ours.clone(), stop.clone());
        async move { ours.listen(stop).await }
    });
    let mut follower = Follower::from_now(&ours).await.unwrap();
    set(&ours, "before", "1").await;
    assert_eq!(name(&next(&mut follower).await[0]), "before");
    server.kill();
    server.start_again();
    let theirs = site.open().await;
    set(&theirs, "after", "1").await;
    let told = loop {
        // While the database is away, a follower says so; it goes on where it was.
        if let Ok(News::Changes(entries)) = follower.next().await {
            break entries;
        }
    };
    assert_eq!(name(&told[0]), "after");
    stop.cancel();
    listening.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_commands_beside_the_hub_are_found() {
    let site = Site::sqlite();
    let config = dialtone_hub::store::Config {
        poll: Duration::from_millis(10),
        ..site.config()
    };
    let ours = Store::open(config).await.unwrap();
    let theirs = site.open().await;
    let mut follower = Follower::from_now(&ours).await.unwrap();
    set(&theirs, "beside", "1").await;
    assert_eq!(name(&next(&mut follower).await[0]), "beside");
}
