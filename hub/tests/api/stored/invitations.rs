//! Inviting people, by letter as well.

use dialtone_hub::api::{Code, Error};
use dialtone_hub::entry::{Origin, sign_up};
use dialtone_hub::id::{AccountId, ProjectId};
use dialtone_hub::store::projects;
use serde_json::{Value as Json, json};

use super::{SITE, Site, on_both};

on_both! {
    a_collaborator_is_added_and_gets_one_letter_a_day,
    whoever_has_no_account_is_let_in_when_the_address_is_theirs,
    where_no_letters_are_sent_an_account_is_enough,
    an_invitation_ends_with_its_inviter,
    owners_alone_invite_where_the_project_says_so,
    strangers_get_no_links_on_a_commercial_site,
    somebody_asks_to_be_let_in,
    open_projects_are_open_to_oneself_alone,
}

async fn is_member(site: &Site, id: ProjectId, account: AccountId) -> bool {
    let mut on = site.store.read().await.unwrap();
    let found = projects::membership(&mut on, id, account).await.unwrap();
    found.is_some()
}

async fn invite(site: &Site, by: AccountId, mut opts: Json, id: ProjectId) -> Result<Json, Error> {
    opts["project_id"] = json!(id);
    let name = if opts.get("to").is_some() {
        "projects.inviteCollaboratorWithoutAccount"
    } else {
        "projects.inviteCollaborator"
    };
    site.call(by, name, json!({"opts": opts})).await
}

async fn sign_up(site: &Site, address: &str) -> AccountId {
    let request = sign_up::Request {
        email_address: address,
        password: "mice for dinner 7",
        first_name: "Tom",
        last_name: "Cat",
        token: None,
        tags: Vec::new(),
        intent: None,
        origin: Origin::default(),
    };
    site.entry.sign_up(&request).await.unwrap().account_id
}

async fn a_collaborator_is_added_and_gets_one_letter_a_day(site: Site) {
    let [ada, bob, eve] = [
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
        site.account("eve", &[]).await,
    ];
    let id = site.project(ada).await;
    let opts = json!({"account_id": bob, "email": "<p>Come &amp; join</p>", "title": "A bank", "link2proj": "https://evil.example"});
    for _ in 0..2 {
        invite(&site, ada, opts.clone(), id).await.unwrap();
    }
    invite(&site, bob, json!({"account_id": eve}), id)
        .await
        .unwrap();
    assert!(is_member(&site, id, bob).await && is_member(&site, id, eve).await);
    let letters = site.letters().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter = &letters[0];
    assert!(letter.contains("To: bob@example.org"), "{letter}");
    assert!(
        letter.contains("Come & join") && letter.contains("\"Notes\""),
        "{letter}"
    );
    assert!(
        letter.contains(&format!("{SITE}/projects/{id}")),
        "{letter}"
    );
    assert!(
        !letter.contains("evil") && !letter.contains("bank"),
        "{letter}"
    );
    // Inviting an owner changes nothing.
    invite(&site, bob, json!({"account_id": ada}), id)
        .await
        .unwrap();
    let mut on = site.store.read().await.unwrap();
    let group = projects::membership(&mut on, id, ada).await.unwrap();
    assert_eq!(group, Some(projects::Group::Owner));
}

async fn whoever_has_no_account_is_let_in_when_the_address_is_theirs(site: Site) {
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let id = site.project(ada).await;
    let opts = json!({"to": "Tom@example.org, bob@example.org", "email": "Come"});
    invite(&site, ada, opts, id).await.unwrap();
    assert!(is_member(&site, id, bob).await);
    let tom = sign_up(&site, "tom@example.org").await;
    assert!(
        !is_member(&site, id, tom).await,
        "the address may be anybody's"
    );
    let letters = site.letters().await;
    assert_eq!(letters.len(), 3, "{letters:?}");
    let invitation = letters
        .iter()
        .find(|letter| letter.contains("/auth/sign-up?email=tom@example.org"));
    assert!(invitation.is_some(), "{letters:?}");
    let verify = letters
        .iter()
        .find_map(|letter| letter.split_once("/auth/verify?token="));
    let token = verify.unwrap().1.split('&').next().unwrap();
    let verified = site
        .entry
        .verify("tom@example.org", token, &Origin::default())
        .await;
    assert_eq!(verified.unwrap(), tom);
    assert!(is_member(&site, id, tom).await);
}

async fn where_no_letters_are_sent_an_account_is_enough(site: Site) {
    let site = site.without_extras().await;
    let ada = site.account("ada", &[]).await;
    let (id, gone) = (site.project(ada).await, site.project(ada).await);
    for project in [id, gone] {
        let opts = json!({"to": "tom@example.org", "email": ""});
        invite(&site, ada, opts, project).await.unwrap();
    }
    let mut on = site.store.write().await.unwrap();
    assert!(projects::give_up(&mut on, gone).await.unwrap());
    on.commit().await.unwrap();
    let tom = sign_up(&site, "tom@example.org").await;
    assert!(is_member(&site, id, tom).await);
    assert!(!is_member(&site, gone, tom).await);
}

async fn an_invitation_ends_with_its_inviter(site: Site) {
    let site = site.without_extras().await;
    let (ada, bob) = (
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
    );
    let id = site.project(ada).await;
    site.add(ada, id, bob).await.unwrap();
    let opts = json!({"to": "tom@example.org", "email": ""});
    invite(&site, bob, opts, id).await.unwrap();
    let remove = json!({"opts": {"project_id": id, "account_id": bob}});
    site.call(ada, "projects.removeCollaborator", remove)
        .await
        .unwrap();
    let tom = sign_up(&site, "tom@example.org").await;
    assert!(!is_member(&site, id, tom).await);
}

async fn owners_alone_invite_where_the_project_says_so(site: Site) {
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
    for opts in [
        json!({"account_id": eve}),
        json!({"to": "eve@example.org", "email": ""}),
        json!({"to": "nobody@example.org", "email": ""}),
        json!({"to": "ada@example.org", "email": ""}),
    ] {
        let refused = invite(&site, bob, opts.clone(), id).await.unwrap_err();
        assert_eq!(refused.reason, Some("NOT_OWNER"), "{opts}");
        let refused = invite(&site, eve, opts, id).await.unwrap_err();
        assert_eq!(refused.code, Code::PermissionDenied);
    }
    assert_eq!(site.letters().await, [""; 0]);
    assert!(!is_member(&site, id, eve).await);
}

async fn strangers_get_no_links_on_a_commercial_site(site: Site) {
    let ada = site.account("ada", &[]).await;
    let id = site.project(ada).await;
    let opts = json!({"to": "tom@example.org", "email": "See https://evil.example"});
    site.set("commercial", "yes").await;
    let refused = invite(&site, ada, opts.clone(), id).await.unwrap_err();
    assert_eq!(refused.reason, Some("LINKS_NOT_ALLOWED"));
    let subject = json!({"to": "tom@example.org", "email": "", "subject": "www.evil.example"});
    let refused = invite(&site, ada, subject, id).await.unwrap_err();
    assert_eq!(refused.reason, Some("LINKS_NOT_ALLOWED"));
    // What their writer chose stands in a letter as well.
    let plain = json!({"to": "tom@example.org", "email": "Hello"});
    let titled = |title: &str| json!({"projects": {"project_id": id, "title": title}});
    site.query(ada, titled("Look at https://evil.example"))
        .await
        .unwrap();
    let refused = invite(&site, ada, plain.clone(), id).await.unwrap_err();
    assert_eq!(refused.reason, Some("LINKS_NOT_ALLOWED"));
    assert!(refused.text.contains("title"), "{refused}");
    site.query(ada, titled("Notes")).await.unwrap();
    let named = |name: &str| json!({"accounts": {"first_name": name}});
    site.query(ada, named("www.evil.example")).await.unwrap();
    let refused = invite(&site, ada, plain.clone(), id).await.unwrap_err();
    assert_eq!(refused.reason, Some("LINKS_NOT_ALLOWED"));
    assert!(refused.text.contains("name"), "{refused}");
    site.query(ada, named("Ada")).await.unwrap();
    assert_eq!(site.letters().await, [""; 0]);
    invite(&site, ada, plain, id).await.unwrap();
    assert_eq!(site.letters().await.len(), 1);
    site.set("commercial", "no").await;
    let opts = json!({"to": "eva@example.org", "email": opts["email"]});
    invite(&site, ada, opts, id).await.unwrap();
    assert_eq!(site.letters().await.len(), 2);
}

async fn somebody_asks_to_be_let_in(site: Site) {
    let [ada, bob, eve] = [
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
        site.account("eve", &[]).await,
    ];
    let id = site.project(ada).await;
    for who in [bob, eve] {
        let ask = json!({"project_invite_requests": {"project_id": id, "account_id": ada, "message": "Please"}});
        site.query(who, ask).await.unwrap();
    }
    let seen = json!({"project_join_requests": [{"project_id": null, "account_id": null, "message": null}]});
    let found = site.query(ada, seen.clone()).await.unwrap();
    assert_eq!(found["project_join_requests"].as_array().unwrap().len(), 2);
    assert_eq!(
        site.query(bob, seen.clone()).await.unwrap()["project_join_requests"],
        json!([])
    );
    let own = json!({"project_invite_requests": [{"account_id": null}]});
    let found = site.query(bob, own.clone()).await.unwrap();
    assert_eq!(
        found["project_invite_requests"],
        json!([{"account_id": bob}])
    );
    // It ends when somebody lets them in, or when a member says no; not by another stranger.
    let no = json!({"project_join_requests": {"project_id": id, "account_id": eve}});
    let refused = site
        .query_with(bob, no.clone(), json!({"delete": true}))
        .await;
    assert_eq!(refused.unwrap_err().code, Code::PermissionDenied);
    let refused = site.query(ada, no.clone()).await.unwrap_err();
    assert_eq!(
        refused.code,
        Code::PermissionDenied,
        "it can be deleted and nothing else"
    );
    site.query_with(ada, no, json!({"delete": true}))
        .await
        .unwrap();
    site.add(ada, id, bob).await.unwrap();
    let found = site.query(ada, seen).await.unwrap();
    assert_eq!(found["project_join_requests"], json!([]));
    let nowhere =
        json!({"project_invite_requests": {"project_id": ProjectId::random(), "message": "x"}});
    assert_eq!(
        site.query(bob, nowhere).await.unwrap_err().code,
        Code::NotFound
    );
}

async fn open_projects_are_open_to_oneself_alone(site: Site) {
    let [ada, bob, eve] = [
        site.account("ada", &[]).await,
        site.account("bob", &[]).await,
        site.account("eve", &[]).await,
    ];
    let (sandbox, course, homework) = (
        site.project(ada).await,
        site.project(ada).await,
        site.project(ada).await,
    );
    site.add(ada, course, bob).await.unwrap();
    for owned in [
        json!({"project_id": sandbox, "sandbox": true}),
        json!({"project_id": homework, "course": {"project_id": course}}),
    ] {
        site.query(ada, json!({"projects_owner": owned}))
            .await
            .unwrap();
    }
    let refused = site.add(eve, sandbox, eve).await.unwrap_err();
    assert_eq!(
        refused.code,
        Code::PermissionDenied,
        "the site has no sandboxes"
    );
    site.set("sandbox_projects_enabled", "yes").await;
    assert!(
        site.add(eve, sandbox, bob).await.is_err(),
        "nobody adds others"
    );
    site.add(eve, sandbox, eve).await.unwrap();
    assert!(
        site.add(eve, homework, eve).await.is_err(),
        "she is not in the course"
    );
    site.add(bob, homework, bob).await.unwrap();
    assert!(is_member(&site, sandbox, eve).await && is_member(&site, homework, bob).await);
}
