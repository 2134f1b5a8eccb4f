//! The official client against a broker: scripts in `tests/js`, run by node.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

mod cookies;
mod interop;
mod matrix;
mod mounted;
mod services;
mod site;
mod sockets;
mod storage;

use site::Site;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event() {
    Site::open().await.run("events.mjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_permitted() {
    Site::new(cookies::provider()).await.run("denied.mjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_administrators_ask() {
    let site = Site::open().await;
    let client = site.client("ws").await;
    let sys = site.sys.clone();
    site.tasks.spawn(async move {
        sys.serve(client, tokio_util::sync::CancellationToken::new())
            .await
    });
    site.broker_hears("sys.conat.default").await;
    site.run("sys.mjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_are_those_of_the_capture() {
    Site::open().await.run("frames.mjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_existing_clients_do_all_day() {
    Site::open().await.run("core.mjs").await;
}
