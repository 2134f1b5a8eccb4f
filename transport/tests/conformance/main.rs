//! What every transport must do, run for each; then what only some can do.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![expect(clippy::print_stdout, reason = "the seed that repeats a failure")]

mod handshake;
mod interop;
mod quic;
mod support;
mod tls;

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use dialtone_transport::{Batch, Connection, Error, Info, Kind, Lane, Reader, Writer, memory};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use self::support::{Link, Over, content, receive, receive_all, receive_exactly, send};

macro_rules! on_every_transport {
    ($($name:ident),* $(,)?) => { $(
        mod $name {
            use crate::support::Over;

            #[tokio::test]
            async fn memory() { super::$name(Over::Memory).await; }
            #[tokio::test]
            async fn ws() { super::$name(Over::Ws).await; }
            #[tokio::test]
            async fn wss() { super::$name(Over::Wss).await; }
            #[tokio::test]
            async fn quic() { super::$name(Over::Quic).await; }
        }
    )* };
}

on_every_transport!(
    bytes_arrive_in_order_and_whole,
    large_transfers_arrive,
    reader_that_does_not_read_makes_sending_pend,
    attempt_without_waker_is_resumed_with_one,
    orderly_close_is_the_end_of_the_stream,
    code_and_reason_of_a_close_arrive,
    abort_ends_a_peer_that_does_not_read,
    abrupt_end_is_noticed,
    many_connections_do_not_mix,
    either_end_may_speak_first,
    writer_that_waits_for_a_lost_peer_is_woken,
);

/// Chunks of any size, read with buffers of any size, in both directions at once.
async fn bytes_arrive_in_order_and_whole(over: Over) {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let link = Link::new(over).await;
    let (client, server) = link.pair().await;
    tokio::join!(ping_pong(client, seed, 0), ping_pong(server, seed, 1));
}

/// Returns the connection, because dropping it at one end may cut the other off.
async fn ping_pong(connection: Connection, seed: u64, side: u64) -> (Reader, Writer) {
    let Connection {
        mut reader,
        mut writer,
        ..
    } = connection;
    let mut rng = StdRng::seed_from_u64(seed + side);
    let total = 1_000_000;
    let (outgoing, expected) = (content(seed + side, total), content(seed + 1 - side, total));
    let sending = async {
        let (mut batch, mut at) = (Batch::new(), 0);
        while at < total {
            for _ in 0..rng.random_range(1..80) {
                let size = if rng.random_bool(0.1) {
                    rng.random_range(0..40_000)
                } else {
                    rng.random_range(0..300)
                };
                let end = total.min(at + size);
                batch.push(Bytes::copy_from_slice(&outgoing[at..end]));
                at = end;
            }
            send(&mut writer, Lane::Interactive, &mut batch)
                .await
                .unwrap();
            assert!(batch.is_empty());
        }
    };
    let mut sizes = StdRng::seed_from_u64(seed ^ 7);
    let receiving = async {
        let mut received = Vec::new();
        while received.len() < total {
            let mut buf = Vec::with_capacity(sizes.random_range(1..20_000));
            let n = receive(&mut reader, Lane::Interactive, &mut buf)
                .await
                .unwrap();
            assert_eq!(n, buf.len());
            assert!(n > 0, "ended early");
            received.extend_from_slice(&buf);
        }
        assert!(received == expected, "bytes differ");
    };
    tokio::join!(sending, receiving);
    (reader, writer)
}

async fn large_transfers_arrive(over: Over) {
    let (mut client, mut server) = Link::new(over).await.pair().await;
    let whole = content(3, 12 << 20);
    // One chunk far over the message limit, and many small ones.
    let mut batch = Batch::from_iter([Bytes::from(whole.clone())]);
    batch.extend(whole.chunks(1000).map(Bytes::copy_from_slice));
    let (sent, received) = tokio::join!(
        send(&mut client.writer, Lane::Interactive, &mut batch),
        receive_exactly(&mut server.reader, Lane::Interactive, 2 * whole.len()),
    );
    sent.unwrap();
    assert!(received == whole.repeat(2), "bytes differ");
}

/// The most that any transport holds below the batch: QUIC windows, TCP buffers, the pipe.
const HELD_MAX: usize = 32 << 20;

async fn reader_that_does_not_read_makes_sending_pend(over: Over) {
    let link = Link::new(over).await;
    let (mut client, mut server) = link.pair().await;
    let chunk = Bytes::from(content(1, 1 << 20));
    let mut batch: Batch = (0..64).map(|_| chunk.clone()).collect();
    let total = batch.len();
    // QUIC sends only when the runtime runs; whether it still does is seen by the count standing still.
    let mut before = 0;
    while before != batch.len() {
        before = batch.len();
        let once =
            poll_fn(|cx| Poll::Ready(client.writer.poll_send(cx, Lane::Interactive, &mut batch)));
        assert!(once.await.is_pending(), "everything was taken");
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
    }
    assert!(
        total - batch.len() <= HELD_MAX,
        "{} bytes were taken",
        total - batch.len()
    );
    let (sent, received) = tokio::join!(
        send(&mut client.writer, Lane::Interactive, &mut batch),
        receive_exactly(&mut server.reader, Lane::Interactive, total),
    );
    sent.unwrap();
    assert!(
        received.chunks(1 << 20).all(|part| part == chunk),
        "bytes differ"
    );
}

async fn attempt_without_waker_is_resumed_with_one(over: Over) {
    let (mut client, mut server) = Link::new(over).await.pair().await;
    let whole = content(5, 40 << 20);
    let mut batch: Batch = whole.chunks(9999).map(Bytes::copy_from_slice).collect();
    let mut cx = Context::from_waker(Waker::noop());
    while client
        .writer
        .poll_send(&mut cx, Lane::Interactive, &mut batch)
        .is_ready()
    {
        assert!(!batch.is_empty(), "everything was taken without waiting");
    }
    let sending = async {
        send(&mut client.writer, Lane::Interactive, &mut batch)
            .await
            .unwrap();
        // Pushed by others meanwhile, and attempted by them.
        for _ in 0..100 {
            batch.push(Bytes::from_static(b"more"));
            let attempt = client.writer.poll_send(
                &mut Context::from_waker(Waker::noop()),
                Lane::Interactive,
                &mut batch,
            );
            if attempt.is_pending() {
                send(&mut client.writer, Lane::Interactive, &mut batch)
                    .await
                    .unwrap();
            }
        }
    };
    let receiving = receive_exactly(&mut server.reader, Lane::Interactive, whole.len() + 400);
    let ((), received) = tokio::join!(sending, receiving);
    assert!(received[..whole.len()] == whole, "bytes differ");
    assert_eq!(received[whole.len()..], b"more".repeat(100));
}

async fn orderly_close_is_the_end_of_the_stream(over: Over) {
    let (mut client, mut server) = Link::new(over).await.pair().await;
    let whole = content(8, 300_000);
    let closing = async {
        let mut batch = Batch::from_iter([Bytes::from(whole.clone())]);
        send(&mut client.writer, Lane::Interactive, &mut batch)
            .await
            .unwrap();
        poll_fn(|cx| client.writer.poll_close(cx, 0, ""))
            .await
            .unwrap();
    };
    let ((), (received, end)) = tokio::join!(closing, receive_all(&mut server.reader));
    assert!(received == whole, "bytes differ");
    assert!(end.is_ok(), "{end:?}");
    // Asked again, it is the end again.
    assert!(matches!(
        receive(&mut server.reader, Lane::Interactive, &mut Vec::new()).await,
        Ok(0)
    ));
    let mut late = Batch::from_iter([Bytes::from_static(b"late")]);
    assert!(
        send(&mut client.writer, Lane::Interactive, &mut late)
            .await
            .is_err()
    );
}

async fn code_and_reason_of_a_close_arrive(over: Over) {
    let (mut client, mut server) = Link::new(over).await.pair().await;
    let closing = async {
        let mut batch = Batch::from_iter([Bytes::from_static(b"last words")]);
        send(&mut server.writer, Lane::Interactive, &mut batch)
            .await
            .unwrap();
        poll_fn(|cx| server.writer.poll_close(cx, 429, "too many frames"))
            .await
            .unwrap();
    };
    let reading = async {
        // The listener's end of a QUIC stream comes about with the dialler's first byte.
        let mut hello = Batch::from_iter([Bytes::from_static(b"hello")]);
        send(&mut client.writer, Lane::Interactive, &mut hello)
            .await
            .unwrap();
        receive_all(&mut client.reader).await
    };
    let meeting = async {
        assert_eq!(
            receive_exactly(&mut server.reader, Lane::Interactive, 5).await,
            b"hello"
        );
        closing.await;
    };
    let ((received, end), ()) = tokio::join!(reading, meeting);
    assert_eq!(received, b"last words");
    let Err(Error::Closed { code, reason }) = end else {
        panic!("ended with {end:?}")
    };
    assert_eq!((code, reason.as_str()), (429, "too many frames"));
}

async fn abort_ends_a_peer_that_does_not_read(over: Over) {
    let (mut client, server) = Link::new(over).await.pair().await;
    let chunk = Bytes::from(content(1, 1 << 20));
    let mut batch: Batch = (0..64).map(|_| chunk.clone()).collect();
    let mut cx = Context::from_waker(Waker::noop());
    while client
        .writer
        .poll_send(&mut cx, Lane::Interactive, &mut batch)
        .is_ready()
    {
        assert!(!batch.is_empty(), "everything was taken without waiting");
    }
    client.writer.abort(408, "too slow");
    drop(client);
    let Connection { mut reader, .. } = server;
    let (received, _end) = receive_all(&mut reader).await;
    assert!(received.len() < 64 << 20, "nothing was cut off");
}

async fn abrupt_end_is_noticed(over: Over) {
    let (client, mut server) = Link::new(over).await.pair().await;
    drop(client);
    let (received, _end) = receive_all(&mut server.reader).await;
    assert_eq!(received, b"");
    // Writing to nobody fails sooner or later, never for ever.
    let mut batch = Batch::new();
    for _ in 0..1000 {
        batch.push(Bytes::from_static(b"anybody there?"));
        if send(&mut server.writer, Lane::Interactive, &mut batch)
            .await
            .is_err()
        {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("a thousand writes to nobody were taken");
}

async fn many_connections_do_not_mix(over: Over) {
    let link = Link::new(over).await;
    join_all((0..48_u64).map(|i| {
        let link = &link;
        async move {
            // Accepted in any order, so `server` may be another client's other end: it echoes whatever comes.
            let (mut client, mut server) = link.pair().await;
            let whole = content(i, 10_000);
            let mut batch = Batch::from_iter([Bytes::from(whole.clone())]);
            send(&mut client.writer, Lane::Interactive, &mut batch)
                .await
                .unwrap();
            let received =
                receive_exactly(&mut server.reader, Lane::Interactive, whole.len()).await;
            let mut batch = Batch::from_iter([Bytes::from(received)]);
            send(&mut server.writer, Lane::Interactive, &mut batch)
                .await
                .unwrap();
            assert!(
                receive_exactly(&mut client.reader, Lane::Interactive, whole.len()).await == whole,
                "bytes differ"
            );
            (client, server)
        }
    }))
    .await;
}

async fn either_end_may_speak_first(over: Over) {
    let (mut client, mut server) = Link::new(over).await.pair().await;
    let mut word = Batch::from_iter([Bytes::from_static(b"welcome")]);
    let speaking = async {
        // On QUIC the listener must read to get hold of the stream that it writes to.
        let mut buf = Vec::new();
        tokio::join!(
            async {
                send(&mut server.writer, Lane::Interactive, &mut word)
                    .await
                    .unwrap();
            },
            async {
                receive(&mut server.reader, Lane::Interactive, &mut buf)
                    .await
                    .unwrap()
            },
        )
    };
    let mut hello = Batch::from_iter([Bytes::from_static(b"hello")]);
    let answering = async {
        send(&mut client.writer, Lane::Interactive, &mut hello)
            .await
            .unwrap();
        receive_exactly(&mut client.reader, Lane::Interactive, 7).await
    };
    let (_, received) = tokio::join!(speaking, answering);
    assert_eq!(received, b"welcome");
}

/// A writer that is waiting when the connection ends must learn of it.
async fn writer_that_waits_for_a_lost_peer_is_woken(over: Over) {
    let (client, server) = Link::new(over).await.pair().await;
    let Connection {
        mut reader,
        mut writer,
        ..
    } = server;
    let chunk = Bytes::from(content(1, 1 << 20));
    let mut batch: Batch = (0..64).map(|_| chunk.clone()).collect();
    let leaving = async {
        tokio::task::yield_now().await;
        drop(client);
    };
    let mut buf = Vec::new();
    let (sent, _received, ()) = tokio::join!(
        send(&mut writer, Lane::Interactive, &mut batch),
        receive(&mut reader, Lane::Interactive, &mut buf),
        leaving,
    );
    assert!(sent.is_err());
}

/// A link of the test kit's: any stream, both ends.
#[tokio::test]
async fn streams_can_be_plugged_in() {
    let (near, far) = tokio::io::duplex(1000);
    let plug = |stream| {
        let (read, write) = tokio::io::split(stream);
        Connection::from_parts(Info::new(Kind::Memory), Box::new(read), Box::new(write))
    };
    tokio::join!(ping_pong(plug(near), 9, 0), ping_pong(plug(far), 9, 1));
}

#[tokio::test]
async fn pipe_holds_no_more_than_its_capacity() {
    let (mut near, mut far) = memory::pair(100);
    let mut batch: Batch = (0..10).map(|_| Bytes::from_static(&[7; 30])).collect();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(
        near.writer
            .poll_send(&mut cx, Lane::Interactive, &mut batch)
            .is_pending()
    );
    assert_eq!(batch.len(), 200);
    // No more is read than there is room for.
    let mut buf = Vec::with_capacity(10);
    let room = buf.capacity();
    assert!(
        matches!(far.reader.poll_recv(&mut cx, Lane::Interactive, &mut buf), Poll::Ready(Ok(n)) if n == room)
    );
    assert!(
        near.writer
            .poll_send(&mut cx, Lane::Interactive, &mut batch)
            .is_pending()
    );
    assert_eq!(batch.len(), 200 - room);
}
