//! Tables of `db.userQuery` beside those about accounts and projects themselves.

use std::collections::BTreeSet;

use dialtone_hub::api::{Code, Request};
use dialtone_hub::caller::Caller;
use dialtone_hub::id::{AccountId, ProjectId};
use dialtone_hub::query::{TABLES, Who};
use dialtone_hub::store::throttle;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{Site, on_both};

on_both! {
    every_table_is_read_by_those_who_may,
    who_is_in_a_project_is_seen_by_those_in_it,
    a_mention_keeps_its_author,
    listings_are_written_by_their_project,
    what_is_published_is_seen_by_everybody,
    stars_are_ones_own,
    licences_are_changed_by_those_who_look_after_them,
    groups_are_changed_by_their_owners,
    news_are_written_by_administrators,
    secrets_of_ways_to_sign_in_are_not_read,
}

async fn now(site: &Site) -> i64 {
    let mut on = site.store.read().await.unwrap();
    throttle::now(&mut on).await.unwrap().millis()
}

async fn query_as_project(site: &Site, id: ProjectId, query: Json) -> Result<Json, Code> {
    let request = json!({"name": "db.userQuery", "args": [{"query": query}]});
    let request: Request = serde_json::from_value(request).unwrap();
    let done = site.api().call(Caller::Project(id), request).await;
    done.map_err(|error| error.code)
}

/// Each table is asked for every field that it has, so that none names a column that does not exist, and by those who
/// may not.
async fn every_table_is_read_by_those_who_may(site: Site) {
    let (root, ada) = (
        site.account("root", &["admin"]).await,
        site.account("ada", &[]).await,
    );
    let id = site.project(ada).await;
    let named = |column: &str| match column {
        "project_id" => json!(id),
        "account_id" => json!(ada),
        _ => json!(Uuid::nil()),
    };
    let mut read = BTreeSet::new();
    for table in TABLES {
        let Some(get) = &table.get else {
            continue;
        };
        let mut fields = serde_json::Map::new();
        for field in table.fields.iter().filter(|field| field.read) {
            let is_key = table.key.contains(&field.column)
                && matches!(field.name, "project_id" | "account_id" | "id")
                && matches!(field.kind, dialtone_hub::query::Kind::Uuid);
            let value = if is_key {
                named(field.column)
            } else {
                Json::Null
            };
            fields.insert(field.name.to_owned(), value);
        }
        if table.name == "public_paths_by_id" {
            fields.insert("id".to_owned(), json!("x"));
        }
        let query = json!({ table.name: [fields] });
        let is_admins = get.who == Who::Admin;
        let found = site
            .query(if is_admins { root } else { ada }, query.clone())
            .await;
        let found = found.unwrap_or_else(|error| panic!("{}: {error}", table.name));
        assert!(found[table.name].is_array(), "{found}");
        if is_admins {
            let refused = site.query(ada, query.clone()).await.unwrap_err();
            assert_eq!(refused.code, Code::PermissionDenied, "{}", table.name);
        }
        if get.who == Who::Account || is_admins {
            let refused = query_as_project(&site, id, query).await;
            assert_eq!(refused, Err(Code::NotSignedIn), "{}", table.name);
        }
        read.insert(table.name);
    }
    assert!(read.len() > 35, "{read:?}");
}

async fn who_is_in_a_project_is_seen_by_those_in_it(site: Site) {
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let id = site.project(ada).await;
    let members = json!({"collaborators_one_project": [{"project_id": id, "account_id": null, "group": null, "first_name": null}]});
    let found = site.query(ada, members.clone()).await.unwrap();
    let expected =
        json!([{"project_id": id, "account_id": ada, "group": "owner", "first_name": "ada"}]);
    assert_eq!(found["collaborators_one_project"], expected);
    let refused = site.query(bob, members).await.unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied);
    let unnamed = json!({"collaborators_one_project": [{"project_id": null, "account_id": null}]});
    let refused = site.query(ada, unnamed).await.unwrap_err();
    assert_eq!(refused.code, Code::InvalidArgument);
}

async fn a_mention_keeps_its_author(site: Site) {
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let id = site.project(ada).await;
    site.add(ada, id, bob).await.unwrap();
    let time = now(&site).await;
    let mention = |fields: Json| {
        let mut mention = json!({"time": time, "project_id": id, "path": "a.txt", "target": bob});
        mention
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        json!({"mentions": mention})
    };
    site.query(
        ada,
        mention(json!({"description": "see here", "source": bob})),
    )
    .await
    .unwrap();
    site.query(
        bob,
        mention(json!({"users": {bob.to_string(): {"read": true}}})),
    )
    .await
    .unwrap();
    let read = json!({"mentions": [{"source": null, "description": null, "users": null}]});
    let found = site.query(bob, read.clone()).await.unwrap();
    let expected = json!([{"source": ada, "description": "see here", "users": {bob.to_string(): {"read": true}}}]);
    assert_eq!(found["mentions"], expected);
    let stranger = site.account("eve", &[]).await;
    assert_eq!(
        site.query(stranger, read).await.unwrap()["mentions"],
        json!([])
    );
    let refused = site
        .query(stranger, mention(json!({"description": "spam"})))
        .await;
    assert_eq!(refused.unwrap_err().code, Code::PermissionDenied);
}

async fn listings_are_written_by_their_project(site: Site) {
    let ada = site.account("ada", &[]).await;
    let (id, other) = (site.project(ada).await, site.project(ada).await);
    let write = json!({"listings": {"project_id": other, "path": "", "compute_server_id": 0, "listing": [{"name": "a"}]}});
    query_as_project(&site, id, write.clone()).await.unwrap();
    let refused = site.query(ada, write).await.unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied);
    let read = json!({"listings": [{"project_id": null, "path": null, "listing": null}]});
    let found = site.query(ada, read).await.unwrap();
    let expected = json!([{"project_id": id, "path": "", "listing": [{"name": "a"}]}]);
    assert_eq!(found["listings"], expected);
}

async fn publish(site: &Site, by: AccountId, id: ProjectId, path: &str, more: Json) -> String {
    let mut row = json!({"project_id": id, "path": path});
    row.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    site.query(by, json!({"public_paths": row})).await.unwrap();
    let read = json!({"public_paths": [{"project_id": id, "path": path, "id": null}]});
    let found = site.query(by, read).await.unwrap();
    found["public_paths"][0]["id"].as_str().unwrap().to_owned()
}

async fn what_is_published_is_seen_by_everybody(site: Site) {
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let (id, quiet) = (site.project(ada).await, site.project(ada).await);
    let shown = publish(&site, ada, id, "a.txt", json!({"description": "mine"})).await;
    let hidden = publish(&site, ada, quiet, "b.txt", json!({"disabled": true})).await;
    assert_eq!(shown.len(), 40);
    let by_id = |path: &str| json!({"public_paths_by_id": {"id": path, "path": null}});
    let found = site.query(bob, by_id(&shown)).await.unwrap();
    assert_eq!(
        found["public_paths_by_id"],
        json!({"id": shown, "path": "a.txt"})
    );
    assert_eq!(site.query(bob, by_id(&hidden)).await.unwrap(), json!({}));
    let project = |id: ProjectId| json!({"public_projects": {"project_id": id, "title": null}});
    let found = site.query(bob, project(id)).await.unwrap();
    assert_eq!(found["public_projects"]["title"], "Notes");
    assert_eq!(site.query(bob, project(quiet)).await.unwrap(), json!({}));
    let own = json!({"public_paths": [{"id": null}]});
    assert_eq!(
        site.query(bob, own).await.unwrap()["public_paths"],
        json!([])
    );
    let taken =
        json!({"public_paths": {"project_id": id, "path": "a.txt", "vhost": "evil.example"}});
    let refused = site.query(ada, taken).await.unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied);
    let foreign = json!({"public_paths": {"project_id": id, "path": "a.txt", "disabled": true}});
    let refused = site.query(bob, foreign).await.unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied);
}

async fn stars_are_ones_own(site: Site) {
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let id = site.project(ada).await;
    let path = publish(&site, ada, id, "a.txt", json!({})).await;
    let star = json!({"public_path_stars": {"public_path_id": path, "account_id": ada}});
    // Nothing but what names the row is written, and that is enough.
    site.query_with(bob, star.clone(), json!({"set": true}))
        .await
        .unwrap();
    let read = json!({"public_path_stars": [{"public_path_id": null, "account_id": null}]});
    let found = site.query(bob, read.clone()).await.unwrap();
    assert_eq!(
        found["public_path_stars"],
        json!([{"public_path_id": path, "account_id": bob}])
    );
    assert_eq!(
        site.query(ada, read.clone()).await.unwrap()["public_path_stars"],
        json!([])
    );
    site.query_with(bob, star, json!({"delete": true}))
        .await
        .unwrap();
    assert_eq!(
        site.query(bob, read).await.unwrap()["public_path_stars"],
        json!([])
    );
}

async fn licences_are_changed_by_those_who_look_after_them(site: Site) {
    let [root, ada, bob] = [
        site.account("root", &["admin"]).await,
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    ];
    let id = Uuid::new_v4();
    let make =
        json!({"site_licenses": {"id": id, "title": "Course", "managers": [ada], "run_limit": 3}});
    site.query(root, make.clone()).await.unwrap();
    assert_eq!(
        site.query(ada, make).await.unwrap_err().code,
        Code::PermissionDenied
    );
    let name = json!({"manager_site_licenses": {"id": id, "title": "My course"}});
    site.query(ada, name.clone()).await.unwrap();
    assert_eq!(
        site.query(bob, name).await.unwrap_err().code,
        Code::PermissionDenied
    );
    let more = json!({"manager_site_licenses": {"id": id, "run_limit": 300}});
    assert_eq!(
        site.query(ada, more).await.unwrap_err().code,
        Code::PermissionDenied
    );
    let read = json!({"manager_site_licenses": [{"title": null, "run_limit": null}]});
    let found = site.query(ada, read.clone()).await.unwrap();
    assert_eq!(
        found["manager_site_licenses"],
        json!([{"title": "My course", "run_limit": 3}])
    );
    assert_eq!(
        site.query(bob, read).await.unwrap()["manager_site_licenses"],
        json!([])
    );
    let public = json!({"site_license_public_info": {"id": id, "title": null}});
    let found = site.query(bob, public).await.unwrap();
    assert_eq!(found["site_license_public_info"]["title"], "My course");
    let used = json!({"license": id});
    let project = site
        .call(bob, "projects.createProject", used)
        .await
        .unwrap();
    let read = json!({"projects": {"project_id": project, "site_license": null}});
    let found = site.query(bob, read).await.unwrap();
    assert_eq!(
        found["projects"]["site_license"],
        json!({id.to_string(): {}})
    );
}

async fn groups_are_changed_by_their_owners(site: Site) {
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let id = Uuid::new_v4();
    let make =
        json!({"create_group": {"group_id": id, "owner_account_ids": [bob], "title": "Lab"}});
    site.query(ada, make.clone()).await.unwrap();
    assert_eq!(
        site.query(bob, make).await.unwrap_err().code,
        Code::Conflict
    );
    let change = json!({"groups": {"group_id": id, "title": "Mine"}});
    assert_eq!(
        site.query(bob, change.clone()).await.unwrap_err().code,
        Code::PermissionDenied
    );
    site.query(ada, change).await.unwrap();
    let read = json!({"groups": [{"title": null, "owner_account_ids": null}]});
    let found = site.query(ada, read.clone()).await.unwrap();
    assert_eq!(
        found["groups"],
        json!([{"title": "Mine", "owner_account_ids": [ada]}])
    );
    assert_eq!(site.query(bob, read).await.unwrap()["groups"], json!([]));
}

async fn news_are_written_by_administrators(site: Site) {
    let (root, ada) = (
        site.account("root", &["admin"]).await,
        site.account("ada", &[]).await,
    );
    let now = now(&site).await;
    let old = now - 93 * 86_400_000;
    for (id, date, hide) in [(1, now, false), (2, old, false), (3, now, true)] {
        let row = json!({"news": {"id": id, "date": date, "title": "New", "hide": hide}});
        assert_eq!(
            site.query(ada, row.clone()).await.unwrap_err().code,
            Code::PermissionDenied
        );
        site.query(root, row).await.unwrap();
    }
    let read = json!({"news": [{"id": null, "title": null}]});
    let found = site.query(ada, read).await.unwrap();
    assert_eq!(found["news"], json!([{"id": 1, "title": "New"}]));
}

/// Rule 11: secrets are never read through queries.
async fn secrets_of_ways_to_sign_in_are_not_read(site: Site) {
    let root = site.account("root", &["admin"]).await;
    let write = json!({"passport_settings": {"strategy": "google", "conf": {"clientSecret": "swordfish"}, "info": {"display": "G"}}});
    site.query(root, write).await.unwrap();
    let read = json!({"passport_settings": [{"strategy": null, "info": null}]});
    let found = site.query(root, read).await.unwrap();
    assert_eq!(
        found["passport_settings"],
        json!([{"strategy": "google", "info": {"display": "G"}}])
    );
    for read in [
        json!({"passport_settings": [{"strategy": null, "conf": null}]}),
        json!({"passport_settings": [{"strategy": null, "conf": {"!=": "x"}}]}),
    ] {
        let refused = site.query(root, read).await.unwrap_err();
        assert_eq!(refused.code, Code::PermissionDenied);
    }
}
