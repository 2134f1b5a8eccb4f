//! Peers that do not get as far as a connection, and what the others notice of them: nothing.

use std::net::UdpSocket;
use std::time::Duration;

use dialtone_transport::{
    BindError, DialError, Endpoint, HandshakeError, Kind, Lane, ListenOptions, Listener, dial,
};
use http::{HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Link, Over, receive, send};

#[tokio::test]
async fn garbage_over_tcp_disturbs_nobody() {
    for over in [Over::Ws, Over::Wss] {
        let link = Link::new(over).await;
        let mut peer = TcpStream::connect(link.listener.local_addr().unwrap())
            .await
            .unwrap();
        peer.write_all(&[0x16, 3, 1, 0xff, 0, 1, 2, 3, b'\r', b'\n', b'\r', b'\n'])
            .await
            .unwrap();
        peer.shutdown().await.unwrap();
        let error = link.accept().await.unwrap_err();
        assert!(
            matches!(error, HandshakeError::Http(_) | HandshakeError::Tls(_)),
            "{error:?}"
        );
        link.pair().await;
    }
}

#[tokio::test]
async fn garbage_over_udp_disturbs_nobody() {
    let link = Link::new(Over::Quic).await;
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for len in [1, 20, 1200] {
        peer.send_to(&vec![0xc3; len], link.listener.local_addr().unwrap())
            .unwrap();
    }
    link.pair().await;
}

#[tokio::test]
async fn silent_peer_is_given_up() {
    for over in [Over::Ws, Over::Wss] {
        let options = ListenOptions {
            handshake_timeout: Duration::from_millis(20),
            ..ListenOptions::default()
        };
        let link = Link::with(over, options).await;
        let _silent = TcpStream::connect(link.listener.local_addr().unwrap())
            .await
            .unwrap();
        assert!(matches!(link.accept().await, Err(HandshakeError::TimedOut)));
    }
}

#[tokio::test]
async fn refused_peer_gets_no_connection() {
    let link = Link::new(Over::Ws).await;
    let refusing = async { link.listener.accept().await.unwrap().refuse() };
    let (dialled, ()) = tokio::join!(link.dial(), refusing);
    assert!(
        matches!(
            dialled,
            Err(DialError::BadUpgrade(_) | DialError::Connect { .. })
        ),
        "{dialled:?}"
    );

    let link = Link::new(Over::Quic).await;
    let refusing = async { link.listener.accept().await.unwrap().refuse() };
    let (dialled, ()) = tokio::join!(link.dial(), refusing);
    assert!(matches!(dialled, Err(DialError::Quic(_))), "{dialled:?}");
}

#[tokio::test]
async fn wrong_path_is_answered_with_its_reason() {
    let link = Link::with(Over::Ws, ListenOptions::default()).await;
    let options = ListenOptions::default();
    let listener = Listener::bind(&"ws://127.0.0.1:0/conat".parse().unwrap(), &options)
        .await
        .unwrap();
    let elsewhere = Endpoint::Ws {
        host: "127.0.0.1".to_owned(),
        port: listener.local_addr().unwrap().port(),
        path: "/elsewhere".to_owned(),
    };
    let accepting = async { listener.accept().await.unwrap().establish().await };
    let (dialled, accepted) = tokio::join!(dial(&elsewhere, &link.dialling), accepting);
    assert!(matches!(accepted, Err(HandshakeError::Upgrade(_))));
    let Err(DialError::Refused { status: 404, text }) = dialled else {
        panic!("{dialled:?}")
    };
    assert_eq!(text, "no WebSocket is served at this path");
}

#[tokio::test]
async fn plain_http_is_answered() {
    let link = Link::new(Over::Ws).await;
    let mut peer = TcpStream::connect(link.listener.local_addr().unwrap())
        .await
        .unwrap();
    peer.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    assert!(matches!(
        link.accept().await,
        Err(HandshakeError::Upgrade(_))
    ));
    let mut answer = String::new();
    peer.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
}

#[tokio::test]
async fn headers_and_addresses_are_known() {
    let mut link = Link::new(Over::Ws).await;
    link.dialling.headers = vec![(
        HeaderName::from_static("cookie"),
        HeaderValue::from_static("session=1"),
    )];
    let (client, server) = link.pair().await;
    assert_eq!(server.info.headers["cookie"], "session=1");
    assert_eq!(
        (server.info.kind, server.info.encrypted),
        (Kind::WebSocket, false)
    );
    assert_eq!(server.info.remote, client.info.local);
    assert_eq!(server.info.local, client.info.remote);
    assert!(!server.reader.has_lane(Lane::Bulk));

    let (client, server) = Link::new(Over::Quic).await.pair().await;
    assert!(server.info.encrypted && client.reader.has_lane(Lane::Bulk));
    assert_eq!(server.info.local, client.info.remote);
}

/// An accepted socket may be given to a thread with a runtime of its own.
#[tokio::test]
async fn incoming_may_move_to_another_runtime() {
    for over in [Over::Ws, Over::Wss, Over::Quic] {
        let link = Link::new(over).await;
        let (mut client, moved) = tokio::join!(async { link.dial().await.unwrap() }, async {
            let incoming = link.listener.accept().await.unwrap();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async move {
                    let mut server = incoming.establish().await.unwrap();
                    let mut buf = Vec::new();
                    receive(&mut server.reader, Lane::Interactive, &mut buf)
                        .await
                        .unwrap();
                    // Keeps the runtime until the dialler leaves.
                    let left =
                        receive(&mut server.reader, Lane::Interactive, &mut Vec::new()).await;
                    (buf, left.is_ok())
                })
            })
        });
        let mut batch = [bytes::Bytes::from_static(b"over there")]
            .into_iter()
            .collect();
        send(&mut client.writer, Lane::Interactive, &mut batch)
            .await
            .unwrap();
        std::future::poll_fn(|cx| client.writer.poll_close(cx, 0, ""))
            .await
            .unwrap();
        let joined = tokio::task::spawn_blocking(move || moved.join())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(joined, (b"over there".to_vec(), true));
    }
}

#[tokio::test]
async fn taken_addresses_and_missing_parts_are_named() {
    let link = Link::new(Over::Ws).await;
    let options = ListenOptions::default();
    let taken = Listener::bind(link.listener.local_endpoint(), &options)
        .await
        .unwrap_err();
    assert!(matches!(taken, BindError::Socket { .. }), "{taken:?}");
    let error = Listener::bind(&"wss://127.0.0.1:0".parse().unwrap(), &options)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "wss://127.0.0.1:0/ needs a certificate");
    let error = Listener::bind(&"memory:x".parse().unwrap(), &options)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "memory:x needs a memory hub");
    let nobody = dial(
        &"memory:nobody".parse().unwrap(),
        &Link::new(Over::Memory).await.dialling,
    )
    .await
    .unwrap_err();
    assert_eq!(
        nobody.to_string(),
        "nobody accepts at memory name \"nobody\""
    );
}
