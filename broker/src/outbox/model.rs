//! The claim in every order in which threads can take it: `./test model`.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use dialtone_protocol::frame::{Message, Ping, Publish, message::PublishView};
use dialtone_protocol::{Frame, SubscriptionId, codec};
use dialtone_transport::{Connection, Info, Kind};
use loom::sync::{Arc, Mutex};
use tokio::io::AsyncWrite;

use super::{Delivery, Outbox};
use crate::config::OutboxConfig;

/// How often a thread is interrupted at most; without a bound, the orders are too many.
const PREEMPTIONS_MAX: usize = 2;

/// A socket that takes so many writes and is then full until somebody makes room.
#[derive(Debug, Default)]
struct Socket {
    room: usize,
    got: Vec<u8>,
    waker: Option<Waker>,
}

#[derive(Debug, Clone)]
struct Shared(Arc<Mutex<Socket>>);

impl Shared {
    fn with_room(room: usize) -> Self {
        let socket = Socket {
            room,
            ..Socket::default()
        };
        Self(Arc::new(Mutex::new(socket)))
    }

    /// For one more write.
    fn make_room(&self) {
        let mut socket = self.0.lock().unwrap();
        socket.room += 1;
        let waker = socket.waker.take();
        drop(socket);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Payloads of the deliveries that were written whole.
    fn payloads(&self) -> VecDeque<u8> {
        let socket = self.0.lock().unwrap();
        let (mut rest, mut payloads) = (&socket.got[..], VecDeque::new());
        while let Some((body, len)) = codec::split_frame(rest, u32::MAX).unwrap() {
            if let Frame::Deliver(deliver) = Frame::decode(body).unwrap() {
                payloads.push_back(deliver.message.payload[0]);
            }
            rest = &rest[len..];
        }
        assert!(rest.is_empty(), "a frame was cut");
        payloads
    }
}

impl AsyncWrite for Shared {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut socket = self.0.lock().unwrap();
        if socket.room == 0 {
            // As a socket: whoever only tries leaves the waker of whoever waits alone.
            if !cx.waker().will_wake(Waker::noop()) {
                socket.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        socket.room -= 1;
        socket.got.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn outbox(socket: &Shared) -> Arc<Outbox> {
    let connection = Connection::from_parts(
        Info::new(Kind::Memory),
        Box::new(tokio::io::empty()),
        Box::new(socket.clone()),
    );
    Arc::new(Outbox::new(
        connection.writer,
        super::Lanes::default(),
        &OutboxConfig::default(),
    ))
}

/// What a publisher does in a turn.
fn publish(outbox: &Outbox, payload: u8) {
    let frame = Frame::Publish(Publish {
        request: None,
        unreliable: false,
        fragment: None,
        message: Message {
            subject: "a",
            reply: None,
            encoding: 0,
            headers: None,
            payload: &[payload],
        },
    })
    .to_vec();
    let view = PublishView::decode(&frame[codec::LEN_FIELD..]).unwrap();
    let delivery = Delivery {
        unreliable: false,
        fragment: None,
        section: view.section,
        shared: None,
    };
    if outbox.push(SubscriptionId(1), 0, delivery).claimed {
        outbox.flush();
    }
}

/// The connection's own task, until the other end has all of it and says goodbye.
fn own(outbox: &Outbox, socket: &Shared, expected: usize) {
    loom::future::block_on(poll_fn(|cx| {
        assert!(outbox.poll_owner(cx).is_pending(), "the outbox was closed");
        if socket.payloads().len() == expected {
            return Poll::Ready(());
        }
        Poll::Pending
    }));
}

fn check(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(f);
}

#[test]
fn nothing_stays_behind_when_the_socket_is_full() {
    check(|| {
        let socket = Shared::with_room(1);
        let outbox = outbox(&socket);
        let publishers = [1, 2].map(|payload| {
            let outbox = Arc::clone(&outbox);
            loom::thread::spawn(move || publish(&outbox, payload))
        });
        let peer = {
            let (outbox, socket) = (Arc::clone(&outbox), socket.clone());
            loom::thread::spawn(move || {
                socket.make_room();
                outbox.wake_owner();
            })
        };
        for publisher in publishers {
            publisher.join().unwrap();
        }
        peer.join().unwrap();
        own(&outbox, &socket, 2);
    });
}

#[test]
fn a_claim_is_taken_while_the_owner_gives_it_up() {
    check(|| {
        let socket = Shared::with_room(0);
        let outbox = outbox(&socket);
        publish(&outbox, 1);
        let publisher = {
            let (outbox, socket) = (Arc::clone(&outbox), socket.clone());
            loom::thread::spawn(move || {
                // Whether the owner writes before or after, there is room for one write only.
                socket.make_room();
                publish(&outbox, 2);
                socket.make_room();
            })
        };
        own(&outbox, &socket, 2);
        assert_eq!(socket.payloads(), [1, 2]);
        publisher.join().unwrap();
    });
}

#[test]
fn the_goodbye_is_the_last_frame_and_is_written() {
    check(|| {
        let socket = Shared::with_room(0);
        let outbox = outbox(&socket);
        let publisher = {
            let (outbox, socket) = (Arc::clone(&outbox), socket.clone());
            loom::thread::spawn(move || {
                publish(&outbox, 1);
                socket.make_room();
                socket.make_room();
            })
        };
        if outbox.push_last(&Frame::Ping(Ping { token: 7 })).claimed {
            outbox.flush();
        }
        loom::future::block_on(poll_fn(|cx| outbox.poll_finish(cx)));
        let written = socket.0.lock().unwrap().got.clone();
        assert!(written.ends_with(&Frame::Ping(Ping { token: 7 }).to_vec()));
        publisher.join().unwrap();
    });
}
