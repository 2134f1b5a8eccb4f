//! Byte streams between two clients.

use std::time::Duration;

use dialtone_client::{Client, RequestError, Socket, SocketError};

use crate::relay::clients;

async fn open(a: &Client, b: &Client) -> (Socket, Socket) {
    let mut listener = a.listen_socket("bulk.*").await.unwrap();
    let (accepted, opened) = tokio::join!(listener.accept(), b.open_socket("bulk.1"));
    (accepted.unwrap(), opened.unwrap())
}

#[tokio::test(start_paused = true)]
async fn bytes_arrive_in_order_in_both_directions() {
    let clients = clients(2, |_| false).await;
    let (a, b) = open(&clients[0], &clients[1]).await;
    let data: Vec<u8> = (0..5_000_000_u32)
        .map(|n| u8::try_from(n % 253).unwrap())
        .collect();
    let send = |socket: Socket| {
        let data = data.clone();
        async move {
            let sending = async {
                socket.send(data.clone()).await.unwrap();
                socket.finish().await.unwrap();
            };
            let receiving = async {
                let mut received = Vec::new();
                while let Some(bytes) = socket.recv().await.unwrap() {
                    received.extend_from_slice(&bytes);
                }
                received
            };
            let ((), received) = tokio::join!(sending, receiving);
            assert!(received == data);
            assert!(matches!(
                socket.send("more").await,
                Err(SocketError::Finished)
            ));
        }
    };
    tokio::join!(send(a), send(b));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_does_not_read_stops_the_sender() {
    let clients = clients(2, |_| false).await;
    let (a, b) = open(&clients[0], &clients[1]).await;
    let sending = tokio::time::timeout(Duration::from_secs(20), a.send(vec![0; 2_000_000])).await;
    assert!(sending.is_err(), "more than the window is under way");
    let mut received = 0;
    while let Ok(Ok(Some(bytes))) = tokio::time::timeout(Duration::from_secs(1), b.recv()).await {
        received += bytes.len();
    }
    assert!((500_000..=1_048_576).contains(&received), "{received}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_piece_is_an_error_at_both_ends() {
    let mut count = 0;
    let lose = move |message: &dialtone_protocol::frame::Message<'_>| {
        let is_data = message.encoding == 128 && message.payload.first() == Some(&0);
        count += u32::from(is_data);
        is_data && count == 3
    };
    let clients = clients(2, lose).await;
    let (a, b) = open(&clients[0], &clients[1]).await;
    for n in 0..4_u8 {
        a.send(vec![n]).await.unwrap();
    }
    assert_eq!(b.recv().await.unwrap().unwrap()[..], [0]);
    assert_eq!(b.recv().await.unwrap().unwrap()[..], [1]);
    assert!(matches!(
        b.recv().await,
        Err(SocketError::Gap {
            expected: 2,
            found: 3
        })
    ));
    assert!(matches!(a.recv().await, Err(SocketError::Reset(_))));
}

#[tokio::test(start_paused = true)]
async fn an_idle_socket_stays_and_a_vanished_peer_is_noticed() {
    let clients = clients(2, |message| {
        message.subject.starts_with("_INBOX.r.1-") && message.payload.len() == 3
    })
    .await;
    let (a, b) = open(&clients[0], &clients[1]).await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    a.send("still here").await.unwrap();
    assert_eq!(b.recv().await.unwrap().unwrap(), "still here");
    drop(a);
    assert!(matches!(b.recv().await, Err(SocketError::Reset(_))));
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_socket() {
    let mut silent = false;
    let lose = move |message: &dialtone_protocol::frame::Message<'_>| {
        // From the first data on, nothing of the stream arrives.
        silent |= message.encoding == 128 && message.payload.first() == Some(&0);
        silent && message.encoding == 128
    };
    let clients = clients(2, lose).await;
    let (a, b) = open(&clients[0], &clients[1]).await;
    a.send("into the void").await.unwrap();
    let (a, b) = tokio::join!(a.recv(), b.recv());
    assert!(matches!(a, Err(SocketError::Gone)), "{a:?}");
    assert!(matches!(b, Err(SocketError::Gone)), "{b:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_listening_is_said_at_once() {
    let clients = clients(1, |_| false).await;
    let error = clients[0].open_socket("nobody").await.unwrap_err();
    assert!(matches!(
        error,
        SocketError::Open(RequestError::NoSubscribers { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_socket_ends_with_its_connection() {
    let clients = clients(2, |_| false).await;
    let (a, b) = open(&clients[0], &clients[1]).await;
    clients[0].close().await;
    assert!(a.recv().await.is_err());
    assert!(a.send("x").await.is_err());
    // The other end hears nothing any more.
    assert!(matches!(
        b.recv().await,
        Err(SocketError::Gone | SocketError::Reset(_))
    ));
}
