//! Long bodies, slow ones and endless ones, both ways.

use std::time::Duration;

use crate::world::{BIG_LEN, Upstream, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_answer_arrives_whole_and_is_never_held() {
    let world = World::new().await;
    for args in [&[][..], &["--http2-prior-knowledge"]] {
        let curl = world.curl(args, "big").await;
        assert_eq!(curl.status(), 200);
        assert!(
            curl.bytes.len() > BIG_LEN && curl.bytes.ends_with(b"xxxx"),
            "{}",
            curl.bytes.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_upload_arrives_whole_with_and_without_a_length() {
    let world = World::new().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'y'; 20 << 20]).unwrap();
    let data = format!("@{}", file.path().display());
    for args in [
        &["--data-binary", &data][..],
        &["--data-binary", &data, "-H", "Transfer-Encoding: chunked"],
        &["--data-binary", &data, "--http2-prior-knowledge"],
    ] {
        let curl = world.curl(args, "count").await;
        assert!(curl.has(&(20 << 20).to_string()), "{args:?}: {}", curl.text);
    }
}

#[tokio::test]
async fn events_arrive_as_they_come() {
    let world = World::new().await;
    let mut raw = world.connect().await;
    raw.send(world.head("GET", "events", "").as_bytes()).await;
    let got = raw.until("data: 2\n\n\r\n").await;
    assert!(got.contains("data: 1"), "{got}");
    assert_eq!(world.handle.metrics().requests(), 1, "it goes on");
}

#[tokio::test]
async fn a_server_that_dies_within_its_answer_is_noticed() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
    ] {
        let world = World::before(Upstream::saying(answer).await, |_| {});
        let curl = world.curl(&[], "x").await;
        assert_eq!(curl.status(), 200);
        assert!(
            [18, 56].contains(&curl.code),
            "curl must know that bytes are missing: {curl:?}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_a_bad_gateway() {
    for answer in [
        &b""[..],
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    ] {
        let world = World::before(Upstream::saying(answer).await, |_| {});
        let curl = world.curl(&[], "x").await;
        assert_eq!(curl.status(), 502, "{:?}", String::from_utf8_lossy(answer));
        assert!(curl.has("dialtone-proxy-error: broken"), "{curl:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let world = World::with(|config| config.timing.first_byte = Duration::from_millis(50)).await;
    let curl = world.curl(&[], "hang").await;
    assert_eq!(curl.status(), 504);
    assert!(
        curl.has("dialtone-proxy-error: first_byte_timeout"),
        "{curl:?}"
    );
}

#[tokio::test]
async fn a_server_that_stops_within_its_answer_is_given_up() {
    let world = World::with(|config| config.timing.answer_idle = Duration::from_millis(50)).await;
    let curl = world.curl(&[], "events").await;
    assert!(curl.has("data: 2"), "{curl:?}");
    assert_eq!(
        curl.code, 18,
        "curl must know that there was no end: {curl:?}"
    );
}

#[tokio::test]
async fn a_client_that_stops_within_its_upload_is_given_up() {
    let world = World::with(|config| config.timing.upload_idle = Duration::from_millis(50)).await;
    let answer = world
        .ask(&format!(
            "{}abc",
            world.head("POST", "count", "Content-Length: 10\r\n")
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let world = World::with(|config| config.limits.body_len_max = 10).await;
    assert_eq!(
        world.curl(&["-d", "0123456789"], "count").await.status(),
        200
    );
    let told = world.curl(&["-d", "0123456789a"], "count").await;
    assert_eq!(told.status(), 413, "{told:?}");
    let untold = world
        .curl(
            &["-d", "0123456789a", "-H", "Transfer-Encoding: chunked"],
            "count",
        )
        .await;
    assert_eq!(untold.status(), 413, "{untold:?}");
}
