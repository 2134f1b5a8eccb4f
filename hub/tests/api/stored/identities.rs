//! Who is behind a credential, and how long.

use std::sync::Arc;
use std::time::Duration;

use dialtone_hub::auth::api_key::ApiKey;
use dialtone_hub::auth::cookie::Names;
use dialtone_hub::auth::session::Secret;
use dialtone_hub::auth::token;
use dialtone_hub::caller::Caller;
use dialtone_hub::id::{AccountId, ProjectId};
use dialtone_hub::identity::{Identifier, Identity, Refused};
use dialtone_hub::settings::{self, Live};
use dialtone_hub::store::accounts::{self, Update};
use dialtone_hub::store::{api_keys, projects, remember_me};

use super::{Site, on_both};

on_both! {
    a_session_is_its_accounts_until_it_ends,
    every_end_of_a_session_is_seen,
    a_key_is_its_accounts_or_its_projects,
    a_project_has_its_secret,
    the_site_has_its_secret,
    a_bad_credential_is_not_passed_over,
}

async fn identifier(site: &Site) -> Identifier {
    let (live, _follower) = Live::open(&site.store).await.unwrap();
    Identifier::new(site.store.clone(), Arc::new(live), Names::new("/"))
}

async fn by(identifier: &Identifier, cookies: &str) -> Result<Identity, Refused> {
    identifier.by_cookies([cookies.as_bytes()]).await
}

/// Signs an account in, and returns the cookie and the hash of the session.
async fn sign_in(site: &Site, account_id: AccountId) -> (String, String) {
    let (secret, cookie) = Secret::random();
    let hash = secret.hash();
    let new = remember_me::New {
        hash: &hash,
        account_id,
        ttl: Duration::from_hours(1),
        kind: "password",
        ip: None,
        user_agent: None,
    };
    let mut on = site.store.write().await.unwrap();
    remember_me::insert(&mut on, &new).await.unwrap();
    on.commit().await.unwrap();
    (format!("remember_me={cookie}"), hash)
}

async fn make_key(
    site: &Site,
    account_id: AccountId,
    project_id: Option<ProjectId>,
) -> (String, i64) {
    let mut on = site.store.write().await.unwrap();
    let new = api_keys::New {
        account_id,
        project_id,
        name: "key",
        expire: None,
    };
    let number = api_keys::insert(&mut on, &new).await.unwrap();
    let key = ApiKey::new(number).unwrap();
    api_keys::set_hash(&mut on, number, &key.trunc(), &key.hash())
        .await
        .unwrap();
    on.commit().await.unwrap();
    (format!("api_key={}", key.reveal()), number)
}

#[track_caller]
fn gone(outcome: Result<(), Refused>) {
    assert!(matches!(outcome, Err(Refused::Gone)), "{outcome:?}");
}

async fn a_session_is_its_accounts_until_it_ends(site: Site) {
    let identifier = identifier(&site).await;
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let (cookie, hash) = sign_in(&site, ada).await;
    let (other_cookie, _) = sign_in(&site, ada).await;
    let identity = by(&identifier, &cookie).await.unwrap();
    assert_eq!(identity.caller, Caller::Account(ada));
    let other = by(&identifier, &other_cookie).await.unwrap();
    assert_ne!(identity.proof, other.proof);
    identifier.still(identity).await.unwrap();
    // A proof is no proof of anybody else.
    gone(
        identifier
            .still(Identity {
                caller: Caller::Account(bob),
                ..identity
            })
            .await,
    );
    let mut on = site.store.write().await.unwrap();
    remember_me::delete(&mut on, &hash).await.unwrap();
    on.commit().await.unwrap();
    gone(identifier.still(identity).await);
    identifier.still(other).await.unwrap();
    assert!(matches!(
        by(&identifier, &cookie).await,
        Err(Refused::Ended(_))
    ));
}

/// Rule 8: a ban, a change of the password and signing out everywhere end what was let in before.
async fn every_end_of_a_session_is_seen(site: Site) {
    let identifier = identifier(&site).await;
    for end in ["ban", "delete", "throw out", "sign out all"] {
        let account = site.account(&end.replace(' ', ""), &[]).await;
        let (cookie, _) = sign_in(&site, account).await;
        let (key, _) = make_key(&site, account, None).await;
        let by_session = by(&identifier, &cookie).await.unwrap();
        let by_key = by(&identifier, &key).await.unwrap();
        let mut on = site.store.write().await.unwrap();
        let banned = Update {
            banned: Some(true),
            ..Update::default()
        };
        match end {
            "ban" => drop(accounts::update(&mut on, account, banned).await.unwrap()),
            "delete" => drop(accounts::give_up(&mut on, account).await.unwrap()),
            "throw out" => accounts::throw_out(&mut on, account).await.unwrap(),
            _ => drop(
                remember_me::delete_all(&mut on, account, None)
                    .await
                    .unwrap(),
            ),
        }
        on.commit().await.unwrap();
        gone(identifier.still(by_session).await);
        let key_still = identifier.still(by_key).await;
        assert_eq!(key_still.is_ok(), end == "sign out all", "{end}");
        let again = by(&identifier, &cookie).await;
        assert_eq!(again.is_ok(), end == "throw out", "{end}: {again:?}");
    }
}

async fn a_key_is_its_accounts_or_its_projects(site: Site) {
    let identifier = identifier(&site).await;
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let project = site.project(ada).await;
    site.add(ada, project, bob).await.unwrap();
    let (own, _) = make_key(&site, ada, None).await;
    let (of_project, number) = make_key(&site, bob, Some(project)).await;
    assert_eq!(
        by(&identifier, &own).await.unwrap().caller,
        Caller::Account(ada)
    );
    let identity = by(&identifier, &of_project).await.unwrap();
    assert_eq!(identity.caller, Caller::Project(project));
    identifier.still(identity).await.unwrap();
    // The key of a project ends with the membership of its maker, and is deleted when it is used next.
    let mut on = site.store.write().await.unwrap();
    projects::delete_member(&mut on, project, bob)
        .await
        .unwrap();
    on.commit().await.unwrap();
    gone(identifier.still(identity).await);
    assert!(matches!(
        by(&identifier, &of_project).await,
        Err(Refused::ApiKey)
    ));
    let mut on = site.store.read().await.unwrap();
    assert_eq!(api_keys::find(&mut on, number).await.unwrap(), None);
    let wrong = ApiKey::new(number).unwrap();
    let wrong = by(&identifier, &format!("api_key={}", wrong.reveal())).await;
    assert!(matches!(wrong, Err(Refused::ApiKey)));
}

async fn a_project_has_its_secret(site: Site) {
    let identifier = identifier(&site).await;
    let ada = site.account("ada", &[]).await;
    let (project, other) = (site.project(ada).await, site.project(ada).await);
    let secret = token::random_text(43);
    let cookies = |project, secret: &str| format!("project_id={project}; project_secret={secret}");
    // As long as a project has no secret, none is right, not even an empty one.
    for offered in [secret.as_str(), "\"\""] {
        assert!(by(&identifier, &cookies(project, offered)).await.is_err());
    }
    let mut on = site.store.write().await.unwrap();
    projects::ensure_secret_token(&mut on, project, &secret)
        .await
        .unwrap();
    on.commit().await.unwrap();
    let identity = by(&identifier, &cookies(project, &secret)).await.unwrap();
    assert_eq!(identity.caller, Caller::Project(project));
    identifier.still(identity).await.unwrap();
    let elsewhere = by(&identifier, &cookies(other, &secret)).await;
    assert!(matches!(elsewhere, Err(Refused::ProjectSecret)));
    let mut on = site.store.write().await.unwrap();
    projects::clear_secret_token(&mut on, project)
        .await
        .unwrap();
    on.commit().await.unwrap();
    gone(identifier.still(identity).await);
}

async fn the_site_has_its_secret(site: Site) {
    let unset = identifier(&site).await;
    assert!(matches!(
        by(&unset, "hub_password=x").await,
        Err(Refused::HubPassword)
    ));
    settings::set(&site.store, "conat_password", "a long secret")
        .await
        .unwrap();
    let identifier = identifier(&site).await;
    assert!(matches!(
        by(&identifier, "hub_password=x").await,
        Err(Refused::HubPassword)
    ));
    let identity = by(&identifier, "hub_password=a%20long%20secret")
        .await
        .unwrap();
    assert_eq!(identity.caller, Caller::Hub);
    identifier.still(identity).await.unwrap();
    settings::set(&site.store, "conat_password", "another secret")
        .await
        .unwrap();
    gone(identifier.still(identity).await);
}

async fn a_bad_credential_is_not_passed_over(site: Site) {
    let identifier = identifier(&site).await;
    let ada = site.account("ada", &[]).await;
    let (cookie, _) = sign_in(&site, ada).await;
    for bad in [
        "api_key=x",
        "hub_password=x",
        "project_secret=x",
        "api_key=sk-abcdefghijklmnop000001",
    ] {
        let refused = by(&identifier, &format!("{cookie}; {bad}")).await;
        assert!(refused.is_err(), "{bad}: {refused:?}");
    }
    assert!(by(&identifier, &cookie).await.is_ok());
}
