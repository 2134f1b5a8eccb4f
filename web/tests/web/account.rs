//! Keys and sessions.

use dialtone_hub::accounts;
use dialtone_hub::sso::configure;
use dialtone_hub::store::passports::{self, Link};
use serde_json::json;

use crate::world::World;

#[tokio::test]
async fn a_key_is_made_shown_once_and_ended() {
    let world = World::new().await;
    let mut browser = world.member("ada@example.org").await;
    browser.get("/account").await;
    let made = browser
        .post("/account/make-key", &[("name", "laptop")])
        .await;
    assert_eq!(made.code, 200, "{}", made.text);
    made.has("class=\"secret\">sk-");
    let page = browser.get("/account").await;
    page.has("laptop");
    page.has_not("class=\"secret\"");
    let id = page.text.split("name=\"id\" value=\"").nth(1).unwrap();
    let id = id.split('"').next().unwrap().to_owned();
    assert_eq!(
        browser
            .post("/account/end-key", &[("id", &id)])
            .await
            .place(),
        "/account"
    );
    browser.get("/account").await.has_not("laptop");
    let again = browser.post("/account/end-key", &[("id", &id)]).await;
    assert_eq!(again.code, 404);
}

#[tokio::test]
async fn signing_out_everywhere_ends_other_browsers() {
    let world = World::new().await;
    let mut one = world.member("ada@example.org").await;
    let mut two = world.browser();
    let fields = [
        ("email", "ada@example.org"),
        ("password", crate::world::PASSWORD),
    ];
    two.post("/auth/sign-in", &fields).await;
    assert_eq!(two.get("/projects").await.code, 200);
    one.get("/account").await;
    assert_eq!(
        one.post("/auth/sign-out", &[("all", "yes")]).await.place(),
        "/auth/sign-in"
    );
    assert_eq!(two.get("/projects").await.place(), "/auth/sign-in");
}

#[tokio::test]
async fn a_site_that_vouches_is_shown_and_unlinked() {
    let world = World::new().await;
    let conf = json!({"clientID": "c", "clientSecret": "s"});
    let ways =
        json!({"github": {"conf": conf}, "google": {"conf": conf, "info": {"display": "Google"}}});
    configure::apply(&world.store, &ways).await.unwrap();
    let mut browser = world.member("ada@example.org").await;
    let page = browser.get("/account").await;
    page.has("href=\"/auth/google?link=yes&amp;target=/account\">Google</a>");
    let ada = accounts::find(&world.store, "ada@example.org")
        .await
        .unwrap();
    let mut on = world.store.write().await.unwrap();
    let link = Link {
        strategy: "github".to_owned(),
        external_id: "a-7".to_owned(),
        account_id: ada.id,
        profile: json!({"id": "a-7", "emails": [{"email": "ada@<work>.example", "verified": true}]}),
    };
    passports::insert(&mut on, &link).await.unwrap();
    on.commit().await.unwrap();
    let page = browser.get("/account").await;
    page.has("github, as ada@&lt;work&gt;.example");
    page.has_not("/auth/github?");
    let fields = [("strategy", "github"), ("id", "a-8")];
    let page = browser.post("/account/unlink", &fields).await;
    assert_eq!(page.code, 404);
    page.has("This account has no such identity.");
    let fields = [("strategy", "github"), ("id", "a-7")];
    let done = browser.post("/account/unlink", &fields).await;
    assert_eq!(done.place(), "/account", "{}", done.text);
    browser.get("/account").await.has_not("github, as");
}
