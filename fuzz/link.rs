//! A broker in a cluster, and another node that says whatever the input says: it must not panic, keep
//! nothing of a node that is gone, and go on serving its clients.
//!
//! ```text
//! setting   whether the handshake is made properly first (1 bit)
//! script    see `script.rs`; bytes that arrive are a length field of that many, and nothing else
//! ```

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dialtone_broker::auth::open::Open;
use dialtone_broker::cluster::{self, Trust};
use dialtone_broker::{Broker, Config, Handle, Listen};
use dialtone_protocol::Frame;
use dialtone_protocol::frame::handshake::MAGIC;
use dialtone_protocol::frame::link::{LINK_VERSION, LinkHello, LinkProof, NodeInfo};
use dialtone_protocol::frame::{Credentials, Hello, Link, Subscribe, Wanted};
use dialtone_protocol::session::Timing;
use dialtone_protocol::{RequestId, SubscriptionId, VERSION};
use dialtone_transport::memory::{self, Hub};
use dialtone_transport::{
    Batch, Connection, DialOptions, Endpoint, Lane, ListenOptions, Reader, Writer, dial,
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::script::{Event, Script};

/// Most events of an input.
const EVENTS_MAX: usize = 256;
/// By when the broker has done all it can: the clock moves only when nobody has anything to do.
const MOMENT: Duration = Duration::from_millis(1);
/// By when whatever is waited for must have come.
const PATIENCE: Duration = Duration::from_mins(2);

/// Runs the input as what another node says.
pub fn link(data: &[u8]) {
    let Some((&setting, script)) = data.split_first() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without sockets needs nothing");
    runtime.block_on(live(setting & 1 != 0, Script(script)));
}

async fn live(is_proper: bool, script: Script<'_>) {
    let hub = Hub::new();
    let endpoint: Endpoint = "memory:n1".parse().expect("it is an endpoint");
    let broker = Broker::bind(config(&hub, &endpoint), Arc::new(Open::new())).await;
    let broker = broker.expect("the name is free");
    let handle = broker.handle();
    let stop = CancellationToken::new();
    let story = async {
        let mut client = client(&handle).await;
        let options = DialOptions {
            hub: Some(hub.clone()),
            ..DialOptions::default()
        };
        let connection = dial(&endpoint, &options).await;
        let mut node = Node::new(connection.expect("the broker listens"));
        if is_proper {
            node.introduce().await;
        }
        for event in script.take(EVENTS_MAX) {
            node.happens(event).await;
        }
        drop(node);
        sleep(PATIENCE).await;
        check(&handle, &mut client).await;
        stop.cancel();
    };
    timeout(1_000 * PATIENCE, async {
        tokio::join!(broker.run(stop.clone()), story)
    })
    .await
    .expect("the broker stops");
}

fn config(hub: &Hub, endpoint: &Endpoint) -> Config {
    let mut cluster = cluster::Config::new("c", Trust::Anyone);
    cluster.listen = vec![Listen {
        endpoint: endpoint.clone(),
        options: ListenOptions {
            hub: Some(hub.clone()),
            ..ListenOptions::default()
        },
    }];
    // Small, so that an input can reach them.
    cluster.patterns_max = 8;
    cluster.members_max = 4;
    cluster.fragmented_max = 2;
    cluster.counts_max = 4;
    Config {
        node: Some("n1".to_owned()),
        cluster: Some(cluster),
        drain_grace: Duration::ZERO,
        // The client answers only when it is asked to.
        timing: Timing {
            ping_interval: Duration::from_hours(24),
            ..Timing::default()
        },
        ..Config::default()
    }
}

/// What the node has left must be nothing, and the client must be served.
async fn check(handle: &Handle, client: &mut Wire) {
    let status = handle.cluster().expect("it is in a cluster").status();
    assert_eq!(status.links, [], "of a node that is gone");
    assert_eq!(status.counts_waiting, 0);
    assert_eq!(handle.status().patterns, 1, "the client's own");
    client.read_all().await;
    let frame = Frame::Ping(dialtone_protocol::frame::Ping { token: 7 });
    client.send(Bytes::from(frame.to_vec())).await;
    let pong = Frame::Pong(dialtone_protocol::frame::Pong { token: 7 }).to_vec();
    client.read_all().await;
    assert!(client.received.ends_with(&pong), "the client is served");
}

async fn client(handle: &Handle) -> Wire {
    let (here, there) = memory::pair(memory::CAPACITY);
    handle.serve(there);
    let mut wire = Wire::new(here);
    let hello = Hello {
        magic: MAGIC,
        version_min: VERSION,
        version_max: VERSION,
        client: "fuzz".to_owned(),
        credentials: Credentials::None,
    };
    wire.send(Bytes::from(Frame::Hello(hello).to_vec())).await;
    let mut wanted = Wanted::new("a");
    wanted.id = SubscriptionId(1);
    let subscribe = Subscribe {
        request: RequestId(1),
        wanted: vec![wanted],
    };
    wire.send(Bytes::from(Frame::Subscribe(subscribe).to_vec()))
        .await;
    wire.read_all().await;
    wire
}

/// One end of a connection.
struct Wire {
    reader: Reader,
    writer: Writer,
    received: Vec<u8>,
}

impl Wire {
    fn new(connection: Connection) -> Self {
        Self {
            reader: connection.reader,
            writer: connection.writer,
            received: Vec::new(),
        }
    }

    /// Sends, unless the other end takes no more, which ends it here as well.
    async fn send(&mut self, bytes: Bytes) {
        let mut batch = Batch::new();
        batch.push(bytes);
        let sent = poll_fn(|cx| self.writer.poll_send(cx, Lane::Interactive, &mut batch));
        // Whether it was refused or not taken, the input goes on.
        drop(timeout(PATIENCE, sent).await);
    }

    /// Reads until nothing comes.
    async fn read_all(&mut self) {
        loop {
            self.received.reserve(4 << 10);
            let received = poll_fn(|cx| {
                self.reader
                    .poll_recv(cx, Lane::Interactive, &mut self.received)
            });
            match timeout(MOMENT, received).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) | Err(_) => return,
            }
        }
    }
}

struct Node(Wire);

impl Node {
    fn new(connection: Connection) -> Self {
        Self(Wire::new(connection))
    }

    async fn introduce(&mut self) {
        let hello = LinkHello {
            magic: MAGIC,
            version_min: LINK_VERSION,
            version_max: LINK_VERSION,
            cluster: "c".to_owned(),
            to_cluster: "c".to_owned(),
            node: NodeInfo {
                name: "x".to_owned(),
                incarnation: 1,
                revision: 0,
                left: false,
                addresses: vec![],
                client_addresses: vec!["memory:x".to_owned()],
            },
            server: "fuzz".to_owned(),
            nonce: [0; 32],
        };
        self.say(Link::Hello(Box::new(hello))).await;
        self.say(Link::Proof(LinkProof { secret: None })).await;
    }

    async fn say(&mut self, link: Link) {
        self.0.send(Bytes::from(Frame::Link(link).to_vec())).await;
        self.0.read_all().await;
        self.0.received.clear();
    }

    async fn happens(&mut self, event: Event) {
        match event {
            Event::Body(body) => {
                let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
                let mut frame = len.to_le_bytes().to_vec();
                frame.extend_from_slice(&body);
                self.0.send(Bytes::from(frame)).await;
            }
            Event::Bytes(len) => {
                let len = u32::try_from(len).unwrap_or(u32::MAX);
                self.0
                    .send(Bytes::copy_from_slice(&len.to_le_bytes()))
                    .await;
            }
            Event::Passes(tenths) => sleep(Duration::from_millis(100 * tenths)).await,
            Event::Deadline => sleep(Duration::from_mins(1)).await,
            Event::Own(_) => {}
        }
        self.0.read_all().await;
        self.0.received.clear();
    }
}
