//! Sockets between programs in Rust.

use std::time::Duration;

use dialtone_client::{Encoding, Headers};
use dialtone_conat::socket::{self, Data, Inbound, Options, Server};
use tokio_util::task::TaskTracker;

use crate::site::Site;

const PATIENCE: Duration = Duration::from_mins(1);

fn data(number: u32) -> Data {
    Data {
        headers: Headers::new().with("n", number),
        encoding: Encoding::Json,
        payload: number.to_string().into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_go_both_ways_in_order() {
    const COUNT: u32 = 3_000;
    let site = Site::open().await;
    let tasks = TaskTracker::new();
    let (here, there) = (site.client("ws").await, site.client("ws").await);
    let mut server = Server::listen(&here, "room.*", "s1", Options::default(), &tasks)
        .await
        .unwrap();
    let client = socket::connect(&there, "room.a", Options::default(), PATIENCE, &tasks);
    let (client, accepted) = tokio::join!(client, server.accept());
    let (mut client, mut accepted) = (client.unwrap(), accepted.unwrap());
    assert!(accepted.subject().starts_with("room.a.server.s1."));

    let (to_server, to_client) = (client.writer().clone(), accepted.writer().clone());
    let writing = async {
        for number in 0..COUNT {
            to_server.write(data(number)).await.unwrap();
            to_client.write(data(number)).await.unwrap();
        }
    };
    let reading = async |socket: &mut socket::Socket| {
        for number in 0..COUNT {
            let Some(Inbound::Data(data)) = socket.next().await else {
                panic!("the socket ended before message {number}");
            };
            assert_eq!(data.decode::<u32>().unwrap(), number);
            assert_eq!(data.headers.get("n"), Some(&number.into()));
        }
    };
    tokio::time::timeout(PATIENCE, async {
        tokio::join!(writing, reading(&mut client), reading(&mut accepted))
    })
    .await
    .expect("messages are lost");

    client.writer().close();
    while accepted.next().await.is_some() {}
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_connects_to_nobody_is_told() {
    let site = Site::open().await;
    let client = site.client("ws").await;
    let tasks = TaskTracker::new();
    let limit = Duration::from_millis(50);
    let outcome = socket::connect(&client, "nobody", Options::default(), limit, &tasks).await;
    assert!(matches!(
        outcome,
        Err(socket::ConnectError::NoServer { .. })
    ));
}
