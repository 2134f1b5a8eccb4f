//! Who is in a project, changed by calls.

use std::collections::BTreeMap;

use dialtone_hub::api::{Code, Error};
use dialtone_hub::id::{AccountId, ProjectId};
use dialtone_hub::store::projects;
use futures_util::future::join_all;
use serde_json::json;

use super::{Site, on_both};

on_both! {
    members_add_others_and_leave,
    nobody_raises_himself_and_an_owner_remains,
    owners_alone_decide_where_the_project_says_so,
    a_token_lets_in_as_many_as_it_may,
    a_token_is_for_its_bearer,
    several_are_added_together_or_not_at_all,
}

async fn groups(site: &Site, id: ProjectId) -> BTreeMap<AccountId, &'static str> {
    let mut on = site.store.read().await.unwrap();
    let members = projects::members(&mut on, id).await.unwrap();
    members
        .into_iter()
        .map(|one| (one.account_id, one.group.name()))
        .collect()
}

async fn remove(site: &Site, by: AccountId, id: ProjectId, who: AccountId) -> Result<(), Error> {
    let options = json!({"opts": {"project_id": id, "account_id": who}});
    let done = site
        .call(by, "projects.removeCollaborator", options)
        .await
        .map(drop);
    site.authority.forget(who);
    done
}

async fn make(
    site: &Site,
    by: AccountId,
    id: ProjectId,
    who: AccountId,
    group: &str,
) -> Result<(), Error> {
    let options = json!({"opts": {"project_id": id, "target_account_id": who, "new_group": group}});
    site.call(by, "projects.changeUserType", options)
        .await
        .map(drop)
}

async fn members_add_others_and_leave(site: Site) {
    let [ada, bob, eve] = [
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
        site.account("eve", &[]).await,
    ];
    let id = site.project(ada).await;
    assert_eq!(
        site.add(eve, id, eve).await.unwrap_err().code,
        Code::PermissionDenied
    );
    site.add(ada, id, bob).await.unwrap();
    site.add(bob, id, eve).await.unwrap();
    // Who is in it stays what they are.
    site.add(bob, id, ada).await.unwrap();
    let expected = BTreeMap::from([(ada, "owner"), (bob, "collaborator"), (eve, "collaborator")]);
    assert_eq!(groups(&site, id).await, expected);
    remove(&site, eve, id, eve).await.unwrap();
    remove(&site, ada, id, bob).await.unwrap();
    assert_eq!(groups(&site, id).await, BTreeMap::from([(ada, "owner")]));
    let log = json!({"project_log": [{"event": null, "account_id": null}]});
    let log = site.query(ada, log).await.unwrap();
    assert_eq!(log["project_log"].as_array().unwrap().len(), 4);
    let nobody = site.add(ada, id, AccountId::random()).await.unwrap_err();
    assert_eq!(nobody.code, Code::NotFound);
}

async fn nobody_raises_himself_and_an_owner_remains(site: Site) {
    let [ada, bob] = [
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    ];
    let id = site.project(ada).await;
    site.add(ada, id, bob).await.unwrap();
    let refused = make(&site, bob, id, bob, "owner").await.unwrap_err();
    assert_eq!(refused.reason, Some("NOT_OWNER"));
    let refused = make(&site, ada, id, ada, "collaborator").await.unwrap_err();
    assert_eq!(refused.reason, Some("LAST_OWNER"));
    let refused = remove(&site, bob, id, ada).await.unwrap_err();
    assert_eq!(refused.reason, Some("CANNOT_REMOVE_OWNER"));
    make(&site, ada, id, bob, "owner").await.unwrap();
    // Both step back at the same time: one of them stays.
    let (one, other) = tokio::join!(
        make(&site, ada, id, ada, "collaborator"),
        make(&site, bob, id, bob, "collaborator"),
    );
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    let owners = groups(&site, id)
        .await
        .values()
        .filter(|group| **group == "owner")
        .count();
    assert_eq!(owners, 1);
}

async fn owners_alone_decide_where_the_project_says_so(site: Site) {
    let [ada, bob, eve] = [
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
        site.account("eve", &[]).await,
    ];
    let id = site.project(ada).await;
    site.add(ada, id, bob).await.unwrap();
    let only_owners =
        json!({"projects_owner": {"project_id": id, "manage_users_owner_only": true}});
    site.query(ada, only_owners).await.unwrap();
    assert_eq!(
        site.add(bob, id, eve).await.unwrap_err().reason,
        Some("NOT_OWNER")
    );
    site.add(ada, id, eve).await.unwrap();
    assert_eq!(
        remove(&site, bob, id, eve).await.unwrap_err().reason,
        Some("NOT_OWNER")
    );
    remove(&site, bob, id, bob).await.unwrap();
}

async fn token(site: &Site, owner: AccountId, id: ProjectId, limit: i64) -> String {
    let token = format!("token-{}", uuid::Uuid::new_v4());
    let row =
        json!({"project_invite_tokens": {"token": token, "project_id": id, "usage_limit": limit}});
    site.query(owner, row).await.unwrap();
    token
}

/// Rule 7: counters are counted under a lock, so that as many come in as may, however many try at the same time.
async fn a_token_lets_in_as_many_as_it_may(site: Site) {
    let ada = site.account("ada", &[]).await;
    let id = site.project(ada).await;
    let token = token(&site, ada, id, 2).await;
    let mut others = Vec::new();
    for n in 0..6 {
        others.push(site.account(&format!("guest{n}"), &[]).await);
    }
    let enter = |who: AccountId| {
        let options = json!({"opts": {"account_id": who, "token_id": token}});
        site.call(who, "projects.addCollaborator", options)
    };
    let entered = join_all(others.iter().map(|who| enter(*who))).await;
    assert_eq!(
        entered.iter().filter(|done| done.is_ok()).count(),
        2,
        "{entered:?}"
    );
    assert_eq!(groups(&site, id).await.len(), 3);
    // Who is in it already uses nothing up.
    let inside = others
        .iter()
        .zip(&entered)
        .find(|(_, done)| done.is_ok())
        .unwrap()
        .0;
    assert_eq!(enter(*inside).await.unwrap(), json!({"project_id": id}));
    let wrong = json!({"opts": {"account_id": ada, "token_id": "no such token"}});
    let refused = site
        .call(ada, "projects.addCollaborator", wrong)
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied);
}

async fn a_token_is_for_its_bearer(site: Site) {
    let [ada, bob, eve] = [
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
        site.account("eve", &[]).await,
    ];
    let id = site.project(ada).await;
    let token = token(&site, ada, id, 9).await;
    let options = json!({"opts": {"account_id": eve, "token_id": token}});
    let refused = site
        .call(bob, "projects.addCollaborator", options)
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied);
    assert_eq!(groups(&site, id).await.len(), 1);
}

async fn several_are_added_together_or_not_at_all(site: Site) {
    let [ada, bob, eve] = [
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
        site.account("eve", &[]).await,
    ];
    let (own, other) = (site.project(ada).await, site.project(eve).await);
    let options = |projects: [ProjectId; 2]| json!({"opts": {"project_id": projects, "account_id": [bob, bob]}});
    let refused = site
        .call(ada, "projects.addCollaborator", options([own, other]))
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied);
    assert_eq!(groups(&site, own).await.len(), 1);
    let second = site.project(ada).await;
    site.call(ada, "projects.addCollaborator", options([own, second]))
        .await
        .unwrap();
    assert_eq!(
        (
            groups(&site, own).await.len(),
            groups(&site, second).await.len()
        ),
        (2, 2)
    );
    let uneven = json!({"opts": {"project_id": [own], "account_id": [bob, eve]}});
    let refused = site
        .call(ada, "projects.addCollaborator", uneven)
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::InvalidArgument);
}
