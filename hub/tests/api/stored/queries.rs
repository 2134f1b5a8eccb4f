//! `db.userQuery` on a store: what is read, what is written, and what stays out of reach.

use dialtone_hub::api::Code;
use dialtone_hub::id::AccountId;
use dialtone_hub::settings;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{Site, on_both};

on_both! {
    one_reads_and_writes_ones_own_account,
    settings_of_an_account_are_merged,
    projects_are_seen_by_their_members,
    collaborators_are_those_who_share_a_project,
    a_row_of_another_project_is_not_taken_over,
    entries_of_others_stay_as_they_are,
    filters_and_orders_work_alike,
    uses_of_files_are_one_row_each,
    the_site_is_for_administrators,
    what_browsers_note_is_noted_once,
    a_project_is_hidden_for_oneself,
    several_queries_are_done_in_order,
}

async fn one_reads_and_writes_ones_own_account(site: Site) {
    let me = site.account("ada", &[]).await;
    let other = site.account("bob", &[]).await;
    let write = json!({"accounts": {"account_id": other, "first_name": "Countess", "name": "ada", "font_size": 14}});
    assert_eq!(site.query(me, write).await.unwrap(), json!({}));
    let read = json!({"accounts": {"account_id": null, "first_name": null, "name": null, "font_size": null, "autosave": null, "groups": null}});
    assert_eq!(
        site.query(me, read.clone()).await.unwrap(),
        json!({"accounts": {"account_id": me, "first_name": "Countess", "name": "ada", "font_size": 14, "groups": []}})
    );
    assert_eq!(
        site.query(other, read).await.unwrap()["accounts"]["first_name"],
        "bob"
    );
    // Somebody else has this name, in whatever case.
    let taken = json!({"accounts": {"name": "ADA"}});
    assert_eq!(
        site.query(other, taken).await.unwrap_err().code,
        Code::Conflict
    );
    let named = json!({"accounts": {"account_id": me, "email_address": null}});
    assert_eq!(site.query(other, named).await.unwrap(), json!({}));
}

async fn settings_of_an_account_are_merged(site: Site) {
    let me = site.account("ada", &[]).await;
    for patch in [
        json!({"a": {"b": 1, "c": 2}}),
        json!({"a": {"c": 3}, "d": 4}),
        json!({"a": {"b": 5}}),
    ] {
        let write = json!({"accounts": {"other_settings": patch}});
        site.query(me, write).await.unwrap();
    }
    let delete = json!({"accounts": {"other_settings": {"d": null}}});
    site.query_with(me, delete, json!({"set": true}))
        .await
        .unwrap();
    let read = json!({"accounts": {"other_settings": null}});
    assert_eq!(
        site.query(me, read).await.unwrap(),
        json!({"accounts": {"other_settings": {"a": {"b": 5, "c": 3}}}})
    );
    let large = "x".repeat(200_000);
    for (name, done) in [("one", true), ("two", false)] {
        let write = json!({"accounts": {"other_settings": {name: large}}});
        assert_eq!(site.query(me, write).await.is_ok(), done, "{name}");
    }
}

fn titles(found: &Json) -> Vec<&str> {
    let rows = found["projects"].as_array().unwrap();
    rows.iter()
        .map(|row| row["title"].as_str().unwrap())
        .collect()
}

async fn projects_are_seen_by_their_members(site: Site) {
    let (owner, member) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let project = site.project(owner).await;
    let all =
        json!({"projects": [{"project_id": null, "title": null, "users": null, "deleted": null}]});
    let found = site.query(owner, all.clone()).await.unwrap();
    assert_eq!(
        found,
        json!({"projects": [{
            "project_id": project, "title": "Notes", "deleted": false,
            "users": {owner.to_string(): {"group": "owner", "hide": false}},
        }]})
    );
    assert_eq!(
        site.query(member, all.clone()).await.unwrap(),
        json!({"projects": []})
    );
    let one = json!({"projects": {"project_id": project, "title": null}});
    assert_eq!(
        site.query(member, one.clone()).await.unwrap_err().code,
        Code::PermissionDenied
    );
    let write = json!({"projects": {"project_id": project, "title": "Mine"}});
    assert_eq!(
        site.query(member, write.clone()).await.unwrap_err().code,
        Code::PermissionDenied
    );
    site.add(owner, project, member).await.unwrap();
    site.query(member, write).await.unwrap();
    assert_eq!(titles(&site.query(member, all).await.unwrap()), ["Mine"]);
    // What only owners may change.
    let owned = json!({"projects_owner": {"project_id": project, "manage_users_owner_only": true}});
    assert_eq!(
        site.query(member, owned.clone()).await.unwrap_err().code,
        Code::PermissionDenied
    );
    site.query(owner, owned).await.unwrap();
}

async fn collaborators_are_those_who_share_a_project(site: Site) {
    let (one, two, three) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
        site.account("eve", &[]).await,
    );
    let project = site.project(one).await;
    site.add(one, project, two).await.unwrap();
    let seen = async |account: AccountId| {
        let query = json!({"collaborators": [{"account_id": null, "first_name": null}]});
        let found = site
            .query_with(account, query, json!({"order_by": "first_name"}))
            .await
            .unwrap();
        let rows = found["collaborators"].as_array().unwrap().clone();
        rows.iter()
            .map(|row| row["first_name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(one).await, ["ada", "bob"]);
    assert_eq!(seen(two).await, ["ada", "bob"]);
    assert_eq!(seen(three).await, ["eve"]);
}

/// Who knows the identifier of a row of another project gets nothing by naming a project of its own with it.
async fn a_row_of_another_project_is_not_taken_over(site: Site) {
    let (victim, attacker) = (
        site.account("ada", &[]).await,
        site.account("eve", &[]).await,
    );
    let (theirs, own) = (site.project(victim).await, site.project(attacker).await);
    let token = "0123456789abcdefghij";
    let row = |project, limit: i64| json!({"project_invite_tokens": {"token": token, "project_id": project, "usage_limit": limit}});
    site.query(victim, row(theirs, 1)).await.unwrap();
    let refused = site.query(attacker, row(own, 99)).await.unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied);
    let read = json!({"project_invite_tokens": [{"token": null, "project_id": null, "usage_limit": null, "counter": null}]});
    assert_eq!(
        site.query(victim, read.clone()).await.unwrap(),
        json!({"project_invite_tokens": [{"token": token, "project_id": theirs, "usage_limit": 1, "counter": 0}]})
    );
    assert_eq!(
        site.query(attacker, read).await.unwrap(),
        json!({"project_invite_tokens": []})
    );
}

async fn entries_of_others_stay_as_they_are(site: Site) {
    let (owner, member) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let project = site.project(owner).await;
    site.add(owner, project, member).await.unwrap();
    let id = Uuid::new_v4();
    let entry = |text: &str| json!({"project_log": {"id": id, "project_id": project, "event": {"event": text}}});
    site.query(owner, entry("one")).await.unwrap();
    site.query(owner, entry("two")).await.unwrap();
    let refused = site.query(member, entry("three")).await.unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied);
    let read = json!({"project_log": [{"id": id, "event": null, "account_id": null}]});
    assert_eq!(
        site.query(member, read).await.unwrap(),
        json!({"project_log": [{"id": id, "event": {"event": "two"}, "account_id": owner}]})
    );
}

async fn filters_and_orders_work_alike(site: Site) {
    let me = site.account("ada", &[]).await;
    for title in ["b", "A", "a_c", "ä", "abc"] {
        let options = json!({"title": title});
        site.call(me, "projects.createProject", options)
            .await
            .unwrap();
    }
    let found = async |filter: Json, options: Json| {
        let query = json!({"projects": [{"title": filter}]});
        let found = site.query_with(me, query, options).await.unwrap();
        titles(&found)
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let by_title = json!([{"order_by": "title"}, {"set": false}]);
    assert_eq!(
        found(Json::Null, by_title.clone()).await,
        ["A", "a_c", "abc", "b", "ä"]
    );
    let backwards = json!([{"order_by": "-title"}, {"limit": 2}]);
    assert_eq!(found(Json::Null, backwards).await, ["ä", "b"]);
    assert_eq!(
        found(json!({"ILIKE": "a%"}), by_title.clone()).await,
        ["A", "a_c", "abc"]
    );
    assert_eq!(
        found(json!({"ILIKE": "a\\_%"}), by_title.clone()).await,
        ["a_c"]
    );
    assert_eq!(
        found(json!({">": "a", "<": "b"}), by_title.clone()).await,
        ["a_c", "abc"]
    );
    assert_eq!(
        found(json!({"!=": "A"}), by_title.clone()).await,
        ["a_c", "abc", "b", "ä"]
    );
    assert_eq!(
        found(
            json!({"ANY": ["b", "A", "x'; DROP TABLE projects; --"]}),
            by_title.clone()
        )
        .await,
        ["A", "b"]
    );
    let query =
        json!({"projects": [{"title": "b", "last_started": {"IS": null}, "created": {">": 0}}]});
    assert_eq!(
        titles(&site.query_with(me, query, by_title).await.unwrap()),
        ["b"]
    );
}

async fn uses_of_files_are_one_row_each(site: Site) {
    let me = site.account("ada", &[]).await;
    let project = site.project(me).await;
    let now: i64 = 4_000_000_000_000;
    for action in ["edit", "open"] {
        let write = json!({"file_use": {
            "project_id": project, "path": "a.txt", "last_edited": now,
            "users": {me.to_string(): {action: now}},
        }});
        site.query(me, write).await.unwrap();
    }
    let read = json!({"file_use": [{"project_id": project, "path": null, "users": null, "last_edited": null}]});
    assert_eq!(
        site.query(me, read).await.unwrap(),
        json!({"file_use": [{
            "project_id": project, "path": "a.txt", "last_edited": now,
            "users": {me.to_string(): {"edit": now, "open": now}},
        }]})
    );
}

#[expect(
    clippy::too_many_lines,
    reason = "settings, tokens, and acting for others"
)]
async fn the_site_is_for_administrators(site: Site) {
    let (admin, user) = (
        site.account("root", &["admin"]).await,
        site.account("ada", &[]).await,
    );
    let write = json!({"site_settings": {"name": "site_name", "value": "Notes"}});
    assert_eq!(
        site.query(user, write.clone()).await.unwrap_err().code,
        Code::PermissionDenied
    );
    site.query(admin, write).await.unwrap();
    let secret = json!({"site_settings": {"name": "conat_password", "value": "x"}});
    assert_eq!(
        site.query(admin, secret).await.unwrap_err().code,
        Code::PermissionDenied
    );
    for wrong in [
        json!({"name": "no_such_setting", "value": "x"}),
        json!({"name": "theming", "value": "maybe"}),
    ] {
        let write = json!({"site_settings": wrong});
        assert_eq!(
            site.query(admin, write).await.unwrap_err().code,
            Code::InvalidArgument
        );
    }
    settings::set(&site.store, "conat_password", "hidden")
        .await
        .unwrap();
    let read = json!({"site_settings": [{"name": null, "value": null}]});
    assert_eq!(
        site.query(admin, read.clone()).await.unwrap(),
        json!({"site_settings": [{"name": "site_name", "value": "Notes"}]})
    );
    assert_eq!(
        site.query(user, read).await.unwrap_err().code,
        Code::PermissionDenied
    );

    let token = json!({"registration_tokens": {"token": "welcome", "limit": 7, "disabled": false}});
    site.query(admin, token).await.unwrap();
    let read = json!({"registration_tokens": [{"token": null, "limit": null, "counter": null}]});
    let found = json!({"registration_tokens": [{"token": "welcome", "limit": 7, "counter": 0}]});
    assert_eq!(site.query(admin, read.clone()).await.unwrap(), found);
    let delete = json!({"registration_tokens": {"token": "welcome"}});
    let as_user = site
        .query_with(user, delete.clone(), json!({"delete": true}))
        .await;
    assert_eq!(as_user.unwrap_err().code, Code::PermissionDenied);
    site.query_with(admin, delete, json!({"delete": true}))
        .await
        .unwrap();
    assert_eq!(
        site.query(admin, read).await.unwrap(),
        json!({"registration_tokens": []})
    );

    // In the place of somebody else.
    let query = json!({"accounts": {"first_name": null}});
    let as_user = json!({"account_id": user});
    let found = site
        .query_with(admin, query.clone(), as_user)
        .await
        .unwrap();
    assert_eq!(found, json!({"accounts": {"first_name": "ada"}}));
    let as_admin = json!({"account_id": admin});
    assert_eq!(
        site.query_with(user, query, as_admin)
            .await
            .unwrap_err()
            .code,
        Code::PermissionDenied
    );
}

async fn what_browsers_note_is_noted_once(site: Site) {
    let me = site.account("ada", &[]).await;
    let note =
        json!({"central_log": {"id": Uuid::new_v4(), "event": "webapp-x", "value": {"a": 1}}});
    site.query(me, note.clone()).await.unwrap();
    assert_eq!(site.query(me, note).await.unwrap_err().code, Code::Conflict);
    let read = json!({"central_log": [{"event": null}]});
    assert_eq!(
        site.query(me, read).await.unwrap_err().code,
        Code::PermissionDenied
    );
}

async fn a_project_is_hidden_for_oneself(site: Site) {
    let (owner, member) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let project = site.project(owner).await;
    site.add(owner, project, member).await.unwrap();
    let hide =
        json!({"projects": {"project_id": project, "users": {member.to_string(): {"hide": true}}}});
    site.query(member, hide).await.unwrap();
    let read = json!({"projects": {"project_id": project, "users": null}});
    assert_eq!(
        site.query(owner, read).await.unwrap()["projects"]["users"],
        json!({
            owner.to_string(): {"group": "owner", "hide": false},
            member.to_string(): {"group": "collaborator", "hide": true},
        })
    );
}

async fn several_queries_are_done_in_order(site: Site) {
    let me = site.account("ada", &[]).await;
    let queries = json!([
        {"accounts": {"first_name": "Countess"}},
        {"accounts": {"first_name": null}},
        {"projects": [{"title": null}]},
    ]);
    assert_eq!(
        site.query(me, queries).await.unwrap(),
        json!([{}, {"accounts": {"first_name": "Countess"}}, {"projects": []}])
    );
}
