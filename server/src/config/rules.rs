//! What settings must have to do with each other.

use std::time::Duration;

use dialtone_persist::archive::Location;
use dialtone_protocol::session::server::frame_len_needed;
use dialtone_transport::Endpoint;

use super::{Origin, Place, Problem, Settings};

mod cluster;

/// A shorter lease ends when a machine is busy; a longer one keeps streams of a dead node away for long.
const LEASE_MIN: Duration = Duration::from_secs(1);
const LEASE_MAX: Duration = Duration::from_mins(10);

/// Most threads: far more than there are cores in machines.
const THREADS_MAX: u16 = 1024;

/// Looks for settings that contradict each other.
pub(super) fn check(settings: &Settings, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) {
    let mut wrong = |origin: &Origin, key: &str, text: String| {
        problems.push(Problem {
            origin: origin.clone(),
            key: key.to_owned(),
            text,
        });
    };
    let s = settings;
    if let Some(name) = &s.node.value
        && !is_name(name)
    {
        wrong(
            &s.node.origin,
            "node",
            "must be at most 64 letters, digits, - or _".to_owned(),
        );
    }
    if s.listen.value.is_empty() {
        wrong(&s.listen.origin, "listen", "nowhere to listen".to_owned());
    }
    if s.listen
        .value
        .iter()
        .any(|place| matches!(place, Place::Peers(Endpoint::Memory(_))))
    {
        wrong(
            &s.listen.origin,
            "listen",
            "memory endpoints exist within a process only".to_owned(),
        );
    }
    if s.threads.value > THREADS_MAX {
        wrong(
            &s.threads.origin,
            "threads",
            format!("at most {THREADS_MAX}"),
        );
    }
    access(s, &mut wrong);
    cluster::check(s, &mut wrong);
    if let Err(error) = crate::telemetry::parse(&s.log_level.value) {
        wrong(&s.log_level.origin, "log.level", format!("{error:#}"));
    }
    streams(s, &mut wrong);
    sizes(s, &mut wrong);
    doubts(s, warnings);
}

fn streams(s: &Settings, wrong: &mut impl FnMut(&Origin, &str, String)) {
    streams_log(s, wrong);
    if let Some(node) = &s.persist_node.value
        && !is_name(node)
    {
        let text = "must be 1 to 64 letters, digits, - or _".to_owned();
        wrong(&s.persist_node.origin, "persist.node", text);
    }
    if let Some(path) = &s.persist_quotas.value
        && let Err(error) = crate::persist::quotas(path)
    {
        let origin = &s.persist_quotas.origin;
        wrong(origin, "persist.quotas_file", format!("{error:#}"));
    }
    if let Some(url) = &s.persist_postgres.value {
        let origin = &s.persist_postgres.origin;
        let mut wrong = |text: &str| wrong(origin, "persist.postgres", text.to_owned());
        let rest = url.strip_prefix("postgres://");
        match rest.or_else(|| url.strip_prefix("postgresql://")) {
            None => wrong("expected postgres://USER@HOST/DATABASE"),
            Some(rest) => {
                let user = rest
                    .split('/')
                    .next()
                    .and_then(|address| address.rsplit_once('@'));
                if user.is_some_and(|(user, _)| user.contains(':')) || rest.contains("password=") {
                    wrong(
                        "a password belongs in the file that persist.postgres_password_file names",
                    );
                }
            }
        }
        if s.persist_archive.value.is_some() {
            wrong("persist.archive is for logs; PostgreSQL has its own copies");
        }
        if !s.persist_nodes.value.is_empty() {
            wrong("persist.nodes is for logs; with PostgreSQL nodes find each other");
        }
    }
    if s.persist_postgres_connections.value < 2 {
        let origin = &s.persist_postgres_connections.origin;
        wrong(
            origin,
            "persist.postgres_connections_max",
            "at least 2".to_owned(),
        );
    }
    let lease = s.persist_lease.value.get();
    if !(LEASE_MIN..=LEASE_MAX).contains(&lease) {
        let text = format!("from {LEASE_MIN:?} to {LEASE_MAX:?}");
        wrong(&s.persist_lease.origin, "persist.lease", text);
    }
    if let Some(place) = &s.persist_archive.value
        && let Err(text) = place.parse::<Location>()
    {
        wrong(&s.persist_archive.origin, "persist.archive", text);
    }
}

/// The bounds of what concerns the log. See `dialtone_persist::backend::log::Config`.
fn streams_log(s: &Settings, wrong: &mut impl FnMut(&Origin, &str, String)) {
    const KIB: u64 = 1 << 10;
    const GIB: u64 = 1 << 30;
    for (given, key, range, text) in [
        (
            &s.persist_segment_len,
            "persist.segment_len_max",
            4 * KIB..=2 * GIB,
            "from 4 KiB to 2 GiB",
        ),
        (
            &s.persist_waiting_bytes,
            "persist.waiting_bytes_max",
            KIB * KIB..=GIB,
            "from 1 MiB to 1 GiB",
        ),
        (
            &s.persist_checkpoint_bytes,
            "persist.checkpoint_bytes",
            KIB * KIB..=u64::MAX,
            "at least 1 MiB",
        ),
        (
            &s.persist_compact_rate,
            "persist.compact_bytes_per_second",
            64 * KIB..=u64::MAX,
            "at least 64 KiB",
        ),
    ] {
        if !range.contains(&given.value.0) {
            wrong(&given.origin, key, text.to_owned());
        }
    }
    if s.persist_compact_percent.value > 95 {
        let origin = &s.persist_compact_percent.origin;
        wrong(
            origin,
            "persist.compact_live_percent",
            "at most 95".to_owned(),
        );
    }
    if s.persist_workers.value > 64 {
        let origin = &s.persist_workers.origin;
        wrong(origin, "persist.workers", "at most 64".to_owned());
    }
    for (given, key) in [
        (&s.persist_streams_open, "persist.streams_open_max"),
        (&s.persist_requests_max, "persist.requests_max"),
    ] {
        if given.value == 0 {
            wrong(&given.origin, key, "at least 1".to_owned());
        }
    }
}

/// Whether something can be the name of a node.
fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(is_allowed)
}

fn access(s: &Settings, wrong: &mut impl FnMut(&Origin, &str, String)) {
    if s.tls_cert.value.is_some() && s.tls_key.value.is_none() {
        wrong(
            &s.tls_cert.origin,
            "tls.cert",
            "needs tls.key as well".to_owned(),
        );
    }
    if s.tls_key.value.is_some() && s.tls_cert.value.is_none() {
        wrong(
            &s.tls_key.origin,
            "tls.key",
            "needs tls.cert as well".to_owned(),
        );
    }
    if s.tls_client_ca.value.is_some() && s.tls_cert.value.is_none() {
        wrong(
            &s.tls_client_ca.origin,
            "tls.client_ca",
            "needs tls.cert and tls.key as well".to_owned(),
        );
    }
    if s.users.value.is_some() && s.open_to_everyone.value {
        wrong(
            &s.open_to_everyone.origin,
            "open_to_everyone",
            "contradicts users; leave one of them out".to_owned(),
        );
    }
    if s.hub_password_file.value.is_some() && (s.users.value.is_some() || s.open_to_everyone.value)
    {
        wrong(
            &s.hub_password_file.origin,
            "hub_password_file",
            "contradicts users and open_to_everyone: hubs decide who is let in".to_owned(),
        );
    }
}

fn sizes(s: &Settings, wrong: &mut impl FnMut(&Origin, &str, String)) {
    let (frame, fragment) = (s.frame_len_max.value.0, s.fragment_len_max.value.0);
    if frame > u64::from(u32::MAX) {
        wrong(
            &s.frame_len_max.origin,
            "limits.frame_len_max",
            "must be less than 4 GiB".to_owned(),
        );
    }
    let needed = frame_len_needed(&crate::assemble::limits(s));
    if fragment == 0 || fragment > u64::from(u32::MAX) {
        wrong(
            &s.fragment_len_max.origin,
            "limits.fragment_len_max",
            "must be more than 0 and less than 4 GiB".to_owned(),
        );
    } else if needed > frame {
        let text =
            format!("pieces of this length need a limits.frame_len_max of at least {needed}");
        // Where one of the two is at its default, the mistake is where the other one was set.
        let origin = given(&s.fragment_len_max.origin, &s.frame_len_max.origin);
        wrong(origin, "limits.fragment_len_max", text);
    }
    if s.outbox_low.value.0 >= s.outbox_high.value.0 {
        wrong(
            given(&s.outbox_low.origin, &s.outbox_high.origin),
            "outbox.low",
            "must be below outbox.high".to_owned(),
        );
    }
    if s.outbox_high.value.0 >= s.outbox_max.value.0 {
        wrong(
            given(&s.outbox_high.origin, &s.outbox_max.origin),
            "outbox.high",
            "must be below outbox.max".to_owned(),
        );
    }
    if s.cluster_outbox_low.value.0 >= s.cluster_outbox_high.value.0 {
        wrong(
            given(&s.cluster_outbox_low.origin, &s.cluster_outbox_high.origin),
            "cluster.outbox_low",
            "must be below cluster.outbox_high".to_owned(),
        );
    }
    if s.cluster_outbox_high.value.0 >= s.cluster_outbox_max.value.0 {
        wrong(
            given(&s.cluster_outbox_high.origin, &s.cluster_outbox_max.origin),
            "cluster.outbox_high",
            "must be below cluster.outbox_max".to_owned(),
        );
    }
    for (given, key) in [
        (&s.handshake_max, "timing.handshake_max"),
        (&s.ping_interval, "timing.ping_interval"),
        (&s.pong_max, "timing.pong_max"),
        (&s.cluster_ping_interval, "cluster.ping_interval"),
        (&s.cluster_pong_max, "cluster.pong_max"),
        (&s.cluster_handshake_max, "cluster.handshake_max"),
        (&s.cluster_redial_max, "cluster.redial_max"),
    ] {
        if given.value.get().is_zero() {
            wrong(&given.origin, key, "must not be 0".to_owned());
        }
    }
}

/// The first of two origins, unless only the second says something.
fn given<'a>(first: &'a Origin, second: &'a Origin) -> &'a Origin {
    if *first == Origin::Default {
        second
    } else {
        first
    }
}

fn doubts(s: &Settings, warnings: &mut Vec<Problem>) {
    let mut doubt = |origin: &Origin, key: &str, text: &str| {
        warnings.push(Problem {
            origin: origin.clone(),
            key: key.to_owned(),
            text: text.to_owned(),
        });
    };
    let hosts = s.listen.value.iter().filter_map(Place::host);
    let outside = hosts.map(is_loopback).any(|loopback| !loopback);
    let guarded = s.users.value.is_some() || s.hub_password_file.value.is_some();
    if outside && !guarded && !s.open_to_everyone.value {
        let text =
            "listens beyond this machine, but without a users file only this machine is let in";
        doubt(&s.listen.origin, "listen", text);
    }
    if s.open_to_everyone.value {
        doubt(
            &s.open_to_everyone.origin,
            "open_to_everyone",
            "everybody who reaches this broker may do everything",
        );
    }
    if s.monitor.value.is_some_and(|addr| !addr.ip().is_loopback()) {
        doubt(
            &s.monitor.origin,
            "monitor",
            "everybody who reaches this address can read who is connected",
        );
    }
    let encrypted = s.listen.value.iter().any(Place::is_encrypted);
    if encrypted && outside && s.tls_cert.value.is_none() {
        doubt(
            &s.listen.origin,
            "listen",
            "has no certificate; a development certificate is used, which no client trusts by itself",
        );
    }
}

/// Whether only this machine is behind a host.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}
