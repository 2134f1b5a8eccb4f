//! Money, logs, files, and the caller's own ways to sign in.

use std::time::Duration;

use dialtone_hub::api::{Code, Error};
use dialtone_hub::id::{AccountId, ProjectId};
use dialtone_hub::store::accounts::{self, Update};
use dialtone_hub::store::passports::{self, Link, Stored};
use dialtone_hub::store::purchases::{self, Cost, New};
use dialtone_hub::store::{files, throttle};
use dialtone_hub::time::Time;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{Site, on_both};

on_both! {
    what_is_left_is_what_was_credited_less_what_was_used,
    people_are_watched_where_the_site_says_so_alone,
    errors_are_told_to_administrators,
    nobody_reports_without_end,
    uses_of_files_are_told_to_members,
    histories_from_before_streams_are_read,
    blobs_are_kept,
    the_last_way_to_sign_in_is_not_unlinked,
    exclusive_ways_to_sign_in_stay,
    who_vouches_for_an_account_is_a_field_of_it,
    an_address_is_verified_by_letter,
    what_a_hub_has_not_is_not_configured,
}

async fn bought(site: &Site, account: AccountId, cost: Cost, pending: bool) {
    let mut on = site.store.write().await.unwrap();
    let new = New {
        account,
        cost,
        pending,
        service: "test",
    };
    purchases::insert(&mut on, new).await.unwrap();
    on.commit().await.unwrap();
}

async fn what_is_left_is_what_was_credited_less_what_was_used(site: Site) {
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let balance = async |of| {
        site.call(of, "purchases.getBalance", json!({}))
            .await
            .unwrap()
    };
    assert_eq!(balance(ada).await, json!(0.0));
    bought(&site, ada, Cost::Fixed(-25_000_000), false).await;
    bought(&site, ada, Cost::Fixed(1_500_000), false).await;
    // What has not arrived cannot be spent; what is being used is.
    bought(&site, ada, Cost::Fixed(-90_000_000), true).await;
    bought(&site, ada, Cost::Fixed(500_000), true).await;
    let hour = |from: i64, to: i64| Cost::PerHour {
        cost: 2_000_000,
        start: Time::from_millis(from),
        end: Some(Time::from_millis(to)),
    };
    bought(&site, ada, hour(0, 5_400_000), false).await;
    bought(&site, ada, hour(7_200_000, 0), false).await;
    bought(&site, bob, Cost::Fixed(7), false).await;
    assert_eq!(balance(ada).await, json!(20.0));
    assert_eq!(balance(bob).await, json!(-0.000_007));
    let read = json!({"accounts": {"balance": null}});
    let stands = site.query(ada, read).await.unwrap();
    assert_eq!(stands["accounts"]["balance"], 20_000_000);
    let own = json!({"purchases": [{"cost": null, "account_id": null}]});
    let own = site.query(bob, own).await.unwrap();
    assert_eq!(own["purchases"], json!([{"cost": 7, "account_id": bob}]));
    let now = throttle::now(&mut site.store.read().await.unwrap())
        .await
        .unwrap();
    let running = Cost::PerHour {
        cost: 3_600_000,
        start: Time::from_millis(now.millis() - 10_000),
        end: None,
    };
    bought(&site, bob, running, false).await;
    let left = balance(bob).await.as_f64().unwrap();
    assert!((-1.0..=-0.01).contains(&left), "{left}");
    let min = site.call(ada, "purchases.getMinBalance", json!({})).await;
    assert_eq!(min.unwrap(), json!(0.0));
}

async fn rows(site: &Site, by: AccountId, table: &str, fields: Json) -> Vec<Json> {
    let found = site.query(by, json!({ table: [fields] })).await.unwrap();
    found[table].as_array().unwrap().clone()
}

async fn people_are_watched_where_the_site_says_so_alone(site: Site) {
    let (admin, ada) = (
        site.account("root", &["admin"]).await,
        site.account("ada", &[]).await,
    );
    let track = async || {
        let event = json!({"event": "click", "value": {"x": 1}});
        site.call(ada, "system.userTracking", event).await.unwrap()
    };
    let tracked = json!({"account_id": null, "event": null, "value": null});
    track().await;
    assert_eq!(
        rows(&site, admin, "user_tracking", tracked.clone()).await,
        [Json::Null; 0]
    );
    site.set("user_tracking", "yes").await;
    track().await;
    let expected = json!({"account_id": ada, "event": "click", "value": {"x": 1}});
    assert_eq!(
        rows(&site, admin, "user_tracking", tracked).await,
        [expected]
    );
    let nothing = site
        .call(ada, "system.userTracking", json!({"event": " "}))
        .await;
    assert_eq!(nothing.unwrap_err().code, Code::InvalidArgument);
    let refused = site
        .query(ada, json!({"user_tracking": [{"event": null}]}))
        .await;
    assert_eq!(refused.unwrap_err().code, Code::PermissionDenied);
}

async fn errors_are_told_to_administrators(site: Site) {
    let (admin, ada) = (
        site.account("root", &["admin"]).await,
        site.account("ada", &[]).await,
    );
    let error = json!({"event": "crash", "error": "it broke"});
    site.call(ada, "system.logClientError", error)
        .await
        .unwrap();
    let error =
        json!({"name": "TypeError", "message": "x is undefined", "lineNumber": 7, "secret": 1});
    site.call(ada, "system.webappError", error).await.unwrap();
    let fields = json!({"account_id": null, "event": null, "error": null});
    let expected = json!({"account_id": ada, "event": "crash", "error": "it broke"});
    assert_eq!(
        rows(&site, admin, "client_error_log", fields).await,
        [expected]
    );
    let fields = json!({"name": null, "value": null});
    let expected =
        json!({"name": "TypeError", "value": {"message": "x is undefined", "lineNumber": 7}});
    assert_eq!(
        rows(&site, admin, "webapp_errors", fields).await,
        [expected]
    );
}

async fn nobody_reports_without_end(site: Site) {
    let ada = site.account("ada", &[]).await;
    let mut refused = Vec::new();
    for _ in 0..140 {
        let error = json!({"event": "x", "error": "y"});
        let done = site.call(ada, "system.logClientError", error).await;
        refused.extend(done.err().map(|error: Error| error.code));
    }
    assert!(refused.contains(&Code::TooMany), "{}", refused.len());
    assert!(refused.iter().all(|code| *code == Code::TooMany));
}

async fn uses_of_files_are_told_to_members(site: Site) {
    let [ada, bob, eve] = [
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
        site.account("eve", &[]).await,
    ];
    let id = site.project(ada).await;
    site.add(ada, id, bob).await.unwrap();
    for (by, path, action) in [
        (ada, "a.txt", "open"),
        (bob, "a.txt", "open"),
        // Within the same minute it is not noted again.
        (ada, "a.txt", "open"),
        (ada, "b.txt", "edit"),
    ] {
        let touch = json!({"project_id": id, "path": path, "action": action});
        site.call(by, "db.touch", touch).await.unwrap();
    }
    let times = async |by, path: &str, of: Json| {
        let options = json!({"project_id": id, "path": path, "target_account_id": of});
        site.call(by, "db.fileUseTimes", options).await
    };
    let found = times(ada, "a.txt", Json::Null).await.unwrap();
    assert_eq!(found["target_account_id"], json!(ada));
    assert_eq!(found["access_times"].as_array().unwrap().len(), 1);
    let found = times(ada, "a.txt", json!(bob)).await.unwrap();
    assert_eq!(found["access_times"].as_array().unwrap().len(), 1);
    let found = times(ada, "b.txt", Json::Null).await.unwrap();
    assert_eq!(found["access_times"], json!([]));
    let refused = times(eve, "a.txt", json!(ada)).await.unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied);
    let edits = json!({"project_id": id, "path": "a.txt", "edit_times": true});
    let refused = site.call(ada, "db.fileUseTimes", edits).await.unwrap_err();
    assert_eq!(
        refused.code,
        Code::NotConfigured,
        "there are no streams here"
    );
}

async fn put_blob(site: &Site, bytes: &[u8], ttl: Option<Duration>) -> Uuid {
    let id = Uuid::new_v4();
    let mut on = site.store.write().await.unwrap();
    files::put_blob(&mut on, id, bytes, ttl).await.unwrap();
    on.commit().await.unwrap();
    id
}

async fn histories_from_before_streams_are_read(site: Site) {
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let id = site.project(ada).await;
    let blob = put_blob(&site, b"[{\"patch\": 1}]", None).await;
    let legacy = files::Legacy {
        blob,
        users: json!([id, ada]),
    };
    let mut on = site.store.write().await.unwrap();
    files::put_legacy(&mut on, "some-name", id, "a.txt", &legacy)
        .await
        .unwrap();
    on.commit().await.unwrap();
    let info = async |by, path: &str| {
        let file = json!({"project_id": id, "path": path});
        site.call(by, "db.getLegacyTimeTravelInfo", file).await
    };
    assert_eq!(
        info(ada, "a.txt").await.unwrap(),
        json!({"uuid": blob, "users": [id, ada]})
    );
    assert_eq!(info(ada, "b.txt").await.unwrap()["uuid"], "");
    assert_eq!(
        info(bob, "a.txt").await.unwrap_err().code,
        Code::PermissionDenied
    );
    let patches = async |uuid: Uuid| {
        site.call(ada, "db.getLegacyTimeTravelPatches", json!({"uuid": uuid}))
            .await
    };
    assert_eq!(patches(blob).await.unwrap(), "[{\"patch\": 1}]");
    assert_eq!(
        patches(Uuid::new_v4()).await.unwrap_err().code,
        Code::NotFound
    );
    let binary = put_blob(&site, &[0xff, 0], None).await;
    assert_eq!(
        patches(binary).await.unwrap_err().code,
        Code::FailedPrecondition
    );
}

async fn blobs_are_kept(site: Site) {
    let ada = site.account("ada", &[]).await;
    let over = put_blob(&site, b"x", Some(Duration::ZERO)).await;
    let soon = put_blob(&site, b"x", Some(Duration::from_hours(1))).await;
    let options = json!({"uuids": [over, soon, Uuid::new_v4()]});
    site.call(ada, "db.removeBlobTtls", options).await.unwrap();
    let mut on = site.store.write().await.unwrap();
    assert_eq!(files::blob(&mut on, over).await.unwrap(), None);
    assert!(files::blob(&mut on, soon).await.unwrap().is_some());
    // One that is kept for ever is not made to end by keeping it again for a while.
    files::put_blob(&mut on, soon, b"x", Some(Duration::ZERO))
        .await
        .unwrap();
    assert!(files::blob(&mut on, soon).await.unwrap().is_some());
}

async fn link(site: &Site, account: AccountId, strategy: &str) -> Json {
    let link = Link {
        strategy: strategy.to_owned(),
        external_id: format!("{account}"),
        account_id: account,
        profile: json!({"id": account, "first_name": "Ada"}),
    };
    let mut on = site.store.write().await.unwrap();
    passports::insert(&mut on, &link).await.unwrap();
    on.commit().await.unwrap();
    json!({"strategy": strategy, "id": format!("{account}")})
}

async fn unlink(site: &Site, by: AccountId, passport: &Json) -> Result<Json, Error> {
    site.call(by, "system.deletePassport", passport.clone())
        .await
}

/// Rule 14: whoever would be locked out is told so.
async fn the_last_way_to_sign_in_is_not_unlinked(site: Site) {
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let one = link(&site, ada, "google").await;
    let refused = unlink(&site, ada, &one).await.unwrap_err();
    assert_eq!(refused.reason, Some("LAST_SIGN_IN"));
    let refused = unlink(&site, bob, &one).await.unwrap_err();
    assert_eq!(refused.code, Code::NotFound, "it is not his");
    let other = link(&site, ada, "github").await;
    // Both at the same time: one of them stays.
    let (first, second) = tokio::join!(unlink(&site, ada, &one), unlink(&site, ada, &other));
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    let left = if first.is_ok() { other } else { one };
    let mut on = site.store.write().await.unwrap();
    let update = Update {
        password_hash: Some(Some("hash".to_owned())),
        ..Update::default()
    };
    accounts::update(&mut on, ada, update).await.unwrap();
    on.commit().await.unwrap();
    unlink(&site, ada, &left).await.unwrap();
    let refused = unlink(&site, ada, &left).await.unwrap_err();
    assert_eq!(refused.code, Code::NotFound);
}

async fn exclusive_ways_to_sign_in_stay(site: Site) {
    let ada = site.account("ada", &[]).await;
    let (campus, other) = (
        link(&site, ada, "campus").await,
        link(&site, ada, "github").await,
    );
    let mut on = site.store.write().await.unwrap();
    // Of two that say so, neither is unlinked.
    for strategy in ["also", "campus"] {
        let strategy = Stored {
            strategy: strategy.to_owned(),
            conf: json!({}),
            info: json!({"exclusive_domains": ["example.org"]}),
        };
        passports::put_strategy(&mut on, &strategy).await.unwrap();
    }
    on.commit().await.unwrap();
    let refused = unlink(&site, ada, &campus).await.unwrap_err();
    assert_eq!(refused.reason, Some("EXCLUSIVE"));
    unlink(&site, ada, &other).await.unwrap();
}

async fn who_vouches_for_an_account_is_a_field_of_it(site: Site) {
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let own = json!({"accounts": {"account_id": null, "passports": null}});
    let read =
        async |who| site.query(who, own.clone()).await.unwrap()["accounts"]["passports"].clone();
    assert_eq!(read(ada).await, json!({}));
    link(&site, ada, "my-campus").await;
    let said = json!({format!("my-campus-{ada}"): {"id": ada, "first_name": "Ada"}});
    assert_eq!(read(ada).await, said);
    assert_eq!(read(bob).await, json!({}));
    let write = json!({"accounts": {"passports": {}}});
    let refused = site.query(ada, write).await.unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied);
}

async fn an_address_is_verified_by_letter(site: Site) {
    let ada = site.account("ada", &[]).await;
    let ask = async || {
        site.call(
            ada,
            "system.sendEmailVerification",
            json!({"only_verify": true}),
        )
        .await
    };
    ask().await.unwrap();
    let mut codes = Vec::new();
    for _ in 0..4 {
        codes.extend(ask().await.err().map(|error| error.code));
    }
    assert!(codes.contains(&Code::TooMany), "{codes:?}");
    let letters = site.letters().await;
    assert!(
        letters
            .iter()
            .all(|letter| letter.contains("To: ada@example.org"))
    );
    assert!(letters[0].contains("/auth/verify?token="), "{letters:?}");
}

async fn what_a_hub_has_not_is_not_configured(site: Site) {
    let bare = site.without_extras().await;
    let (ada, admin) = (
        bare.account("ada", &[]).await,
        bare.account("root", &["admin"]).await,
    );
    let id: ProjectId = bare.project(ada).await;
    for (by, name, options) in [
        (ada, "system.sendEmailVerification", json!({})),
        (ada, "sync.history", json!({"project_id": id, "path": "a"})),
        (ada, "jupyter.kernels", json!({})),
        (ada, "system.userSalesloftSync", json!({})),
        (admin, "system.terminate", json!({"service": "api"})),
    ] {
        let refused = bare.call(by, name, options).await.unwrap_err();
        assert_eq!(refused.code, Code::NotConfigured, "{name}: {refused}");
    }
}
