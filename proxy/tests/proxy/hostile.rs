//! Clients that do harm, and how little of it.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use crate::world::{Raw, World};

#[tokio::test]
async fn heads_that_never_end_are_given_up() {
    let world = World::with(|config| config.timing.head = Duration::from_millis(100)).await;
    for start in [
        "",
        "G",
        "PRI * HTTP/2.0\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n",
    ] {
        let mut slow = world.connect().await;
        slow.send(start.as_bytes()).await;
        // That the proxy ends it is what is asked for; with or without a word.
        slow.rest().await;
        assert_eq!(
            world.curl(&[], "x").await.status(),
            200,
            "others are served"
        );
    }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_has_one_deadline() {
    let world = World::with(|config| config.timing.head = Duration::from_millis(200)).await;
    let Raw(mut stream) = world.connect().await;
    let begun = std::time::Instant::now();
    while stream.write_all(b"GET").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(begun.elapsed() < crate::world::PATIENCE, "it is still open");
    }
}

#[tokio::test]
async fn heads_that_are_too_long_are_refused() {
    let world = World::with(|config| {
        config.limits.head_len_max = 16 << 10;
        config.limits.buffer_len_max = 16 << 10;
        config.limits.headers_max = 20;
    })
    .await;
    let long = world.head("GET", "x", &format!("X: {}\r\n", "a".repeat(64 << 10)));
    let answer = world.ask(&long).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    let many: Vec<String> = (0..40).map(|n| format!("X-{n}: 1\r\n")).collect();
    let many = many.concat();
    let answer = world.ask(&world.head("GET", "x", &many)).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let world = World::with(|config| config.timing.client_stall = Duration::from_millis(100)).await;
    let mut stuck = world.connect().await;
    stuck.send(world.head("GET", "big", "").as_bytes()).await;
    while world.handle.metrics().requests() == 0 {
        tokio::task::yield_now().await;
    }
    while world.handle.metrics().requests() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let world = World::with(|config| config.limits.connections_max = 1).await;
    let mut first = world.connect().await;
    first.send(world.head("GET", "x", "").as_bytes()).await;
    first.until("hello").await;
    let mut second = world.connect().await;
    second.send(world.head("GET", "x", "").as_bytes()).await;
    assert_eq!(world.handle.metrics().connections(), 1);
    drop(first);
    second.until("hello").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_disturb_nobody() {
    // Each takes two descriptors here, since both ends are in this process.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    let wanted = rustix::process::Rlimit {
        current: Some(most),
        maximum: limit.maximum,
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted).unwrap();
    let count = usize::try_from(most.saturating_sub(200) / 2)
        .unwrap_or(10_000)
        .min(10_000);
    let world = World::new().await;
    let mut idle = Vec::with_capacity(count);
    for _ in 0..count {
        idle.push(world.connect().await);
    }
    let all = u64::try_from(count).unwrap();
    while world.handle.metrics().connections() < all {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.curl(&[], "x").await.status(), 200);
    drop(idle);
    while world.handle.metrics().connections() > 0 {
        tokio::task::yield_now().await;
    }
}
