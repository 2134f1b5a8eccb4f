//! What arrives at a project's server, and what comes back.

use std::sync::atomic::Ordering;

use crate::world::{ID, Upstream, World};

#[tokio::test]
async fn a_request_passes_with_what_it_should_and_without_what_it_should_not() {
    let world = World::new().await;
    let args = [
        "-H",
        "X-Own: 1",
        "-H",
        "Cookie: remember_me=bob; own=2",
        "-H",
        "Forwarded: for=6.6.6.6",
        "-d",
        "body",
    ];
    let curl = world.curl(&args, "a/echo?q=%20x").await;
    assert_eq!(curl.status(), 200, "{curl:?}");
    let first = format!("POST {}\n", world.path("a/echo?q=%20x"));
    for part in [
        first.as_str(),
        "x-own: 1\n",
        "cookie: own=2\n",
        "x-forwarded-for: 127.0.0.1\n",
        "x-forwarded-proto: http\n",
        "content-length: 4\n",
        "\n\nbody",
    ] {
        assert!(curl.has(part), "{part} is missing: {}", curl.text);
    }
    for part in ["remember_me", "6.6.6.6", "connection:"] {
        assert!(!curl.has(part), "{part} passed: {}", curl.text);
    }
    assert!(curl.has(&format!("host: {}\n", world.addr)));
}

#[tokio::test]
async fn a_server_sees_the_rest_of_the_path() {
    let world = World::new().await;
    let url = format!("http://{}/{ID}/server/web/a/echo?q=1", world.addr);
    let curl = world.curl_url(&[], &url).await;
    assert!(curl.has("GET /a/echo?q=1\n"), "{curl:?}");
    assert!(
        curl.has(&format!("x-forwarded-prefix: /{ID}/server/web\n")),
        "{curl:?}"
    );
}

#[tokio::test]
async fn every_method_and_status_passes() {
    let world = World::new().await;
    for method in [
        "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND",
    ] {
        let curl = world.curl(&["-X", method], "echo").await;
        assert!(curl.has(&format!("{method} /")), "{curl:?}");
    }
    assert_eq!(world.curl(&[], "gone").await.status(), 410);
    let head = world.curl(&["-I"], "echo").await;
    assert_eq!((head.status(), head.code), (200, 0));
}

#[tokio::test]
async fn connections_to_the_server_are_used_again() {
    let world = World::new().await;
    let mut raw = world.connect().await;
    for _ in 0..5 {
        raw.send(world.head("GET", "x", "").as_bytes()).await;
        raw.until("hello").await;
    }
    assert_eq!(world.upstream.connections.load(Ordering::Relaxed), 1);
    assert_eq!(world.upstream.requests.load(Ordering::Relaxed), 5);
    assert_eq!(world.handle.metrics().upstream(), (1, 4));
}

#[tokio::test]
async fn a_server_that_closes_each_connection_is_served_by_new_ones() {
    let upstream = Upstream::saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
    let world = World::before(upstream, |_| {});
    let mut raw = world.connect().await;
    for _ in 0..20 {
        raw.send(world.head("GET", "x", "").as_bytes()).await;
        raw.until("hello").await;
    }
}

#[tokio::test]
async fn http2_without_and_with_prior_knowledge() {
    let world = World::new().await;
    let curl = world
        .curl(&["--http2-prior-knowledge", "-d", "body"], "echo")
        .await;
    assert!(curl.text.starts_with("HTTP/2 200"), "{curl:?}");
    assert!(
        curl.has("\n\nbody") && curl.has(&format!("host: {}\n", world.addr)),
        "{curl:?}"
    );
    let upgrade = world.curl(&["--http2"], "echo").await;
    assert_eq!(
        upgrade.status(),
        200,
        "h2c by upgrade is answered as HTTP/1.1"
    );
    assert!(!upgrade.has("http2-settings"), "{upgrade:?}");
}

#[tokio::test]
async fn cookies_and_places_stay_within_the_project() {
    let world = World::new().await;
    let url = format!("http://{}/{ID}/server/web/cookies", world.addr);
    let curl = world.curl_url(&[], &url).await;
    assert!(
        curl.has(&format!("set-cookie: a=1; Path=/{ID}/server/web/\r\n")),
        "{curl:?}"
    );
    assert!(
        curl.has(&format!("location: /{ID}/server/web/next\r\n")),
        "{curl:?}"
    );
    assert!(
        !curl.has("stolen") && !curl.has("clear-site-data"),
        "{curl:?}"
    );
}

#[tokio::test]
async fn what_leads_nowhere_says_so() {
    let world = World::new().await;
    let at = |path: &str| format!("http://{}{path}", world.addr);
    for (path, status, code) in [
        ("/".to_owned(), 404, "not_found"),
        (format!("/{ID}/nothing/x"), 404, "not_found"),
        (format!("/{ID}/port/99999/"), 404, "not_found"),
        (format!("/{ID}/server/none/"), 404, "no_service"),
        (format!("/{ID}/port/1/"), 502, "unreachable"),
        (format!("/{ID}/port/80/%2e%2e/x"), 400, "bad_path"),
        (
            "/00000000-0000-0000-0000-000000000000/port/80/".to_owned(),
            403,
            "denied",
        ),
    ] {
        let curl = world
            .curl_url(
                &["--path-as-is", "-H", "Accept: application/json"],
                &at(&path),
            )
            .await;
        assert_eq!(curl.status(), status, "{curl:?}");
        assert!(
            curl.has(&format!("dialtone-proxy-error: {code}\r\n")),
            "{path}: {curl:?}"
        );
        assert!(
            curl.has(&format!("\"code\":\"{code}\"")),
            "{path}: {curl:?}"
        );
    }
    let page = world
        .curl_url(&["-H", "Accept: text/html"], &at(&format!("/{ID}/port/1/")))
        .await;
    assert!(
        page.has("<h1>Port 1 of the project does not accept connections.</h1>"),
        "{page:?}"
    );
    let slash = world
        .curl_url(&[], &at(&format!("/{ID}/port/80?a=1")))
        .await;
    assert_eq!(slash.status(), 308);
    assert!(slash.has(&format!("location: /{ID}/port/80/?a=1\r\n")));
}

#[tokio::test]
async fn answers_of_every_shape_arrive() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..],
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nhello",
        b"HTTP/1.0 200\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let world = World::before(Upstream::saying(answer).await, |_| {});
        let curl = world.curl(&[], "x").await;
        let told = String::from_utf8_lossy(answer);
        assert_eq!((curl.status(), curl.code), (200, 0), "{told}: {curl:?}");
        assert!(curl.text.ends_with("\r\n\r\nhello"), "{told}: {curl:?}");
    }
}

#[tokio::test]
async fn answers_without_a_body_keep_their_connection() {
    for answer in [
        &b"HTTP/1.1 204 No Content\r\n\r\n"[..],
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let upstream = Upstream::repeating(answer).await;
        let world = World::before(upstream, |_| {});
        let mut raw = world.connect().await;
        for _ in 0..3 {
            raw.send(world.head("GET", "x", "").as_bytes()).await;
            raw.until("\r\n\r\n").await;
        }
        let told = String::from_utf8_lossy(answer);
        let connections = world.upstream.connections.load(Ordering::Relaxed);
        assert_eq!(connections, 1, "{told}");
    }
}

/// What a server says behind the end of its answer would be taken for the answer to somebody else's request.
#[tokio::test]
async fn what_comes_behind_an_answer_is_nobodys() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let world = World::before(Upstream::repeating(answer).await, |_| {});
    let mut raw = world.connect().await;
    for _ in 0..3 {
        raw.send(world.head("GET", "x", "").as_bytes()).await;
        let got = raw.until("hello").await;
        assert!(!got.contains("poison"), "{got}");
    }
    assert_eq!(world.upstream.connections.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn an_answer_that_only_announces_itself_is_given_up() {
    let answer = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(20).leak();
    let world = World::before(Upstream::repeating(answer).await, |_| {});
    let curl = world.curl(&[], "x").await;
    assert_eq!(curl.status(), 502, "{curl:?}");
}
