//! Our WebSocket against another implementation, at both ends.

use std::convert::Infallible;
use std::future::poll_fn;

use bytes::Bytes;
use dialtone_transport::{Batch, Connection, Error, Lane, dial, websocket};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::{Message, handshake::server as handshake};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::support::{Link, Over, content, receive, receive_all, receive_exactly, send};

async fn their_client() -> (WebSocketStream<MaybeTlsStream<TcpStream>>, Connection) {
    let link = Link::new(Over::Ws).await;
    let mut request = link
        .listener
        .local_endpoint()
        .to_string()
        .into_client_request()
        .unwrap();
    request.headers_mut().insert(
        "sec-websocket-protocol",
        HeaderValue::from_static("dialtone.1"),
    );
    let (theirs, ours) = tokio::join!(tokio_tungstenite::connect_async(request), link.accept());
    (theirs.unwrap().0, ours.unwrap())
}

async fn their_server() -> (WebSocketStream<TcpStream>, Connection) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("ws://{}/path", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let serving = async {
        let (stream, _) = listener.accept().await.unwrap();
        #[expect(clippy::result_large_err, reason = "the signature is theirs")]
        let protocol = |_: &handshake::Request, mut response: handshake::Response| {
            response.headers_mut().insert(
                "sec-websocket-protocol",
                HeaderValue::from_static("dialtone.1"),
            );
            Ok(response)
        };
        tokio_tungstenite::accept_hdr_async(stream, protocol)
            .await
            .unwrap()
    };
    let options = dialtone_transport::DialOptions::default();
    let (theirs, ours) = tokio::join!(serving, dial(&endpoint, &options));
    (theirs, ours.unwrap())
}

/// Both ways, fragments, and a ping in the middle of a message.
async fn exchange<S>(mut theirs: WebSocketStream<S>, mut ours: Connection)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    for len in [0, 1, 125, 126, 65535, 65536, 300_000] {
        let whole = content(len as u64, len);
        let receiving = receive_exactly(&mut ours.reader, Lane::Interactive, len);
        let (sent, received) = tokio::join!(theirs.send(Message::binary(whole.clone())), receiving);
        sent.unwrap();
        assert!(received == whole, "bytes differ");
        if len > 0 {
            let mut batch: Batch = whole.chunks(999).map(Bytes::copy_from_slice).collect();
            let sending = send(&mut ours.writer, Lane::Interactive, &mut batch);
            let (sent, message) = tokio::join!(sending, theirs.next());
            sent.unwrap();
            assert_eq!(message.unwrap().unwrap(), Message::binary(whole));
        }
    }
    let part = |data: &'static [u8], opcode, fin| {
        Message::Frame(Frame::message(data, OpCode::Data(opcode), fin))
    };
    theirs
        .send(part(b"one ", Data::Binary, false))
        .await
        .unwrap();
    theirs
        .send(Message::Ping(Bytes::from_static(b"are you there?")))
        .await
        .unwrap();
    theirs
        .send(part(b"two ", Data::Continue, false))
        .await
        .unwrap();
    theirs
        .send(part(b"three", Data::Continue, true))
        .await
        .unwrap();
    assert_eq!(
        receive_exactly(&mut ours.reader, Lane::Interactive, 13).await,
        b"one two three"
    );
    assert_eq!(
        theirs.next().await.unwrap().unwrap(),
        Message::Pong(Bytes::from_static(b"are you there?"))
    );
    close_theirs(theirs, ours).await;
}

async fn close_theirs<S>(mut theirs: WebSocketStream<S>, mut ours: Connection)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    theirs.send(Message::binary(&b"last"[..])).await.unwrap();
    let frame = CloseFrame {
        code: CloseCode::Normal,
        reason: "done".into(),
    };
    theirs.close(Some(frame)).await.unwrap();
    let (received, end) = receive_all(&mut ours.reader).await;
    assert_eq!(received, b"last");
    assert!(end.is_ok(), "{end:?}");
    let answer = theirs.next().await.unwrap().unwrap();
    assert!(
        matches!(
            answer,
            Message::Close(Some(CloseFrame {
                code: CloseCode::Normal,
                ..
            }))
        ),
        "{answer:?}"
    );
}

#[tokio::test]
async fn their_client_understands_us() {
    let (theirs, ours) = their_client().await;
    exchange(theirs, ours).await;
}

#[tokio::test]
async fn their_server_understands_us() {
    let (theirs, ours) = their_server().await;
    exchange(theirs, ours).await;
}

#[tokio::test]
async fn our_close_is_understood() {
    let (mut theirs, mut ours) = their_client().await;
    let reason = "é".repeat(100);
    poll_fn(|cx| ours.writer.poll_close(cx, 7, &reason))
        .await
        .unwrap();
    let Message::Close(Some(frame)) = theirs.next().await.unwrap().unwrap() else {
        panic!("no close frame")
    };
    assert_eq!(u16::from(frame.code), 4007);
    assert_eq!(frame.reason.as_str(), "é".repeat(61));
}

#[tokio::test]
async fn text_is_refused_with_the_right_code() {
    let (mut theirs, mut ours) = their_client().await;
    theirs.send(Message::text("hello")).await.unwrap();
    let error = receive(&mut ours.reader, Lane::Interactive, &mut Vec::new())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Violation(_)), "{error:?}");
    let answer = theirs.next().await.unwrap().unwrap();
    assert!(
        matches!(
            answer,
            Message::Close(Some(CloseFrame {
                code: CloseCode::Unsupported,
                ..
            }))
        ),
        "{answer:?}"
    );
}

/// The broker's port may be somebody else's: a hyper server that serves more than us.
#[tokio::test]
async fn upgrade_inside_another_hyper_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("ws://{}/any", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let serving = async {
        let (stream, _) = listener.accept().await.unwrap();
        let pending = parking_lot::Mutex::new(None);
        let service = service_fn(|mut request| {
            let upgraded = websocket::upgrade(&mut request, &[]);
            let response = upgraded.map(|(response, upgrade)| {
                *pending.lock() = Some(upgrade);
                response
            });
            std::future::ready(response.or_else(|error| Ok::<_, Infallible>(error.response())))
        });
        let http = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        http.await.unwrap();
        let upgrade = pending.lock().take().unwrap();
        upgrade.connect().await.unwrap()
    };
    let options = dialtone_transport::DialOptions::default();
    let (mut server, client) = tokio::join!(serving, dial(&endpoint, &options));
    let mut client = client.unwrap();
    assert_eq!(server.info.remote, client.info.local);
    assert_eq!(
        server.info.headers["sec-websocket-protocol"],
        websocket::SUBPROTOCOL
    );
    let mut batch = Batch::from_iter([Bytes::from_static(b"up")]);
    send(&mut client.writer, Lane::Interactive, &mut batch)
        .await
        .unwrap();
    assert_eq!(
        receive_exactly(&mut server.reader, Lane::Interactive, 2).await,
        b"up"
    );
    let mut batch = Batch::from_iter([Bytes::from_static(b"down")]);
    send(&mut server.writer, Lane::Interactive, &mut batch)
        .await
        .unwrap();
    assert_eq!(
        receive_exactly(&mut client.reader, Lane::Interactive, 4).await,
        b"down"
    );
}
