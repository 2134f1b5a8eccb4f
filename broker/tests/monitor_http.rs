//! The monitoring server, over real sockets.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails the test")]

use std::net::SocketAddr;
use std::sync::Arc;

use dialtone_broker::cluster::status::{InterestStatus, LinkStatus, Status as ClusterStatus};
use dialtone_broker::monitor::{ConnectionQuery, Monitor, Page, Source, SubscriptionQuery};
use dialtone_broker::status::{ConnectionStatus, Status, SubscriptionStatus};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A broker that stands still.
#[derive(Clone)]
struct Still {
    status: Status,
    cluster: Option<ClusterStatus>,
}

impl Still {
    fn new() -> Self {
        let status = Status {
            node: "n1".to_owned(),
            server: "dialtone \"0.1\"".to_owned(),
            uptime_s: 61,
            ready: true,
            listeners: vec!["ws://127.0.0.1:4480/".to_owned()],
            certificate_ends: Some(1_800_000_000),
            connections: 30,
            subscriptions: 3,
            patterns: 2,
            accepted_total: 31,
            auth_failures_total: 4,
            messages_in_total: u64::MAX,
            ..Status::default()
        };
        Self {
            status,
            cluster: None,
        }
    }

    /// In a cluster, with a link.
    fn linked() -> Self {
        let link = LinkStatus {
            node: "n2".to_owned(),
            gateway: None,
            direction: "dialled",
            transport: "quic",
            encrypted: true,
            remote: None,
            server: "dialtone".to_owned(),
            age_s: 9,
            round_trip_us: Some(1_500),
            pending_bytes: 0,
            messages_out: 7,
            bytes_out: 700,
            messages_in: 8,
            bytes_in: 800,
            control_bytes_out: 5,
            control_bytes_in: 6,
            interest: InterestStatus {
                patterns: 3,
                version: 4,
                hash: 5,
            },
            announced_version: 2,
            resyncs: 1,
            snapshots: 1,
            dropped_in: 0,
        };
        let cluster = ClusterStatus {
            cluster: "east".to_owned(),
            node: "n1".to_owned(),
            certificate_ends: Some(1_900_000_000),
            links: vec![link],
            ..ClusterStatus::default()
        };
        Self {
            cluster: Some(cluster),
            ..Self::new()
        }
    }
}

fn connection(id: u64) -> ConnectionStatus {
    ConnectionStatus {
        id,
        identity: if id.is_multiple_of(2) { "even" } else { "odd" }.to_owned(),
        client: "test".to_owned(),
        transport: "quic",
        encrypted: true,
        remote: Some("192.0.2.1:5".to_owned()),
        age_s: 1,
        subscriptions: 30 - id,
        messages_in: id,
        bytes_in: 0,
        messages_out: id % 7,
        bytes_out: 0,
        pending_bytes: id / 10,
        dropped: 0,
        slow: false,
    }
}

impl Source for Still {
    fn cluster(&self) -> Option<ClusterStatus> {
        self.cluster.clone()
    }

    fn status(&self) -> Status {
        self.status.clone()
    }

    fn connections(&self, query: &ConnectionQuery) -> Page<ConnectionStatus> {
        query.page((0..30).map(connection))
    }

    fn subscriptions(&self, query: &SubscriptionQuery) -> Page<SubscriptionStatus> {
        let mut window = query.window();
        for (connection, identity, pattern) in
            [(1, "odd", "a.>"), (1, "odd", "b"), (2, "even", "a.*")]
        {
            if query.selects_connection(connection, identity) && query.selects_pattern(pattern) {
                window.offer(|| SubscriptionStatus {
                    connection,
                    id: 7,
                    pattern: pattern.to_owned(),
                    group: None,
                    tap: false,
                });
            }
        }
        window.finish()
    }
}

/// A monitoring server that runs.
struct World {
    addr: SocketAddr,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

struct Reply {
    head: String,
    body: String,
}

impl World {
    async fn new(source: impl Source) -> Self {
        let monitor = Monitor::bind("127.0.0.1:0".parse().unwrap(), Arc::new(source))
            .await
            .unwrap();
        let (addr, stop) = (monitor.local_addr(), CancellationToken::new());
        #[expect(clippy::disallowed_methods, reason = "the test awaits the handle")]
        let running = tokio::spawn(monitor.run(stop.clone()));
        Self {
            addr,
            stop,
            running,
        }
    }

    async fn raw(&self, request: &str) -> Reply {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Reply {
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    async fn ask(&self, method: &str, target: &str) -> Reply {
        self.raw(&format!(
            "{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        ))
        .await
    }

    async fn get(&self, target: &str) -> Reply {
        self.ask("GET", target).await
    }

    async fn json(&self, target: &str) -> Value {
        let reply = self.get(target).await;
        assert_eq!(reply.status(), 200, "{}", reply.body);
        assert!(
            reply.head.contains("content-type: application/json"),
            "{}",
            reply.head
        );
        serde_json::from_str(&reply.body).unwrap()
    }

    async fn bad(&self, target: &str) -> String {
        let reply = self.get(target).await;
        assert_eq!(reply.status(), 400, "{}", reply.body);
        reply.body
    }

    async fn ids(&self, target: &str) -> Vec<u64> {
        let page = self.json(target).await;
        page["connections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].as_u64().unwrap())
            .collect()
    }
}

impl Reply {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn health_and_readiness() {
    let world = World::new(Still::new()).await;
    let alive = world.get("/healthz").await;
    assert_eq!((alive.status(), alive.body.as_str()), (200, "ok\n"));
    assert_eq!(world.get("/healthz?_=1").await.status(), 200);
    assert_eq!(world.get("/readyz").await.status(), 200);

    let mut still = Still::new();
    still.status.draining = true;
    let draining = World::new(still.clone()).await.get("/readyz").await;
    assert_eq!(
        (draining.status(), draining.body.as_str()),
        (503, "draining: connections should go to another node\n")
    );
    still.status.draining = false;
    still.status.ready = false;
    let early = World::new(still).await.get("/readyz").await;
    assert_eq!(
        (early.status(), early.body.as_str()),
        (503, "not ready: connections are not accepted\n")
    );
}

#[tokio::test]
async fn metrics_are_as_prometheus_reads_them() {
    let world = World::new(Still::new()).await;
    let reply = world.get("/metrics").await;
    assert!(
        reply
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        reply.head
    );
    let ours: Vec<&str> = reply
        .body
        .lines()
        .filter(|line| !line.contains("process_"))
        .collect();
    let golden: Vec<&str> = include_str!("monitor_metrics.txt").lines().collect();
    assert_eq!(ours, golden);
}

#[tokio::test]
async fn the_cluster_is_shown_where_there_is_one() {
    let alone = World::new(Still::new()).await;
    assert_eq!(alone.get("/routez").await.status(), 404);
    let world = World::new(Still::linked()).await;
    let routez: Value = serde_json::from_str(&world.get("/routez").await.body).unwrap();
    assert_eq!(routez["cluster"], "east");
    assert_eq!(routez["links"][0]["round_trip_us"], 1_500);
    let metrics = world.get("/metrics").await.body;
    let labels = r#"{node="n2",gateway="",direction="dialled"}"#;
    for line in [
        format!("dialtone_link_round_trip_seconds{labels} 0.0015"),
        format!("dialtone_link_messages_out_total{labels} 7"),
        r#"dialtone_cluster_members{state="linked"} 0"#.to_owned(),
        "dialtone_cluster_certificate_end_timestamp_seconds 1900000000".to_owned(),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_process_has_figures() {
    let world = World::new(Still::new()).await;
    let metrics = world.get("/metrics").await.body;
    for name in [
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_max_fds",
    ] {
        let line = metrics
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")))
            .unwrap_or_else(|| panic!("{name}"));
        let value: f64 = line.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(value > 0.0, "{line}");
    }
    let process = &world.json("/varz").await["process"];
    assert!(process["resident_memory_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(process["open_fds"].as_u64().unwrap() >= 3);
}

#[tokio::test]
async fn varz_is_the_status() {
    let world = World::new(Still::new()).await;
    let variables = world.json("/varz").await;
    assert_eq!(
        (&variables["node"], &variables["connections"]),
        (&json!("n1"), &json!(30))
    );
    assert_eq!(variables["messages_in_total"], json!(u64::MAX));
    assert_eq!(world.get("/varz").await.body.lines().count(), 1);
    assert!(world.get("/varz?pretty").await.body.lines().count() > 20);
    assert!(world.get("/varz?pretty=true").await.body.lines().count() > 20);
    assert_eq!(world.get("/varz?pretty=0").await.body.lines().count(), 1);
    assert_eq!(
        world.bad("/varz?pretty=maybe").await,
        "parameter \"pretty\" must be true or false\n"
    );
    assert_eq!(
        world.bad("/varz?a%20b=1").await,
        "parameter \"a b\" is not known here; known are pretty\n"
    );
}

#[tokio::test]
async fn connections_are_filtered_sorted_and_cut() {
    let world = World::new(Still::new()).await;
    assert_eq!(world.ids("/connz").await, (0..30).collect::<Vec<_>>());
    assert_eq!(world.ids("/connz?offset=28").await, [28, 29]);
    assert_eq!(world.ids("/connz?offset=30").await, [0; 0]);
    assert_eq!(
        world.ids("/connz?limit=2&identity=odd&offset=1").await,
        [3, 5]
    );
    assert_eq!(world.ids("/connz?identity=o%64d&limit=1").await, [1]);
    assert_eq!(world.ids("/connz?sort=messages_in&limit=2").await, [29, 28]);
    assert_eq!(
        world.ids("/connz?sort=messages_out&limit=3").await,
        [6, 13, 20]
    );
    assert_eq!(world.ids("/connz?sort=pending&limit=2").await, [20, 21]);
    assert_eq!(world.ids("/connz?sort=subscriptions&limit=2").await, [0, 1]);
    let page = world.json("/connz?limit=2&identity=odd&offset=1").await;
    assert_eq!(
        (&page["total"], &page["limit"], &page["offset"]),
        (&json!(15), &json!(2), &json!(1))
    );
    assert_eq!(page["connections"][0]["remote"], json!("192.0.2.1:5"));
}

#[tokio::test]
async fn subscriptions_are_filtered_and_cut() {
    let world = World::new(Still::new()).await;
    let patterns = async |target: &str| {
        let page = world.json(target).await;
        let listed = page["subscriptions"].as_array().unwrap();
        listed
            .iter()
            .map(|one| one["pattern"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(patterns("/subsz").await, ["a.>", "b", "a.*"]);
    assert_eq!(patterns("/subsz?match=a.x").await, ["a.>", "a.*"]);
    assert_eq!(patterns("/subsz?match=a.x.y").await, ["a.>"]);
    assert_eq!(patterns("/subsz?identity=even").await, ["a.*"]);
    assert_eq!(patterns("/subsz?connection=1&offset=1").await, ["b"]);
    assert_eq!(
        world.json("/subsz?match=a.x&limit=1").await["total"],
        json!(2)
    );
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let world = World::new(Still::new()).await;
    let limit = "parameter \"limit\" must be from 1 to 1024\n";
    assert_eq!(world.bad("/connz?limit=0").await, limit);
    assert_eq!(world.bad("/connz?limit=1025").await, limit);
    assert_eq!(
        world.bad("/connz?limit=x").await,
        "parameter \"limit\" must be a whole number\n"
    );
    assert_eq!(
        world.bad("/connz?offset=-1").await,
        "parameter \"offset\" must be a whole number\n"
    );
    assert_eq!(
        world.bad("/connz?offset=").await,
        "parameter \"offset\" must be a whole number\n"
    );
    assert_eq!(
        world.bad("/connz?limit=1&limit=2").await,
        "parameter \"limit\" is given twice\n"
    );
    let sort =
        "parameter \"sort\" must be one of id, pending, messages_in, messages_out, subscriptions\n";
    assert_eq!(world.bad("/connz?sort=name").await, sort);
    let unknown =
        "parameter \"match\" is not known here; known are offset, limit, sort, identity, pretty\n";
    assert_eq!(world.bad("/connz?match=a").await, unknown);
    let subject = "parameter \"match\" is not a subject: a subject must not have an empty segment (segment 2)\n";
    assert_eq!(world.bad("/subsz?match=a..b").await, subject);
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_allowed() {
    let world = World::new(Still::new()).await;
    let missing = world.get("/debug").await;
    assert_eq!(
        (missing.status(), missing.body.as_str()),
        (404, "there is no /debug here; / lists what there is\n")
    );
    for method in ["POST", "DELETE", "OPTIONS", "BREW"] {
        let refused = world.ask(method, "/varz").await;
        assert_eq!(refused.status(), 405);
        assert!(
            refused.head.contains("allow: get, head"),
            "{}",
            refused.head
        );
    }
    let index = world.get("/").await;
    assert_eq!(index.status(), 200);
    for path in ["healthz", "readyz", "metrics", "varz", "connz", "subsz"] {
        assert!(
            index.body.contains(&format!(">/{path}</a>")),
            "{}",
            index.body
        );
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let world = World::new(Still::new()).await;
    for target in ["/", "/healthz", "/readyz", "/connz"] {
        let (head, get) = (world.ask("HEAD", target).await, world.get(target).await);
        assert_eq!((head.status(), head.body.as_str()), (200, ""));
        assert!(
            head.head
                .contains(&format!("content-length: {}", get.body.len())),
            "{}",
            head.head
        );
    }
}

#[tokio::test]
async fn garbage_and_long_heads_disturb_nobody() {
    let world = World::new(Still::new()).await;
    assert_eq!(world.raw("what is this\r\n\r\n").await.status(), 400);
    let long = format!(
        "GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "y".repeat(20 << 10)
    );
    let mut stream = TcpStream::connect(world.addr).await.unwrap();
    // The server may have hung up before all of it was written.
    drop(stream.write_all(long.as_bytes()).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    assert!(!answer.starts_with(b"HTTP/1.1 2"));
    assert_eq!(world.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn connections_are_bounded_and_the_next_one_waits_for_its_turn() {
    let world = World::new(Still::new()).await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(world.addr).await.unwrap());
    }
    let mut waiting = Box::pin(world.get("/healthz"));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("there was no room"),
        // A connection before the bound is answered meanwhile.
        text = answer_on(&mut silent[0]) => assert!(text.starts_with("HTTP/1.1 200"), "{text}"),
    }
    drop(silent);
    assert_eq!(waiting.await.status(), 200);
}

async fn answer_on(stream: &mut TcpStream) -> String {
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut buf = vec![0; 1024];
    let len = stream.read(&mut buf).await.unwrap();
    String::from_utf8_lossy(&buf[..len]).into_owned()
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_frees_the_port() {
    let world = World::new(Still::new()).await;
    let mut idle = TcpStream::connect(world.addr).await.unwrap();
    assert!(answer_on(&mut idle).await.starts_with("HTTP/1.1 200"));
    world.stop.cancel();
    world.running.await.unwrap();
    assert_eq!(idle.read(&mut [0; 16]).await.unwrap(), 0);
    Monitor::bind(world.addr, Arc::new(Still::new()))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let world = World::new(Still::new()).await;
    let error = Monitor::bind(world.addr, Arc::new(Still::new()))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot serve monitoring on {}", world.addr)
    );
    assert_eq!(error.source.kind(), std::io::ErrorKind::AddrInUse);
}
