//! What the settings of a cluster must have to do with each other.

use dialtone_transport::Endpoint;
use dialtone_transport::tls::authority::check_cluster_name;

use crate::config::{Origin, Settings};
use crate::discovery::Link;

/// Looks for settings that contradict each other.
pub(super) fn check(s: &Settings, wrong: &mut impl FnMut(&Origin, &str, String)) {
    let Some(name) = &s.cluster_name.value else {
        without_name(s, wrong);
        return;
    };
    let at = &s.cluster_name.origin;
    if let Err(error) = check_cluster_name(name) {
        wrong(at, "cluster.name", error.to_string());
    }
    if s.cluster_listen.value.is_empty() {
        let text = "nowhere to listen for other nodes".to_owned();
        wrong(&s.cluster_listen.origin, "cluster.listen", text);
    }
    for (urls, origin, key) in [
        (
            &s.cluster_listen.value,
            &s.cluster_listen.origin,
            "cluster.listen",
        ),
        (
            &s.cluster_advertise.value,
            &s.cluster_advertise.origin,
            "cluster.advertise",
        ),
    ] {
        encrypted(urls.iter(), origin, key, wrong);
    }
    let seeds = s
        .cluster_seeds
        .value
        .iter()
        .filter_map(crate::discovery::Seed::url);
    encrypted(seeds, &s.cluster_seeds.origin, "cluster.seeds", wrong);
    let gateways = &s.cluster_gateways;
    let urls = gateways
        .value
        .iter()
        .filter_map(|gateway| gateway.url.as_ref());
    encrypted(urls, &gateways.origin, "cluster.gateways", wrong);
    if gateways
        .value
        .iter()
        .any(|gateway| gateway.cluster == *name)
    {
        let text = "a gateway leads to another cluster".to_owned();
        wrong(&gateways.origin, "cluster.gateways", text);
    }
    trust(s, wrong);
}

/// Links carry everybody's messages.
fn encrypted<'a>(
    urls: impl Iterator<Item = &'a Link>,
    origin: &Origin,
    key: &str,
    wrong: &mut impl FnMut(&Origin, &str, String),
) {
    for url in urls {
        if matches!(url.0, Endpoint::Ws { .. }) {
            let text = format!("{url} is not encrypted; use quic:// or wss://");
            wrong(origin, key, text);
        }
    }
}

fn trust(s: &Settings, wrong: &mut impl FnMut(&Origin, &str, String)) {
    let files = [
        (&s.cluster_cert, "cluster.cert"),
        (&s.cluster_key, "cluster.key"),
        (&s.cluster_ca, "cluster.ca"),
    ];
    let Some((given, key)) = files.iter().find(|(file, _)| file.value.is_some()) else {
        return;
    };
    for (_, missing) in files.iter().filter(|(file, _)| file.value.is_none()) {
        wrong(&given.origin, key, format!("needs {missing} as well"));
    }
    if s.cluster_secret_file.value.is_some() {
        wrong(
            &s.cluster_secret_file.origin,
            "cluster.secret_file",
            format!("contradicts {key}; leave one of them out"),
        );
    }
}

/// Whoever sets up a cluster and forgets its name would have a node that stands alone.
fn without_name(s: &Settings, wrong: &mut impl FnMut(&Origin, &str, String)) {
    for (origin, key, given) in [
        (
            &s.cluster_seeds.origin,
            "cluster.seeds",
            !s.cluster_seeds.value.is_empty(),
        ),
        (
            &s.cluster_cert.origin,
            "cluster.cert",
            s.cluster_cert.value.is_some(),
        ),
        (
            &s.cluster_secret_file.origin,
            "cluster.secret_file",
            s.cluster_secret_file.value.is_some(),
        ),
        (
            &s.cluster_gateways.origin,
            "cluster.gateways",
            !s.cluster_gateways.value.is_empty(),
        ),
    ] {
        if given {
            wrong(origin, key, "needs cluster.name as well".to_owned());
        }
    }
}
