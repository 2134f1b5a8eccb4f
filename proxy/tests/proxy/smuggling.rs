//! Requests that different readers could take for different ones: refused, or passed on in one meaning only.

use std::sync::atomic::Ordering;

use crate::world::{ID, World};

/// Heads that are refused. `{path}` and `{host}` are filled in, and `~` stands for the end of a line.
const REFUSED: &[&str] = &[
    "GET {path} HTTP/1.1~~",
    "GET {path} HTTP/1.1~Host: {host}~Host: {host}~~",
    "GET {path} HTTP/1.1~Host: {host}~Host: other~~",
    "GET {path} HTTP/1.1~Host: {host}/x~~",
    "GET {path} HTTP/1.1~Host: a b~~",
    "GET http://other{path} HTTP/1.1~Host: {host}~~",
    "POST {path} HTTP/1.1~Host: {host}~Content-Length: 5~Content-Length: 6~~hello!",
    "POST {path} HTTP/1.1~Host: {host}~Content-Length: 5, 5~~hello",
    "POST {path} HTTP/1.1~Host: {host}~Content-Length: +5~~hello",
    "POST {path} HTTP/1.1~Host: {host}~Content-Length: 0x5~~hello",
    "POST {path} HTTP/1.1~Host: {host}~Content-Length: -5~~hello",
    "POST {path} HTTP/1.1~Host: {host}~Content-Length: 99999999999999999999~~hello",
    "POST {path} HTTP/1.1~Host: {host}~Transfer-Encoding: gzip~~",
    "POST {path} HTTP/1.1~Host: {host}~Transfer-Encoding: identity~~",
    "POST {path} HTTP/1.1~Host: {host}~Transfer-Encoding: chunked, identity~~0~~",
    "POST {path} HTTP/1.1~Host: {host}~Transfer-Encoding: chunked~Transfer-Encoding: chunked~~0~~",
    "POST {path} HTTP/1.1~Host: {host}~Transfer-Encoding: xchunked~~0~~",
    "POST {path} HTTP/1.1~Host: {host}~Transfer-Encoding: \x0bchunked~~0~~",
    "POST {path} HTTP/1.0~Host: {host}~Transfer-Encoding: chunked~~0~~",
    "POST {path} HTTP/1.1~Host: {host}~Transfer-Encoding : chunked~~0~~",
    "POST {path} HTTP/1.1~Host: {host}~Content-Length : 5~~hello",
    "POST {path} HTTP/1.1~Host: {host}~ Transfer-Encoding: chunked~~0~~",
    "POST {path} HTTP/1.1~Host: {host}~X: a~ b~~",
    "POST {path} HTTP/1.1~Host: {host}~X: a~\tContent-Length: 5~~hello",
    "POST {path} HTTP/1.1~Host: {host}~Content_Length: 5~~hello",
    "POST {path} HTTP/1.1~Host: {host}~Transfer_Encoding: chunked~~0~~",
    "GET {path} HTTP/1.1~Host: {host}~X\0Y: 1~~",
    "GET {path} HTTP/1.1~Host: {host}~X: a\0b~~",
    "GET {path} HTTP/1.1~Host: {host}~X: a\rb~~",
    "GET {path}/../../../x HTTP/1.1~Host: {host}~~",
    "GET {path}/%2e%2e/x HTTP/1.1~Host: {host}~~",
    "GET {path}/..%2fx HTTP/1.1~Host: {host}~~",
    "GET {path}/%5c..%5cx HTTP/1.1~Host: {host}~~",
    "GET {path}/%00 HTTP/1.1~Host: {host}~~",
    "GET {path} x HTTP/1.1~Host: {host}~~",
    "GET {path} HTTP/1.2~Host: {host}~~",
    "GET {path} HTTP/9.9~Host: {host}~~",
    "G\0T {path} HTTP/1.1~Host: {host}~~",
    "CONNECT {host} HTTP/1.1~Host: {host}~~",
];

#[tokio::test]
async fn ambiguous_requests_are_refused_and_never_arrive() {
    let world = World::new().await;
    let (path, host) = (world.path("count"), world.addr.to_string());
    for request in REFUSED {
        let request = request
            .replace('~', "\r\n")
            .replace("{path}", &path)
            .replace("{host}", &host);
        let request = request.replacen(
            "\r\n",
            "\r\nCookie: remember_me=bob\r\nConnection: close\r\n",
            1,
        );
        let answer = world.ask(&request).await;
        let refused = answer.is_empty()
            || answer.starts_with("HTTP/1.1 4")
            || answer.starts_with("HTTP/1.0 4");
        assert!(refused, "{request:?} gave {answer:?}");
    }
    assert_eq!(world.upstream.requests.load(Ordering::Relaxed), 0);
}

/// RFC 9112 §6.1: the coding alone counts, and the connection is closed, so that what follows is nobody's request.
#[tokio::test]
async fn with_both_lengths_nothing_after_the_request_is_one() {
    let world = World::new().await;
    let next = world.head("GET", "gone", "");
    for lengths in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
    ] {
        let answer = world
            .ask(&format!(
                "{}0\r\n\r\n{next}",
                world.head("POST", "count", lengths)
            ))
            .await;
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        assert!(!answer.contains("gone"), "{answer}");
    }
    let arrived = world.upstream.requests.load(Ordering::Relaxed);
    assert!(arrived <= 2, "{arrived}");
}

#[tokio::test]
async fn broken_chunks_end_the_request() {
    let world = World::new().await;
    for body in [
        "5\r\nhelloX\r\n0\r\n\r\n",
        "zz\r\n",
        "ffffffffffffffffff\r\n",
        "-1\r\n",
    ] {
        let request = world.head(
            "POST",
            "count",
            "Connection: close\r\nTransfer-Encoding: chunked\r\n",
        );
        let answer = world.ask(&format!("{request}{body}")).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{body:?} gave {answer}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let world = World::new().await;
    let last = world.head("GET", "x", "Connection: close\r\n");
    let requests = format!(
        "{}abc{}{last}",
        world.head("POST", "body", "Content-Length: 3\r\n"),
        world.head("GET", "gone", "")
    );
    let answer = world.ask(&requests).await;
    let places: Vec<_> = ["abc", "gone", "hello"]
        .map(|part| answer.find(part).unwrap())
        .to_vec();
    assert!(places.is_sorted(), "{answer}");
}

#[tokio::test]
async fn a_connection_header_cannot_name_away_what_matters() {
    let world = World::new().await;
    let lines = "Connection: content-length, host, close\r\nContent-Length: 4\r\n";
    let answer = world
        .ask(&format!("{}body", world.head("POST", "echo", lines)))
        .await;
    assert!(
        answer.contains("content-length: 4\n")
            && answer.contains(&format!("host: {}\n", world.addr)),
        "{answer}"
    );
    assert!(answer.ends_with("\n\nbody"), "{answer}");
}

#[tokio::test]
async fn a_refused_upgrade_leaves_no_tunnel() {
    let world = World::new().await;
    let lines = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\n";
    let next = format!("GET /{ID}/port/1/ HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = world
        .ask(&format!(
            "{}{next}{}",
            world.head("GET", "x", lines),
            world.head("GET", "x", "Connection: close\r\n")
        ))
        .await;
    let statuses: Vec<&str> = answer
        .split("HTTP/1.1 ")
        .skip(1)
        .filter_map(|part| part.get(..3))
        .collect();
    assert_eq!(statuses, ["200", "401", "200"], "{answer}");
}
