//! A few lines of broker: enough to let clients talk to each other, and to lose what a test wants lost.

use std::future::poll_fn;
use std::task::Poll;

use dialtone_client::{Client, Options};
use dialtone_protocol::codec::split_frame;
use dialtone_protocol::frame::message::decode_section;
use dialtone_protocol::frame::{
    Deliver, Frame, Message, Pong, Published, Subscribed, Unsubscribed, Wanted, Welcome,
};
use dialtone_protocol::session::Timing;
use dialtone_protocol::session::server::{Session, Step};
use dialtone_protocol::{ConnectionId, Limits, SubscriptionId, subject};
use dialtone_transport::memory::Hub;
use dialtone_transport::{Batch, Connection, Endpoint, Lane, ListenOptions, Listener};
use tokio::time::Instant;

struct Peer {
    connection: Connection,
    session: Session,
    inbox: String,
    wanted: Vec<Wanted>,
    buf: Vec<u8>,
    out: Batch,
    gone: bool,
}

impl Peer {
    fn send(&mut self, frame: &Frame<'_>) {
        self.out.push(frame.to_vec().into());
    }
}

/// Clients at one relay; `lose` says which messages to drop.
pub(crate) async fn clients(
    count: usize,
    lose: impl FnMut(&Message<'_>) -> bool + Send + 'static,
) -> Vec<Client> {
    let hub = Hub::new();
    let options = ListenOptions {
        hub: Some(hub.clone()),
        ..ListenOptions::default()
    };
    let listener = Listener::bind(&Endpoint::Memory("relay".to_owned()), &options)
        .await
        .unwrap();
    tokio::spawn(async move {
        let mut peers = Vec::new();
        for number in 0..count {
            let connection = listener.accept().await.unwrap().establish().await.unwrap();
            peers.push(Peer {
                connection,
                session: Session::new(Timing::default(), Instant::now().into_std()),
                inbox: format!("_INBOX.r.{number}-secret"),
                wanted: Vec::new(),
                buf: Vec::new(),
                out: Batch::new(),
                gone: false,
            });
        }
        relay(peers, lose).await;
    });
    let connecting = (0..count).map(|_| Options::new("memory:relay").hub(hub.clone()).connect());
    futures_util::future::join_all(connecting)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect()
}

async fn relay(mut peers: Vec<Peer>, mut lose: impl FnMut(&Message<'_>) -> bool) {
    poll_fn(|cx| {
        loop {
            let mut progressed = false;
            for at in 0..peers.len() {
                let peer = &mut peers[at];
                peer.buf.reserve(65_536);
                if !peer.gone
                    && let Poll::Ready(received) =
                        peer.connection
                            .reader
                            .poll_recv(cx, Lane::Interactive, &mut peer.buf)
                {
                    peer.gone = received.unwrap_or(0) == 0;
                    progressed = true;
                }
                let buf = std::mem::take(&mut peer.buf);
                let mut rest = buf.as_slice();
                while let Some((body, len)) = split_frame(rest, u32::MAX).unwrap() {
                    on_frame(&mut peers, at, body, &mut lose);
                    rest = &rest[len..];
                }
                peers[at].buf = rest.to_vec();
            }
            for peer in &mut peers {
                if !peer.out.is_empty() && !peer.gone {
                    let sent =
                        peer.connection
                            .writer
                            .poll_send(cx, Lane::Interactive, &mut peer.out);
                    progressed |= sent.is_ready();
                }
            }
            if !progressed {
                return if peers.iter().all(|peer| peer.gone) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                };
            }
        }
    })
    .await;
}

fn on_frame(
    peers: &mut [Peer],
    at: usize,
    body: &[u8],
    lose: &mut impl FnMut(&Message<'_>) -> bool,
) {
    let now = Instant::now().into_std();
    let peer = &mut peers[at];
    match peer.session.on_body(body, now).unwrap() {
        Step::Hello(version, _) => {
            peer.session.open(Limits::default(), now);
            let welcome = Welcome {
                version,
                connection: ConnectionId(at as u64),
                node: "r".to_owned(),
                server: "relay".to_owned(),
                identity: String::new(),
                inbox: peer.inbox.clone(),
                limits: Limits::default(),
                ping_interval_ms: 60_000,
                addresses: Vec::new(),
            };
            peer.send(&Frame::Welcome(Box::new(welcome)));
        }
        Step::Subscribe(subscribe) => {
            peer.wanted.extend(subscribe.wanted);
            peer.send(&Frame::Subscribed(Subscribed {
                request: subscribe.request,
                refused: Vec::new(),
            }));
        }
        Step::Unsubscribe(unsubscribe) => {
            peer.wanted
                .retain(|wanted| !unsubscribe.ids.contains(&wanted.id));
            peer.send(&Frame::Unsubscribed(Unsubscribed {
                request: unsubscribe.request,
            }));
        }
        Step::Publish(publish) => {
            let message = decode_section(publish.section).unwrap();
            let count = if lose(&message) {
                1
            } else {
                route(peers, &message)
            };
            if let Some(request) = publish.request {
                peers[at].send(&Frame::Published(Published {
                    request,
                    outcome: Ok(count),
                }));
            }
        }
        Step::Ping(token) => peer.send(&Frame::Pong(Pong { token })),
        Step::Heard | Step::Cancel(_) => {}
        Step::Close(_) => peer.gone = true,
        other => panic!("{other:?}"),
    }
}

fn route(peers: &mut [Peer], message: &Message<'_>) -> u32 {
    let mut count = 0;
    for peer in peers {
        let to_inbox = message
            .subject
            .starts_with(&peer.inbox)
            .then_some(SubscriptionId::INBOX);
        let wanted = peer
            .wanted
            .iter()
            .filter(|wanted| subject::matches(&wanted.pattern, message.subject));
        let subscriptions: Vec<_> = to_inbox
            .into_iter()
            .chain(wanted.map(|wanted| wanted.id))
            .collect();
        for subscription in subscriptions {
            count += 1;
            let deliver = Deliver {
                subscription,
                unreliable: false,
                fragment: None,
                message: *message,
            };
            peer.send(&Frame::Deliver(deliver));
        }
    }
    count
}
