//! The first frames, and what ends a first connection.

use dialtone_client::{Code, ConnectError, Limits, Options, Status};
use dialtone_transport::memory::Hub;

use crate::peer::{Node, pair};

#[tokio::test(start_paused = true)]
async fn the_status_says_where_the_client_is_connected() {
    let (client, _peer, _node) = pair().await;
    match &*client.status().borrow() {
        Status::Connected {
            url,
            node,
            identity,
        } => {
            assert_eq!(
                (url.to_string().as_str(), node.as_str(), identity.as_str()),
                ("memory:n1", "n1", "somebody")
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(client.inbox().as_deref(), Some("_INBOX.n1.1-secret"));
    assert_eq!(client.limits(), Limits::default());
}

#[tokio::test(start_paused = true)]
async fn refusals_end_the_attempt_at_once() {
    for code in [Code::Unauthenticated, Code::UnsupportedVersion] {
        let hub = Hub::new();
        let node = Node::bind(&hub, "n1").await;
        let options = Options {
            retry_on_initial_connect: true,
            ..Options::new("memory:n1").hub(hub)
        };
        let refuse = async {
            let mut peer = node.accept().await;
            peer.expect_hello().await;
            peer.close(code, "no").await;
            peer
        };
        let (result, _peer) = tokio::join!(options.connect(), refuse);
        let error = result.unwrap_err();
        assert!(
            matches!(&error, ConnectError::Refused { text, .. } if text == "no"),
            "{error:?}"
        );
        assert_eq!((error.code(), error.is_final()), (code, true));
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_instead_of_a_welcome_is_a_violation() {
    for garbage in [
        b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        vec![0; 8],
        vec![2, 0, 0, 0, 13, 0],
        vec![2, 0, 0, 0, 99, 0],
    ] {
        let hub = Hub::new();
        let node = Node::bind(&hub, "n1").await;
        let answer = async {
            let mut peer = node.accept().await;
            peer.send_raw(garbage.clone()).await;
            peer
        };
        let (result, _peer) = tokio::join!(Options::new("memory:n1").hub(hub).connect(), answer);
        assert!(
            matches!(result, Err(ConnectError::Violation { .. })),
            "{garbage:?}: {result:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_says_nothing_is_given_up() {
    let hub = Hub::new();
    let node = Node::bind(&hub, "n1").await;
    let (result, _peer) = tokio::join!(Options::new("memory:n1").hub(hub).connect(), node.accept());
    assert_eq!(result.unwrap_err().code(), Code::Timeout);
}

#[tokio::test(start_paused = true)]
async fn every_address_is_tried() {
    let hub = Hub::new();
    let node = Node::bind(&hub, "n2").await;
    let options = Options::new("memory:nobody")
        .url("memory:n2")
        .url("memory:none")
        .hub(hub.clone());
    let (client, _peer) = tokio::join!(options.connect(), node.welcome());
    client.unwrap();
    let error = Options::new("memory:nobody")
        .hub(hub)
        .connect()
        .await
        .unwrap_err();
    assert_eq!(error.code(), dialtone_client::error::UNREACHABLE);
}

#[tokio::test(start_paused = true)]
async fn options_are_checked_before_anything_is_dialled() {
    assert!(matches!(
        Options::default().connect().await,
        Err(ConnectError::NoAddress)
    ));
    let error = Options::new("http://x").connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::BadAddress { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_first_connection_is_tried_again_where_that_was_asked_for() {
    let hub = Hub::new();
    let options = Options {
        retry_on_initial_connect: true,
        ..Options::new("memory:late").hub(hub.clone())
    };
    let late = async {
        tokio::time::sleep(std::time::Duration::from_secs(20)).await;
        let node = Node::bind(&hub, "late").await;
        node.welcome().await
    };
    let (client, _peer) = tokio::join!(options.connect(), late);
    client.unwrap();
}
