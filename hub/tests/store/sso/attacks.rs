//! What an attacker makes of signing in by another site.

use dialtone_hub::accounts;
use hyper::StatusCode;
use serde_json::json;

use super::browser::{Browser, Door, oidc, plain, provider, refused, with};
use crate::{Site, on_both};

on_both! {
    an_answer_is_taken_once,
    an_answer_is_taken_in_the_browser_that_has_begun,
    an_answer_for_another_way_is_not_taken,
    a_proof_for_another_attempt_is_not_taken,
    a_proof_of_another_issuer_is_not_taken,
    a_code_without_its_verifier_is_worth_nothing,
    a_code_of_another_client_is_worth_nothing,
    nobody_is_led_to_another_site,
    a_session_that_has_ended_links_nothing,
    an_attempt_ends_with_its_time,
}

async fn an_answer_is_taken_once(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(&json!({}))})).await;
    let mut browser = Browser::of("ada");
    let back = browser.begin(&door, "/auth/uni").await;
    // Somebody has copied the cookies as well.
    let mut copy = Browser {
        hub: browser.hub.clone(),
        ..Browser::default()
    };
    assert_eq!(browser.hub(&door, &back, true).await.code, StatusCode::OK);
    refused(&copy.hub(&door, &back, true).await, 400, "bad-state");
    refused(&browser.hub(&door, &back, true).await, 400, "bad-state");
    assert_eq!(copy.who(&door).await, None);
}

async fn an_answer_is_taken_in_the_browser_that_has_begun(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(&json!({}))})).await;
    // Eve signs in as herself, and makes Ada follow the address that leads back.
    let back = Browser::of("eve").begin(&door, "/auth/uni").await;
    let ada = door.sign_up("x@example.org").await;
    let mut browser = Browser::of("ada").signed_in(&ada);
    browser.begin(&door, "/auth/uni?link=yes").await;
    refused(&browser.hub(&door, &back, true).await, 400, "bad-state");
    assert_eq!(browser.who(&door).await, Some(ada.account_id));
    assert!(door.links(ada.account_id).await.is_empty());
}

async fn an_answer_for_another_way_is_not_taken(site: Site) {
    let both = json!({"uni": oidc(&json!({})), "other": oidc(&json!({}))});
    let door = Door::open(&site, both).await;
    let mut browser = Browser::of("ada");
    let back = browser.begin(&door, "/auth/uni").await;
    let other = back.replace("/auth/uni/", "/auth/other/");
    refused(&browser.hub(&door, &other, true).await, 400, "bad-state");
    assert_eq!(door.accounts().await, 0);
}

async fn a_proof_for_another_attempt_is_not_taken(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(&json!({}))})).await;
    let mut browser = Browser::of("ada");
    let begun = browser.hub(&door, "/auth/uni", false).await;
    let url = with(&begun.location.unwrap(), "nonce", "that-of-another-attempt");
    let back = browser.at_provider(&url).await;
    let page = browser.hub(&door, &back, true).await;
    refused(&page, 403, "bad-proof");
    assert!(page.text.contains("nonce"), "{}", page.text);
    assert_eq!(door.accounts().await, 0);
}

async fn a_proof_of_another_issuer_is_not_taken(site: Site) {
    let mut localhost = oidc(&json!({}));
    localhost["conf"]["issuer"] = json!(provider().replace("127.0.0.1", "localhost"));
    let both = json!({"uni": oidc(&json!({})), "other": localhost});
    let door = Door::open(&site, both).await;
    let mut browser = Browser::of("ada");
    let back = browser.begin(&door, "/auth/uni").await;
    let page = browser
        .hub(&door, &with(&back, "iss", "https://evil.example"), true)
        .await;
    refused(&page, 403, "bad-proof");
    // One that calls itself something else than it is configured as is not even asked.
    let page = browser.hub(&door, "/auth/other", false).await;
    refused(&page, 502, "provider-failed");
    assert!(page.text.contains("unexpected issuer"), "{}", page.text);
    assert_eq!(door.accounts().await, 0);
}

async fn a_code_without_its_verifier_is_worth_nothing(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(&json!({})), "plain": plain()})).await;
    // Eve has got hold of Ada's code, and puts it into an attempt of her own.
    for path in ["/auth/uni", "/auth/plain"] {
        let stolen = Browser::of("ada").begin(&door, path).await;
        let stolen = url::Url::parse(&stolen).unwrap();
        let code = stolen
            .query_pairs()
            .find(|(name, _)| name == "code")
            .unwrap()
            .1
            .into_owned();
        let mut eve = Browser::of("eve");
        let back = eve.begin(&door, path).await;
        refused(
            &eve.hub(&door, &with(&back, "code", &code), true).await,
            403,
            "denied",
        );
        assert_eq!(eve.who(&door).await, None);
    }
    assert_eq!(door.accounts().await, 0);
}

async fn a_code_of_another_client_is_worth_nothing(site: Site) {
    let mut other = oidc(&json!({}));
    other["conf"]["clientID"] = json!("other");
    other["conf"]["clientSecret"] = json!("other-secret");
    let door = Door::open(&site, json!({"uni": oidc(&json!({})), "other": other})).await;
    let mut browser = Browser::of("ada");
    let begun = browser
        .hub(&door, "/auth/uni", false)
        .await
        .location
        .unwrap();
    let url = with(&begun, "client_id", "other");
    let back = browser.at_provider(&url).await;
    refused(&browser.hub(&door, &back, true).await, 403, "denied");
    assert_eq!(door.accounts().await, 0);
}

async fn nobody_is_led_to_another_site(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(&json!({}))})).await;
    let mut browser = Browser::of("ada");
    for target in [
        "https://evil.example",
        "//evil.example",
        "/%5Cevil.example",
        "javascript:alert(1)",
        "/%09/evil.example",
    ] {
        let page = browser
            .hub(&door, &format!("/auth/uni?target={target}"), false)
            .await;
        refused(&page, 400, "bad-target");
    }
    // What is in the answer of the provider is not where one goes.
    let back = browser.begin(&door, "/auth/uni").await;
    let page = browser
        .hub(&door, &format!("{back}&target=https://evil.example"), true)
        .await;
    assert!(page.text.contains("url=/\""), "{}", page.text);
}

async fn a_session_that_has_ended_links_nothing(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(&json!({}))})).await;
    let ada = door.sign_up("x@example.org").await;
    let mut browser = Browser::of("ada").signed_in(&ada);
    let back = browser.begin(&door, "/auth/uni?link=yes").await;
    accounts::sign_out(&door.store, ada.account_id, None)
        .await
        .unwrap();
    refused(&browser.hub(&door, &back, true).await, 401, "not-signed-in");
    assert!(door.links(ada.account_id).await.is_empty());
}

async fn an_attempt_ends_with_its_time(site: Site) {
    let door = Door::open(&site, json!({"uni": oidc(&json!({}))})).await;
    let mut browser = Browser::of("ada");
    let back = browser.begin(&door, "/auth/uni").await;
    site.beside(match &site.location {
        dialtone_hub::store::Location::Postgres { .. } => {
            "UPDATE passport_store SET expire = now() - interval '1 second' RETURNING key"
        }
        dialtone_hub::store::Location::Sqlite { .. } => {
            "UPDATE passport_store SET expire = unixepoch() * 1000 - 1000 RETURNING key"
        }
    })
    .await;
    refused(&browser.hub(&door, &back, true).await, 400, "bad-state");
}
