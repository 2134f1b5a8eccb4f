//! A database that is not there, goes away, or says nothing: what the caller learns, and that nothing is half-done.

use std::time::Duration;

use dialtone_hub::id::AccountId;
use dialtone_hub::store::{Config, Error, Location, Store, remember_me, settings};
use dialtone_testkit::Postgres;
use tokio_util::sync::CancellationToken;

use crate::{NEVER, Site, on_both, unusable};

on_both! {
    a_transaction_that_failed_is_not_committed,
    more_requests_than_may_wait_are_refused,
}

async fn a_transaction_that_failed_is_not_committed(site: Site) {
    let store = site.open().await;
    let mut on = store.write().await.unwrap();
    settings::set(&mut on, "first", "1").await.unwrap();
    let session = remember_me::New {
        hash: "hash",
        account_id: AccountId::random(),
        ttl: NEVER,
        kind: "password",
        ip: None,
        user_agent: None,
    };
    let failed = remember_me::insert(&mut on, &session).await.unwrap_err();
    assert!(matches!(failed, Error::Missing(_)), "{failed}");
    assert!(matches!(on.commit().await, Err(Error::Mistake(_))));
    let stored = settings::all(&mut store.read().await.unwrap())
        .await
        .unwrap();
    assert!(stored.is_empty());
}

async fn more_requests_than_may_wait_are_refused(site: Site) {
    let config = Config {
        waiting_max: 2,
        ..site.config()
    };
    let store = Store::open(config).await.unwrap();
    let one = store.read().await.unwrap();
    let two = store.write().await.unwrap();
    for _ in 0..2 {
        let refused = store.read().await.unwrap_err();
        assert!(
            matches!(refused, Error::Overloaded { waiting_max: 2 }),
            "{refused}"
        );
        assert!(refused.is_temporary());
    }
    assert_eq!(store.status().refused, 2);
    drop(one);
    drop(two);
    store.write().await.unwrap().commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_the_database() {
    let server = Postgres::start();
    let site = Site::postgres_at(&server);
    server.kill();
    let stop = CancellationToken::new();
    let waiting = Store::open_when_ready(site.config(), &stop);
    let (store, _server) = tokio::join!(waiting, async {
        tokio::task::spawn_blocking(move || {
            server.start_again();
            server
        })
        .await
        .unwrap()
    });
    let store = store.unwrap().unwrap();
    settings::all(&mut store.read().await.unwrap())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_given_up_ends() {
    let server = Postgres::start();
    let site = Site::postgres_at(&server);
    server.kill();
    let stop = CancellationToken::new();
    stop.cancel();
    let opened = Store::open_when_ready(site.config(), &stop).await.unwrap();
    assert!(opened.is_none());
}

#[tokio::test]
async fn what_waiting_does_not_cure_is_said_at_once() {
    let stop = CancellationToken::new();
    let config = Config::new(Location::Postgres {
        url: "postgres://localhost:notaport/x".to_owned(),
        password: None,
    });
    let error = Store::open_when_ready(config, &stop).await.unwrap_err();
    assert!(matches!(error, Error::Unusable(_)), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/hub.db");
    let config = Config::new(Location::Sqlite { path: path.clone() });
    let text = unusable(Store::open(config).await);
    assert!(
        text.starts_with(&format!("cannot create {}: ", path.display())),
        "{text}"
    );
    let path = folder.path().join("other.db");
    std::fs::write(
        &path,
        "this is a text, and longer than the head of a database is",
    )
    .unwrap();
    let error = Store::open(Config::new(Location::Sqlite { path }))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Corrupt(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_fail_while_the_database_is_away_and_work_when_it_is_back() {
    let server = Postgres::start();
    let site = Site::postgres_at(&server);
    let config = Config {
        connect_max: Duration::from_secs(1),
        poll: NEVER,
        ..site.config()
    };
    let store = Store::open(config).await.unwrap();
    let mut on = store.write().await.unwrap();
    settings::set(&mut on, "lost", "1").await.unwrap();
    server.kill();
    let error = on.commit().await.unwrap_err();
    // The change itself could not even be noted, so nothing can have happened.
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
    let error = match store.read().await {
        Ok(mut on) => settings::all(&mut on).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(error.is_temporary(), "{error}");
    server.start_again();
    let stored = loop {
        let read = async { settings::all(&mut store.read().await?).await };
        match read.await {
            Ok(stored) => break stored,
            Err(error) => assert!(error.is_temporary(), "{error}"),
        }
    };
    assert!(stored.is_empty());
}

#[tokio::test]
async fn the_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::sqlite();
    let store = site.open().await;
    let Location::Sqlite { path } = &site.location else {
        unreachable!("it is SQLite");
    };
    for suffix in ["", "-wal", "-shm"] {
        let path = format!("{}{suffix}", path.display());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }
    store.close().await;
}
