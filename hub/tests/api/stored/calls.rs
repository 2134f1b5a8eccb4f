//! Functions about accounts and the site.

use dialtone_hub::api::Code;
use dialtone_hub::auth::password::{Config, Hasher};
use dialtone_hub::auth::token;
use dialtone_hub::settings;
use dialtone_hub::store::accounts::{self, Update};
use dialtone_hub::store::tokens;
use serde_json::{Value as Json, json};

use super::{Site, on_both};

on_both! {
    names_are_told_and_addresses_are_not,
    a_search_shows_what_its_caller_may_see,
    keys_are_shown_once_and_managed_by_their_owners,
    a_token_to_sign_in_needs_an_administrator_or_the_password,
    a_link_for_a_new_password_is_made_by_administrators,
    public_settings_are_told_as_what_they_are,
    activity_is_noted,
}

async fn names_are_told_and_addresses_are_not(site: Site) {
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let names = site
        .call(
            ada,
            "system.getNames",
            json!([bob, dialtone_hub::id::AccountId::random()]),
        )
        .await
        .unwrap();
    assert_eq!(
        names,
        json!({bob.to_string(): {"first_name": "bob", "last_name": "Test"}})
    );
}

async fn a_search_shows_what_its_caller_may_see(site: Site) {
    let (admin, ada, bob) = (
        site.account("root", &["admin"]).await,
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let search = async |by, options: Json| site.call(by, "system.userSearch", options).await;
    let by_name = search(ada, json!({"query": "BO"})).await.unwrap();
    assert_eq!(by_name[0]["account_id"], json!(bob));
    assert!(by_name[0].get("email_address").is_none() && by_name[0].get("banned").is_none());
    let by_email = search(ada, json!({"query": "Bob@Example.org, nobody@example.org"}))
        .await
        .unwrap();
    assert_eq!(by_email[0]["email_address"], "bob@example.org");
    assert_eq!(by_email.as_array().unwrap().len(), 1);
    assert_eq!(
        search(ada, json!({"query": bob})).await.unwrap()[0]["first_name"],
        "bob"
    );
    assert_eq!(
        search(ada, json!({"query": "bo", "only_email": true}))
            .await
            .unwrap(),
        json!([])
    );
    let refused = search(ada, json!({"query": "bo", "admin": true}))
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied);
    let many = "a,".repeat(51);
    assert_eq!(
        search(ada, json!({"query": many})).await.unwrap_err().code,
        Code::InvalidArgument
    );

    let mut on = site.store.write().await.unwrap();
    let ban = Update {
        banned: Some(true),
        ..Update::default()
    };
    accounts::update(&mut on, bob, ban).await.unwrap();
    on.commit().await.unwrap();
    for query in [json!("bob"), json!("bob@example.org"), json!(bob)] {
        assert_eq!(
            search(ada, json!({"query": query})).await.unwrap(),
            json!([]),
            "{query}"
        );
        let found = search(admin, json!({"query": query, "admin": true}))
            .await
            .unwrap();
        assert_eq!(found[0]["banned"], true, "{query}");
    }
}

async fn keys_are_shown_once_and_managed_by_their_owners(site: Site) {
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let keys = async |by, options: Json| site.call(by, "system.manageApiKeys", options).await;
    let made = keys(ada, json!({"action": "create", "name": "mine"}))
        .await
        .unwrap();
    let secret = made[0]["secret"].as_str().unwrap();
    assert!(secret.starts_with("sk-"));
    let id = made[0]["id"].clone();
    let listed = keys(ada, json!({"action": "get"})).await.unwrap();
    assert_eq!(listed[0]["name"], "mine");
    assert!(!listed.to_string().contains(secret) && listed[0].get("hash").is_none());
    assert_eq!(
        keys(bob, json!({"action": "get"})).await.unwrap(),
        json!([])
    );
    for action in ["delete", "edit"] {
        let refused = keys(bob, json!({"action": action, "id": id, "name": "x"}))
            .await
            .unwrap_err();
        assert_eq!(refused.code, Code::NotFound, "{action}");
    }
    // By naming a project of its own, nobody gets at the key of an account, nor the other way round.
    let project = site.project(bob).await;
    let refused = keys(
        bob,
        json!({"action": "delete", "id": id, "project_id": project}),
    )
    .await
    .unwrap_err();
    assert_eq!(refused.code, Code::NotFound);
    let of_project = keys(bob, json!({"action": "create", "project_id": project}))
        .await
        .unwrap();
    let refused = keys(bob, json!({"action": "delete", "id": of_project[0]["id"]}))
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::NotFound);
    let refused = keys(ada, json!({"action": "get", "project_id": project}))
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied);
    keys(ada, json!({"action": "edit", "id": id, "name": "renamed"}))
        .await
        .unwrap();
    assert_eq!(
        keys(ada, json!({"action": "get"})).await.unwrap()[0]["name"],
        "renamed"
    );
    keys(ada, json!({"action": "delete", "id": id}))
        .await
        .unwrap();
    assert_eq!(
        keys(ada, json!({"action": "get"})).await.unwrap(),
        json!([])
    );
    let missing = keys(ada, json!({"action": "delete"})).await.unwrap_err();
    assert_eq!(missing.code, Code::InvalidArgument);
}

async fn a_token_to_sign_in_needs_an_administrator_or_the_password(site: Site) {
    let (admin, ada, bob) = (
        site.account("root", &["admin"]).await,
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let hash = Hasher::new(Config::default())
        .unwrap()
        .hash("bobs password")
        .await
        .unwrap();
    let mut on = site.store.write().await.unwrap();
    let password = Update {
        password_hash: Some(Some(hash)),
        ..Update::default()
    };
    accounts::update(&mut on, bob, password).await.unwrap();
    on.commit().await.unwrap();
    let ask =
        async |by, options: Json| site.call(by, "system.generateUserAuthToken", options).await;
    let found = async |token: &Json| {
        let mut on = site.store.read().await.unwrap();
        tokens::find_sign_in(&mut on, &token::hash(token.as_str().unwrap()))
            .await
            .unwrap()
    };
    let token = ask(admin, json!({"user_account_id": bob})).await.unwrap();
    let sign_in = found(&token).await.unwrap();
    assert_eq!(
        (sign_in.account_id, sign_in.created_by, sign_in.is_admin),
        (bob, admin, true)
    );
    let own = ask(
        ada,
        json!({"user_account_id": bob, "password": "bobs password"}),
    )
    .await
    .unwrap();
    assert!(!found(&own).await.unwrap().is_admin);
    // Whoever has it may end it.
    site.call(ada, "system.revokeUserAuthToken", own.clone())
        .await
        .unwrap();
    assert_eq!(found(&own).await, None);
    // Once in a while, and a wrong one counts on every hub.
    let wrong = json!({"user_account_id": bob, "password": "a guess"});
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(ask(ada, wrong.clone()).await.unwrap_err().code);
    }
    assert!(codes.contains(&Code::TooMany), "{codes:?}");
    let nobody =
        json!({"user_account_id": dialtone_hub::id::AccountId::random(), "password": "a guess"});
    assert_eq!(
        ask(ada, nobody).await.unwrap_err().code,
        Code::PermissionDenied
    );
}

async fn a_link_for_a_new_password_is_made_by_administrators(site: Site) {
    let (admin, ada) = (
        site.account("root", &["admin"]).await,
        site.account("ada", &[]).await,
    );
    let options = json!({"user_account_id": ada});
    let refused = site
        .call(ada, "system.adminResetPasswordLink", options.clone())
        .await
        .unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied);
    let link = site
        .call(admin, "system.adminResetPasswordLink", options)
        .await
        .unwrap();
    let token = link
        .as_str()
        .unwrap()
        .strip_prefix("/auth/password-reset/")
        .unwrap();
    let mut on = site.store.write().await.unwrap();
    let used = tokens::use_reset(&mut on, &token::hash(token))
        .await
        .unwrap();
    assert_eq!(used, Some((ada, "ada@example.org".to_owned())));
}

async fn public_settings_are_told_as_what_they_are(site: Site) {
    settings::set(&site.store, "conat_password", "hidden")
        .await
        .unwrap();
    let ada = site.account("ada", &[]).await;
    let all = site
        .call(ada, "system.getCustomize", Json::Null)
        .await
        .unwrap();
    assert!(all.get("conat_password").is_none() && !all.to_string().contains("hidden"));
    assert!(all["theming"].is_boolean(), "{all}");
    let some = json!(["site_name", "conat_password"]);
    let some = site.call(ada, "system.getCustomize", some).await.unwrap();
    assert_eq!(some.as_object().unwrap().len(), 1, "{some}");
}

async fn activity_is_noted(site: Site) {
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let project = site.project(ada).await;
    let touch = json!({"project_id": project, "path": "a.txt", "action": "edit"});
    let refused = site.call(bob, "db.touch", touch.clone()).await.unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied);
    site.call(ada, "db.touch", touch).await.unwrap();
    let read = json!({"file_use": [{"project_id": project, "path": null, "users": null}]});
    let used = site.query(ada, read).await.unwrap();
    assert!(
        used["file_use"][0]["users"][ada.to_string()]["edit"].is_i64(),
        "{used}"
    );
    let read = json!({"accounts": {"last_active": null}});
    assert!(site.query(ada, read).await.unwrap()["accounts"]["last_active"].is_i64());
    let no_project = site
        .call(ada, "db.touch", json!({"path": "a.txt"}))
        .await
        .unwrap_err();
    assert_eq!(no_project.code, Code::InvalidArgument);
}
