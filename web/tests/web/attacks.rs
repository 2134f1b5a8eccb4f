//! What pages of others try: forms without the token, pages within pages, scripts that read.

use crate::world::{World, person};

#[tokio::test]
async fn a_form_counts_with_the_token_of_the_session_alone() {
    let world = World::new().await;
    let mut browser = world.member("ada@example.org").await;
    browser.get("/projects").await;
    let good = browser.token.clone();
    let mut other = world.member("eve@example.org").await;
    other.get("/projects").await;
    for token in ["", "x", other.token.as_str()] {
        token.clone_into(&mut browser.token);
        for path in ["/projects", "/auth/sign-out", "/account/make-key"] {
            let page = browser
                .post(path, &[("title", "forged"), ("name", "forged")])
                .await;
            assert_eq!(page.code, 403, "{path} with {token:?}");
        }
    }
    browser.token = good;
    let page = browser.get("/projects").await;
    assert_eq!(page.code, 200, "the session goes on");
    page.has_not("forged");
}

#[tokio::test]
async fn forms_of_other_sites_do_nothing() {
    let world = World::new().await;
    let mut browser = world.member("ada@example.org").await;
    browser.get("/projects").await;
    for headers in [
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        let page = browser
            .post_with("/projects", &[("title", "forged")], headers)
            .await;
        assert_eq!(page.code, 403, "{headers}");
        let mut fresh = world.browser();
        let page = fresh
            .post_with("/auth/sign-up", &person("eve@example.org"), headers)
            .await;
        assert_eq!((page.code, fresh.cookie), (403, None), "{headers}");
    }
    browser.get("/projects").await.has_not("forged");
}

#[tokio::test]
async fn scripts_and_frames_get_no_page() {
    let world = World::new().await;
    let mut browser = world.member("ada@example.org").await;
    let token = browser.get("/projects").await.text;
    let token = token.split("name=\"token\" value=\"").nth(1).unwrap();
    let token = token.split('"').next().unwrap().to_owned();
    for headers in [
        "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n",
        "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n",
    ] {
        let page = browser.ask("GET", "/projects", headers, "").await;
        assert_eq!(page.code, 403, "{headers}");
        page.has_not(&token);
    }
}

#[tokio::test]
async fn pages_carry_what_keeps_others_out() {
    let world = World::new().await;
    let mut browser = world.browser();
    let page = browser.get("/auth/sign-in").await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-opener-policy", "same-origin"),
        ("referrer-policy", "same-origin"),
    ] {
        assert_eq!(page.header(name), Some(value), "{name}");
    }
    page.has_not("<script");
    let style = page.text.split("stylesheet\" href=\"").nth(1).unwrap();
    let style = style.split('"').next().unwrap().to_owned();
    let style = browser.get(&style).await;
    assert_eq!(
        (style.code, style.header("content-type")),
        (200, Some("text/css; charset=utf-8"))
    );
    assert_eq!(browser.get("/static/other.css").await.code, 404);
}

#[tokio::test]
async fn only_what_is_a_form_is_one() {
    let world = World::new().await;
    let mut browser = world.browser();
    let page = browser
        .ask(
            "POST",
            "/auth/sign-in",
            "Content-Type: text/plain\r\n",
            "email=a",
        )
        .await;
    assert_eq!(page.code, 415);
    let long = "x".repeat(70_000);
    let page = browser.post("/auth/sign-in", &[("email", &long)]).await;
    assert_eq!(page.code, 413);
    let page = browser.ask("DELETE", "/projects", "", "").await;
    assert_eq!(
        (page.code, page.header("allow")),
        (405, Some("GET, HEAD, POST"))
    );
    assert_eq!(browser.ask("GET", "/auth/sign-out", "", "").await.code, 405);
}
