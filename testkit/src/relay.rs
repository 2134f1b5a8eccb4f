//! Joins two connections, so that a client that dials by name can be put on a simulated link.

use std::future::poll_fn;

use dialtone_transport::{Batch, Connection, Lane, Reader, Writer};

/// Passes bytes both ways until one side ends or fails, and ends the other then.
pub(crate) async fn join(one: Connection, other: Connection) {
    let Connection {
        reader: mut from_one,
        writer: mut to_one,
        ..
    } = one;
    let Connection {
        reader: mut from_other,
        writer: mut to_other,
        ..
    } = other;
    tokio::select! {
        biased;
        () = pass(&mut from_one, &mut to_other) => {}
        () = pass(&mut from_other, &mut to_one) => {}
    }
    // What one side said last must still arrive at the other; a side that has gone fails at once.
    let goodbye = async {
        drop(poll_fn(|cx| to_other.poll_close(cx, 0, "")).await);
        drop(poll_fn(|cx| to_one.poll_close(cx, 0, "")).await);
    };
    drop(tokio::time::timeout(std::time::Duration::from_secs(5), goodbye).await);
}

async fn pass(reader: &mut Reader, writer: &mut Writer) {
    let mut batch = Batch::new();
    loop {
        let mut received = Vec::with_capacity(16 << 10);
        match poll_fn(|cx| reader.poll_recv(cx, Lane::Interactive, &mut received)).await {
            Ok(1..) => batch.push(received.into()),
            Ok(0) | Err(_) => return,
        }
        if poll_fn(|cx| writer.poll_send(cx, Lane::Interactive, &mut batch))
            .await
            .is_err()
        {
            return;
        }
    }
}
