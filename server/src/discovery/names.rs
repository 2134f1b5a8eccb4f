//! Looking names up: addresses (A, AAAA) and services (SRV), with how long the answer holds.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use dialtone_transport::Endpoint;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{RData, rdata::SRV};
use tokio::time::timeout;

use super::Seed;

/// How long all questions about one name may take together.
const LOOKUP_MAX: Duration = Duration::from_secs(20);

/// Most nodes that one name stands for; the rest is left out. They meet the others by the exchange between nodes.
pub(crate) const NODES_MAX: usize = 256;

/// Most services of a name whose targets are looked up.
const SERVICES_MAX: usize = 64;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The nodes; none when the name has no records.
    pub(crate) nodes: Vec<Endpoint>,
    /// How long that holds; `None` where the answer does not say.
    pub(crate) valid_for: Option<Duration>,
}

/// Why it is not known what a name stands for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    /// No server, or none that answers well.
    #[error("{0}")]
    Failed(#[from] NetError),
    /// Servers that take too long.
    #[error("no answer within {} s", LOOKUP_MAX.as_secs())]
    TimedOut,
}

/// Asks the name servers.
#[derive(Clone)]
pub(crate) struct Names {
    resolver: TokioResolver,
}

impl Names {
    /// Asks these servers, or those of the operating system where none are given. The hosts file counts in any case.
    ///
    /// # Errors
    /// If the settings of the operating system cannot be read.
    pub(crate) fn new(servers: &[SocketAddr]) -> Result<Self, NetError> {
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let mut builder = TokioResolver::builder_with_config(
                ResolverConfig::from_name_servers(servers.iter().map(name_server).collect()),
                TokioRuntimeProvider::default(),
            );
            *builder.options_mut() = ResolverOpts::default();
            builder
        };
        // Who asks here keeps the answers as long as they hold.
        builder.options_mut().cache_size = 0;
        Ok(Self {
            resolver: builder.build()?,
        })
    }

    /// What a seed stands for.
    ///
    /// # Errors
    /// If the servers do not say. That a name has no records is an answer.
    pub(crate) async fn find(&self, seed: &Seed) -> Result<Found, LookupError> {
        let found = timeout(LOOKUP_MAX, self.look(seed)).await;
        let mut found = found.map_err(|_elapsed| LookupError::TimedOut)??;
        found.nodes.truncate(NODES_MAX);
        Ok(found)
    }

    async fn look(&self, seed: &Seed) -> Result<Found, NetError> {
        match seed {
            Seed::Url(link) => Ok(Found {
                nodes: vec![link.0.clone()],
                valid_for: None,
            }),
            Seed::Addresses { host, port } => {
                let (ips, valid_for) = self.addresses(host).await?;
                let node = |ip: IpAddr| Endpoint::Quic {
                    host: ip.to_string(),
                    port: *port,
                };
                Ok(Found {
                    nodes: ips.into_iter().map(node).collect(),
                    valid_for,
                })
            }
            Seed::Services { name } => self.services(name).await,
        }
    }

    async fn services(&self, name: &str) -> Result<Found, NetError> {
        let lookup = match self.resolver.srv_lookup(name).await {
            Ok(lookup) => lookup,
            Err(error) => {
                let valid_for = no_records(error)?;
                return Ok(Found {
                    nodes: Vec::new(),
                    valid_for,
                });
            }
        };
        let mut valid_for = Some(until(lookup.valid_until()));
        let mut services: Vec<&SRV> = lookup
            .answers()
            .iter()
            .filter_map(|record| {
                if let RData::SRV(service) = &record.data {
                    Some(service)
                } else {
                    None
                }
            })
            // RFC 2782: the root as target says that there is no such service.
            .filter(|service| !service.target.is_root() && service.port != 0)
            .collect();
        services.sort_by_key(|service| (service.priority, std::cmp::Reverse(service.weight)));
        services.truncate(SERVICES_MAX);
        let mut nodes = Vec::new();
        for service in services {
            let (ips, holds) = self.addresses(&service.target.to_ascii()).await?;
            valid_for = shorter(valid_for, holds);
            nodes.extend(ips.into_iter().map(|ip| node_of(name, ip, service.port)));
        }
        Ok(Found { nodes, valid_for })
    }

    async fn addresses(&self, host: &str) -> Result<(Vec<IpAddr>, Option<Duration>), NetError> {
        match self.resolver.lookup_ip(host).await {
            Ok(lookup) => {
                let holds = until(lookup.valid_until());
                Ok((lookup.iter().collect(), Some(holds)))
            }
            Err(error) => Ok((Vec::new(), no_records(error)?)),
        }
    }
}

/// The node behind a service: over QUIC where the service's name says UDP, else over WebSocket with TLS.
fn node_of(name: &str, ip: IpAddr, port: u16) -> Endpoint {
    let host = ip.to_string();
    if name.split('.').nth(1) == Some("_tcp") {
        Endpoint::Wss {
            host,
            port,
            path: "/".to_owned(),
        }
    } else {
        Endpoint::Quic { host, port }
    }
}

fn name_server(addr: &SocketAddr) -> NameServerConfig {
    let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
    (udp.port, tcp.port) = (addr.port(), addr.port());
    NameServerConfig::new(addr.ip(), true, vec![udp, tcp])
}

fn until(at: Instant) -> Duration {
    at.saturating_duration_since(Instant::now())
}

fn shorter(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

/// How long it holds that there are no records, where that is what was said.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "any other error means that nothing is known"
)]
fn no_records(error: NetError) -> Result<Option<Duration>, NetError> {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => Ok(none
            .negative_ttl
            .map(|secs| Duration::from_secs(secs.into()))),
        other => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use dialtone_testkit::dns::{Mood, NameServer};

    use super::*;

    struct Scene {
        server: NameServer,
        names: Names,
    }

    impl Scene {
        fn new() -> Self {
            let server = NameServer::start();
            let names = Names::new(&[server.addr()]).unwrap();
            Self { server, names }
        }

        fn addresses(&self, name: &str, ttl: u32, addresses: &[&str]) {
            let ips: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
            self.server.addresses(name, ttl, &ips);
        }

        async fn find(&self, seed: &str) -> Result<(Vec<String>, Option<u64>), LookupError> {
            let found = self.names.find(&seed.parse().unwrap()).await?;
            let mut nodes: Vec<_> = found.nodes.iter().map(ToString::to_string).collect();
            nodes.sort();
            // The time that passed since the answer came makes it less than a whole second.
            let secs = found
                .valid_for
                .map(|time| (time + Duration::from_millis(999)).as_secs());
            Ok((nodes, secs))
        }
    }

    fn nodes(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn addresses_of_both_families_are_nodes() {
        let scene = Scene::new();
        scene.addresses("nodes.test.", 3600, &["10.0.0.1", "10.0.0.2", "fd00::1"]);
        let (found, secs) = scene.find("dns://nodes.test:5000").await.unwrap();
        assert_eq!(
            found,
            nodes(&[
                "quic://10.0.0.1:5000",
                "quic://10.0.0.2:5000",
                "quic://[fd00::1]:5000"
            ])
        );
        assert_eq!(secs, Some(3600));
    }

    #[tokio::test]
    async fn each_look_asks_the_server_again() {
        let scene = Scene::new();
        for ip in ["10.0.0.1", "10.0.0.2"] {
            scene.addresses("nodes.test.", 3600, &[ip]);
            let (found, _) = scene.find("dns://nodes.test.").await.unwrap();
            assert_eq!(found, nodes(&[&format!("quic://{ip}:4434")]));
        }
    }

    #[tokio::test]
    async fn a_name_without_records_is_an_answer_and_a_failure_is_none() {
        let scene = Scene::new();
        let (found, _) = scene.find("dns://nodes.test.").await.unwrap();
        assert!(found.is_empty());
        let (found, _) = scene.find("srv://_dialtone._udp.test.").await.unwrap();
        assert!(found.is_empty());
        scene.addresses("nodes.test.", 60, &["10.0.0.1"]);
        scene.server.set_mood(Mood::Failing);
        scene.find("dns://nodes.test.").await.unwrap_err();
        scene.find("srv://_dialtone._udp.test.").await.unwrap_err();
        scene.server.set_mood(Mood::Answering);
        let (found, _) = scene.find("dns://nodes.test.").await.unwrap();
        assert_eq!(found.len(), 1);
    }

    #[tokio::test]
    async fn services_are_nodes_at_their_own_ports() {
        let scene = Scene::new();
        scene.addresses("a.test.", 100, &["10.0.0.1"]);
        scene.addresses("b.test.", 50, &["10.0.0.2"]);
        let services = [
            (10, 1, 5001, "a.test."),
            (10, 9, 5002, "b.test."),
            (20, 0, 5003, "gone.test."),
            (20, 0, 5004, "."),
        ];
        for (name, scheme, end) in [
            ("_dialtone._udp.test.", "quic", ""),
            ("_dialtone._tcp.test.", "wss", "/"),
        ] {
            scene.server.services(name, 70, &services);
            let (found, secs) = scene.find(&format!("srv://{name}")).await.unwrap();
            assert_eq!(
                found,
                nodes(&[
                    &format!("{scheme}://10.0.0.1:5001{end}"),
                    &format!("{scheme}://10.0.0.2:5002{end}")
                ])
            );
            assert_eq!(secs, Some(50), "the answer that ends first decides");
        }
    }

    #[tokio::test]
    async fn a_name_with_very_many_addresses_is_cut() {
        let scene = Scene::new();
        let many: Vec<IpAddr> = (0..=u8::MAX)
            .map(|i| IpAddr::from([10, 0, 1, i]))
            .chain([IpAddr::from([10, 0, 2, 1])])
            .collect();
        // As much fits into a datagram as loopback takes.
        scene.server.addresses("nodes.test.", 60, &many);
        match scene.find("dns://nodes.test.").await {
            Ok((found, _)) => assert!(found.len() <= NODES_MAX, "{}", found.len()),
            Err(error) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn an_address_is_its_own_answer() {
        let scene = Scene::new();
        let (found, _) = scene.find("dns://10.0.0.7").await.unwrap();
        assert_eq!(found, nodes(&["quic://10.0.0.7:4434"]));
        assert_eq!(scene.server.asked(), 0);
    }
}
