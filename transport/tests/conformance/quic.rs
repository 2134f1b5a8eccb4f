//! What only QUIC has: lanes, datagrams, and addresses that change.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use dialtone_transport::quic::Settings;
use dialtone_transport::{Batch, Connection, Lane, ListenOptions};

use crate::support::{Link, Over, content, receive_exactly, send};

#[tokio::test]
async fn small_messages_pass_a_full_bulk_lane() {
    let (mut client, mut server) = Link::new(Over::Quic).await.pair().await;
    let bulk = content(1, 16 << 20);
    let mut large = Batch::from_iter([Bytes::from(bulk.clone())]);
    // Nobody reads the bulk lane, so it fills up.
    let attempt =
        poll_fn(|cx| Poll::Ready(client.writer.poll_send(cx, Lane::Bulk, &mut large))).await;
    assert!(attempt.is_pending());
    let mut small = Batch::from_iter([Bytes::from_static(b"urgent")]);
    send(&mut client.writer, Lane::Interactive, &mut small)
        .await
        .unwrap();
    assert_eq!(
        receive_exactly(&mut server.reader, Lane::Interactive, 6).await,
        b"urgent"
    );
    let (sent, received) = tokio::join!(
        send(&mut client.writer, Lane::Bulk, &mut large),
        receive_exactly(&mut server.reader, Lane::Bulk, bulk.len())
    );
    sent.unwrap();
    assert!(received == bulk, "bytes differ");
}

#[tokio::test]
async fn bulk_lane_runs_both_ways() {
    let (mut client, mut server) = Link::new(Over::Quic).await.pair().await;
    let mut batch = Batch::from_iter([Bytes::from_static(b"down")]);
    send(&mut server.writer, Lane::Bulk, &mut batch)
        .await
        .unwrap();
    assert_eq!(
        receive_exactly(&mut client.reader, Lane::Bulk, 4).await,
        b"down"
    );
}

/// A connection of two ends with a control lane.
async fn with_control() -> (Link, Connection, Connection) {
    let settings = Settings {
        control_lane: true,
        ..Settings::default()
    };
    let options = ListenOptions {
        quic: settings.clone(),
        ..ListenOptions::default()
    };
    let mut link = Link::with(Over::Quic, options).await;
    link.dialling.quic = settings;
    let (client, server) = link.pair().await;
    (link, client, server)
}

#[tokio::test]
async fn the_control_lane_passes_full_lanes_of_messages() {
    let (_link, mut client, mut server) = with_control().await;
    let full = Bytes::from(content(1, 16 << 20));
    for lane in [Lane::Bulk, Lane::Interactive] {
        let mut batch = Batch::from_iter([full.clone()]);
        let attempt = poll_fn(|cx| Poll::Ready(client.writer.poll_send(cx, lane, &mut batch)));
        assert!(attempt.await.is_pending());
    }
    let mut word = Batch::from_iter([Bytes::from_static(b"gossip")]);
    send(&mut client.writer, Lane::Control, &mut word)
        .await
        .unwrap();
    assert_eq!(
        receive_exactly(&mut server.reader, Lane::Control, 6).await,
        b"gossip"
    );
}

#[tokio::test]
async fn lanes_are_told_apart_in_whatever_order_they_are_used() {
    for first in [Lane::Control, Lane::Bulk] {
        let (_link, mut client, mut server) = with_control().await;
        let then = if first == Lane::Bulk {
            Lane::Control
        } else {
            Lane::Bulk
        };
        for (lane, text) in [(first, b"first"), (then, b"later")] {
            let mut down = Batch::from_iter([Bytes::from_static(text)]);
            send(&mut server.writer, lane, &mut down).await.unwrap();
            assert_eq!(receive_exactly(&mut client.reader, lane, 5).await, text);
            let mut up = Batch::from_iter([Bytes::from_static(text)]);
            send(&mut client.writer, lane, &mut up).await.unwrap();
            assert_eq!(receive_exactly(&mut server.reader, lane, 5).await, text);
        }
    }
}

#[tokio::test]
async fn both_ends_derive_the_same_binding_and_each_connection_another() {
    let mut seen = Vec::new();
    for over in [Over::Quic, Over::Quic, Over::Wss, Over::Wss] {
        let (client, server) = Link::new(over).await.pair().await;
        let binding = client.info.channel_binding.unwrap();
        assert_eq!(server.info.channel_binding, Some(binding));
        assert!(!seen.contains(&binding));
        seen.push(binding);
    }
    let (client, server) = Link::new(Over::Ws).await.pair().await;
    assert_eq!(client.info.channel_binding, None);
    assert_eq!(server.info.channel_binding, None);
}

#[tokio::test]
async fn datagrams_arrive_if_they_fit() {
    let (mut client, mut server) = Link::new(Over::Quic).await.pair().await;
    let max = client.writer.datagram_len_max().unwrap();
    assert!(
        !client
            .writer
            .send_datagram(Bytes::from(vec![0; 70_000]))
            .unwrap()
    );
    // Read one before and one after they are sent.
    let first = poll_fn(|cx| server.reader.poll_datagram(cx));
    let sending = async {
        tokio::task::yield_now().await;
        assert!(
            client
                .writer
                .send_datagram(Bytes::from(content(1, max)))
                .unwrap()
        );
        assert!(
            client
                .writer
                .send_datagram(Bytes::from_static(b"second"))
                .unwrap()
        );
    };
    let (first, ()) = tokio::join!(first, sending);
    assert_eq!(first.unwrap(), content(1, max));
    let second = poll_fn(|cx| server.reader.poll_datagram(cx)).await.unwrap();
    assert_eq!(second, &b"second"[..]);

    let (mut client, _server) = Link::new(Over::Ws).await.pair().await;
    assert_eq!(client.writer.datagram_len_max(), None);
    assert!(
        !client
            .writer
            .send_datagram(Bytes::from_static(b"x"))
            .unwrap()
    );
}

#[tokio::test]
async fn change_of_address_keeps_the_connection() {
    let (mut client, mut server) = Link::new(Over::Quic).await.pair().await;
    let rebind = client.info.rebind.take().unwrap();
    for round in 0..3_u64 {
        let whole = content(round, 200_000);
        let mut up = Batch::from_iter([Bytes::from(whole.clone())]);
        let (sent, received) = tokio::join!(
            send(&mut client.writer, Lane::Interactive, &mut up),
            receive_exactly(&mut server.reader, Lane::Interactive, whole.len())
        );
        sent.unwrap();
        assert!(received == whole, "bytes differ");
        let mut down = Batch::from_iter([Bytes::from(whole.clone())]);
        let (sent, received) = tokio::join!(
            send(&mut server.writer, Lane::Interactive, &mut down),
            receive_exactly(&mut client.reader, Lane::Interactive, whole.len())
        );
        sent.unwrap();
        assert!(received == whole, "bytes differ");
        let old = client.info.local.unwrap();
        let new = rebind.rebind("0.0.0.0:0".parse().unwrap()).unwrap();
        assert_ne!(old.port(), new.port());
    }
}
