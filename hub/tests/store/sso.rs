//! Signing in by other sites.

use dialtone_hub::accounts;
use dialtone_hub::entry::sign_in::Request as SignIn;
use dialtone_hub::entry::sign_up::Request as SignUp;
use dialtone_hub::entry::vouched::Unlink;
use dialtone_hub::entry::{self, Origin};
use dialtone_hub::sso::configure;
use dialtone_hub::store::Location;
use hyper::StatusCode;
use serde_json::json;

use crate::{Site, on_both};
use browser::{Browser, Door, SESSION, oidc, plain, refused};

mod attacks;
mod browser;

on_both! {
    somebody_comes_in_and_comes_back,
    a_site_with_plain_oauth_may_vouch_as_well,
    an_address_of_an_account_lets_nobody_in,
    who_is_signed_in_links_and_unlinks,
    an_identity_of_another_account_is_not_linked,
    a_domain_may_have_one_way_in,
    nobody_comes_in_by_another_way_than_that_of_the_domain,
    an_address_that_was_not_seen_opens_no_account,
    what_two_transactions_have_ended_is_done_again,
    who_does_not_agree_does_not_come_in,
    a_banned_account_stays_out,
    names_may_follow_the_other_site,
    strategies_are_listed_without_secrets,
}

async fn somebody_comes_in_and_comes_back(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(&json!({}))})).await;
    let mut browser = Browser::of("ada");
    let page = browser
        .sign_in(&door, "/auth/uni?target=/projects%3Fa%3D1%26b")
        .await;
    assert_eq!(page.code, StatusCode::OK, "{}", page.text);
    assert!(
        page.text.contains("url=/projects?a=1&amp;b\""),
        "{}",
        page.text
    );
    let id = browser.who(&door).await.unwrap();
    let account = door.account(id).await;
    assert_eq!(
        (
            &*account.first_name,
            &*account.last_name,
            account.email_address.as_deref()
        ),
        ("Ada", "Lovelace", Some("ada@example.org"))
    );
    assert!(account.email_address_verified["ada@example.org"].is_number());
    assert_eq!(account.password_hash, None);
    assert_eq!(door.links(id).await, [("uni".to_owned(), "ada".to_owned())]);
    // Nothing of the attempt is left in the browser or in the store.
    assert_eq!(browser.hub.keys().collect::<Vec<_>>(), [SESSION]);
    assert!(
        site.beside("SELECT key FROM passport_store")
            .await
            .concat()
            .is_empty()
    );
    let mut elsewhere = Browser::of("ada");
    elsewhere.sign_in(&door, "/auth/uni").await;
    assert_eq!(elsewhere.who(&door).await, Some(id));
    // An address that nobody has seen is not known to be theirs.
    let mut bob = Browser::of("bob");
    bob.sign_in(&door, "/auth/uni").await;
    let account = door.account(bob.who(&door).await.unwrap()).await;
    assert_eq!(
        (&*account.first_name, &*account.last_name),
        ("Bob B", "Builder")
    );
    assert_eq!(account.email_address_verified, json!({}));
    // Nor has everybody an address.
    let mut mute = Browser::of("mute");
    mute.sign_in(&door, "/auth/uni").await;
    let account = door.account(mute.who(&door).await.unwrap()).await;
    assert_eq!(account.email_address, None);
    assert_eq!(door.accounts().await, 3);
}

async fn a_site_with_plain_oauth_may_vouch_as_well(site: Site) {
    let door = Door::open(&site, json!({"plain": plain()})).await;
    let mut browser = Browser::of("ada");
    let page = browser.sign_in(&door, "/auth/plain").await;
    assert_eq!(page.code, StatusCode::OK, "{}", page.text);
    let id = browser.who(&door).await.unwrap();
    let account = door.account(id).await;
    assert_eq!(account.email_address.as_deref(), Some("ada@example.org"));
    assert_eq!(&*account.first_name, "ada of");
    assert_eq!(door.links(id).await, [("plain".to_owned(), "1".to_owned())]);
    assert_eq!(door.accounts().await, 1);
}

async fn an_address_of_an_account_lets_nobody_in(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(&json!({}))})).await;
    let ada = door.sign_up("ada@example.org").await;
    for name in ["ada", "eve"] {
        let mut browser = Browser::of(name);
        let page = browser.sign_in(&door, "/auth/uni").await;
        refused(&page, 409, "email-address-taken");
        assert_eq!(browser.who(&door).await, None);
    }
    assert!(door.links(ada.account_id).await.is_empty());
    assert_eq!(door.accounts().await, 1);
}

async fn who_is_signed_in_links_and_unlinks(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(&json!({}))})).await;
    let ada = door.sign_up("ada@example.org").await;
    let id = ada.account_id;
    let mut browser = Browser::of("bob").signed_in(&ada);
    let page = browser.sign_in(&door, "/auth/uni?link=yes").await;
    assert_eq!(page.code, StatusCode::OK, "{}", page.text);
    assert_eq!(browser.who(&door).await, Some(id));
    assert_eq!(door.links(id).await, [("uni".to_owned(), "bob".to_owned())]);
    assert_eq!(
        door.account(id).await.email_address.as_deref(),
        Some("ada@example.org")
    );
    let mut elsewhere = Browser::of("bob");
    elsewhere.sign_in(&door, "/auth/uni").await;
    assert_eq!(elsewhere.who(&door).await, Some(id));
    let unlinked = door.entry.unlink(id, "uni", "nobody").await;
    assert!(matches!(unlinked, Err(Unlink::Unknown)));
    door.entry.unlink(id, "uni", "bob").await.unwrap();
    assert!(door.links(id).await.is_empty());
    // Whoever comes by that alone must not lose it.
    let mut mute = Browser::of("mute");
    mute.sign_in(&door, "/auth/uni").await;
    let only = mute.who(&door).await.unwrap();
    assert!(matches!(
        door.entry.unlink(only, "uni", "mute").await,
        Err(Unlink::LastWay)
    ));
    assert_eq!(door.links(only).await.len(), 1);
    // Nobody links without being signed in.
    let page = Browser::of("ada")
        .hub(&door, "/auth/uni?link=yes", false)
        .await;
    refused(&page, 401, "not-signed-in");
}

async fn an_identity_of_another_account_is_not_linked(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(&json!({}))})).await;
    let mut bob = Browser::of("bob");
    bob.sign_in(&door, "/auth/uni").await;
    let his = bob.who(&door).await.unwrap();
    let ada = door.sign_up("ada@example.org").await;
    let mut browser = Browser::of("bob").signed_in(&ada);
    let page = browser.sign_in(&door, "/auth/uni?link=yes").await;
    refused(&page, 409, "linked-elsewhere");
    assert_eq!(browser.who(&door).await, Some(ada.account_id));
    // Without the wish to link, it is signing in as somebody else.
    browser.sign_in(&door, "/auth/uni").await;
    assert_eq!(browser.who(&door).await, Some(his));
}

async fn a_domain_may_have_one_way_in(site: Site) {
    let door = Door::open(&site, json!({"plain": plain()})).await;
    let una = door.sign_up("una@uni.example").await;
    let strategies = json!({"uni": oidc(&json!({"exclusive_domains": ["uni.example"], "display": "The University"}))});
    configure::apply(&door.store, &strategies).await.unwrap();
    let sign_in = SignIn {
        email_address: "Una@Uni.Example",
        password: "analytical-engine-7",
        origin: Origin::default(),
    };
    let refusal = door.entry.sign_in(&sign_in).await.unwrap_err().to_string();
    assert_eq!(
        refusal,
        "with an address like this one signs in with The University"
    );
    let sign_up = SignUp {
        email_address: "new@maths.uni.example",
        password: "analytical-engine-7",
        first_name: "A",
        last_name: "B",
        token: None,
        tags: Vec::new(),
        intent: None,
        origin: Origin::default(),
    };
    assert!(matches!(
        door.entry.sign_up(&sign_up).await,
        Err(entry::Refused::Exclusive(_))
    ));
    // The site of the domain answers for its addresses, and so may let somebody into an account that there is.
    let mut browser = Browser::of("uni");
    browser.sign_in(&door, "/auth/uni").await;
    assert_eq!(browser.who(&door).await, Some(una.account_id));
    let unlinked = door.entry.unlink(una.account_id, "uni", "uni").await;
    assert!(matches!(unlinked, Err(Unlink::Exclusive(_))));
    assert_eq!(door.links(una.account_id).await.len(), 1);
    // It does not for others.
    let ada = door.sign_up("ada@example.org").await;
    refused(
        &Browser::of("ada").sign_in(&door, "/auth/uni").await,
        409,
        "email-address-taken",
    );
    // Nor does a site that says nothing of having seen an address, if it is the way for everybody.
    let all = json!({"uni": oidc(&json!({"exclusive_domains": ["*"]}))});
    configure::apply(&door.store, &all).await.unwrap();
    refused(
        &Browser::of("eve").sign_in(&door, "/auth/uni").await,
        409,
        "email-address-taken",
    );
    assert!(door.links(ada.account_id).await.is_empty());
    let mut browser = Browser::of("ada");
    browser.sign_in(&door, "/auth/uni").await;
    assert_eq!(browser.who(&door).await, Some(ada.account_id));
}

async fn nobody_comes_in_by_another_way_than_that_of_the_domain(site: Site) {
    let door = Door::open(&site, json!({"other": oidc(&json!({}))})).await;
    let ada = door.sign_up("ada@example.org").await;
    // Somebody who came by another way before.
    let mut before = Browser::of("uni");
    before.sign_in(&door, "/auth/other").await;
    let una = before.who(&door).await.unwrap();
    let campus = json!({"exclusive_domains": ["uni.example"], "display": "The University"});
    let strategies = json!({"uni": oidc(&campus)});
    configure::apply(&door.store, &strategies).await.unwrap();
    let mut browser = Browser::of("uni");
    let page = browser.sign_in(&door, "/auth/other").await;
    refused(&page, 403, "exclusive");
    assert!(page.text.contains("The University"), "{}", page.text);
    assert_eq!(browser.who(&door).await, None);
    // Nor does an account with such an address get another way.
    let mut browser = Browser::of("bob");
    browser.hub = before.hub.clone();
    let page = browser.sign_in(&door, "/auth/other?link=yes").await;
    refused(&page, 403, "exclusive");
    assert_eq!(
        door.links(una).await,
        [("other".to_owned(), "uni".to_owned())]
    );
    accounts::delete(&door.store, una).await.unwrap();
    let page = Browser::of("uni").sign_in(&door, "/auth/other").await;
    refused(&page, 403, "exclusive");
    // Hers, and the one that was ended.
    assert_eq!(door.accounts().await, 2, "no account is made either");
    // An account with an address of elsewhere may have it.
    let mut browser = Browser::of("uni").signed_in(&ada);
    let page = browser.sign_in(&door, "/auth/other?link=yes").await;
    assert_eq!(page.code, StatusCode::OK, "{}", page.text);
    // A second way for people of the domain is one of theirs.
    let second = json!({"other": oidc(&json!({"exclusive_domains": ["example"]}))});
    assert!(
        configure::apply(&door.store, &second).await.is_err(),
        "no dot"
    );
    let second = json!({"other": oidc(&json!({"exclusive_domains": ["uni.example"]}))});
    configure::apply(&door.store, &second).await.unwrap();
    door.entry
        .unlink(ada.account_id, "other", "uni")
        .await
        .unwrap();
    let mut browser = Browser::of("uni");
    let page = browser.sign_in(&door, "/auth/uni").await;
    assert_eq!(page.code, StatusCode::OK, "{}", page.text);
    assert!(browser.who(&door).await.is_some());
}

async fn an_address_that_was_not_seen_opens_no_account(site: Site) {
    let door = Door::open(&site, json!({})).await;
    let una = door.sign_up("una@uni.example").await;
    let strategies = json!({"uni": oidc(&json!({"exclusive_domains": ["uni.example"]}))});
    configure::apply(&door.store, &strategies).await.unwrap();
    // The site of the domain says that it has not seen whose the address is, which counts more than that it is its own.
    let mut browser = Browser::of("mallory");
    let page = browser.sign_in(&door, "/auth/uni").await;
    refused(&page, 409, "email-address-taken");
    assert_eq!(browser.who(&door).await, None);
    assert!(door.links(una.account_id).await.is_empty());
    // One that says nothing answers for the addresses of its domain.
    let mut browser = Browser::of("silent");
    browser.sign_in(&door, "/auth/uni").await;
    assert_eq!(browser.who(&door).await, Some(una.account_id));
}

async fn what_two_transactions_have_ended_is_done_again(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(&json!({}))})).await;
    let is_postgres = matches!(site.location, Location::Postgres { .. });
    if is_postgres {
        // As if another transaction had waited for this one: once, since a sequence does not go back.
        site.beside(
            "CREATE SEQUENCE attempts;
             CREATE FUNCTION end_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF nextval('attempts') = 1 THEN RAISE EXCEPTION 'of a test' USING ERRCODE = '40P01'; END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER end_once BEFORE INSERT ON passport_links FOR EACH ROW EXECUTE FUNCTION end_once();",
        )
        .await;
    }
    let mut browser = Browser::of("ada");
    let page = browser.sign_in(&door, "/auth/uni").await;
    assert_eq!(page.code, StatusCode::OK, "{}", page.text);
    assert_eq!(door.accounts().await, 1);
    if is_postgres {
        assert_eq!(site.beside("SELECT last_value FROM attempts").await, ["2"]);
    }
}

async fn who_does_not_agree_does_not_come_in(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(&json!({}))})).await;
    let mut browser = Browser::of("nobody");
    let page = browser.sign_in(&door, "/auth/uni").await;
    refused(&page, 403, "denied");
    assert!(page.text.contains("nobody wants"), "{}", page.text);
    assert_eq!(door.accounts().await, 0);
    for (path, code, name) in [
        ("/auth/nothing", 404, "unknown-strategy"),
        ("/auth/uni/return", 400, "bad-state"),
        ("/auth/uni/return?state=x&code=y", 400, "bad-state"),
        ("/auth/uni/other", 404, "not-found"),
    ] {
        refused(&browser.hub(&door, path, true).await, code, name);
    }
}

async fn a_banned_account_stays_out(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(&json!({}))})).await;
    let mut browser = Browser::of("ada");
    browser.sign_in(&door, "/auth/uni").await;
    let id = browser.who(&door).await.unwrap();
    accounts::ban(&door.store, id, true).await.unwrap();
    let mut elsewhere = Browser::of("ada");
    refused(&elsewhere.sign_in(&door, "/auth/uni").await, 403, "banned");
    assert_eq!(elsewhere.who(&door).await, None);
    // After its end, the same person may come in anew, as somebody else.
    accounts::delete(&door.store, id).await.unwrap();
    elsewhere.sign_in(&door, "/auth/uni").await;
    assert!(elsewhere.who(&door).await.is_some_and(|new| new != id));
}

async fn names_may_follow_the_other_site(site: Site) {
    let door = Door::open(
        &site,
        json!({"uni": oidc(&json!({"update_on_login": true, "cookie_ttl_s": 60}))}),
    )
    .await;
    let ada = door.sign_up("x@example.org").await;
    let mut browser = Browser::of("uni").signed_in(&ada);
    browser.sign_in(&door, "/auth/uni?link=yes").await;
    assert_eq!(door.account(ada.account_id).await.last_name, "Iversity");
    Browser::of("uni").sign_in(&door, "/auth/uni").await;
    let soon = site
        .beside("SELECT kind FROM remember_me ORDER BY expire LIMIT 1")
        .await;
    assert_eq!(soon, ["sso"]);
}

async fn strategies_are_listed_without_secrets(site: Site) {
    let mut off = oidc(&json!({"disabled": true}));
    off["conf"]["type"] = json!("google");
    let door = Door::open(
        &site,
        json!({"uni": oidc(&json!({"display": "Uni"})), "plain": plain(), "off": off}),
    )
    .await;
    let mut browser = Browser::default();
    let names = browser.hub(&door, "/auth/strategies", false).await.text;
    assert_eq!(names, "[\"plain\",\"uni\"]");
    let shown = browser.hub(&door, "/auth/strategies?v=2", false).await.text;
    assert!(
        shown.contains("\"display\":\"Uni\"") && !shown.contains("secret"),
        "{shown}"
    );
    refused(
        &browser.hub(&door, "/auth/off", false).await,
        404,
        "unknown-strategy",
    );
    // A file is taken wholly or not at all, and says what is wrong with it.
    let wrong = json!({"uni": null, "bad": {"conf": {"type": "saml", "clientID": "x"}}});
    let error = configure::apply(&door.store, &wrong).await.unwrap_err();
    assert_eq!(error.to_string(), "the way to sign in \"bad\"");
    assert_eq!(
        browser.hub(&door, "/auth/strategies", false).await.text,
        names
    );
    configure::apply(&door.store, &json!({"uni": null}))
        .await
        .unwrap();
    assert_eq!(
        browser.hub(&door, "/auth/strategies", false).await.text,
        "[\"plain\"]"
    );
}
