//! What is done where the cluster's authority is kept: founding a cluster, tokens for new nodes, renewal.

use std::io::Write as _;
use std::net::UdpSocket;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use dialtone_transport::Endpoint;
use dialtone_transport::tls::authority::{Authority, check_cluster_name, check_node_name};
use serde_json::json;

use super::folder;
use crate::args::{ClusterInit, ClusterJoinToken, ClusterRenew};
use crate::cluster::folder::{ders, left};
use crate::cluster::{Folder, JoinToken, node_config, token};
use crate::config::{Environment, Flags, Layer, Sources};
use crate::discovery::{Link, Seed};
use crate::exit::{Exit, Failure, Outcome};
use crate::print::{Output, note, time};

/// `dialtone cluster init`
pub(super) fn init(args: &ClusterInit) -> Outcome {
    let usage = |error| Failure::new(Exit::Usage, error);
    check_cluster_name(&args.name).map_err(usage)?;
    let node = match &args.node {
        Some(node) => node.clone(),
        None => machine_name(),
    };
    check_node_name(&node).map_err(usage)?;
    let folder = folder(args.dir.as_ref())?;
    if let Some(own) = folder.identity()? {
        return Err(Failure::from(anyhow::anyhow!(
            "{} belongs to {} already",
            folder.path().display(),
            own.name
        ))
        .hint("name another folder with --dir; `dialtone cluster join-token` makes a token for one more node"));
    }
    folder.create()?;
    let authority = Authority::generate(&args.name).map_err(anyhow::Error::from)?;
    let issued = authority
        .issue(&node, args.valid_for.get())
        .map_err(anyhow::Error::from)?;
    folder.put_authority(&authority)?;
    folder.put_node(&issued)?;
    folder.put_config_once(&node_config(&node, &args.name, &args.listen, &[]))?;
    let mut out = Output::stdout();
    out.line(founded(&folder, &args.name, &node, out.paint))?;
    Ok(out.flush()?)
}

fn founded(folder: &Folder, cluster: &str, node: &str, paint: crate::print::Paint) -> String {
    let dir = folder.path().display();
    let config = folder.config();
    format!(
        "Cluster {} with its first node {} is in\n  {dir}\n\n\
         Start the node:\n  dialtone broker --config {}\n\n\
         For each further node, make a token here, and join with it there:\n  \
         dialtone cluster join-token --dir {dir} --node NAME\n  \
         dialtone cluster join TOKEN\n\n\
         Whoever has ca-key.pem can make nodes of this cluster. Keep it here only, and a copy in a safe place.",
        paint.bold(cluster),
        paint.bold(node),
        config.display()
    )
}

/// `dialtone cluster join-token`
pub(super) fn join_token(args: &ClusterJoinToken) -> Outcome {
    let folder = folder(args.dir.as_ref())?;
    let authority = authority(&folder)?;
    let node = match &args.node {
        Some(node) => node.clone(),
        None => format!("n{:08x}", rand::random::<u32>()),
    };
    check_node_name(&node).map_err(|error| Failure::new(Exit::Usage, error))?;
    if args.ttl.get().is_zero() || args.valid_for.get().is_zero() {
        return Err(Failure::usage("--ttl and --valid-for must not be 0"));
    }
    if args.seed.len() > token::SEEDS_MAX {
        return Err(Failure::usage(format_args!(
            "at most {} seeds go into a token",
            token::SEEDS_MAX
        )));
    }
    let seeds = match args.seed.as_slice() {
        [] => own_urls(&folder)?,
        given => given.to_vec(),
    };
    let token = make(&authority, &node, &seeds, args)?;
    let text = token.to_text().context("cannot write the token")?;
    let seeds = token.seeds.join(", ");
    let expires = time(UNIX_EPOCH + Duration::from_secs(token.expires));
    let mut out = Output::stdout();
    if args.json {
        out.json(&json!({
            "token": text, "cluster": token.cluster, "node": node, "seeds": token.seeds, "expires": expires,
        }))?;
    } else {
        note(format_args!(
            "node {node} of cluster {}, which finds others at {seeds}; to be used before {expires}",
            token.cluster
        ));
        out.line(text)?;
    }
    Ok(out.flush()?)
}

fn make(
    authority: &Authority,
    node: &str,
    seeds: &[Seed],
    args: &ClusterJoinToken,
) -> anyhow::Result<JoinToken> {
    let issued = authority.issue(node, args.valid_for.get())?;
    let key = ders(issued.key_pem.as_bytes(), "PRIVATE KEY")?
        .into_iter()
        .next()
        .context("a key was made, but cannot be read")?;
    let expires = SystemTime::now() + args.ttl.get();
    Ok(JoinToken {
        cluster: authority.cluster().to_owned(),
        node: node.to_owned(),
        authorities: ders(authority.certificate_pem().as_bytes(), "CERTIFICATE")?,
        certificates: ders(issued.certificate_pem.as_bytes(), "CERTIFICATE")?,
        key,
        seeds: seeds.iter().map(ToString::to_string).collect(),
        expires: left(expires, UNIX_EPOCH).as_secs(),
    })
}

/// `dialtone cluster renew`
pub(super) fn renew(args: &ClusterRenew) -> Outcome {
    let folder = folder(args.dir.as_ref())?;
    let authority = authority(&folder)?;
    let own = folder
        .identity()?
        .with_context(|| format!("{} is missing", folder.certificate().display()))?;
    if args.valid_for.get().is_zero() {
        return Err(Failure::usage("--valid-for must not be 0"));
    }
    let issued = authority
        .issue(&own.name.node, args.valid_for.get())
        .map_err(anyhow::Error::from)?;
    folder.put_node(&issued)?;
    let renewed = folder.identity()?.map_or(own.ends, |own| own.ends);
    let mut out = Output::stdout();
    out.line(format_args!(
        "The certificate of {} is valid until {}. Send the broker a SIGHUP to use it.",
        own.name,
        time(renewed)
    ))?;
    Ok(out.flush()?)
}

fn authority(folder: &Folder) -> Result<Authority, Failure> {
    let there = folder
        .ca_key()
        .try_exists()
        .with_context(|| format!("cannot look at {}", folder.ca_key().display()))?;
    if !there {
        let text = format!(
            "there is no authority of a cluster in {}",
            folder.path().display()
        );
        return Err(Failure::from(anyhow::anyhow!(text)).hint(
            "`dialtone cluster init` founds a cluster; --dir names the folder where that was done",
        ));
    }
    Ok(folder.authority()?)
}

/// Where the node of this folder can be reached, as its configuration says.
fn own_urls(folder: &Folder) -> Result<Vec<Seed>, Failure> {
    let sources = Sources {
        flags: Flags::default(),
        file: Some(folder.config()),
        preset: Layer::default(),
    };
    let settings = sources.load(&Environment).settings;
    let urls = if settings.cluster_advertise.value.is_empty() {
        let urls: Option<Vec<_>> = settings
            .cluster_listen
            .value
            .into_iter()
            .map(reachable)
            .collect();
        urls
    } else {
        Some(settings.cluster_advertise.value)
    };
    let found = urls.filter(|urls| !urls.is_empty());
    found
        .map(|urls| urls.into_iter().map(Seed::Url).collect())
        .ok_or_else(|| {
            Failure::from(anyhow::anyhow!(
                "it is not known where other nodes reach the node in {}",
                folder.path().display()
            ))
            .hint("say it with --seed quic://HOST:PORT")
        })
}

/// Where others reach a listener; for one at all addresses, the address with which this machine reaches others.
fn reachable(link: Link) -> Option<Link> {
    let host = match link.0.host_port()? {
        (_, 0) => return None,
        (host, _) => host.to_owned(),
    };
    match host.parse::<std::net::IpAddr>() {
        Ok(ip) if ip.is_unspecified() => {
            let own = outgoing_ip(ip.is_ipv6())?;
            let Endpoint::Quic { port, .. } = link.0 else {
                return None;
            };
            Some(Link(Endpoint::Quic {
                host: own.to_string(),
                port,
            }))
        }
        _ => Some(link),
    }
}

/// The address that this machine shows to others. Nothing is sent: the destinations are documentation addresses
/// (RFC 5737, RFC 3849).
fn outgoing_ip(v6: bool) -> Option<std::net::IpAddr> {
    let (local, remote) = if v6 {
        ("[::]:0", "[2001:db8::1]:9")
    } else {
        ("0.0.0.0:0", "192.0.2.1:9")
    };
    let socket = UdpSocket::bind(local).ok()?;
    socket.connect(remote).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

/// The name of this machine as the name of a node: what stands before the first dot.
fn machine_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let short = name.split('.').next().unwrap_or_default();
    let name: String = short
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(64)
        .collect();
    if name.is_empty() {
        "n1".to_owned()
    } else {
        name
    }
}
