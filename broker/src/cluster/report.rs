//! What a node says about its cluster.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use dialtone_protocol::frame::Refused;

use super::status::{LinkStatus, RefusalStatus, Status};
use super::{Cluster, now};
use crate::peer::Peer;
use crate::report::describe;

/// Most refusals that are remembered.
const REFUSALS_MAX: usize = 16;

/// The latest links that were refused.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    latest: VecDeque<Refusal>,
    total: u64,
}

#[derive(Debug)]
struct Refusal {
    at: Instant,
    node: Option<String>,
    remote: Option<String>,
    direction: &'static str,
    refused: Refused,
}

impl Cluster {
    /// A link was refused, by this node or another one: said in the log when it is news.
    pub(super) fn on_refusal(
        &self,
        node: Option<String>,
        remote: Option<String>,
        direction: &'static str,
        refused: &Refused,
    ) {
        let mut refusals = self.refusals.lock();
        refusals.total += 1;
        // Redialling goes on for ever, and each refusal like the last would say nothing new.
        let same = refusals.latest.iter().any(|latest| {
            latest.node == node && latest.direction == direction && latest.refused == *refused
        });
        if !same {
            let code = refused.code.number();
            tracing::warn!(
                node = node.as_deref(),
                remote,
                direction,
                code,
                text = refused.text,
                "a link was refused"
            );
        }
        refusals
            .latest
            .retain(|latest| !(latest.node == node && latest.refused == *refused));
        if refusals.latest.len() >= REFUSALS_MAX {
            refusals.latest.pop_front();
        }
        refusals.latest.push_back(Refusal {
            at: now(),
            node,
            remote,
            direction,
            refused: refused.clone(),
        });
    }

    pub(super) fn status(&self) -> Status {
        let now = now();
        let (own, members, seeds) = {
            let membership = self.membership.lock();
            let own = membership.own().clone();
            (own, membership.status(now), membership.seeds())
        };
        let mut links: Vec<LinkStatus> =
            self.links.read().all().filter_map(describe_link).collect();
        links.sort_by(|one, other| (&one.gateway, &one.node).cmp(&(&other.gateway, &other.node)));
        let refusals = self.refusals.lock();
        let latest = refusals.latest.iter().map(|refusal| RefusalStatus {
            ago_s: now.saturating_duration_since(refusal.at).as_secs(),
            node: refusal.node.clone(),
            remote: refusal.remote.clone(),
            direction: refusal.direction,
            code: refusal.refused.code.number(),
            text: refusal.refused.text.clone(),
        });
        Status {
            cluster: self.config.name.clone(),
            node: own.name,
            incarnation: own.incarnation,
            listeners: self
                .listeners
                .read()
                .iter()
                .map(ToString::to_string)
                .collect(),
            certificate_ends: self.config.certificate_ends(),
            interest: self.announced.lock().status(),
            members,
            seeds,
            links,
            counts_waiting: self.counts.len() as u64,
            links_total: self.links_total.get(),
            links_overflowed_total: self.links_overflowed_total.get(),
            refusals_total: refusals.total,
            counts_missed_total: self.counts.missed(),
            refusals: latest.collect(),
        }
    }
}

fn describe_link(peer: &Arc<Peer>) -> Option<LinkStatus> {
    let end = peer.link.as_ref()?;
    let figures = &end.figures;
    let connection = describe(peer);
    let round_trip_us = figures.round_trip_us.load(Relaxed);
    Some(LinkStatus {
        node: end.node.to_string(),
        gateway: end.role.gateway().map(ToString::to_string),
        direction: if end.dialled { "dialled" } else { "accepted" },
        transport: connection.transport,
        encrypted: connection.encrypted,
        remote: connection.remote,
        server: end.server.clone(),
        age_s: connection.age_s,
        round_trip_us: (round_trip_us > 0).then_some(round_trip_us),
        pending_bytes: connection.pending_bytes,
        messages_out: connection.messages_out,
        bytes_out: connection.bytes_out,
        messages_in: connection.messages_in,
        bytes_in: connection.bytes_in,
        control_bytes_out: figures.control_bytes_out.load(Relaxed),
        control_bytes_in: figures.control_bytes_in.load(Relaxed),
        interest: *figures.interest.lock(),
        announced_version: figures.announced_version.load(Relaxed),
        resyncs: figures.resyncs.load(Relaxed),
        snapshots: figures.snapshots.load(Relaxed),
        dropped_in: figures.dropped_in.load(Relaxed),
    })
}
