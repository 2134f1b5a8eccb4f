//! What only QUIC has: lanes, datagrams, and addresses that change.

use std::future::poll_fn;

use bytes::Bytes;
use dialtone_transport::{Batch, Lane};

use crate::support::{Link, Over, content, receive_exactly, send};

#[tokio::test]
async fn small_messages_pass_a_full_bulk_lane() {
    let (mut client, mut server) = Link::new(Over::Quic).await.pair().await;
    let bulk = content(1, 16 << 20);
    let mut large = Batch::from_iter([Bytes::from(bulk.clone())]);
    // Nobody reads the bulk lane, so it fills up.
    let attempt =
        poll_fn(|cx| std::task::Poll::Ready(client.writer.poll_send(cx, Lane::Bulk, &mut large)))
            .await;
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
