//! Organizations: who may do what to whom.

use dialtone_hub::api::Code;
use dialtone_hub::auth::password::{self, Hasher, Verdict};
use dialtone_hub::auth::token;
use dialtone_hub::id::AccountId;
use dialtone_hub::store::passports::{self, Stored};
use dialtone_hub::store::{accounts, organizations, tokens};
use serde_json::{Value as Json, json};

use super::{SITE, Site, on_both};

on_both! {
    each_kind_of_caller_may_what_is_its_own,
    admins_act_on_members_of_their_own_organization_alone,
    somebody_is_in_one_organization,
    an_account_is_made_for_a_member,
    nobody_is_made_a_member_who_signs_in_in_another_way_only,
    a_token_signs_in_as_a_member_once,
    everybody_in_it_gets_a_message,
    names_are_taken_once,
}

/// Two organizations, each with one who looks after it and a member; a member of the first who is an administrator of
/// the site; one of neither.
struct World {
    site: Site,
    root: AccountId,
    admin: AccountId,
    member: AccountId,
    site_admin_in_it: AccountId,
    other_admin: AccountId,
    other_member: AccountId,
    stranger: AccountId,
}

impl World {
    async fn new(site: Site) -> Self {
        let root = site.account("root", &["admin"]).await;
        let world = Self {
            root,
            admin: site.account("admin", &[]).await,
            member: site.account("member", &[]).await,
            site_admin_in_it: site.account("operator", &["admin"]).await,
            other_admin: site.account("other-admin", &[]).await,
            other_member: site.account("other-member", &[]).await,
            stranger: site.account("stranger", &[]).await,
            site,
        };
        for name in ["cats", "dogs"] {
            world.ok(root, "create", json!({"name": name})).await;
        }
        for (function, name, user) in [
            ("addAdmin", "cats", world.admin),
            ("addUser", "cats", world.member),
            ("addUser", "cats", world.site_admin_in_it),
            ("addAdmin", "dogs", world.other_admin),
            ("addUser", "dogs", world.other_member),
        ] {
            world
                .ok(root, function, json!({"name": name, "user": user}))
                .await;
        }
        world
    }

    async fn call(&self, by: AccountId, function: &str, options: Json) -> Result<Json, Code> {
        let done = self
            .site
            .call(by, &format!("org.{function}"), options)
            .await;
        done.map_err(|error| error.code)
    }

    async fn ok(&self, by: AccountId, function: &str, options: Json) -> Json {
        let done = self.call(by, function, options.clone()).await;
        done.unwrap_or_else(|code| panic!("{function} {options}: {code:?}"))
    }

    /// Who is in an organization, and who of them looks after it.
    async fn members(&self, name: &str) -> Vec<(AccountId, bool)> {
        let mut on = self.site.store.read().await.unwrap();
        let found = organizations::by_name(&mut on, name)
            .await
            .unwrap()
            .unwrap();
        let members = organizations::members(&mut on, found.id, 100)
            .await
            .unwrap();
        let mut members: Vec<(AccountId, bool)> = members
            .into_iter()
            .map(|member| (member.account_id, member.is_admin))
            .collect();
        members.sort_unstable();
        members
    }
}

/// Each function by an administrator of the site, one who looks after the organization, one who looks after another
/// one, a member, and a stranger.
async fn each_kind_of_caller_may_what_is_its_own(site: Site) {
    let world = World::new(site).await;
    let named = json!({"name": "cats"});
    let newcomer = world.site.account("newcomer", &[]).await;
    let (site_admins, admins) = (false, true);
    let functions = [
        ("getAll", site_admins, json!({})),
        ("create", site_admins, json!({"name": "birds"})),
        ("get", admins, named.clone()),
        ("set", admins, json!({"name": "cats", "title": "Cats"})),
        (
            "addAdmin",
            site_admins,
            json!({"name": "cats", "user": newcomer}),
        ),
        (
            "addUser",
            site_admins,
            json!({"name": "cats", "user": newcomer}),
        ),
        ("getUsers", admins, named.clone()),
        (
            "message",
            admins,
            json!({"name": "cats", "subject": "x", "body": "y"}),
        ),
        ("createToken", admins, json!({"user": world.member})),
        (
            "removeAdmin",
            admins,
            json!({"name": "cats", "user": newcomer}),
        ),
        (
            "removeUser",
            admins,
            json!({"name": "cats", "user": world.member}),
        ),
    ];
    for (function, by_admin, options) in &functions {
        let callers = [
            ("admin of it", world.admin, *by_admin),
            ("admin of another", world.other_admin, false),
            ("member", world.member, false),
            ("stranger", world.stranger, false),
        ];
        // Refusals first, so that nothing has changed by them.
        for (who, by, allowed) in callers.into_iter().rev() {
            if !allowed {
                let done = world.call(by, function, options.clone()).await;
                assert_eq!(done, Err(Code::PermissionDenied), "{function} by {who}");
            }
        }
        if *by_admin {
            let done = world.call(world.admin, function, options.clone()).await;
            assert!(done.is_ok(), "{function} by the admin of it: {done:?}");
        }
        let done = world.call(world.root, function, options.clone()).await;
        let gone = *function == "removeUser" && done == Err(Code::NotFound);
        assert!(done.is_ok() || gone, "{function} by a site admin: {done:?}");
    }
    // Whether there is an organization is not said to those who may not.
    let none = json!({"name": "fish"});
    let refused = world.call(world.stranger, "get", none.clone()).await;
    assert_eq!(refused, Err(Code::PermissionDenied));
    assert_eq!(
        world.call(world.root, "get", none).await,
        Err(Code::NotFound)
    );
}

/// Rule 6: never on a member of another organization, never on an administrator of the site.
async fn admins_act_on_members_of_their_own_organization_alone(site: Site) {
    let world = World::new(site).await;
    let before = (world.members("cats").await, world.members("dogs").await);
    for user in [
        world.other_member,
        world.other_admin,
        world.site_admin_in_it,
        world.stranger,
        world.root,
    ] {
        for name in ["cats", "dogs"] {
            for function in ["removeUser", "removeAdmin"] {
                let options = json!({"name": name, "user": user});
                let done = world.call(world.admin, function, options).await;
                let refused = [Err(Code::PermissionDenied), Err(Code::NotFound)];
                assert!(
                    refused.contains(&done),
                    "{function} {name} {user}: {done:?}"
                );
            }
        }
        let token = world
            .call(world.admin, "createToken", json!({"user": user}))
            .await;
        assert_eq!(token, Err(Code::PermissionDenied), "{user}");
    }
    assert_eq!(
        (world.members("cats").await, world.members("dogs").await),
        before
    );
    // Another administrator of the site may.
    let options = json!({"name": "cats", "user": world.site_admin_in_it});
    world.ok(world.root, "removeUser", options).await;
}

async fn somebody_is_in_one_organization(site: Site) {
    let world = World::new(site).await;
    let refused = json!({"name": "dogs", "user": world.admin});
    let done = world.call(world.root, "addAdmin", refused).await;
    assert_eq!(done, Err(Code::FailedPrecondition));
    // A member moves.
    world
        .ok(
            world.root,
            "addUser",
            json!({"name": "dogs", "user": "MEMBER@example.org"}),
        )
        .await;
    let is_in = |members: &[(AccountId, bool)]| members.contains(&(world.member, false));
    assert!(!is_in(&world.members("cats").await) && is_in(&world.members("dogs").await));
    let read = json!({"accounts": {"org": null}});
    let found = world.site.query(world.member, read.clone()).await.unwrap();
    assert_eq!(found["accounts"]["org"], "dogs");
    let own = json!({"organizations": [{"name": null, "is_admin": null}]});
    let found = world.site.query(world.member, own).await.unwrap();
    assert_eq!(
        found["organizations"],
        json!([{"name": "dogs", "is_admin": false}])
    );
    // Who is added again stays what they are, and who looks after it is not removed as long as they do.
    world
        .ok(
            world.root,
            "addUser",
            json!({"name": "cats", "user": world.admin}),
        )
        .await;
    let remove = json!({"name": "cats", "user": world.admin});
    let refused = world.call(world.root, "removeUser", remove.clone()).await;
    assert_eq!(refused, Err(Code::FailedPrecondition));
    world.ok(world.admin, "removeAdmin", remove.clone()).await;
    assert_eq!(
        world
            .call(world.admin, "getUsers", json!({"name": "cats"}))
            .await,
        Err(Code::PermissionDenied)
    );
    world.ok(world.root, "removeUser", remove).await;
    let found = world.site.query(world.admin, read).await.unwrap();
    assert_eq!(found["accounts"]["org"], Json::Null);
}

async fn an_account_is_made_for_a_member(site: Site) {
    let world = World::new(site).await;
    let make = |email: &str, password: Json| json!({"name": "cats", "email": email, "firstName": "Tom", "lastName": "Cat", "password": password});
    let id = world
        .ok(
            world.admin,
            "createUser",
            make("Tom@Example.org", json!("mice 4 dinner")),
        )
        .await;
    let id: AccountId = serde_json::from_value(id).unwrap();
    assert!(world.members("cats").await.contains(&(id, false)));
    let account = {
        let mut on = world.site.store.read().await.unwrap();
        accounts::by_id(&mut on, id).await.unwrap().unwrap()
    };
    assert_eq!(account.email_address.as_deref(), Some("tom@example.org"));
    assert!(account.password_hash.unwrap().starts_with("$argon2id$"));
    let own = json!({"projects": [{"title": null, "users": null}]});
    let own = world.site.query(id, own).await.unwrap();
    assert_eq!(own["projects"].as_array().unwrap().len(), 1);
    for (email, password, code) in [
        ("tom@example.org", json!("mice 4 dinner"), Code::Conflict),
        ("tim@example.org", json!("password1"), Code::InvalidArgument),
        (
            "tim@example.org",
            json!("tim@example.org"),
            Code::InvalidArgument,
        ),
        ("tim", Json::Null, Code::InvalidArgument),
    ] {
        let done = world
            .call(world.admin, "createUser", make(email, password))
            .await;
        assert_eq!(done, Err(code), "{email}");
    }
    let done = world
        .call(
            world.other_admin,
            "createUser",
            make("tim@example.org", Json::Null),
        )
        .await;
    assert_eq!(done, Err(Code::PermissionDenied));
    world
        .ok(
            world.admin,
            "createUser",
            make("tim@example.org", Json::Null),
        )
        .await;
}

async fn nobody_is_made_a_member_who_signs_in_in_another_way_only(site: Site) {
    let world = World::new(site).await;
    let mut on = world.site.store.write().await.unwrap();
    let campus = Stored {
        strategy: "campus".to_owned(),
        conf: json!({}),
        info: json!({"exclusive_domains": ["uni.example"], "display": "The University"}),
    };
    passports::put_strategy(&mut on, &campus).await.unwrap();
    on.commit().await.unwrap();
    let make = |email: &str| json!({"name": "cats", "email": email, "firstName": "Tom", "lastName": "Cat", "password": " mice 4 dinner "});
    let done = world
        .site
        .call(world.admin, "org.createUser", make("tom@cs.uni.example"));
    let refused = done.await.unwrap_err();
    assert_eq!(
        (refused.code, refused.reason),
        (Code::FailedPrecondition, Some("EXCLUSIVE"))
    );
    assert!(refused.text.contains("The University"), "{}", refused.text);
    let id = world
        .ok(world.admin, "createUser", make("tom@example.org"))
        .await;
    // A password is what was typed.
    let id: AccountId = serde_json::from_value(id).unwrap();
    let mut on = world.site.store.read().await.unwrap();
    let hash = accounts::by_id(&mut on, id)
        .await
        .unwrap()
        .unwrap()
        .password_hash;
    let hasher = Hasher::new(password::Config::default()).unwrap();
    let verdict = hasher
        .check(" mice 4 dinner ", hash.as_deref())
        .await
        .unwrap();
    assert_eq!(verdict, Verdict::Right);
}

async fn a_token_signs_in_as_a_member_once(site: Site) {
    let world = World::new(site).await;
    let made = world
        .ok(
            world.admin,
            "createToken",
            json!({"user": "member@example.org"}),
        )
        .await;
    let text = made["token"].as_str().unwrap();
    let url = format!("{SITE}/auth/impersonate?auth_token={text}");
    assert_eq!(made["url"], url);
    let mut on = world.site.store.write().await.unwrap();
    let used = tokens::use_sign_in(&mut on, &token::hash(text))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (used.account_id, used.created_by),
        (world.member, world.admin)
    );
    assert!(used.is_admin);
    let again = tokens::use_sign_in(&mut on, &token::hash(text))
        .await
        .unwrap();
    assert_eq!(again, None);
    on.commit().await.unwrap();
    let made = world
        .ok(world.admin, "createToken", json!({"user": world.member}))
        .await;
    let text = made["token"].clone();
    world
        .ok(world.stranger, "expireToken", json!({"token": text}))
        .await;
    let mut on = world.site.store.write().await.unwrap();
    let hash = token::hash(text.as_str().unwrap());
    assert_eq!(tokens::find_sign_in(&mut on, &hash).await.unwrap(), None);
    drop(on);
    for expire in [1_i64, 8_000_000_000_000_000] {
        let options = json!({"user": world.member, "expire": expire});
        let refused = world.call(world.admin, "createToken", options).await;
        assert_eq!(refused, Err(Code::InvalidArgument), "{expire}");
    }
    dialtone_hub::accounts::ban(&world.site.store, world.member, true)
        .await
        .unwrap();
    let refused = world
        .call(world.admin, "createToken", json!({"user": world.member}))
        .await;
    assert_eq!(refused, Err(Code::FailedPrecondition));
}

async fn everybody_in_it_gets_a_message(site: Site) {
    let world = World::new(site).await;
    let letter = json!({"name": "CATS", "subject": "Milk", "body": "is there"});
    let id = world.ok(world.admin, "message", letter).await;
    for (account, got) in [
        (world.member, true),
        (world.site_admin_in_it, true),
        (world.admin, true),
        (world.other_member, false),
        (world.stranger, false),
    ] {
        let found = world
            .site
            .call(account, "messages.get", json!({}))
            .await
            .unwrap();
        assert_eq!(found[0]["id"] == id, got, "{found}");
    }
}

async fn names_are_taken_once(site: Site) {
    let world = World::new(site).await;
    let named = json!({"accounts": {"name": "birds"}});
    world.site.query(world.stranger, named).await.unwrap();
    for (name, code) in [
        ("Cats", Code::Conflict),
        ("BIRDS", Code::Conflict),
        ("two words", Code::InvalidArgument),
        ("-x", Code::InvalidArgument),
    ] {
        let done = world
            .call(world.root, "create", json!({"name": name}))
            .await;
        assert_eq!(done, Err(code), "{name}");
    }
    let (one, other) = tokio::join!(
        world.call(world.root, "create", json!({"name": "fish"})),
        world.call(world.site_admin_in_it, "create", json!({"name": "FISH"})),
    );
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
}
