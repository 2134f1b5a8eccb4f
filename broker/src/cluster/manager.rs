//! Dials who is to be dialled, listens for others, and puts links in their places.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use dialtone_protocol::frame::link::LinkProof;
use dialtone_protocol::frame::{Close, Link, Refused};
use dialtone_protocol::{Code, Frame};
use dialtone_transport::{DialOptions, Endpoint, Incoming, Lane, Listener, Reader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::config::{Trust, server_name};
use super::election::Candidate;
use super::end::{End, Role};
use super::handshake::{self, Failure, Introduced};
use super::membership::{Dialled, Dialling};
use super::{Cluster, link, now};
use crate::broker::Shared;
use crate::chance;
use crate::outbox::{Lanes, Outbox};
use crate::peer::{About, Order, Peer};
use crate::router::Scope;

/// How long accepting pauses after an error such as a lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// How long links are given to end when the node stops.
const STOP_MAX: Duration = Duration::from_secs(3);

mod gateways;

/// Runs a node's part in its cluster until it is stopped.
pub(crate) async fn run(shared: Arc<Shared>, cluster: Arc<Cluster>, listeners: Vec<Listener>) {
    for (index, listener) in listeners.into_iter().enumerate() {
        let shard = shared.shards.of_listener(index);
        let task = accept(listener, shard, Arc::clone(&shared), Arc::clone(&cluster));
        cluster.tasks.spawn_on(task, &shared.shards.handle(shard));
    }
    gateways::spawn(&shared, &cluster);
    let mut outdated_since: Option<Instant> = None;
    let mut told_clients = Vec::new();
    loop {
        let diallings = cluster.membership.lock().poll(now());
        for dialling in diallings {
            spawn_dial(&shared, &cluster, dialling);
        }
        tell_members(&cluster);
        tell_clients(&shared, &cluster, &mut told_clients);
        end_links_after_leaving(&cluster);
        catch_up(&shared, &cluster, &mut outdated_since);
        let deadline = cluster.membership.lock().next_deadline(now());
        let gathered = outdated_since.map(|since| since + cluster.config.timing.members_delay);
        let deadline = gathered.map_or(deadline, |gathered| gathered.min(deadline));
        tokio::select! {
            biased;
            () = cluster.stopping.cancelled() => return,
            () = cluster.changed.notified() => {}
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
    }
}

impl Cluster {
    /// Tells all members that the node leaves, and ends its links.
    pub(crate) async fn stop(&self) {
        self.membership.lock().leave();
        self.stopping.cancel();
        say_goodbye(self, "the node stops");
        self.tasks.close();
        if tokio::time::timeout(STOP_MAX, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::debug!("links did not end in time");
        }
    }

    /// A link has ended: it leaves its place, unless another one has taken it.
    pub(super) fn unlink(&self, shared: &Shared, peer: &Arc<Peer>, why: String) {
        let Some(end) = &peer.link else { return };
        let is_it = |other: &Arc<Peer>| Arc::ptr_eq(other, peer);
        let mut links = self.links.write();
        match &end.role {
            Role::Member => {
                if links.members.get(&*end.node).is_some_and(is_it) {
                    links.members.remove(&*end.node);
                }
            }
            Role::GatewayTo(cluster) => {
                if links.gateways_to.get(&**cluster).is_some_and(is_it) {
                    links.gateways_to.remove(&**cluster);
                }
            }
            Role::GatewayFrom(_) => links.gateways_from.retain(|other| !is_it(other)),
        }
        drop(links);
        if end.role.is_member() {
            let why = (!shared.draining.load(Acquire)).then_some(why);
            let mut membership = self.membership.lock();
            membership.on_unlinked(&end.node, peer.id.0, why, now());
        }
        self.changed.notify_one();
    }
}

/// Tells all members what is new about nodes.
fn tell_members(cluster: &Cluster) {
    let news = cluster.membership.lock().take_news();
    if news.is_empty() {
        return;
    }
    let frame = Frame::Link(Link::Members(news)).to_vec();
    let links = cluster.links.read();
    for peer in links.members.values() {
        push_control(peer, &frame);
    }
}

/// Tells clients where the other nodes are, when that has changed.
fn tell_clients(shared: &Arc<Shared>, cluster: &Cluster, told: &mut Vec<String>) {
    let addresses = cluster.client_addresses();
    if addresses != *told {
        *told = addresses;
        shared.tell_addresses();
    }
}

/// A node that has left has no links.
fn end_links_after_leaving(cluster: &Cluster) {
    if !cluster.membership.lock().is_active() {
        say_goodbye(cluster, "the node leaves the cluster");
    }
}

fn say_goodbye(cluster: &Cluster, text: &str) {
    let peers: Vec<Arc<Peer>> = cluster.links.read().all().map(Arc::clone).collect();
    let leave = Frame::Link(Link::Leave).to_vec();
    for peer in peers {
        push_control(&peer, &leave);
        peer.order(Order::Close(Close {
            code: Code::Draining,
            text: text.to_owned(),
        }));
    }
}

fn push_control(peer: &Arc<Peer>, frame: &[u8]) {
    if let Some(link) = &peer.link {
        let out = &link.figures.control_bytes_out;
        out.fetch_add(frame.len() as u64, std::sync::atomic::Ordering::Relaxed);
    }
    if peer.outbox.push_control(frame.to_vec().into()).claimed {
        peer.outbox.flush();
    }
}

/// Tells changes in numbers of members, gathered for a while.
fn catch_up(shared: &Shared, cluster: &Cluster, outdated_since: &mut Option<Instant>) {
    let scopes = [
        (Some(&cluster.announced), Scope::Node),
        (cluster.announced_to_gateways.as_ref(), Scope::Cluster),
    ];
    let is_outdated = scopes
        .iter()
        .filter_map(|(announced, _)| *announced)
        .any(|announced| announced.lock().is_outdated());
    if !is_outdated {
        *outdated_since = None;
        return;
    }
    let since = *outdated_since.get_or_insert_with(now);
    if now() < since + cluster.config.timing.members_delay {
        return;
    }
    *outdated_since = None;
    for (announced, scope) in scopes {
        if let Some(announced) = announced {
            let interest = |pattern: &str| shared.router.interest(pattern, scope);
            announced.lock().catch_up(interest);
        }
    }
    for peer in cluster.links.read().all() {
        peer.outbox.wake_owner();
    }
}

async fn accept(listener: Listener, shard: usize, shared: Arc<Shared>, cluster: Arc<Cluster>) {
    let handshakes = Arc::new(Semaphore::new(cluster.config.handshakes_max as usize));
    loop {
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            biased;
            () = cluster.stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(incoming) => {
                let (runtime, seat) = shared.shards.place_link(shard);
                let task = establish(incoming, Arc::clone(&shared), Arc::clone(&cluster), permit);
                let seated = async move {
                    task.await;
                    drop(seat);
                };
                cluster.tasks.spawn_on(seated, &runtime);
            }
            Err(error) => {
                tracing::warn!(%error, "accepting nodes failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn establish(
    incoming: Incoming,
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
    permit: OwnedSemaphorePermit,
) {
    let remote = incoming.remote().map(|remote| remote.to_string());
    let connection = match incoming.establish().await {
        Ok(connection) => connection,
        Err(error) => {
            let refused = Refused::new(Code::Unauthenticated, chain(&error));
            return cluster.on_refusal(None, remote, "refused", &refused);
        }
    };
    let handshake = handshake::accept(&cluster, connection);
    let timing = &cluster.config.timing;
    let introduced = match tokio::time::timeout(timing.handshake_max, handshake).await {
        Ok(Ok(introduced)) => introduced,
        Ok(Err(failure)) => return note_failure(&cluster, failure, remote),
        Err(_elapsed) => {
            tracing::debug!(?remote, "the handshake of a node took too long");
            return;
        }
    };
    drop(permit);
    if let Ok((peer, reader, rest)) = take_place(&shared, &cluster, introduced, false).await {
        link::serve(shared, cluster, peer, reader, rest).await;
    }
}

/// An error with its causes, since TLS errors say little by themselves.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn note_failure(cluster: &Cluster, failure: Failure, remote: Option<String>) {
    match failure {
        Failure::RefusedUs(_, refused) if handshake::is_not_needed(&refused) => {}
        Failure::Linked(_) => {}
        Failure::Refused(node, refused) => {
            cluster.on_refusal(node, remote, "refused", &refused);
        }
        Failure::RefusedUs(node, refused) => {
            cluster.on_refusal(node, remote, "refused-us", &refused);
        }
        Failure::Gone(why) => tracing::debug!(?remote, why, "a node went away"),
        Failure::Itself => tracing::debug!(?remote, "this node has dialled itself"),
    }
}

fn spawn_dial(shared: &Arc<Shared>, cluster: &Arc<Cluster>, dialling: Dialling) {
    let (runtime, seat) = shared.shards.place(0);
    let (shared, cluster) = (Arc::clone(shared), Arc::clone(cluster));
    let tracker = cluster.tasks.clone();
    let task = async move {
        dial_member(shared, cluster, dialling).await;
        drop(seat);
    };
    tracker.spawn_on(task, &runtime);
}

async fn dial_member(shared: Arc<Shared>, cluster: Arc<Cluster>, dialling: Dialling) {
    let to = cluster.config.name.clone();
    let options = cluster.config.dial.clone();
    let dialled = tokio::select! {
        biased;
        () = cluster.stopping.cancelled() => return,
        dialled = dial(&cluster, &to, options, &dialling.endpoint) => dialled,
    };
    // A refusal is said in the log where it is noted.
    let is_gone = matches!(dialled, Err(Failure::Gone(_)));
    let (end, placed) = match dialled {
        Ok(introduced) => {
            let node = introduced.node.name.clone();
            match take_place(&shared, &cluster, introduced, true).await {
                Ok(placed) => (Dialled::Node(node), Some(placed)),
                Err(refused) if handshake::is_not_needed(&refused) => (Dialled::Node(node), None),
                Err(refused) => (Dialled::Failed(explain(&refused)), None),
            }
        }
        Err(failure) => {
            let end = outcome(&failure);
            if let Dialled::Failed(_) = end {
                note_failure(&cluster, failure, Some(dialling.endpoint.to_string()));
            }
            (end, None)
        }
    };
    let is_news = {
        let mut membership = cluster.membership.lock();
        membership.on_dialled(&dialling, &end, chance::share(), now())
    };
    if is_news
        && is_gone
        && let Dialled::Failed(why) = &end
    {
        let (node, endpoint) = (dialling.node.as_deref(), &dialling.endpoint);
        tracing::warn!(node, %endpoint, why, "a node cannot be reached, and is tried again");
    }
    cluster.changed.notify_one();
    if let Some((peer, reader, rest)) = placed {
        link::serve(shared, cluster, peer, reader, rest).await;
    }
}

fn outcome(failure: &Failure) -> Dialled {
    match failure {
        Failure::Itself => Dialled::Itself,
        Failure::RefusedUs(Some(node), refused) if handshake::is_not_needed(refused) => {
            Dialled::Node(node.clone())
        }
        Failure::Linked(node) => Dialled::Node(node.clone()),
        Failure::Refused(_, refused) | Failure::RefusedUs(_, refused) => {
            Dialled::Failed(explain(refused))
        }
        Failure::Gone(why) => Dialled::Failed(why.clone()),
    }
}

fn explain(refused: &Refused) -> String {
    format!("{} ({})", refused.text, refused.code.number())
}

/// Reaches a node and performs the handshake.
pub(super) async fn dial(
    cluster: &Cluster,
    to: &str,
    mut options: DialOptions,
    endpoint: &Endpoint,
) -> Result<Introduced, Failure> {
    if matches!(cluster.config.trust, Trust::Certificates) {
        options.server_name = Some(server_name(to));
    }
    options.quic.control_lane = true;
    let connection = dialtone_transport::dial(endpoint, &options)
        .await
        .map_err(|error| Failure::Gone(chain(&error)))?;
    let handshake = handshake::dial(cluster, connection, to, endpoint);
    let timing = &cluster.config.timing;
    tokio::time::timeout(timing.handshake_max, handshake)
        .await
        .unwrap_or_else(|_elapsed| Err(Failure::Gone("the handshake took too long".to_owned())))
}

/// A link in its place, for its task.
type Placed = (Arc<Peer>, Reader, Vec<u8>);

/// Gives a link its place, if it may have one: another link to the same node is ended before, and
/// nothing that it brings is processed after anything that this one brings. The other end is told
/// of a refusal.
async fn take_place(
    shared: &Arc<Shared>,
    cluster: &Arc<Cluster>,
    mut introduced: Introduced,
    has_dialled: bool,
) -> Result<Placed, Refused> {
    let joining = cluster.joining.lock().await;
    if let Err(refused) = may_join(cluster, &introduced, has_dialled) {
        drop(joining);
        turn_away(cluster, &mut introduced, &refused).await;
        return Err(refused);
    }
    if let Some(old) = current(cluster, &introduced) {
        old.order(Order::Close(Close {
            code: Code::Conflict,
            text: "a newer link takes its place".to_owned(),
        }));
        if let Some(end) = &old.link {
            end.ended.cancelled().await;
        }
    }
    let placed = put_in_place(shared, cluster, introduced, has_dialled);
    drop(joining);
    cluster.links_total.add(1);
    cluster.changed.notify_one();
    Ok(placed)
}

/// Tells the other end why there is no link, and what it must know to be let in the next time.
async fn turn_away(cluster: &Cluster, introduced: &mut Introduced, refused: &Refused) {
    let node = &introduced.node;
    let is_member = introduced.role.is_member();
    let later = is_member.then(|| cluster.membership.lock().later_run_of(node));
    if let Some(later) = later.flatten() {
        tracing::info!(
            node = node.name,
            incarnation = node.incarnation,
            known = later.incarnation,
            "a node whose clock was set back is told to count on from its last run"
        );
        let proof = introduced.accept.take().map(Link::Proof);
        let first = proof
            .into_iter()
            .chain([Link::Members(vec![later])])
            .collect();
        return handshake::refuse_after(&mut introduced.writer, first, refused).await;
    }
    if !handshake::is_not_needed(refused) {
        let remote = introduced.info.remote.map(|remote| remote.to_string());
        cluster.on_refusal(Some(node.name.clone()), remote, "refused", refused);
    }
    handshake::refuse(&mut introduced.writer, refused).await;
}

fn put_in_place(
    shared: &Shared,
    cluster: &Cluster,
    introduced: Introduced,
    has_dialled: bool,
) -> Placed {
    let Introduced {
        info,
        reader,
        writer,
        node,
        server,
        role,
        rest,
        accept,
        claim,
    } = introduced;
    let name: Arc<str> = node.name.as_str().into();
    let about = About {
        identity: format!("node {name}").into(),
        client: server.clone(),
        inbox_secret: String::new(),
        kind: info.kind,
        encrypted: info.encrypted,
        remote: info.remote,
        since: now(),
    };
    let candidate = Candidate::new(&shared.node, &name, node.incarnation, has_dialled);
    let end = End::new(
        Arc::clone(&name),
        role.clone(),
        candidate,
        has_dialled,
        server,
    );
    let outbox = Outbox::new(writer, Lanes::of(&reader), &cluster.config.outbox);
    let peer = Arc::new(Peer::node(shared.next_connection(), about, outbox, end));
    begin(cluster, &peer, accept);
    let remote = info.remote.map(tracing::field::display);
    let gateway = role.gateway().map(tracing::field::display);
    tracing::info!(node = %name, remote, gateway, has_dialled, "linked");
    let mut links = cluster.links.write();
    match &role {
        Role::Member => {
            links.members.insert((&*name).into(), Arc::clone(&peer));
            cluster.membership.lock().on_linked(node, peer.id.0, now());
        }
        Role::GatewayTo(other) => {
            links
                .gateways_to
                .insert((&**other).into(), Arc::clone(&peer));
        }
        Role::GatewayFrom(_) => links.gateways_from.push(Arc::clone(&peer)),
    }
    drop(links);
    // From here on the link itself says that there is one.
    drop(claim);
    (peer, reader, rest)
}

/// The first frames: the proof that the dialler waits for, and what nodes there are.
fn begin(cluster: &Cluster, peer: &Arc<Peer>, accept: Option<LinkProof>) {
    if let Some(proof) = accept {
        let frame = Frame::Link(Link::Proof(proof));
        if peer.outbox.push_frame_on(Lane::Interactive, &frame).claimed {
            peer.outbox.flush();
        }
    }
    if peer.link.as_ref().is_some_and(|link| link.role.is_member()) {
        let view = cluster.membership.lock().view();
        push_control(peer, &Frame::Link(Link::Members(view)).to_vec());
    }
}

/// The link whose place another one would take.
fn current(cluster: &Cluster, introduced: &Introduced) -> Option<Arc<Peer>> {
    let links = cluster.links.read();
    let found = match &introduced.role {
        Role::Member => links.members.get(introduced.node.name.as_str()),
        Role::GatewayTo(other) => links.gateways_to.get(&**other),
        // Each run of another cluster's node has one.
        Role::GatewayFrom(other) => links.gateways_from.iter().find(|peer| {
            let end = peer.link.as_ref();
            end.is_some_and(|end| {
                *end.node == *introduced.node.name && end.role.gateway() == Some(other)
            })
        }),
    };
    found.map(Arc::clone)
}

fn may_join(cluster: &Cluster, introduced: &Introduced, has_dialled: bool) -> Result<(), Refused> {
    if cluster.stopping.is_cancelled() {
        return Err(Refused::new(Code::Draining, "the node stops"));
    }
    if !introduced.role.is_member() {
        return Ok(());
    }
    let (own, node) = {
        let membership = cluster.membership.lock();
        membership.admit(&introduced.node)?;
        (membership.own().name.clone(), &introduced.node)
    };
    if !has_dialled && own < node.name && cluster.claims.contains(&node.name) {
        // Both have dialled, and of the two links that of the smaller name stays.
        return Err(handshake::not_needed());
    }
    let newer = Candidate::new(&own, &node.name, node.incarnation, has_dialled);
    let Some(current) = current(cluster, introduced) else {
        return Ok(());
    };
    let Some(end) = &current.link else {
        return Ok(());
    };
    let is_mutual = end.mutual.load(Acquire);
    if !end.ended.is_cancelled() && !end.candidate.yields_to(newer, is_mutual) {
        // Whoever dials has no link, or none yet: this one may be dead.
        end.probe.store(true, Release);
        current.outbox.wake_owner();
        return Err(handshake::not_needed());
    }
    Ok(())
}
