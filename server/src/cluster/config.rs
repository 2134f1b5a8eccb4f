//! From settings to the broker's own configuration of a cluster.

use std::time::Duration;

use dialtone_broker::cluster::{Config, Gateway, Secret, Timing};
use dialtone_broker::{Listen, OutboxConfig};
use dialtone_transport::{DialOptions, ListenOptions};

use super::Trusted;
use crate::config::{Settings, Size};
use crate::discovery::Link;

/// The broker's configuration of the cluster of this name.
pub(crate) fn broker_config(settings: &Settings, name: &str, trusted: &Trusted) -> Config {
    let base = Config::new(name, trusted.trust.clone());
    let handshake_max = settings.cluster_handshake_max.value.get();
    let listen = ListenOptions {
        tls: Some(trusted.keys.server.clone()),
        handshake_timeout: handshake_max,
        ..ListenOptions::default()
    };
    let urls = |links: &[Link]| links.iter().map(|link| link.0.clone()).collect::<Vec<_>>();
    let seeds = settings.cluster_seeds.value.iter();
    Config {
        listen: urls(&settings.cluster_listen.value)
            .into_iter()
            .map(|endpoint| Listen {
                endpoint,
                options: listen.clone(),
            })
            .collect(),
        advertise: urls(&settings.cluster_advertise.value),
        // Those that are names follow when they have been looked up.
        seeds: seeds
            .filter_map(|seed| seed.url())
            .map(|link| link.0.clone())
            .collect(),
        dial: DialOptions {
            tls: trusted.keys.client.clone(),
            timeout: handshake_max,
            ..base.dial.clone()
        },
        gateways: gateways(settings, trusted.gateway_secret.as_ref()),
        timing: timing(settings, &base.timing),
        members_max: settings.cluster_members_max.value as usize,
        counts_max: settings.cluster_counts_max.value as usize,
        changes_max: settings.cluster_changes_max.value as usize,
        frame_len_max: base
            .frame_len_max
            .max(crate::assemble::limits(settings).frame_len_max),
        outbox: OutboxConfig {
            high_bytes: len(settings.cluster_outbox_high.value),
            low_bytes: len(settings.cluster_outbox_low.value),
            max_bytes: len(settings.cluster_outbox_max.value),
            ..base.outbox.clone()
        },
        ..base
    }
}

fn timing(settings: &Settings, base: &Timing) -> Timing {
    let redial_max: Duration = settings.cluster_redial_max.value.get();
    Timing {
        handshake_max: settings.cluster_handshake_max.value.get(),
        ping_interval: settings.cluster_ping_interval.value.get(),
        pong_max: settings.cluster_pong_max.value.get(),
        redial_min: base.redial_min.min(redial_max),
        redial_max,
        forget_after: settings.cluster_forget_after.value.get(),
        count_max: settings.cluster_count_max.value.get(),
        ..base.clone()
    }
}

/// The URLs of each cluster together, in the order in which they stand.
fn gateways(settings: &Settings, secret: Option<&Secret>) -> Vec<Gateway> {
    let mut gateways: Vec<Gateway> = Vec::new();
    for given in &settings.cluster_gateways.value {
        let url = given.url.as_ref().map(|link| link.0.clone());
        match gateways.iter_mut().find(|one| one.name == given.cluster) {
            Some(known) => known.urls.extend(url),
            None => gateways.push(Gateway {
                name: given.cluster.clone(),
                urls: url.into_iter().collect(),
                dial: None,
                secret: secret.cloned(),
            }),
        }
    }
    gateways
}

fn len(Size(bytes): Size) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
