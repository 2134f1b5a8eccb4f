//! What the handle says about the running broker.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::UNIX_EPOCH;

use dialtone_transport::Kind;

use crate::broker::Handle;
use crate::config::Listen;
use crate::connection::server_name;
use crate::monitor::{ConnectionQuery, Page, Source, SubscriptionQuery};
use crate::peer::Peer;
use crate::router::{Entry, Target};
use crate::status::{ConnectionStatus, Status, SubscriptionStatus};

impl Source for Handle {
    fn status(&self) -> Status {
        Self::status(self)
    }

    fn cluster(&self) -> Option<crate::cluster::status::Status> {
        Self::cluster(self).map(|cluster| cluster.status())
    }

    fn connections(&self, query: &ConnectionQuery) -> Page<ConnectionStatus> {
        query.page(self.shared.registry.all().iter().map(describe))
    }

    fn subscriptions(&self, query: &SubscriptionQuery) -> Page<SubscriptionStatus> {
        let mut window = query.window();
        self.shared.router.each_entry(|entry| {
            if query.selects_pattern(entry.name()) {
                entry.each_member(|target, group, tap| {
                    let (id, identity) = (target.peer.id.0, &target.peer.about.identity);
                    if query.selects_connection(id, identity) {
                        window.offer(|| describe_subscription(entry, target, group, tap));
                    }
                });
            }
        });
        window.finish()
    }
}

fn describe_subscription(
    entry: &Entry<Arc<Peer>>,
    target: &Target<Arc<Peer>>,
    group: Option<&str>,
    tap: bool,
) -> SubscriptionStatus {
    SubscriptionStatus {
        connection: target.peer.id.0,
        id: target.subscription.0,
        pattern: entry.name().to_owned(),
        group: group.map(str::to_owned),
        tap,
    }
}

impl Handle {
    /// The broker as a whole.
    pub fn status(&self) -> Status {
        let (shared, metrics) = (&self.shared, &self.shared.metrics);
        let draining = shared.draining.load(Acquire);
        Status {
            node: shared.node.to_string(),
            server: server_name(),
            uptime_s: shared.started.elapsed().as_secs(),
            ready: shared.ready.load(Acquire) && !draining,
            draining,
            listeners: shared.listeners.read().clone(),
            certificate_ends: first_end(&shared.config.listen),
            connections: shared.registry.len() as u64,
            subscriptions: shared.router.len() as u64,
            patterns: shared.router.patterns() as u64,
            interest_waiting: shared.waiting.len() as u64,
            outbox_bytes: shared
                .registry
                .all()
                .iter()
                .map(|peer| peer.outbox.pending() as u64)
                .sum(),
            accepted_total: metrics.accepted.get(),
            handshake_failures_total: metrics.handshake_failures.get(),
            auth_failures_total: metrics.auth_failures.get(),
            limit_refusals_total: metrics.limit_refusals.get(),
            denied_total: metrics.denied.get(),
            slow_consumers_total: metrics.slow_consumers.get(),
            violations_total: metrics.violations.get(),
            stalls_total: metrics.stalls.get(),
            throttles_total: metrics.throttles.get(),
            messages_in_total: metrics.messages_in.get(),
            bytes_in_total: metrics.bytes_in.get(),
            messages_out_total: metrics.messages_out.get(),
            bytes_out_total: metrics.bytes_out.get(),
            unrouted_total: metrics.unrouted.get(),
            dropped_total: metrics.dropped.get(),
        }
    }

    /// The first `max` connections by number.
    pub fn all_connections(&self, max: usize) -> Vec<ConnectionStatus> {
        let mut peers = self.shared.registry.all();
        peers.sort_unstable_by_key(|peer| peer.id);
        peers.iter().take(max).map(describe).collect()
    }
}

/// When the first certificate of these listeners ends, in seconds since 1970.
pub(crate) fn first_end(listens: &[Listen]) -> Option<u64> {
    listens
        .iter()
        .filter(|listen| listen.endpoint.is_encrypted())
        .filter_map(|listen| listen.options.tls.as_ref()?.valid_until())
        .filter_map(|end| Some(end.duration_since(UNIX_EPOCH).ok()?.as_secs()))
        .min()
}

pub(crate) fn describe(peer: &Arc<Peer>) -> ConnectionStatus {
    let (messages_out, bytes_out) = peer.outbox.sent();
    let about = &peer.about;
    ConnectionStatus {
        id: peer.id.0,
        identity: about.identity.to_string(),
        client: about.client.clone(),
        transport: match about.kind {
            Kind::Quic => "quic",
            Kind::WebSocket => "websocket",
            Kind::SocketIo => "socketio",
            Kind::Memory => "memory",
        },
        encrypted: about.encrypted,
        remote: about.remote.map(|remote| remote.to_string()),
        age_s: about.since.elapsed().as_secs(),
        subscriptions: peer.subscriptions.load(Relaxed).into(),
        messages_in: peer.messages_in.load(Relaxed),
        bytes_in: peer.bytes_in.load(Relaxed),
        messages_out,
        bytes_out,
        pending_bytes: peer.outbox.pending() as u64,
        dropped: peer.outbox.dropped(),
        slow: peer.outbox.is_full(),
    }
}
