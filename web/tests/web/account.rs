//! Keys and sessions.

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
