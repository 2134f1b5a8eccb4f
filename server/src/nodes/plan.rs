//! What each node of a cluster on this machine gets: a name, ports, a folder with certificates, a configuration.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use dialtone_transport::Endpoint;
use dialtone_transport::tls::authority::Authority;

use crate::cluster::{Folder, left};
use crate::config::{Given, Origin, Place, Settings, Span, as_file};
use crate::discovery::{Link, PORT_CLUSTER};
use crate::expiry::WARN_BEFORE;
use crate::persist;

/// The cluster's name.
pub(super) const CLUSTER: &str = "local";

/// Each node's ports are this far above those of the one before.
const PORT_STEP: u16 = 100;

/// How often the links ask whether the other end is there, and how long it may take to answer.
const PING_INTERVAL: Span = Span(Duration::from_secs(1));
const PONG_MAX: Span = Span(Duration::from_secs(2));

/// How long certificates are valid; they are renewed at a start long before that.
const VALIDITY: Duration = Duration::from_hours(365 * 24);

/// One node.
#[derive(Debug)]
pub(super) struct Plan {
    /// Its name.
    pub(super) name: String,
    /// Its folder.
    pub(super) folder: Folder,
    settings: Settings,
    /// Where the others are known to be before they have started.
    others: Vec<Link>,
}

/// Plans `count` nodes below the data folder, with ports from those of the settings upwards.
pub(super) fn prepare(settings: &Settings, data: &Path, count: u8) -> anyhow::Result<Vec<Plan>> {
    let base = data.join("nodes");
    let authority = authority(&Folder::at(base.join("authority")))?;
    let numbers = 0..u16::from(count);
    let links: anyhow::Result<Vec<Vec<Link>>> = numbers
        .clone()
        .map(|number| links_of(settings, number))
        .collect();
    let links = links?;
    let mut plans = Vec::new();
    let names: Vec<String> = numbers.clone().map(name).collect();
    for ((number, own), name) in numbers.zip(&links).zip(&names) {
        let name = name.clone();
        let folder = Folder::at(base.join(&name));
        folder.create()?;
        certify(&folder, &authority, &name)?;
        let others = links.iter().filter(|links| *links != own).flatten();
        plans.push(Plan {
            settings: node_settings(settings, number, &names, own, &folder)?,
            others: others.filter(|link| !is_any(link)).cloned().collect(),
            name,
            folder,
        });
    }
    Ok(plans)
}

impl Plan {
    /// Writes the node's configuration. `started` are URLs of nodes that run, whose ports were not known before.
    pub(super) fn write(&self, started: &[String]) -> anyhow::Result<()> {
        let mut settings = self.settings.clone();
        let mut seeds = self.others.clone();
        for url in started {
            let link: Link = url
                .parse()
                .map_err(|error| anyhow::anyhow!("{url}: {error}"))?;
            if !seeds.contains(&link) {
                seeds.push(link);
            }
        }
        settings.cluster_seeds = own(seeds.into_iter().map(crate::discovery::Seed::Url).collect());
        let text = format!(
            "# Node {} of `dialtone up --nodes`, written anew at each start.\n{}",
            self.name,
            as_file(&settings)
        );
        let path = self.config();
        crate::files::replace(&path, text.as_bytes(), 0o600)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Where the node keeps its streams.
    pub(super) fn streams(&self) -> PathBuf {
        self.folder.path().join(persist::FOLDER)
    }

    /// How to start the node.
    pub(super) fn start_command(&self) -> String {
        format!(
            "dialtone broker --persist {} --config {}",
            self.streams().display(),
            self.config().display()
        )
    }

    /// Where the configuration is.
    pub(super) fn config(&self) -> PathBuf {
        self.folder.config()
    }
}

fn own<T>(value: T) -> Given<T> {
    Given {
        value,
        origin: Origin::Default,
    }
}

/// The authority of an earlier run, or a new one. It signs for the node `authority`, which never runs.
fn authority(folder: &Folder) -> anyhow::Result<Authority> {
    if folder.identity()?.is_some() {
        return folder.authority();
    }
    folder.create()?;
    let authority = Authority::generate(CLUSTER)?;
    folder.put_authority(&authority)?;
    folder.put_node(&authority.issue("authority", VALIDITY)?)?;
    Ok(authority)
}

fn certify(folder: &Folder, authority: &Authority, name: &str) -> anyhow::Result<()> {
    folder.put_ca(authority.certificate_pem())?;
    if let Some(own) = folder.identity()?
        && left(own.ends, SystemTime::now()) > WARN_BEFORE
        && folder.is_signed_by(authority)?
    {
        return Ok(());
    }
    folder.put_node(&authority.issue(name, VALIDITY)?)
}

fn node_settings(
    settings: &Settings,
    number: u16,
    names: &[String],
    links: &[Link],
    folder: &Folder,
) -> anyhow::Result<Settings> {
    let mut node = settings.clone();
    let name = name(number);
    // Each keeps its share of the streams in a log of its own, unless a database has all of them.
    if settings.persist_postgres.value.is_none() {
        node.persist_nodes = own(names.to_vec());
        if let Some(archive) = &settings.persist_archive.value {
            let place = archive.trim_end_matches('/');
            node.persist_archive = own(Some(format!("{place}/{name}")));
        }
    }
    node.node = own(Some(name));
    let places = settings.listen.value.iter();
    let listen: anyhow::Result<Vec<Place>> =
        places.map(|place| moved_place(place, number)).collect();
    node.listen = own(listen?);
    let mut monitor = settings.monitor.value;
    if let Some(addr) = &mut monitor {
        addr.set_port(port(addr.port(), number)?);
    }
    node.monitor = own(monitor);
    // Whoever kills a node here wants to see at once what that means.
    if settings.cluster_ping_interval.origin == Origin::Default {
        node.cluster_ping_interval = own(PING_INTERVAL);
    }
    if settings.cluster_pong_max.origin == Origin::Default {
        node.cluster_pong_max = own(PONG_MAX);
    }
    node.cluster_name = own(Some(CLUSTER.to_owned()));
    node.cluster_listen = own(links.to_vec());
    node.cluster_cert = own(Some(folder.certificate()));
    node.cluster_key = own(Some(folder.key()));
    node.cluster_ca = own(Some(folder.ca()));
    Ok(node)
}

/// The name of the node of this number, from 0.
fn name(number: u16) -> String {
    format!("n{}", number + 1)
}

fn links_of(settings: &Settings, number: u16) -> anyhow::Result<Vec<Link>> {
    if settings.cluster_listen.origin == Origin::Default {
        let first = Endpoint::Quic {
            host: "127.0.0.1".to_owned(),
            port: PORT_CLUSTER,
        };
        return Ok(vec![Link(moved(&first, number)?)]);
    }
    let links = settings.cluster_listen.value.iter();
    links.map(|link| moved(&link.0, number).map(Link)).collect()
}

fn is_any(link: &Link) -> bool {
    link.0.host_port().is_none_or(|(_, port)| port == 0)
}

fn moved(endpoint: &Endpoint, number: u16) -> anyhow::Result<Endpoint> {
    let Some((_, own)) = endpoint.host_port() else {
        return Ok(endpoint.clone());
    };
    Ok(endpoint.clone().with_port(port(own, number)?))
}

fn moved_place(place: &Place, number: u16) -> anyhow::Result<Place> {
    match place {
        Place::Peers(endpoint) => moved(endpoint, number).map(Place::Peers),
        Place::SocketIo(url) => {
            let mut url = url.clone();
            url.port = port(url.port, number)?;
            Ok(Place::SocketIo(url))
        }
    }
}

/// The port of the node of this number, from 0; any free port stays that.
fn port(first: u16, number: u16) -> anyhow::Result<u16> {
    if first == 0 {
        return Ok(0);
    }
    first
        .checked_add(number * PORT_STEP)
        .with_context(|| format!("port {first} is too high: each node's ports are {PORT_STEP} above those of the one before"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Flags, Layer, Sources};

    fn settings(dir: &Path) -> Settings {
        crate::serve::up_preset(dir).resolve()
    }

    fn read(plan: &Plan) -> Settings {
        let sources = Sources {
            flags: Flags::default(),
            file: Some(plan.config()),
            preset: Layer::default(),
        };
        let loaded = sources.load(&std::collections::BTreeMap::new());
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
        loaded.settings
    }

    #[test]
    fn each_node_has_ports_and_certificates_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let plans = prepare(&settings(dir.path()), dir.path(), 3).unwrap();
        let mut listens = Vec::new();
        for plan in &plans {
            plan.write(&[]).unwrap();
            let node = read(plan);
            assert_eq!(node.node.value.as_deref(), Some(plan.name.as_str()));
            assert_eq!(
                plan.folder.identity().unwrap().unwrap().name.to_string(),
                format!("node {} of cluster local", plan.name)
            );
            assert_eq!(node.persist_nodes.value, ["n1", "n2", "n3"]);
            assert_eq!(node.cluster_seeds.value.len(), 2);
            let own = Link(node.cluster_listen.value[0].0.clone());
            assert!(
                !node
                    .cluster_seeds
                    .value
                    .contains(&crate::discovery::Seed::Url(own))
            );
            assert!(
                crate::cluster::trusted(&node, &std::collections::BTreeMap::new())
                    .unwrap()
                    .is_some()
            );
            listens.extend(node.listen.value.iter().map(ToString::to_string));
            listens.extend(node.monitor.value.map(|addr| addr.to_string()));
            listens.extend(node.cluster_listen.value.iter().map(ToString::to_string));
        }
        assert_eq!(listens.len(), 15);
        let ports: std::collections::BTreeSet<_> = listens
            .iter()
            .filter_map(|url| url.trim_end_matches('/').rsplit_once(':'))
            .map(|(_, port)| port)
            .collect();
        assert_eq!(ports.len(), 15, "{listens:?}");
    }

    #[test]
    fn a_second_run_finds_the_certificates_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let certificate = |plans: &[Plan]| std::fs::read(plans[1].folder.certificate()).unwrap();
        let first = certificate(&prepare(&settings(dir.path()), dir.path(), 2).unwrap());
        let second = certificate(&prepare(&settings(dir.path()), dir.path(), 3).unwrap());
        assert_eq!(first, second);
        std::fs::remove_dir_all(dir.path().join("nodes/authority")).unwrap();
        let third = certificate(&prepare(&settings(dir.path()), dir.path(), 2).unwrap());
        assert_ne!(first, third, "another authority, other certificates");
    }

    #[test]
    fn free_ports_stay_free_and_seeds_follow_from_who_runs() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(dir.path());
        settings.listen.value = vec!["ws://127.0.0.1:0/".parse().unwrap()];
        settings.cluster_listen = Given {
            value: vec!["quic://127.0.0.1:0".parse().unwrap()],
            origin: Origin::Flag("--cluster-listen".to_owned()),
        };
        let plans = prepare(&settings, dir.path(), 2).unwrap();
        plans[1]
            .write(&["quic://127.0.0.1:777".to_owned()])
            .unwrap();
        let node = read(&plans[1]);
        assert_eq!(node.listen.value[0].to_string(), "ws://127.0.0.1:0/");
        let seeds: Vec<_> = node
            .cluster_seeds
            .value
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(seeds, ["quic://127.0.0.1:777"]);
    }

    #[test]
    fn ports_that_are_too_high_are_told() {
        assert_eq!(port(4480, 2).unwrap(), 4680);
        let error = port(65_500, 1).unwrap_err();
        assert!(error.to_string().contains("65500"), "{error}");
    }
}
