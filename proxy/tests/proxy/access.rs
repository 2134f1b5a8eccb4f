//! Who may, and what becomes of those who may no longer.

use dialtone_proxy::Whose;
use dialtone_proxy::access::Level;

use crate::world::{ID, Raw, World, table};

#[tokio::test]
async fn credentials_are_cookies_or_keys() {
    let world = World::new().await;
    for (line, status) in [
        ("Cookie: remember_me=bob", 200),
        ("Authorization: Bearer bob", 401),
        ("Cookie: remember_me=ann", 403),
        ("Cookie: remember_me=nobody", 401),
        ("Cookie: other=bob", 401),
        ("X: 1", 401),
    ] {
        let curl = world.curl(&["-H", "Cookie:", "-H", line], "x").await;
        assert_eq!(curl.status(), status, "{line}");
    }
    let mut table = table(&world.upstream, None);
    table
        .tokens
        .insert(dialtone_proxy::fixed::TokenHash::of("sk-bob"), "bob".into());
    world.fixed.replace(table);
    let curl = world
        .curl(
            &["-H", "Cookie:", "-H", "Authorization: Bearer sk-bob"],
            "echo",
        )
        .await;
    assert_eq!(curl.status(), 200);
    assert!(!curl.has("sk-bob"), "{curl:?}");
}

#[tokio::test]
async fn browsers_are_sent_to_sign_in() {
    let world = World::with(|config| config.sign_in = Some("/auth/sign-in".to_owned())).await;
    let curl = world
        .curl(&["-H", "Cookie:", "-H", "Accept: text/html"], "x")
        .await;
    assert_eq!(curl.status(), 303);
    assert!(curl.has("location: /auth/sign-in\r\n"));
    assert_eq!(world.curl(&["-H", "Cookie:"], "x").await.status(), 401);
}

#[tokio::test]
async fn public_projects_are_open() {
    let world = World::new().await;
    world
        .fixed
        .replace(table(&world.upstream, Some(Level::Write)));
    world.handle.access_changed(Whose::All).await;
    assert_eq!(world.curl(&["-H", "Cookie:"], "x").await.status(), 200);
}

#[tokio::test]
async fn the_end_of_access_ends_what_is_under_way() {
    let world = World::new().await;
    let mut events = world.connect().await;
    events
        .send(world.head("GET", "events", "").as_bytes())
        .await;
    events.until("data: 2\n\n\r\n").await;
    let mut hanging = world.connect().await;
    hanging.send(world.head("GET", "hang", "").as_bytes()).await;
    let mut socket = websocket(&world).await;
    while world.handle.metrics().requests() < 2 {
        tokio::task::yield_now().await;
    }

    let mut table = table(&world.upstream, None);
    table
        .projects
        .values_mut()
        .for_each(|project| project.writers.clear());
    world.fixed.replace(table);
    world
        .handle
        .access_changed(Whose::Project(ID.parse().unwrap()))
        .await;

    assert_eq!(socket.rest().await, "");
    assert!(
        !events.rest().await.contains("0\r\n\r\n"),
        "an end that was none"
    );
    let answer = hanging.until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(world.curl(&[], "x").await.status(), 403);
}

#[tokio::test]
async fn whoever_still_may_goes_on() {
    let world = World::new().await;
    let mut socket = websocket(&world).await;
    world.handle.access_changed(Whose::All).await;
    socket.send(b"still").await;
    assert_eq!(socket.until("still").await, "still");
    assert_eq!(world.handle.end(&Whose::Identity("bob".into())), 1);
    assert_eq!(socket.rest().await, "");
}

#[tokio::test]
async fn a_project_has_so_many_requests() {
    let world = World::with(|config| config.limits.project_requests_max = 1).await;
    let mut first = websocket(&world).await;
    let busy = world.curl(&[], "x").await;
    assert_eq!(busy.status(), 503);
    assert!(
        busy.has("dialtone-proxy-error: busy") && busy.has("retry-after: 5"),
        "{busy:?}"
    );
    first.send(b"a").await;
    first.until("a").await;
    drop(first);
    while world.handle.metrics().tunnels() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.curl(&[], "x").await.status(), 200);
}

/// A WebSocket to the echo.
pub(crate) async fn websocket(world: &World) -> Raw {
    let mut raw = world.connect().await;
    raw.send(
        world
            .head(
                "GET",
                "ws",
                "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n",
            )
            .as_bytes(),
    )
    .await;
    let head = raw.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    raw
}
