//! The same promises over real sockets: WebSocket, WebSocket over TLS, and QUIC on this machine.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else is said ends the test alike"
)]

use std::time::Duration;

use bytes::Bytes;
use dialtone_client::service::Answer;
use dialtone_client::{Client, Encoding, Status};
use dialtone_protocol::frame::{Message, Ping, Publish};
use dialtone_protocol::{Code, Frame, codec};
use dialtone_transport::Error;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

mod site;
use site::{Hand, Over, PATIENCE, Site};

macro_rules! over_each {
    ($($scenario:ident),* $(,)?) => { $(
        mod $scenario {
            use crate::site::Over;

            #[tokio::test]
            async fn ws() { super::$scenario(Over::Ws).await; }
            #[tokio::test]
            async fn wss() { super::$scenario(Over::Wss).await; }
            #[tokio::test]
            async fn quic() { super::$scenario(Over::Quic).await; }
        }
    )* };
}

mod refused;
use refused::{
    a_frame_byte_by_byte, a_frame_of_garbage, a_frame_that_ends_too_early, a_frame_too_large,
    a_wrong_password, an_illegal_subject,
};

async fn publish_and_subscribe(over: Over) {
    let site = Site::new(over).await;
    let (publisher, subscriber) = (site.client().await, site.client().await);
    let (mut one, mut all) = (
        subscriber.subscribe("a.1").await.unwrap(),
        subscriber.subscribe("a.*").await.unwrap(),
    );
    for number in 0..1_000_u32 {
        publisher
            .publish(format!("a.{}", number % 3), &number.to_le_bytes())
            .await
            .unwrap();
    }
    assert_eq!(publisher.publish_acked("a.1", "last").await.unwrap(), 2);
    for number in 0..1_000_u32 {
        let message = all.next().await.unwrap();
        assert_eq!(message.payload()[..], number.to_le_bytes());
    }
    for number in (1..1_000_u32).step_by(3) {
        assert_eq!(
            one.next().await.unwrap().payload()[..],
            number.to_le_bytes()
        );
    }
    assert_eq!(one.next().await.unwrap().payload(), "last");
    publisher.drain().await.unwrap();
    subscriber.close().await;
    site.stop().await;
}

async fn requests(over: Over) {
    let site = Site::new(over).await;
    let (server, caller) = (site.client().await, site.client().await);
    let echo = async |message: dialtone_client::Message| {
        Ok(Answer::new(
            Encoding::MessagePack,
            message.payload().clone(),
        ))
    };
    let service = server.service("echo", "g", echo).await.unwrap();
    let calls = (0..200_u8).map(async |number| {
        let answer = caller.request("echo", &[number]).await.unwrap();
        assert_eq!(answer.payload()[..], [number]);
    });
    join_all(calls).await;
    assert_eq!(
        caller
            .request("nobody", "?")
            .await
            .unwrap_err()
            .code()
            .number(),
        503
    );
    service.stop().await;
}

async fn a_large_message(over: Over) {
    let site = Site::new(over).await;
    let (publisher, subscriber) = (site.client().await, site.client().await);
    let mut large = subscriber.subscribe("large").await.unwrap();
    let mut content = vec![0; 20 << 20];
    StdRng::seed_from_u64(1).fill(&mut content[..]);
    let content = Bytes::from(content);
    let (count, message) = tokio::join!(publisher.publish_acked("large", &content), large.next());
    assert_eq!(count.unwrap(), 1);
    assert!(*message.unwrap().payload() == content, "bytes differ");
}

async fn many_connections(over: Over) {
    let site = Site::new(over).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.extend(join_all((0..25).map(|_| site.client())).await);
    }
    assert_eq!(site.broker.status().connections, 500);
    let mut subscriptions = join_all(
        clients
            .iter()
            .map(async |client| client.subscribe("all").await.unwrap()),
    )
    .await;
    assert_eq!(clients[0].publish_acked("all", "hello").await.unwrap(), 500);
    for message in join_all(
        subscriptions
            .iter_mut()
            .map(dialtone_client::Subscription::next),
    )
    .await
    {
        assert_eq!(message.unwrap().payload(), "hello");
    }
    drop(subscriptions);
    join_all(clients.iter().map(Client::close)).await;
    site.stop().await;
}

async fn garbage_on_the_port(over: Over) {
    let site = Site::new(over).await;
    let (_, port) = site.endpoint.host_port().unwrap();
    let client = site.client().await;
    let mut subscription = client.subscribe("a").await.unwrap();
    let mut rng = StdRng::seed_from_u64(2);
    for round in 0..30_u32 {
        let mut noise = vec![0; rng.random_range(1..3_000)];
        rng.fill(&mut noise[..]);
        if over == Over::Quic {
            let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
            noise.truncate(1_400);
            // Half of them look like the first packet of a connection.
            noise[0] |= if round % 2 == 0 { 0xc0 } else { 0 };
            socket.send_to(&noise, ("127.0.0.1", port)).await.unwrap();
        } else {
            let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .unwrap();
            let half = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n";
            let bytes: &[u8] = if round % 3 == 0 { half } else { &noise };
            stream.write_all(bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            // The broker hangs up, in one way or another.
            drop(
                tokio::time::timeout(PATIENCE, stream.read_to_end(&mut Vec::new()))
                    .await
                    .expect("it stays connected"),
            );
        }
        assert_eq!(
            client
                .publish_acked("a", &round.to_le_bytes())
                .await
                .unwrap(),
            1
        );
        assert_eq!(
            subscription.next().await.unwrap().payload()[..],
            round.to_le_bytes()
        );
    }
    assert_eq!(site.broker.status().connections, 1);
    assert!(matches!(
        &*client.status().borrow(),
        Status::Connected { .. }
    ));
}

async fn a_slow_consumer_is_told_why(over: Over) {
    let site = Site::new(over).await;
    let publisher = site.client().await;
    let mut slow = Hand::new(&site).await;
    slow.subscribe("news").await;
    while site.broker.status().slow_consumers_total == 0 {
        publisher.publish("news", &vec![0; 30_000]).await.unwrap();
        tokio::task::yield_now().await;
    }
    // What it says now is not heard any more, and must not cost it the answer.
    for token in 0..10 {
        slow.send(&Frame::Ping(Ping { token })).await;
    }
    let close = slow.until(|frame| match frame {
        Frame::Deliver(_) => None,
        Frame::Close(close) => Some(close.clone()),
        other => panic!("{other:?}"),
    });
    assert_eq!(close.await.code, Code::SlowConsumer);
    let (end, told) = (slow.end().await, Code::SlowConsumer.number());
    assert!(
        matches!(&end, Error::Closed { code, .. } if *code == told),
        "{end:?}"
    );
    publisher.close().await;
    site.stop().await;
}

over_each!(
    publish_and_subscribe,
    requests,
    a_large_message,
    many_connections,
    garbage_on_the_port,
    a_slow_consumer_is_told_why,
    a_frame_of_garbage,
    a_frame_that_ends_too_early,
    a_frame_too_large,
    a_frame_byte_by_byte,
    an_illegal_subject,
    a_wrong_password,
);

#[tokio::test]
async fn a_changed_address_keeps_the_session() {
    let site = Site::new(Over::Quic).await;
    let publisher = site.client().await;
    let mut hand = Hand::new(&site).await;
    hand.subscribe("a").await;
    let rebind = hand.connection.info.rebind.clone().unwrap();
    let mut ports = vec![hand.connection.info.local.unwrap().port()];
    for token in 0..5_u64 {
        ports.push(
            rebind
                .rebind("127.0.0.1:0".parse().unwrap())
                .unwrap()
                .port(),
        );
        hand.ping(token).await;
        assert_eq!(
            publisher
                .publish_acked("a", &token.to_le_bytes())
                .await
                .unwrap(),
            1
        );
        let got = hand.until(|frame| match frame {
            Frame::Deliver(deliver) => Some(deliver.message.payload.to_vec()),
            Frame::Pong(_) => None,
            other => panic!("{other:?}"),
        });
        assert_eq!(got.await, token.to_le_bytes());
    }
    ports.sort_unstable();
    ports.dedup();
    assert!(ports.len() > 1, "the address did not change");
    let status = site.broker.status();
    assert_eq!(
        (status.accepted_total, status.connections),
        (2, 2),
        "nobody connected again"
    );
}

#[tokio::test]
async fn an_unreliable_message_travels_as_a_datagram() {
    let site = Site::new(Over::Quic).await;
    let (publisher, subscriber) = (site.client().await, site.client().await);
    let mut cursors = subscriber.subscribe("cursor").await.unwrap();
    // On loopback nothing is lost for long; a message that is not seen is sent again.
    let arrived = async {
        loop {
            publisher
                .message("cursor")
                .payload("here")
                .unreliable()
                .publish()
                .await
                .unwrap();
            if let Ok(message) = tokio::time::timeout(Duration::from_secs(1), cursors.next()).await
            {
                return message.unwrap();
            }
        }
    };
    let message = tokio::time::timeout(PATIENCE, arrived)
        .await
        .expect("no datagram arrives");
    assert_eq!(message.payload(), "here");
}

#[tokio::test]
async fn a_datagram_is_passed_on_as_a_datagram() {
    let site = Site::new(Over::Quic).await;
    let mut hand = Hand::new(&site).await;
    hand.subscribe("cursor").await;
    let message = Message {
        subject: "cursor",
        reply: None,
        encoding: 0,
        headers: None,
        payload: b"there",
    };
    let frame = Frame::Publish(Publish {
        request: None,
        unreliable: true,
        fragment: None,
        message,
    })
    .to_vec();
    let got = async {
        loop {
            assert!(
                hand.connection
                    .writer
                    .send_datagram(Bytes::from(frame.clone()))
                    .unwrap()
            );
            let reader = &mut hand.connection.reader;
            let datagram = std::future::poll_fn(|cx| reader.poll_datagram(cx));
            if let Ok(datagram) = tokio::time::timeout(Duration::from_secs(1), datagram).await {
                return datagram.unwrap();
            }
        }
    };
    let datagram = tokio::time::timeout(PATIENCE, got)
        .await
        .expect("no datagram comes back");
    let (body, len) = codec::split_frame(&datagram, u32::MAX).unwrap().unwrap();
    assert_eq!(len, datagram.len(), "a datagram holds exactly one frame");
    assert!(
        matches!(Frame::decode(body), Ok(Frame::Deliver(deliver)) if deliver.unreliable && deliver.message.payload == b"there")
    );
}
