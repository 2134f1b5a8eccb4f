//! Tokens that are used once or so often, also when many come at the same time.

use std::time::Duration;

use dialtone_hub::store::throttle;
use dialtone_hub::store::tokens::{self, Registration, SignIn};
use serde_json::json;

use crate::accounts::{make, new};
use crate::{NEVER, Site, on_both};

on_both! {
    a_registration_token_is_used_as_often_as_it_may,
    registration_tokens_are_kept_by_administrators,
    a_reset_works_once_and_the_last_one_alone,
    a_sign_in_token_works_once,
    tries_are_counted_by_all_hubs_together,
}

fn registration(token: &str) -> Registration {
    Registration {
        token: token.to_owned(),
        descr: "for a course".to_owned(),
        counter: 0,
        limit: Some(3),
        expires: None,
        disabled: false,
        ephemeral: Some(Duration::from_mins(90)),
        customize: json!({"disableInternet": true}),
    }
}

async fn a_registration_token_is_used_as_often_as_it_may(site: Site) {
    let store = site.open().await;
    let mut on = store.write().await.unwrap();
    tokens::put_registration(&mut on, &registration("t"))
        .await
        .unwrap();
    on.commit().await.unwrap();
    let mut attempts = Vec::new();
    for _ in 0..8 {
        let store = site.open().await;
        attempts.push(async move {
            let mut on = store.write().await.unwrap();
            let (token, _now) = tokens::registration_locked(&mut on, "t")
                .await
                .unwrap()
                .unwrap();
            if token.counter >= token.limit.unwrap() {
                return false;
            }
            tokens::registration_used(&mut on, "t").await.unwrap();
            on.commit().await.unwrap();
            true
        });
    }
    let used = futures_util::future::join_all(attempts).await;
    assert_eq!(used.iter().filter(|used| **used).count(), 3);
}

async fn registration_tokens_are_kept_by_administrators(site: Site) {
    let store = site.open().await;
    let mut on = store.write().await.unwrap();
    assert!(!tokens::registration_required(&mut on).await.unwrap());
    tokens::put_registration(&mut on, &registration("t"))
        .await
        .unwrap();
    tokens::registration_used(&mut on, "t").await.unwrap();
    assert!(tokens::registration_required(&mut on).await.unwrap());
    let changed = Registration {
        descr: "for another one".to_owned(),
        limit: None,
        ..registration("t")
    };
    tokens::put_registration(&mut on, &changed).await.unwrap();
    let listed = tokens::registrations(&mut on, 10).await.unwrap();
    assert_eq!(
        listed,
        [Registration {
            counter: 1,
            ..changed
        }]
    );
    assert!(
        tokens::disable_registration(&mut on, "t", true)
            .await
            .unwrap()
    );
    assert!(
        !tokens::disable_registration(&mut on, "other", true)
            .await
            .unwrap()
    );
    assert!(!tokens::registration_required(&mut on).await.unwrap());
    assert!(
        tokens::registration_locked(&mut on, "other")
            .await
            .unwrap()
            .is_none()
    );
    assert!(tokens::delete_registration(&mut on, "t").await.unwrap());
    assert!(!tokens::delete_registration(&mut on, "t").await.unwrap());
    on.commit().await.unwrap();
}

async fn a_reset_works_once_and_the_last_one_alone(site: Site) {
    let store = site.open().await;
    let id = make(&store, &new("one@example.org")).await;
    let mut on = store.write().await.unwrap();
    for (hash, ttl) in [("first", NEVER), ("second", NEVER)] {
        tokens::put_reset(&mut on, hash, id, "one@example.org", ttl)
            .await
            .unwrap();
    }
    on.commit().await.unwrap();
    let mut attempts = Vec::new();
    for hash in ["first", "second", "second", "second"] {
        let store = site.open().await;
        attempts.push(async move {
            let mut on = store.write().await.unwrap();
            let used = tokens::use_reset(&mut on, hash).await.unwrap();
            on.commit().await.unwrap();
            used
        });
    }
    let used = futures_util::future::join_all(attempts).await;
    let used: Vec<_> = used.into_iter().flatten().collect();
    assert_eq!(used, [(id, "one@example.org".to_owned())]);
    let mut on = store.write().await.unwrap();
    tokens::put_reset(&mut on, "over", id, "one@example.org", Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(tokens::use_reset(&mut on, "over").await.unwrap(), None);
}

async fn a_sign_in_token_works_once(site: Site) {
    let store = site.open().await;
    let id = make(&store, &new("one@example.org")).await;
    let token = SignIn {
        account_id: id,
        created_by: id,
        is_admin: true,
    };
    let mut on = store.write().await.unwrap();
    tokens::put_sign_in(&mut on, "h", &token, NEVER)
        .await
        .unwrap();
    tokens::put_sign_in(&mut on, "over", &token, Duration::ZERO)
        .await
        .unwrap();
    on.commit().await.unwrap();
    let mut on = store.write().await.unwrap();
    assert_eq!(
        tokens::find_sign_in(&mut on, "h").await.unwrap(),
        Some(token.clone())
    );
    assert_eq!(
        tokens::use_sign_in(&mut on, "h").await.unwrap(),
        Some(token)
    );
    assert_eq!(tokens::use_sign_in(&mut on, "h").await.unwrap(), None);
    assert_eq!(tokens::use_sign_in(&mut on, "over").await.unwrap(), None);
    assert!(tokens::delete_sign_in(&mut on, "h").await.unwrap());
    tokens::delete_sign_ins(&mut on, id).await.unwrap();
    assert!(!tokens::delete_sign_in(&mut on, "over").await.unwrap());
}

async fn tries_are_counted_by_all_hubs_together(site: Site) {
    let mut attempts = Vec::new();
    for _ in 0..6 {
        let store = site.open().await;
        attempts.push(async move {
            let mut on = store.write().await.unwrap();
            let count = throttle::add(&mut on, "sign-in", NEVER).await.unwrap();
            on.commit().await.unwrap();
            count
        });
    }
    let mut counts = futures_util::future::join_all(attempts).await;
    counts.sort_unstable();
    assert_eq!(counts, [1, 2, 3, 4, 5, 6]);
    let store = site.open().await;
    let mut on = store.write().await.unwrap();
    throttle::take_back(&mut on, "sign-in").await.unwrap();
    let keys = ["sign-in".to_owned(), "other".to_owned()];
    assert_eq!(throttle::counts(&mut on, &keys).await.unwrap().0, [5, 0]);
    // What is over counts from the beginning.
    assert_eq!(
        throttle::add(&mut on, "short", Duration::ZERO)
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        throttle::add(&mut on, "short", Duration::ZERO)
            .await
            .unwrap(),
        1
    );
}
