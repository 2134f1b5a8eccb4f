//! Several servers that act as one: started together, ready when each hears each of the others.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::Serialize;
use tempfile::TempDir;

use super::{NATS_HINT, Programs, READY_MAX, Server, certificate, free_port};
use crate::error::LoadError;
use crate::nodes::Nodes;
use crate::reactor::Reactor;
use crate::target::Scheme;

/// The cluster's name.
const NAME: &str = "bench";
/// A secret of nodes that are ended before anybody could use it.
const SECRET: &str = "the-secret-of-a-benchmark-on-loopback";
/// Between two attempts of each node to reach each.
const PROBE_TURN: Duration = Duration::from_millis(5);

/// What nodes speak to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Links {
    /// Plain routes for NATS; the broker has no links without encryption, and uses QUIC here as well.
    Plain,
    /// QUIC for the broker, routes over TLS for NATS.
    Encrypted,
}

/// Running servers that act as one.
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<Server>,
    /// Holds what the nodes know each other by.
    _dir: TempDir,
}

/// One node before it is started.
struct Plan {
    name: String,
    url: String,
    link: String,
}

impl Cluster {
    /// Starts a cluster that speaks `scheme` to clients, and returns once a message from each node
    /// has reached each other one.
    ///
    /// # Errors
    /// When a node cannot be started, or they do not find each other; then nothing is left behind.
    pub fn start(
        programs: &Programs,
        scheme: Scheme,
        links: Links,
        nodes: usize,
    ) -> Result<Self, LoadError> {
        let shared = tempfile::tempdir().map_err(LoadError::io("make a temporary directory"))?;
        let known_by = known_by(scheme, shared.path())?;
        let plans = plan(scheme, nodes)?;
        let mut servers = Vec::with_capacity(nodes);
        for plan in &plans {
            let dir = tempfile::tempdir().map_err(LoadError::io("make a temporary directory"))?;
            let (command, hint) = match scheme {
                Scheme::Nats | Scheme::NatsTls => {
                    let config = nats_config(plan, &plans, scheme, links, &known_by);
                    (nats(programs, &config, dir.path())?, NATS_HINT)
                }
                Scheme::Ws | Scheme::Wss | Scheme::Quic | Scheme::SocketIo => {
                    let mut command =
                        super::broker(&programs.broker, scheme, &plan.url, dir.path())?;
                    command.args(arguments(plan, &plans, &known_by));
                    (command, "")
                }
            };
            servers.push(Server::spawn(command, hint, &plan.url, dir)?);
        }
        let mut cluster = Self {
            servers,
            _dir: shared,
        };
        for server in &mut cluster.servers {
            server.until_ready()?;
        }
        cluster.until_meshed()?;
        Ok(cluster)
    }

    /// Where clients connect to.
    ///
    /// # Panics
    /// Never: a cluster has nodes.
    pub fn nodes(&self) -> Nodes {
        let mut targets = self.servers.iter().map(|server| server.target().clone());
        let first = targets.next().expect("a cluster has nodes");
        Nodes::new(first, targets.collect())
    }

    /// Waits until a message from each node has reached each, itself included.
    fn until_meshed(&self) -> Result<(), LoadError> {
        let count = self.servers.len();
        let targets = self.servers.iter().map(Server::target);
        let mut reactor = Reactor::connect_to(targets)?;
        let subject = |index: usize| format!("mesh.{index}");
        for index in 0..count {
            reactor.subscribe(index, std::iter::once(subject(index)), None)?;
        }
        let mut heard = vec![false; count * count];
        let end = Instant::now() + READY_MAX;
        while heard.contains(&false) {
            if Instant::now() > end {
                let missing = heard.iter().filter(|&&heard| !heard).count();
                let why = format!(
                    "of {} ways between nodes, {missing} are closed",
                    count * count
                );
                let server = self.servers.first().expect("a cluster has nodes");
                return Err(server.not_ready(why));
            }
            for from in 0..count {
                let mut frames = Vec::new();
                for to in 0..count {
                    let format = reactor.conn(from).format();
                    format.publish(&mut frames, &subject(to), None, &number(from));
                }
                reactor.conn(from).post(&frames)?;
            }
            let format = reactor.conn(0).format();
            let turned = reactor.turn(PROBE_TURN, &mut |to, frame| {
                let from = format.payload(frame, 8).first_chunk();
                let from = from.map_or(u64::MAX, |from| u64::from_le_bytes(*from));
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                if let Some(heard) = from
                    .checked_mul(count)
                    .and_then(|at| heard.get_mut(at + to))
                {
                    *heard = true;
                }
            });
            turned.map_err(|(_, error)| error)?;
        }
        reactor.close();
        Ok(())
    }
}

const fn number(index: usize) -> [u8; 8] {
    (index as u64).to_le_bytes()
}

/// What nodes prove to each other that they belong together with, as files.
enum KnownBy {
    Secret(PathBuf),
    Certificate(PathBuf, PathBuf),
}

fn known_by(scheme: Scheme, dir: &Path) -> Result<KnownBy, LoadError> {
    match scheme {
        Scheme::Nats | Scheme::NatsTls => {
            let (certificate, key) = certificate(dir)?;
            Ok(KnownBy::Certificate(certificate, key))
        }
        Scheme::Ws | Scheme::Wss | Scheme::Quic | Scheme::SocketIo => {
            let path = dir.join("secret");
            std::fs::write(&path, SECRET).map_err(LoadError::io("write a secret"))?;
            Ok(KnownBy::Secret(path))
        }
    }
}

fn plan(scheme: Scheme, nodes: usize) -> Result<Vec<Plan>, LoadError> {
    let link = match scheme.format() {
        crate::wire::Format::Nats => Scheme::Nats,
        crate::wire::Format::Dialtone | crate::wire::Format::SocketIo => Scheme::Quic,
    };
    let port = |scheme| free_port(scheme).map_err(LoadError::io("find a free port"));
    let one = |index| {
        Ok(Plan {
            name: format!("n{}", index + 1),
            url: format!("{}://127.0.0.1:{}", scheme.name(), port(scheme)?),
            link: format!("{}://127.0.0.1:{}", link.name(), port(link)?),
        })
    };
    (0..nodes.max(1)).map(one).collect()
}

/// What is said to a broker about its cluster.
fn arguments(own: &Plan, all: &[Plan], known_by: &KnownBy) -> Vec<String> {
    let mut arguments = [
        ("--node", own.name.as_str()),
        ("--cluster-name", NAME),
        ("--cluster-listen", own.link.as_str()),
    ]
    .map(|(flag, value)| format!("{flag}={value}"))
    .to_vec();
    let seeds = all.iter().filter(|node| node.name != own.name);
    arguments.extend(seeds.map(|node| format!("--cluster-seeds={}", node.link)));
    if let KnownBy::Secret(path) = known_by {
        arguments.push(format!("--cluster-secret-file={}", path.display()));
    }
    arguments
}

/// The configuration of a NATS server with a cluster.
fn nats_config(
    own: &Plan,
    all: &[Plan],
    scheme: Scheme,
    links: Links,
    known_by: &KnownBy,
) -> String {
    let (_, listen) = own.url.split_once("://").unwrap_or_default();
    let (_, link) = own.link.split_once("://").unwrap_or_default();
    let routes: Vec<&str> = all
        .iter()
        .filter(|node| node.name != own.name)
        .map(|node| node.link.as_str())
        .collect();
    let tls = match known_by {
        KnownBy::Certificate(certificate, key) => {
            let (certificate, key) = (certificate.display(), key.display());
            format!(
                "tls {{ cert_file: \"{certificate}\", key_file: \"{key}\", ca_file: \"{certificate}\""
            )
        }
        KnownBy::Secret(_) => String::new(),
    };
    let mut text = format!("listen: \"{listen}\"\nserver_name: {}\n", own.name);
    if scheme == Scheme::NatsTls {
        writeln!(text, "{tls} }}").expect("strings take everything");
    }
    writeln!(text, "cluster {{\n  name: {NAME}\n  listen: \"{link}\"").expect("as above");
    writeln!(text, "  routes: [{}]", routes.join(", ")).expect("as above");
    if links == Links::Encrypted {
        writeln!(text, "  {tls}, verify: true }}").expect("as above");
    }
    text.push_str("}\n");
    text
}

fn nats(programs: &Programs, config: &str, dir: &Path) -> Result<Command, LoadError> {
    let path = dir.join("nats.conf");
    std::fs::write(&path, config).map_err(LoadError::io("write a configuration"))?;
    let mut command = Command::new(&programs.nats_server);
    command.arg("-c").arg(path);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans() -> Vec<Plan> {
        (1..=3)
            .map(|number| Plan {
                name: format!("n{number}"),
                url: format!("nats+tls://127.0.0.1:{number}"),
                link: format!("nats://127.0.0.1:10{number}"),
            })
            .collect()
    }

    #[test]
    fn a_nats_node_is_told_of_the_others() {
        let known_by = KnownBy::Certificate("/c".into(), "/k".into());
        let plans = plans();
        let plain = nats_config(&plans[1], &plans, Scheme::Nats, Links::Plain, &known_by);
        assert_eq!(
            plain,
            "listen: \"127.0.0.1:2\"\nserver_name: n2\ncluster {\n  name: bench\n  \
             listen: \"127.0.0.1:102\"\n  routes: [nats://127.0.0.1:101, nats://127.0.0.1:103]\n}\n"
        );
        let both = nats_config(
            &plans[0],
            &plans,
            Scheme::NatsTls,
            Links::Encrypted,
            &known_by,
        );
        assert_eq!(both.matches("cert_file: \"/c\"").count(), 2, "{both}");
        assert_eq!(both.matches("verify: true").count(), 1, "{both}");
    }

    #[test]
    fn a_broker_is_told_of_the_others() {
        let plans = plans();
        let told = arguments(&plans[2], &plans, &KnownBy::Secret("/s".into()));
        assert_eq!(
            told,
            [
                "--node=n3",
                "--cluster-name=bench",
                "--cluster-listen=nats://127.0.0.1:103",
                "--cluster-seeds=nats://127.0.0.1:101",
                "--cluster-seeds=nats://127.0.0.1:102",
                "--cluster-secret-file=/s",
            ]
        );
    }

    #[test]
    fn brokers_have_encrypted_links_whatever_clients_speak() {
        let link = |scheme| plan(scheme, 2).unwrap().remove(1).link;
        assert!(link(Scheme::Ws).starts_with("quic://"));
        assert!(link(Scheme::Nats).starts_with("nats://"));
    }
}
