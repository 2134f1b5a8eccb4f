//! Following queries: what followers are told, that nothing is told to others, and going on with another hub.

use std::sync::Arc;

use dialtone_hub::api::{Code, Error};
use dialtone_hub::caller::Caller;
use dialtone_hub::id::AccountId;
use dialtone_hub::query::{Event, Feed, FeedBounds, FeedService, Feeds};
use dialtone_hub::store::Store;
use dialtone_testkit::world::World as Broker;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Site, on_both};

on_both! {
    followers_are_told_what_changes_and_nothing_else,
    a_follower_goes_on_with_another_hub,
    what_was_missed_and_is_not_kept_is_read_anew,
    a_feed_ends_with_the_right_to_it,
    only_lists_with_their_keys_are_followed,
    a_feed_follows_who_is_in_which_organization,
    feeds_of_a_caller_hold_so_much,
}

/// A hub that tells feeds of changes.
struct Hub {
    feeds: Feeds<Store>,
    stop: CancellationToken,
}

impl Hub {
    async fn on(site: &Site, bounds: FeedBounds) -> Self {
        let authority = Arc::clone(&site.authority);
        let feeds = Feeds::open_on(site.store.clone(), authority, bounds);
        let (feeds, stop) = (feeds.await.unwrap(), CancellationToken::new());
        let (running, stopping) = (feeds.clone(), stop.clone());
        TaskTracker::new().spawn(async move { running.run(&stopping).await });
        Self { feeds, stop }
    }

    async fn follow(
        &self,
        account: AccountId,
        query: Json,
        after: Option<i64>,
    ) -> Result<Feed<Store>, Error> {
        let caller = Caller::Account(account);
        self.feeds.open(caller, query, Json::Null, after).await
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn projects() -> Json {
    json!({"projects": [{"project_id": null, "title": null, "users": null}]})
}

/// The rows with which a feed begins.
async fn rows(feed: &mut Feed<Store>) -> Vec<Json> {
    match feed.next().await.unwrap() {
        Event::Rows { rows, .. } => rows,
        Event::Updates { .. } => panic!("a feed begins with rows"),
    }
}

/// The next updates, as clients see them.
async fn updates(feed: &mut Feed<Store>) -> Json {
    match feed.next().await.unwrap() {
        Event::Updates { updates, .. } => json!(updates),
        Event::Rows { .. } => panic!("nothing was missed"),
    }
}

async fn title(site: &Site, who: AccountId, project: &Json, title: &str) {
    let set = json!({"projects": {"project_id": project, "title": title}});
    site.query(who, set).await.unwrap();
}

async fn followers_are_told_what_changes_and_nothing_else(site: Site) {
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let first = json!(site.project(ada).await);
    let hub = Hub::on(&site, FeedBounds::default()).await;
    let mut feed = hub.follow(ada, projects(), None).await.unwrap();
    let mut bobs = hub.follow(bob, projects(), None).await.unwrap();
    assert_eq!(rows(&mut feed).await[0]["project_id"], first);
    assert!(rows(&mut bobs).await.is_empty());

    title(&site, ada, &first, "Other notes").await;
    assert_eq!(
        updates(&mut feed).await,
        json!([{"action": "update",
            "new_val": {"project_id": first, "title": "Other notes"},
            "old_val": {"project_id": first, "title": "Notes"}}])
    );
    let second = site.project(ada).await;
    let told = updates(&mut feed).await;
    assert_eq!(told[0]["action"], "insert");
    assert_eq!(told[0]["new_val"]["project_id"], json!(second));

    // Whoever becomes a member sees the project, and that is the first that Bob hears.
    site.add(ada, second, bob).await.unwrap();
    let told = updates(&mut bobs).await;
    assert_eq!(
        (&told[0]["action"], told.as_array().unwrap().len()),
        (&json!("insert"), 1)
    );
    assert_eq!(told[0]["new_val"]["project_id"], json!(second));
    let told = updates(&mut feed).await;
    assert_eq!(
        told[0]["new_val"]["users"][bob.to_string()]["group"],
        "collaborator"
    );
    let options = json!({"opts": {"project_id": second, "account_id": bob}});
    site.call(ada, "projects.removeCollaborator", options)
        .await
        .unwrap();
    assert_eq!(
        updates(&mut bobs).await,
        json!([{"action": "delete", "old_val": {"project_id": second}}])
    );
    drop((feed, bobs));
    assert_eq!(hub.feeds.count(), 0);
}

async fn a_follower_goes_on_with_another_hub(site: Site) {
    let ada = site.account("ada", &[]).await;
    let (kept, changed, gone) = (
        json!(site.project(ada).await),
        json!(site.project(ada).await),
        site.project(ada).await,
    );
    let hub = Hub::on(&site, FeedBounds::default()).await;
    let mut feed = hub.follow(ada, projects(), None).await.unwrap();
    assert_eq!(rows(&mut feed).await.len(), 3);
    let seq = feed.seq();
    drop((feed, hub));

    title(&site, ada, &changed, "While nobody looked").await;
    let bob = site.account("bob", &[]).await;
    site.add(ada, gone, bob).await.unwrap();
    site.call(
        ada,
        "projects.changeUserType",
        json!({"opts": {"project_id": gone, "target_account_id": bob, "new_group": "owner"}}),
    )
    .await
    .unwrap();
    site.call(ada, "projects.changeUserType", json!({"opts": {"project_id": gone, "target_account_id": ada, "new_group": "collaborator"}}))
        .await
        .unwrap();

    let hub = Hub::on(&site, FeedBounds::default()).await;
    let titles = json!({"projects": [{"project_id": null, "title": null}]});
    let mut feed = hub.follow(ada, titles, Some(seq)).await.unwrap();
    // Who is a member of what has changed for the caller: all rows are told.
    let all = rows(&mut feed).await;
    assert_eq!(all.len(), 3);
    let seq = feed.seq();
    title(&site, ada, &changed, "Again").await;
    let hub = Hub::on(&site, FeedBounds::default()).await;
    let mut feed = hub.follow(ada, projects(), Some(seq)).await.unwrap();
    let told = updates(&mut feed).await;
    assert_eq!(told.as_array().unwrap().len(), 1, "{told}");
    assert_eq!(told[0]["action"], "insert");
    assert_eq!(told[0]["new_val"]["title"], "Again");
    // And from here on as ever.
    title(&site, ada, &kept, "Now").await;
    assert_eq!(updates(&mut feed).await[0]["new_val"]["title"], "Now");
}

async fn what_was_missed_and_is_not_kept_is_read_anew(site: Site) {
    let ada = site.account("ada", &[]).await;
    let project = site.project(ada).await;
    let hub = Hub::on(&site, FeedBounds::default()).await;
    // Of another database, or of this one before it was restored.
    let mut feed = hub.follow(ada, projects(), Some(1_000_000)).await.unwrap();
    assert_eq!(rows(&mut feed).await[0]["project_id"], json!(project));
    let seq = feed.seq();
    // What others do is not told, not even that there is something.
    let bob = site.account("bob", &[]).await;
    let bobs = json!(site.project(bob).await);
    title(&site, bob, &bobs, "Secret").await;
    let mut feed = hub.follow(ada, projects(), Some(seq)).await.unwrap();
    assert_eq!(updates(&mut feed).await, json!([]), "nothing was missed");
}

async fn a_feed_ends_with_the_right_to_it(site: Site) {
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let project = site.project(ada).await;
    site.add(ada, project, bob).await.unwrap();
    let hub = Hub::on(&site, FeedBounds::default()).await;
    let one = json!({"projects": [{"project_id": project, "title": null}]});
    let mut feed = hub.follow(bob, one.clone(), None).await.unwrap();
    assert_eq!(rows(&mut feed).await.len(), 1);
    let options = json!({"opts": {"project_id": project, "account_id": bob}});
    site.call(ada, "projects.removeCollaborator", options)
        .await
        .unwrap();
    let ended = feed.next().await.unwrap_err();
    assert_eq!(ended.code, Code::PermissionDenied, "{ended}");
    let refused = hub.follow(bob, one, None).await.unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied, "{refused}");
}

async fn only_lists_with_their_keys_are_followed(site: Site) {
    let ada = site.account("ada", &[]).await;
    let bounds = FeedBounds {
        per_caller_max: 2,
        ..FeedBounds::default()
    };
    let hub = Hub::on(&site, bounds).await;
    for query in [
        json!({"projects": {"project_id": null}}),
        json!({"projects": [{"title": null}]}),
        json!({"projects": [{"project_id": null, "secret_token": null}]}),
        json!({"nothing": [{"id": null}]}),
        json!([projects()]),
        json!({"projects": {"project_id": "00000000-0000-4000-8000-000000000000", "title": "x"}}),
    ] {
        let refused = hub.follow(ada, query.clone(), None).await;
        assert!(refused.is_err(), "{query}");
    }
    assert_eq!(hub.feeds.count(), 0);
    let one = hub.follow(ada, projects(), None).await.unwrap();
    let _two = hub.follow(ada, projects(), None).await.unwrap();
    let third = hub.follow(ada, projects(), None).await.unwrap_err();
    assert_eq!(third.code, Code::TooMany);
    drop(one);
    assert!(hub.follow(ada, projects(), None).await.is_ok());
}

/// Over a broker: many answers to one request, until whoever asked has gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feeds_are_answers_to_a_request() {
    let site = Site::sqlite().await;
    let ada = site.account("ada", &[]).await;
    let project = json!(site.project(ada).await);
    let hub = Hub::on(&site, FeedBounds::default()).await;
    let broker = Broker::new(1).await;
    let own = broker.client().await.unwrap();
    let service = FeedService::start(&own, &hub.feeds).await.unwrap();
    let client = broker.client().await.unwrap();
    let mut answers = client.subscribe("answers.here").await.unwrap();
    let ask = |query: Json| {
        let payload = serde_json::to_vec(&json!({ "query": query })).unwrap();
        client
            .message(format!("changefeeds.account-{ada}.open"))
            .encoding(dialtone_client::Encoding::Json)
            .reply("answers.here")
            .payload(payload)
            .publish()
    };
    ask(projects()).await.unwrap();
    let first: Json = answers.next().await.unwrap().json().unwrap();
    assert_eq!(first["rows"][0]["project_id"], project);
    title(&site, ada, &project, "Told").await;
    let second: Json = answers.next().await.unwrap().json().unwrap();
    assert_eq!(second["updates"][0]["new_val"]["title"], "Told");
    assert!(second["seq"].as_i64() > first["seq"].as_i64());
    ask(json!({"projects": [{"title": null}]})).await.unwrap();
    let refused: Json = answers.next().await.unwrap().json().unwrap();
    assert_eq!(refused["code"], "invalid-argument", "{refused}");
    // The hub goes, and says so.
    service.stop().await;
    let last: Json = answers.next().await.unwrap().json().unwrap();
    assert_eq!(last["code"], "unavailable", "{last}");
    assert_eq!(hub.feeds.count(), 0);
    client.close().await;
    own.close().await;
    broker.stop().await;
}

async fn a_feed_follows_who_is_in_which_organization(site: Site) {
    let [root, ada, bob] = [
        site.account("root", &["admin"]).await,
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    ];
    for name in ["north", "south"] {
        site.call(root, "org.create", json!({ "name": name }))
            .await
            .unwrap();
    }
    let hub = Hub::on(&site, FeedBounds::default()).await;
    let query =
        json!({"organizations": [{"organization_id": null, "name": null, "is_admin": null}]});
    let mut feed = hub.follow(ada, query.clone(), None).await.unwrap();
    let mut bobs = hub.follow(bob, query, None).await.unwrap();
    assert!(rows(&mut feed).await.is_empty() && rows(&mut bobs).await.is_empty());
    let join = |name: &str, who: AccountId| json!({"name": name, "user": who});
    site.call(root, "org.addUser", join("north", ada))
        .await
        .unwrap();
    let told = updates(&mut feed).await;
    assert_eq!(told[0]["action"], "insert");
    assert_eq!(told[0]["new_val"]["name"], "north");
    site.call(root, "org.addAdmin", join("north", ada))
        .await
        .unwrap();
    let told = updates(&mut feed).await;
    assert_eq!(told[0]["new_val"]["is_admin"], true);
    site.call(root, "org.removeAdmin", join("north", ada))
        .await
        .unwrap();
    updates(&mut feed).await;
    site.call(root, "org.removeUser", join("north", ada))
        .await
        .unwrap();
    assert_eq!(updates(&mut feed).await[0]["action"], "delete");
    // The first that Bob hears is about himself.
    site.call(root, "org.addUser", join("south", bob))
        .await
        .unwrap();
    assert_eq!(updates(&mut bobs).await[0]["new_val"]["name"], "south");
}

async fn feeds_of_a_caller_hold_so_much(site: Site) {
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let id = json!(site.project(ada).await);
    let bounds = FeedBounds {
        bytes_per_caller_max: 10_000,
        ..FeedBounds::default()
    };
    let hub = Hub::on(&site, bounds).await;
    let query = json!({"projects": [{"project_id": null, "description": null}]});
    let mut feed = hub.follow(ada, query.clone(), None).await.unwrap();
    assert_eq!(rows(&mut feed).await.len(), 1);
    let describe = |text: String| json!({"projects": {"project_id": id, "description": text}});
    site.query(ada, describe("x".repeat(5_000))).await.unwrap();
    updates(&mut feed).await;
    // Another one has as much, and that is too much for both.
    let refused = hub.follow(ada, query.clone(), None).await.unwrap_err();
    assert_eq!(refused.code, Code::TooMany);
    hub.follow(bob, query.clone(), None).await.unwrap();
    site.query(ada, describe("x".repeat(20_000))).await.unwrap();
    assert_eq!(feed.next().await.unwrap_err().code, Code::TooMany);
    drop(feed);
    site.query(ada, describe(String::new())).await.unwrap();
    hub.follow(ada, query, None).await.unwrap();
    assert_eq!(hub.feeds.count(), 0);
}
