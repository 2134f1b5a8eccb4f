//! Signing up, in and out, and a new password.

use dialtone_hub::sso::configure;
use serde_json::json;

use crate::world::{PASSWORD, World, person};

#[tokio::test]
async fn somebody_signs_up_out_and_in_again() {
    let world = World::new().await;
    let mut browser = world.browser();
    assert_eq!(browser.get("/").await.place(), "/auth/sign-in");
    browser.get("/auth/sign-in").await.has("Make an account");
    browser.get("/auth/sign-up").await.has("First name");
    let done = browser
        .post("/auth/sign-up", &person("ada@example.org"))
        .await;
    assert_eq!(
        (done.code, done.place()),
        (303, "/projects"),
        "{}",
        done.text
    );
    let cookie = done.header("set-cookie").unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );

    browser.get("/projects").await.has("There is none yet");
    assert_eq!(
        browser.get("/auth/sign-in").await.place(),
        "/projects",
        "there already"
    );
    let kept = browser.cookie.clone();
    assert_eq!(
        browser.post("/auth/sign-out", &[]).await.place(),
        "/auth/sign-in"
    );
    assert_eq!(browser.cookie, None);
    browser.cookie = kept;
    assert_eq!(
        browser.get("/projects").await.place(),
        "/auth/sign-in",
        "the session is over"
    );

    let wrong = browser
        .post(
            "/auth/sign-in",
            &[("email", "ada@example.org"), ("password", "guess")],
        )
        .await;
    assert_eq!(wrong.code, 401);
    wrong.has("Wrong email address or password.");
    wrong.has("value=\"ada@example.org\"");
    wrong.has_not("guess");
    let fields = [("email", "ada@example.org"), ("password", PASSWORD)];
    assert_eq!(
        browser.post("/auth/sign-in", &fields).await.place(),
        "/projects"
    );
    browser
        .get("/account")
        .await
        .has("Ada &lt;Lovelace&gt;, ada@example.org");
}

#[tokio::test]
async fn what_is_wrong_with_a_sign_up_is_said_and_what_was_filled_in_stays() {
    let world = World::new().await;
    let mut browser = world.browser();
    let mut fields = person("ada@example.org");
    fields[1].1 = "password";
    let weak = browser.post("/auth/sign-up", &fields).await;
    assert_eq!(weak.code, 400);
    weak.has("class=\"wrong\"");
    weak.has("value=\"&lt;Lovelace&gt;\"");
    fields[1].1 = PASSWORD;
    fields[0].1 = "no address";
    browser
        .post("/auth/sign-up", &fields)
        .await
        .has("This is not an email address.");
    world.member("ada@example.org").await;
    let taken = browser
        .post("/auth/sign-up", &person("ada@example.org"))
        .await;
    taken.has("There is an account with this email address already.");
    assert_eq!(browser.cookie, None);
}

#[tokio::test]
async fn a_project_that_was_asked_for_is_where_one_ends() {
    let world = World::new().await;
    let id = "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f";
    let mut browser = world.browser();
    let asked = browser.get(&format!("/projects/{id}")).await;
    assert_eq!(asked.place(), format!("/auth/sign-in?project={id}"));
    browser
        .get(asked.place())
        .await
        .has(&format!("name=\"project\" value=\"{id}\""));
    world.member("ada@example.org").await;
    let fields = [
        ("email", "ada@example.org"),
        ("password", PASSWORD),
        ("project", id),
    ];
    let done = browser.post("/auth/sign-in", &fields).await;
    assert_eq!(done.place(), format!("/projects/{id}"));
    let mut elsewhere = world.browser();
    let fields = [
        ("email", "ada@example.org"),
        ("password", PASSWORD),
        ("project", "//evil"),
    ];
    assert_eq!(
        elsewhere.post("/auth/sign-in", &fields).await.place(),
        "/projects"
    );
}

#[tokio::test]
async fn a_letter_lets_somebody_set_a_password() {
    let world = World::new().await;
    let mut member = world.member("ada@example.org").await;
    let mut browser = world.browser();
    let unknown = browser
        .post("/auth/password-reset", &[("email", "nobody@example.org")])
        .await;
    let known = browser
        .post("/auth/password-reset", &[("email", "ada@example.org")])
        .await;
    assert_eq!((unknown.code, known.code), (200, 200));
    assert_eq!(
        unknown.text.replace("nobody", "ada"),
        known.text,
        "nobody learns who has an account"
    );
    let used = browser
        .post("/auth/password-reset/none", &[("password", PASSWORD)])
        .await;
    assert_eq!(used.code, 401);
    used.has("This link is not valid any more.");
    assert_eq!(member.get("/projects").await.code, 200);
    let letter = world.letter("/auth/password-reset/").await;
    let link = letter.split("https://hub.example").nth(1).unwrap();
    let link = link.split_whitespace().next().unwrap();
    browser.get(link).await.has("New password");
    let weak = browser.post(link, &[("password", "password")]).await;
    assert_eq!(weak.code, 400);
    let password = "difference-engine-9";
    let done = browser.post(link, &[("password", password)]).await;
    assert_eq!(done.code, 200, "{}", done.text);
    assert_eq!(
        member.get("/projects").await.place(),
        "/auth/sign-in",
        "sessions end"
    );
    let fields = [("email", "ada@example.org"), ("password", password)];
    assert_eq!(
        browser.post("/auth/sign-in", &fields).await.place(),
        "/projects"
    );
    assert_eq!(
        browser.post(link, &[("password", password)]).await.code,
        401,
        "once"
    );
}

#[tokio::test]
async fn the_link_of_a_letter_alone_verifies_nothing() {
    let world = World::new().await;
    let mut browser = world.browser();
    let page = browser
        .get("/auth/verify?token=t&email=ada%40example.org")
        .await;
    page.has("Yes, it is mine");
    page.has("value=\"ada@example.org\"");
    let fields = [("email", "ada@example.org"), ("verification", "t")];
    let done = browser.post("/auth/verify", &fields).await;
    assert_eq!(done.code, 401);
    done.has("This link is not valid any more.");
}

#[tokio::test]
async fn the_first_administrator_is_made_once() {
    let world = World::new().await;
    let mut browser = world.browser();
    let link = format!("/auth/first-admin/{}", world.secret);
    let other = format!("/auth/first-admin/{}", world.secret.to_lowercase());
    let none = browser.get(&other).await;
    assert_eq!(none.code, 404);
    none.has("This link was used, or is none.");
    browser.get(&link).await.has("Make the account");
    let mut fields = person("root@example.org");
    fields[1].1 = "short";
    let weak = browser.post(&link, &fields).await;
    assert_eq!(weak.code, 400);
    weak.has("value=\"&lt;Lovelace&gt;\"");
    fields[1].1 = PASSWORD;
    assert_eq!(browser.post(&other, &fields).await.code, 404);
    assert_eq!(browser.post(&link, &fields).await.place(), "/projects");
    assert_eq!(browser.get("/projects").await.code, 200, "and signed in");
    assert_eq!(world.browser().get(&link).await.code, 404);
    assert_eq!(world.browser().post(&link, &fields).await.code, 404);
}

#[tokio::test]
async fn other_ways_to_sign_in_are_shown_to_those_whom_they_are_for() {
    let world = World::new().await;
    let client = json!({"clientID": "c", "clientSecret": "s"});
    let campus =
        json!({"display": "The University", "public": false, "exclusive_domains": ["uni.example"]});
    let campus = json!({"conf": {"type": "google", "clientID": "c"}, "info": campus});
    let ways = json!({
        "github": {"conf": client, "info": {"display": "<GitHub>", "description": "For all"}},
        "google": {"conf": client, "info": {"display": "Google", "disabled": true}},
        "campus": campus,
    });
    configure::apply(&world.store, &ways).await.unwrap();
    let mut browser = world.browser();
    for path in ["/auth/sign-in", "/auth/sign-up"] {
        let page = browser.get(path).await;
        page.has("href=\"/auth/github?target=/projects\">&lt;GitHub&gt;</a> – For all");
        page.has_not("Google");
        page.has_not("The University");
    }
    let id = "7f2c6d1e-0b5a-4c39-9d5e-1a2b3c4d5e6f";
    let page = browser.get(&format!("/auth/sign-in?project={id}")).await;
    page.has(&format!("href=\"/auth/github?target=/projects/{id}\""));
    // Who has an address of the domain learns of it, and how.
    let fields = [("email", "una@cs.uni.example"), ("password", PASSWORD)];
    let page = browser.post("/auth/sign-in", &fields).await;
    assert_eq!(page.code, 403);
    page.has("With an address like this one signs in with The University.");
    page.has("href=\"/auth/campus?target=/projects\"");
}
