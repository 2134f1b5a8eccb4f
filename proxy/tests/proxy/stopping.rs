//! How a proxy stops.

use std::time::Duration;

use crate::access::websocket;
use crate::world::{PATIENCE, World};

#[tokio::test]
async fn idle_connections_do_not_delay_the_end() {
    let world = World::with(|config| config.drain_grace = Duration::from_hours(1)).await;
    let mut idle = world.connect().await;
    idle.send(world.head("GET", "x", "").as_bytes()).await;
    idle.until("hello").await;
    let unused = world.connect().await;
    while world.handle.metrics().connections() < 2 {
        tokio::task::yield_now().await;
    }
    world.stopped().await;
    assert_eq!(idle.rest().await, "");
    drop(unused);
}

#[tokio::test]
async fn what_is_under_way_comes_to_its_end() {
    let world = World::with(|config| config.drain_grace = PATIENCE).await;
    let mut upload = world.connect().await;
    upload
        .send(
            world
                .head("POST", "body", "Content-Length: 6\r\n")
                .as_bytes(),
        )
        .await;
    while world.handle.metrics().requests() == 0 {
        tokio::task::yield_now().await;
    }
    world.stop.cancel();
    upload.send(b"posted").await;
    let answer = upload.rest().await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("posted"),
        "{answer}"
    );
    world.stopped().await;
}

#[tokio::test]
async fn what_does_not_end_is_cut_off() {
    let world = World::new().await;
    let mut socket = websocket(&world).await;
    let mut events = world.connect().await;
    events
        .send(world.head("GET", "events", "").as_bytes())
        .await;
    events.until("data: 2\n\n\r\n").await;
    world.stopped().await;
    assert_eq!(socket.rest().await, "");
    events.rest().await;
}
