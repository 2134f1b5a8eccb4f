//! What hubs do by themselves: one of them at a time, and nothing twice or never.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dialtone_hub::background::{self, Item, Migration};
use dialtone_hub::settings::{self, Live, SetError};
use dialtone_hub::store::background as progress;
use dialtone_hub::store::leases::{self, Acquired, Lease};
use dialtone_hub::store::{Error, Reader, Store, Transaction, settings as stored};
use dialtone_hub::{maintenance, singleton};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use crate::accounts::{make, new};
use crate::{NEVER, Site, on_both};

on_both! {
    one_hub_works_and_another_one_goes_on,
    a_migration_moves_everything_once_it_can,
    a_migration_does_nothing_without_its_lease,
    a_migration_goes_on_where_another_hub_has_stopped,
    what_is_over_is_removed_in_batches,
    a_changed_setting_is_seen_by_all_hubs,
    the_environment_sets_what_it_can,
}

async fn one_hub_works_and_another_one_goes_on(site: Site) {
    let (began, mut began_there) = mpsc::channel(10);
    let mut hubs = Vec::new();
    for hub in 0..3_usize {
        let store = site.open().await;
        let stop = CancellationToken::new();
        let config = singleton::Config {
            retry: Duration::from_millis(10),
            ..singleton::Config::new("work", &format!("hub {hub}"))
        };
        let (began, stopped) = (began.clone(), stop.clone());
        let task = tokio::task::spawn(async move {
            singleton::run(&store, &config, &stopped, |lease, stop| {
                let began = began.clone();
                async move {
                    began.send((hub, lease.generation)).await.unwrap();
                    stop.cancelled().await;
                }
            })
            .await;
        });
        hubs.push((stop, task));
    }
    let mut hubs: BTreeMap<usize, _> = hubs.into_iter().enumerate().collect();
    for generation in 1..=3 {
        let (hub, got) = began_there.recv().await.unwrap();
        assert_eq!(got, generation);
        // Nobody else has begun before this one has ended.
        assert!(began_there.try_recv().is_err());
        let (stop, task) = hubs.remove(&hub).unwrap();
        stop.cancel();
        task.await.unwrap();
    }
}

/// Numbers in the settings, which are moved into a set. Some cannot be moved until somebody mends that.
struct Numbers {
    target: Arc<Mutex<BTreeSet<String>>>,
    mended: Arc<AtomicBool>,
    count: i64,
}

impl Numbers {
    fn new(count: i64) -> Self {
        Self {
            target: Arc::default(),
            mended: Arc::default(),
            count,
        }
    }
}

impl Migration for Numbers {
    fn name(&self) -> &'static str {
        "numbers"
    }

    fn next<'a>(
        &'a self,
        _on: &'a mut Reader,
        cursor: Option<&'a Value>,
        limit: i64,
    ) -> BoxFuture<'a, Result<Vec<Item>, Error>> {
        let after = cursor.and_then(Value::as_i64).unwrap_or(0);
        let numbers = after + 1..=self.count.min(after + limit);
        let items = numbers.map(|number| Item {
            key: number.to_string(),
            cursor: json!(number),
        });
        let items = items.collect();
        async move { Ok(items) }.boxed()
    }

    fn carry<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), String>> {
        async move {
            if key.ends_with('3') && !self.mended.load(Ordering::Relaxed) {
                return Err(format!("{key} is broken"));
            }
            self.target.lock().await.insert(key.to_owned());
            Ok(())
        }
        .boxed()
    }

    fn retire<'a>(
        &'a self,
        on: &'a mut Transaction,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            for key in keys {
                stored::set(on, &format!("moved {key}"), "yes").await?;
            }
            Ok(())
        }
        .boxed()
    }
}

fn quick() -> background::Config {
    background::Config {
        batch: 4,
        delay: Duration::ZERO,
        error_delay: Duration::ZERO,
        retry: Duration::from_millis(1),
    }
}

async fn lease(store: &Store, ttl: Duration) -> Lease {
    let mut on = store.write().await.unwrap();
    let acquired = leases::acquire(&mut on, "migrations", "us", ttl)
        .await
        .unwrap();
    on.commit().await.unwrap();
    match acquired {
        Acquired::Lease(lease) => lease,
        Acquired::Taken { holder, .. } => panic!("{holder} has it"),
    }
}

async fn how_far(store: &Store) -> progress::Progress {
    let mut on = store.read().await.unwrap();
    progress::all(&mut on).await.unwrap().remove(0)
}

async fn a_migration_moves_everything_once_it_can(site: Site) {
    let store = site.open().await;
    let numbers = Numbers::new(25);
    let (target, mended) = (Arc::clone(&numbers.target), Arc::clone(&numbers.mended));
    let lease = lease(&store, NEVER).await;
    let migrations: Vec<Box<dyn Migration>> = vec![Box::new(numbers)];
    let stop = CancellationToken::new();
    let moving = tokio::task::spawn({
        let (store, stop) = (store.clone(), stop.clone());
        async move { background::run(&store, &lease, &migrations, &quick(), &stop).await }
    });
    // The broken ones are tried again and again, and nothing is lost.
    loop {
        let mut on = store.read().await.unwrap();
        let failures = progress::failures(&mut on, "numbers", 10).await.unwrap();
        if failures.len() == 3 && failures.iter().all(|one| one.attempts > 1) {
            assert!(
                failures
                    .iter()
                    .all(|one| one.error == format!("{} is broken", one.key))
            );
            break;
        }
    }
    let far = how_far(&store).await;
    assert_eq!((far.finished, far.done, far.failed), (true, 22, 3));
    mended.store(true, Ordering::Relaxed);
    moving.await.unwrap();
    let far = how_far(&store).await;
    assert_eq!((far.finished, far.done, far.failed), (true, 25, 0));
    assert_eq!(target.lock().await.len(), 25);
    let marks = site
        .beside("SELECT name FROM server_settings WHERE name LIKE 'moved %'")
        .await;
    assert_eq!(marks.len(), 25);
}

async fn a_migration_does_nothing_without_its_lease(site: Site) {
    let store = site.open().await;
    let numbers = Numbers::new(5);
    let over = lease(&store, Duration::ZERO).await;
    let migrations: Vec<Box<dyn Migration>> = vec![Box::new(numbers)];
    background::run(
        &store,
        &over,
        &migrations,
        &quick(),
        &CancellationToken::new(),
    )
    .await;
    let mut on = store.read().await.unwrap();
    assert!(progress::all(&mut on).await.unwrap().is_empty());
    assert!(stored::all(&mut on).await.unwrap().is_empty());
}

async fn a_migration_goes_on_where_another_hub_has_stopped(site: Site) {
    let store = site.open().await;
    let first = Numbers::new(8);
    first.mended.store(true, Ordering::Relaxed);
    let target = Arc::clone(&first.target);
    let held = lease(&store, NEVER).await;
    let migrations: Vec<Box<dyn Migration>> = vec![Box::new(first)];
    background::run(
        &store,
        &held,
        &migrations,
        &quick(),
        &CancellationToken::new(),
    )
    .await;
    assert_eq!(target.lock().await.len(), 8);
    // As if more had come before it was finished.
    site.beside("UPDATE background_migrations SET state = 'running'")
        .await;
    let second = Numbers::new(11);
    second.mended.store(true, Ordering::Relaxed);
    let target = Arc::clone(&second.target);
    let migrations: Vec<Box<dyn Migration>> = vec![Box::new(second)];
    background::run(
        &store,
        &held,
        &migrations,
        &quick(),
        &CancellationToken::new(),
    )
    .await;
    let moved: Vec<_> = target.lock().await.iter().cloned().collect();
    assert_eq!(moved, ["10", "11", "9"]);
    assert_eq!(how_far(&store).await.done, 11);
}

async fn what_is_over_is_removed_in_batches(site: Site) {
    let store = site.open().await;
    let id = make(&store, &new("one@example.org")).await;
    let mut on = store.write().await.unwrap();
    for number in 0..7 {
        let hash = format!("over {number}");
        dialtone_hub::store::tokens::put_sign_in(
            &mut on,
            &hash,
            &dialtone_hub::store::tokens::SignIn {
                account_id: id,
                created_by: id,
                is_admin: false,
            },
            Duration::ZERO,
        )
        .await
        .unwrap();
        let ttl = if number == 0 { NEVER } else { Duration::ZERO };
        let session = dialtone_hub::store::remember_me::New {
            hash: &hash,
            account_id: id,
            ttl,
            kind: "sso",
            ip: None,
            user_agent: None,
        };
        dialtone_hub::store::remember_me::insert(&mut on, &session)
            .await
            .unwrap();
    }
    on.commit().await.unwrap();
    let config = maintenance::Config {
        batch: 3,
        delay: Duration::ZERO,
        changes_keep: NEVER,
        ..maintenance::Config::default()
    };
    let removed = maintenance::round(&store, &config).await.unwrap();
    assert_eq!(removed.rows, [("auth_tokens", 7), ("remember_me", 6)]);
    let again = maintenance::round(&store, &config).await.unwrap();
    assert_eq!(again, maintenance::Removed::default());
    // The ends of sessions are told, so that those who let somebody in for one hear of it.
    let told = site
        .beside("SELECT op FROM change_log WHERE tbl = 'remember_me'")
        .await;
    assert_eq!(told, ["delete"; 6]);
}

async fn a_changed_setting_is_seen_by_all_hubs(site: Site) {
    let config = dialtone_hub::store::Config {
        poll: Duration::from_millis(10),
        ..site.config()
    };
    let ours = Store::open(config).await.unwrap();
    let theirs = site.open().await;
    let (live, follower) = Live::open(&ours).await.unwrap();
    assert_eq!(live.get().get("site_name"), "Dialtone");
    let stop = CancellationToken::new();
    let following = tokio::task::spawn({
        let (live, stop) = (live.clone(), stop.clone());
        async move { live.follow(follower, stop).await }
    });
    settings::set(&theirs, "site_name", "Ours").await.unwrap();
    while live.get().get("site_name") != "Ours" {
        tokio::task::yield_now().await;
    }
    assert!(settings::unset(&theirs, "site_name").await.unwrap());
    while live.get().is_set("site_name") {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    following.await.unwrap();
}

async fn the_environment_sets_what_it_can(site: Site) {
    let store = site.open().await;
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let variables = [
        pair("SITE_NAME", "Ours"),
        pair("EMAIL_SIGNUP", "perhaps"),
        pair("NOTHING", "1"),
    ];
    settings::set_from_environment(&store, variables)
        .await
        .unwrap();
    let now = settings::read(&store).await.unwrap();
    assert_eq!(now.get("site_name"), "Ours");
    assert!(now.is_readonly("site_name") && now.is_on("email_signup"));
    let refused = settings::set(&store, "site_name", "Mine")
        .await
        .unwrap_err();
    assert!(
        matches!(refused, SetError::Readonly("site_name")),
        "{refused}"
    );
    let refused = settings::unset(&store, "site_name").await.unwrap_err();
    assert!(
        matches!(refused, SetError::Readonly("site_name")),
        "{refused}"
    );
    let refused = settings::set(&store, "nothing", "1").await.unwrap_err();
    assert!(matches!(refused, SetError::Invalid(_)), "{refused}");
}
