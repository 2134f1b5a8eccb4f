//! Nodes that know each other by a secret or by certificates, over real sockets: who is let in, who is not, and that
//! messages pass.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dialtone_broker::auth::open::Open;
use dialtone_broker::cluster::status::{MemberStatus, Status};
use dialtone_broker::cluster::{self, Secret, Trust, server_name};
use dialtone_broker::{Broker, Config, Handle, Listen};
use dialtone_client::{Client, Options};
use dialtone_transport::memory::Hub;
use dialtone_transport::tls::{ClientCertificate, ClientTls, Roots, ServerTls};
use dialtone_transport::{DialOptions, Endpoint, ListenOptions};
use futures_util::future::join_all;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often is looked, and how often at most: together far more than anything here takes.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS_MAX: usize = 3_000;

struct Node {
    broker: Handle,
    endpoint: Endpoint,
    hub: Hub,
    stop: CancellationToken,
}

impl Node {
    /// Starts a node whose cluster listens at `url`, with clients in memory.
    async fn start(
        name: &str,
        url: &str,
        seeds: Vec<Endpoint>,
        make: impl FnOnce(&mut cluster::Config),
    ) -> Self {
        let mut config = cluster::Config::new("east", Trust::Anyone);
        config.seeds = seeds;
        config.listen = vec![Listen {
            endpoint: url.parse().unwrap(),
            options: ListenOptions::default(),
        }];
        make(&mut config);
        let hub = Hub::new();
        let listen = Listen {
            endpoint: "memory:clients".parse().unwrap(),
            options: ListenOptions {
                hub: Some(hub.clone()),
                ..ListenOptions::default()
            },
        };
        let config = Config {
            node: Some(name.to_owned()),
            listen: vec![listen],
            cluster: Some(config),
            ..Config::default()
        };
        let broker = Broker::bind(config, Arc::new(Open::new())).await.unwrap();
        let handle = broker.handle();
        let endpoint = handle.cluster().unwrap().endpoints().remove(0);
        let stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        drop(tokio::spawn(broker.run(stop.clone())));
        Self {
            broker: handle,
            endpoint,
            hub,
            stop,
        }
    }

    fn status(&self) -> Status {
        self.broker.cluster().unwrap().status()
    }

    async fn until(&self, what: impl Fn(&Status) -> bool) -> Status {
        for _ in 0..LOOKS_MAX {
            let status = self.status();
            if what(&status) {
                return status;
            }
            tokio::time::sleep(LOOK).await;
        }
        panic!("it does not come about: {:#?}", self.status());
    }

    async fn client(&self) -> Client {
        let options = Options::new("memory:clients").hub(self.hub.clone());
        options.connect().await.unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Knows others by a secret, over TLS whose certificates nobody checks.
fn by_secret(secret: &str) -> impl FnOnce(&mut cluster::Config) + use<> {
    let secret = Secret::new(secret.as_bytes()).unwrap();
    move |config| {
        config.trust = Trust::Secret(secret);
        config.listen[0].options.tls = Some(ServerTls::development(None).unwrap());
        config.dial = DialOptions {
            tls: ClientTls::new(Roots::Insecure),
            ..DialOptions::default()
        };
    }
}

/// Two nodes are linked, and messages, answers and large messages pass.
async fn check_pair(one: &Node, other: &Node) {
    for node in [one, other] {
        let status = node.until(|status| status.links.len() == 1).await;
        let other = &status.links[0];
        assert!(other.gateway.is_none());
    }
    let (asker, service) = (one.client().await, other.client().await);
    let requests = service.subscribe("service.*").await.unwrap();
    asker
        .wait_for_interest("service.x", Duration::from_mins(1))
        .await
        .unwrap();
    let answering = async move {
        let mut requests = requests;
        let request = requests.next().await.unwrap();
        let payload = request.payload().to_vec();
        request.respond(payload).await.unwrap();
        service
    };
    let payload = vec![5; 1 << 20];
    let asking = asker.request("service.x", payload.clone());
    let (service, answer) = tokio::join!(answering, asking);
    assert_eq!(answer.unwrap().payload(), &payload[..]);
    drop(service);
    let status = one
        .until(|status| status.links[0].round_trip_us.is_some())
        .await;
    assert!(status.links[0].messages_out >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_links_nodes_over_quic() {
    let secret = "a secret of many bytes";
    let one = Node::start("n1", "quic://127.0.0.1:0", vec![], by_secret(secret)).await;
    let seeds = vec![one.endpoint.clone()];
    let other = Node::start("n2", "quic://127.0.0.1:0", seeds, by_secret(secret)).await;
    check_pair(&one, &other).await;
    assert!(one.status().links[0].encrypted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_links_nodes_over_websocket() {
    for url in ["wss://127.0.0.1:0", "ws://127.0.0.1:0"] {
        let secret = "a secret of many bytes";
        let one = Node::start("n1", url, vec![], by_secret(secret)).await;
        let seeds = vec![one.endpoint.clone()];
        let other = Node::start("n2", url, seeds, by_secret(secret)).await;
        check_pair(&one, &other).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_listens_everywhere_is_reached_where_it_is_seen_whatever_it_says_later() {
    let secret = "a secret of many bytes";
    let one = Node::start("n1", "quic://0.0.0.0:0", vec![], by_secret(secret)).await;
    let everywhere = one.endpoint.to_string();
    let seen = everywhere.replace("0.0.0.0", "127.0.0.1");
    let seeds = vec![seen.parse().unwrap()];
    let other = Node::start("n2", "quic://127.0.0.1:0", seeds, by_secret(secret)).await;
    let addresses = async |told: &str| {
        let is_told = |member: &MemberStatus| member.client_addresses == [told];
        let status = other
            .until(|status| status.members.iter().any(is_told))
            .await;
        let member = status.members.into_iter().find(is_told).unwrap();
        member.addresses
    };
    one.broker
        .set_addresses(vec!["ws://0.0.0.0:4480/".to_owned()]);
    assert_eq!(addresses("ws://127.0.0.1:4480/").await, [seen.as_str()]);
    one.broker
        .set_addresses(vec!["ws://n1.example:4480/".to_owned()]);
    assert_eq!(addresses("ws://n1.example:4480/").await, [seen.as_str()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_secret_is_refused_with_a_reason_on_both_sides() {
    let url = "quic://127.0.0.1:0";
    let one = Node::start("n1", url, vec![], by_secret("a secret of many bytes")).await;
    let seeds = vec![one.endpoint.clone()];
    let other = Node::start("n2", url, seeds, by_secret("another one of many bytes")).await;
    let here = one.until(|status| !status.refusals.is_empty()).await;
    let there = other.until(|status| !status.refusals.is_empty()).await;
    assert_eq!((here.refusals[0].code, there.refusals[0].code), (401, 401));
    assert_eq!(here.refusals[0].node.as_deref(), Some("n2"));
    assert_eq!(here.refusals[0].direction, "refused");
    assert_eq!(there.refusals[0].direction, "refused-us");
    assert!(there.refusals[0].text.contains("secret"));
    assert_eq!((here.links.len(), there.links.len()), (0, 0));
}

/// A CA, and the certificates that it makes.
struct Authority {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "the CA of a cluster");
        let certificate = params.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), certificate.pem()).unwrap();
        Self {
            dir,
            issuer: Issuer::new(params, key),
        }
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn certify(&self, cluster: &str, node: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![server_name(cluster)]).unwrap();
        params
            .distinguished_name
            .push(DnType::OrganizationName, cluster);
        params.distinguished_name.push(DnType::CommonName, node);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |end: &str| self.dir.path().join(format!("{cluster}-{node}.{end}"));
        std::fs::write(file("pem"), certificate.pem()).unwrap();
        std::fs::write(file("key"), key.serialize_pem()).unwrap();
        (file("pem"), file("key"))
    }
}

/// Knows others by certificates of `ca`, and shows `own`.
fn by_certificate(
    ca: &Path,
    own: &(PathBuf, PathBuf),
) -> impl FnOnce(&mut cluster::Config) + use<> {
    let (ca, (certificate, key)) = (ca.to_owned(), own.clone());
    move |config| {
        config.trust = Trust::Certificates;
        let tls = ServerTls::from_pem_files(&certificate, &key, Some(&ca)).unwrap();
        config.listen[0].options.tls = Some(tls);
        let own = ClientCertificate::from_pem_files(&certificate, &key).unwrap();
        config.dial = DialOptions {
            tls: ClientTls::with_certificate(Roots::Pem(ca), Some(own)),
            ..DialOptions::default()
        };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_the_cluster_link_nodes() {
    let authority = Authority::new();
    let trust = |node| by_certificate(&authority.ca(), &authority.certify("east", node));
    for url in ["quic://127.0.0.1:0", "wss://127.0.0.1:0"] {
        let one = Node::start("n1", url, vec![], trust("n1")).await;
        let seeds = vec![one.endpoint.clone()];
        let other = Node::start("n2", url, seeds, trust("n2")).await;
        check_pair(&one, &other).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_node_cluster_or_ca_is_refused() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let url = "quic://127.0.0.1:0";
    let trust = by_certificate(&authority.ca(), &authority.certify("east", "n1"));
    let one = Node::start("n1", url, vec![], trust).await;
    let cases = [
        by_certificate(&authority.ca(), &authority.certify("east", "n3")),
        by_certificate(&authority.ca(), &stranger.certify("east", "n2")),
    ];
    for trust in cases {
        let before = one.status().refusals_total;
        let other = Node::start("n2", url, vec![one.endpoint.clone()], trust).await;
        let here = one.until(|status| status.refusals_total > before).await;
        assert_eq!(here.links, []);
        let refusal = here.refusals.last().unwrap();
        assert_eq!(refusal.code, 401, "{refusal:?}");
        assert_eq!(other.status().links, []);
    }
    // One that was made for another cluster is not that of a node which the dialler means to reach.
    let other = by_certificate(&authority.ca(), &authority.certify("west", "n2"));
    let other = Node::start("n2", url, vec![], other).await;
    one.broker.cluster().unwrap().join(other.endpoint.clone());
    let here = one
        .until(|status| status.seeds.iter().any(|seed| seed.error.is_some()))
        .await;
    let error = here.seeds[0].error.as_deref().unwrap();
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(here.links, []);
}

/// Publishes to a subject with so many subscribers at another node, and looks at each count.
async fn publish_counted(client: Client, subscribers: u32) {
    const MESSAGES: u32 = 1_000;
    let subject = format!("count.{subscribers}");
    let publish = || client.publish_acked(subject.as_str(), "x");
    let mut looks = 0;
    while publish().await.unwrap() < subscribers {
        looks += 1;
        assert!(looks < LOOKS_MAX, "the other node's interest is not known");
        tokio::time::sleep(LOOK).await;
    }
    for _ in 0..MESSAGES {
        let (one, other) = tokio::join!(publish(), publish());
        let counts = (one.unwrap(), other.unwrap());
        assert_eq!(counts, (subscribers, subscribers));
    }
}

/// On several threads, where messages of other publishers come in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_acknowledgement_counts_the_receivers_of_its_own_message() {
    const PUBLISHERS: u32 = 6;
    let secret = "a secret of some length";
    let first = Node::start("n1", "quic://127.0.0.1:0", vec![], by_secret(secret)).await;
    let seeds = vec![first.endpoint.clone()];
    let second = Node::start("n2", "quic://127.0.0.1:0", seeds, by_secret(secret)).await;
    let receiver = second.client().await;
    let mut subscriptions = Vec::new();
    for subscribers in 1..=PUBLISHERS {
        for _ in 0..subscribers {
            let subject = format!("count.{subscribers}");
            subscriptions.push(receiver.subscribe(subject).await.unwrap());
        }
    }
    let receiving =
        join_all(subscriptions.into_iter().map(
            async |mut subscription| {
                while subscription.next().await.is_some() {}
            },
        ));
    let mut publishers = JoinSet::new();
    for subscribers in 1..=PUBLISHERS {
        publishers.spawn(publish_counted(first.client().await, subscribers));
    }
    tokio::select! {
        _ = receiving => panic!("a subscription has ended"),
        () = async { while let Some(done) = publishers.join_next().await { done.unwrap() } } => {}
    }
}
