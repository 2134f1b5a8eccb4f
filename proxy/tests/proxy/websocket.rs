//! Web sockets through the proxy.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::access::websocket;
use crate::world::{Raw, Upstream, World};

#[tokio::test]
async fn bytes_pass_both_ways_from_the_first_on() {
    let world = World::new().await;
    let mut raw = world.connect().await;
    let head = world.head("GET", "ws", "Connection: Upgrade\r\nUpgrade: websocket\r\n");
    raw.send(format!("{head}early").as_bytes()).await;
    let head = raw.until("\r\n\r\n").await.to_lowercase();
    assert!(
        head.contains("sec-websocket-accept: x\r\n") && head.contains("upgrade: websocket\r\n"),
        "{head}"
    );
    assert_eq!(raw.until("early").await, "early");
    for _ in 0..100 {
        raw.send(b"ping").await;
        assert_eq!(raw.until("ping").await, "ping");
    }
    raw.0.shutdown().await.unwrap();
    assert_eq!(raw.rest().await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_passes_both_ways_at_once() {
    const LEN: usize = 32 << 20;
    let world = World::new().await;
    let Raw(stream) = websocket(&world).await;
    let (mut read, mut write) = stream.into_split();
    let bytes: Vec<u8> = (0..LEN).map(|n| n.to_le_bytes()[n % 3]).collect();
    let sent = bytes.clone();
    let writing = crate::world::spawn(async move {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut got = Vec::new();
    read.read_to_end(&mut got).await.unwrap();
    writing.await.unwrap();
    assert!(got == bytes);
}

#[tokio::test]
async fn pages_of_other_sites_may_not_connect() {
    let world =
        World::with(|config| config.allowed_origins = vec!["https://known.example".to_owned()])
            .await;
    let own = format!("http://{}", world.addr);
    for (origin, status) in [
        ("https://evil.example", 403),
        ("null", 403),
        ("https://known.example", 101),
        (&own, 101),
    ] {
        let mut raw = world.connect().await;
        let lines = format!("Connection: Upgrade\r\nUpgrade: websocket\r\nOrigin: {origin}\r\n");
        raw.send(world.head("GET", "ws", &lines).as_bytes()).await;
        let head = raw.until("\r\n\r\n").await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{origin}: {head}"
        );
    }
}

#[tokio::test]
async fn a_server_that_switches_to_something_else_is_no_tunnel() {
    for answer in [
        &b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n"[..],
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ] {
        let world = World::before(Upstream::saying(answer).await, |_| {});
        let lines = "Connection: Upgrade, close\r\nUpgrade: websocket\r\n";
        let mut raw = world.connect().await;
        raw.send(world.head("GET", "x", lines).as_bytes()).await;
        let head = raw.until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    }
}

#[tokio::test]
async fn a_server_that_ends_a_websocket_ends_it_for_the_client() {
    let answer =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nbye";
    let world = World::before(Upstream::saying(answer).await, |_| {});
    let mut raw = websocket(&world).await;
    assert_eq!(raw.until("bye").await, "bye");
    raw.0.shutdown().await.unwrap();
    assert_eq!(raw.rest().await, "");
}
