//! A link, from the end of its handshake to its last byte.
//!
//! Like a connection's, its task takes turns: control frames first, then what is to be announced,
//! then messages. Writing is the outbox's, which links share with clients: a message for another
//! node is put there by whoever routes it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use dialtone_protocol::fragment::{Bounds, Table};
use dialtone_protocol::frame::{Close, Link, Ping};
use dialtone_protocol::{Code, Frame, SubscriptionId, Violation};
use dialtone_transport::{Lane, Reader, Writer};
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::time::Sleep;

use super::Cluster;
use super::end::{End, Role};
use super::interest::{Announced, Cursor};
use super::mirror::Mirror;
use crate::broker::Shared;
use crate::chance::{self, RandomState};
use crate::connection::cache::RouteCache;
use crate::connection::onward::{Onward, Reach};
use crate::connection::publish::Kept;
use crate::connection::rest::Rest;
use crate::connection::stall;
use crate::peer::{Order, Peer};
use crate::router;
use crate::router::group::Dice;
use crate::router::hash::stable_hash;

mod asked;
mod control;
mod read;

use asked::Asked;

/// How long the other node is given to take what is due and the goodbye when a link ends.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// Interest is announced only while fewer bytes than this wait on the control lane, so that a
/// snapshot neither fills the outbox nor takes the memory of all of it at once. Messages that wait
/// make no difference.
const ANNOUNCE_WAITING_MAX: usize = 256 << 10;

/// When a link that has stopped announcing looks again, in case that somebody else has written.
const ANNOUNCE_RETRY: Duration = Duration::from_millis(10);

/// Most frames of interest that are made in one turn.
const ANNOUNCE_TURN: usize = 8;

/// Patterns that are withdrawn from the router before others have their turn.
const WITHDRAW_TURN: usize = 500;

/// After so many bytes a link lets the others of its thread have their turn.
const YIELD_LEN: usize = 512 << 10;

/// Fragmented messages of which is remembered who got them: the question for one comes right behind its last fragment,
/// with at most the last fragments of other connections in between.
const FRAGMENTED_COUNTS_MAX: usize = 256;

/// How long a fragmented message may wait for its next fragment.
const FRAGMENT_IDLE_MAX: Duration = Duration::from_mins(2);

/// A link as its own task sees it.
pub(super) struct LinkConn {
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
    peer: Arc<Peer>,
    /// As the router has it, for the other node's interest.
    way: router::Link<Arc<Peer>>,
    reader: Reader,
    /// Bytes of a frame that has not arrived whole, by lane.
    rest: [Rest; 3],
    reach: Reach,
    cache: RouteCache,
    dice: Dice,
    fragments: Table<Kept>,
    /// What the other end has declared.
    sets: HashMap<u32, Box<[SubscriptionId]>, RandomState>,
    /// The question that the next whole message answers.
    asked: Option<u64>,
    /// Who got the latest fragmented messages, oldest first.
    fragmented: VecDeque<Fragmented>,
    cursor: Cursor,
    mirror: Mirror,
    /// There may be more to announce than the control lane takes.
    waits_to_announce: bool,
    /// Messages are not read while somebody is full whom that helps.
    stalled: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    heard: Instant,
    next_ping: Instant,
    awaits_pong: Option<Asked>,
    next_check: Instant,
    read_len: usize,
}

/// Who got a fragmented message: how many here, and which other nodes may add to that.
#[derive(Debug)]
struct Fragmented {
    /// The other node's number for it.
    id: u64,
    /// The number under which it was passed on.
    own_id: u64,
    count: u32,
    onward: Onward,
}

/// What a turn ends with.
enum Turn {
    /// Something was done.
    On,
    Deadline,
    End(Ending),
}

/// Why a link ends.
#[derive(Debug)]
enum Ending {
    /// The other node has gone, or has said why it ends the link.
    Other(String),
    /// This node ends it and says why.
    Own(Violation),
    /// The outbox was closed: a failed write, or a node that does not read.
    Outbox(Code),
}

/// Serves a link to its end.
pub(super) async fn serve(
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
    peer: Arc<Peer>,
    reader: Reader,
    rest: Vec<u8>,
) {
    let Some(end) = &peer.link else { return };
    let (node, role) = (Arc::clone(&end.node), end.role.clone());
    let mut link = Box::new(LinkConn::new(
        shared, cluster, peer, reader, rest, &node, &role,
    ));
    let ending = link.run().await;
    link.end(ending).await;
}

impl LinkConn {
    fn new(
        shared: Arc<Shared>,
        cluster: Arc<Cluster>,
        peer: Arc<Peer>,
        reader: Reader,
        rest: Vec<u8>,
        node: &str,
        role: &Role,
    ) -> Self {
        let (config, now) = (&cluster.config, now());
        let fragments = Table::new(Bounds {
            messages_max: config.fragmented_max,
            message_len_max: u64::MAX,
            idle_max: FRAGMENT_IDLE_MAX,
        });
        let way = router::Link {
            id: peer.id.0,
            peer: Arc::clone(&peer),
            node: stable_hash(&[node.as_bytes()]),
            is_gateway: !role.is_member(),
        };
        Self {
            way,
            reader,
            rest: [rest.into(), Rest::default(), Rest::default()],
            reach: match role {
                Role::GatewayFrom(_) => Reach::Cluster,
                Role::Member | Role::GatewayTo(_) => Reach::Here,
            },
            cache: RouteCache::default(),
            dice: Dice::new(chance::number()),
            fragments,
            sets: HashMap::default(),
            asked: None,
            fragmented: VecDeque::new(),
            cursor: Cursor::Start,
            mirror: Mirror::new(config.patterns_max),
            waits_to_announce: false,
            stalled: None,
            heard: now,
            next_ping: now,
            awaits_pong: None,
            next_check: now + config.timing.check_interval,
            read_len: 0,
            shared,
            cluster,
            peer,
        }
    }

    fn link(&self) -> &End {
        self.peer.link.as_ref().expect("it is the peer of a link")
    }

    async fn run(&mut self) -> Ending {
        let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
        // What came in one packet with the proof.
        let mut turn = self.go_on();
        loop {
            match turn {
                Turn::On => {}
                Turn::Deadline => {
                    if let Err(violation) = self.on_deadline() {
                        return Ending::Own(violation);
                    }
                }
                Turn::End(ending) => return ending,
            }
            if self.read_len >= YIELD_LEN {
                self.read_len = 0;
                tokio::task::yield_now().await;
            }
            self.arm(sleep.as_mut());
            turn = poll_fn(|cx| self.poll_turn(cx, sleep.as_mut())).await;
        }
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>, sleep: Pin<&mut Sleep>) -> Poll<Turn> {
        if let Poll::Ready(code) = self.peer.outbox.poll_owner(cx) {
            return Poll::Ready(Turn::End(Ending::Outbox(code)));
        }
        if let Some(Order::Close(close)) = self.peer.take_order() {
            let violation = Violation::new(close.code, close.text);
            return Poll::Ready(Turn::End(Ending::Own(violation)));
        }
        if self.link().probe.swap(false, AcqRel) {
            self.next_ping = now();
            return Poll::Ready(Turn::Deadline);
        }
        if sleep.poll(cx).is_ready() {
            return Poll::Ready(Turn::Deadline);
        }
        if self.announce() {
            return Poll::Ready(Turn::On);
        }
        if let Poll::Ready(turn) = self.poll_read(cx, Lane::Control) {
            return Poll::Ready(turn);
        }
        if let Some(stalled) = &mut self.stalled {
            if stalled.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.stalled = None;
        }
        if let Poll::Ready(turn) = self.poll_read(cx, Lane::Interactive) {
            return Poll::Ready(turn);
        }
        self.poll_read(cx, Lane::Bulk)
    }

    /// Tells the other node what it does not know yet; whether there was something.
    fn announce(&mut self) -> bool {
        let Some(announced) = announced(&self.cluster, &self.peer) else {
            return false;
        };
        if self.peer.outbox.control_len() > ANNOUNCE_WAITING_MAX {
            self.waits_to_announce = true;
            return false;
        }
        self.waits_to_announce = false;
        let mut frames = Vec::new();
        {
            let announced = announced.lock();
            while frames.len() < ANNOUNCE_TURN
                && let Some(frame) = announced.next(&mut self.cursor)
            {
                frames.push(frame);
            }
        }
        for frame in &frames {
            if matches!(frame, Link::Snapshot(part) if part.last) {
                self.link().figures.snapshots.fetch_add(1, Relaxed);
            }
            self.say(frame);
        }
        if let Cursor::At(version) = self.cursor {
            self.link()
                .figures
                .announced_version
                .store(version, Relaxed);
        }
        !frames.is_empty()
    }

    /// Sends a frame on the control lane, at once.
    fn say(&self, link: &Link) {
        let frame = Frame::Link(link.clone());
        self.say_frame(&frame);
    }

    fn say_frame(&self, frame: &Frame<'_>) {
        let encoded = frame.to_vec();
        let figures = &self.link().figures;
        figures
            .control_bytes_out
            .fetch_add(encoded.len() as u64, Relaxed);
        if self.peer.outbox.push_control(encoded.into()).claimed {
            self.peer.outbox.flush();
        }
    }

    fn arm(&self, sleep: Pin<&mut Sleep>) {
        let mut deadline = self.next_ping.min(self.next_check);
        if let Some(asked) = &self.awaits_pong {
            let pong_max = self.cluster.config.timing.pong_max;
            deadline = deadline.min(asked.deadline(self.heard, pong_max));
        }
        // Others ask for counts at any time; their deadlines are looked at as often as this.
        deadline = deadline.min(now() + self.cluster.config.timing.count_max / 2);
        if self.waits_to_announce {
            deadline = deadline.min(now() + ANNOUNCE_RETRY);
        }
        let deadline = tokio::time::Instant::from_std(deadline);
        if sleep.is_elapsed() || deadline < sleep.deadline() {
            sleep.reset(deadline);
        }
    }

    fn on_deadline(&mut self) -> Result<(), Violation> {
        let now = now();
        self.fragments.expire(now);
        for token in self.link().overdue(now) {
            self.cluster.counts.missed_one(token);
        }
        let timing = &self.cluster.config.timing;
        if let Some(asked) = &mut self.awaits_pong {
            asked.note(self.peer.outbox.written(), now);
            if now >= asked.deadline(self.heard, timing.pong_max) {
                let text = "the other node does not answer";
                return Err(Violation::new(Code::Timeout, text));
            }
        }
        if now >= self.next_ping {
            self.next_ping = now + timing.ping_interval;
            if self.awaits_pong.is_none() {
                let token = chance::number();
                self.say_frame(&Frame::Ping(Ping { token }));
                let outbox = &self.peer.outbox;
                // In this order what is written meanwhile counts twice, which is patience, and never not at all.
                let pending = outbox.pending();
                self.awaits_pong = Some(Asked::new(token, now, outbox.written(), pending));
            }
        }
        if now >= self.next_check {
            self.next_check = now + timing.check_interval;
            self.check();
        }
        Ok(())
    }

    /// Lets the other end compare what it knows, where it should know everything.
    fn check(&self) {
        let Some(announced) = announced(&self.cluster, &self.peer) else {
            return;
        };
        let check = {
            let announced = announced.lock();
            announced.knows_all(&self.cursor).then(|| announced.check())
        };
        if let Some(check) = check {
            self.say(&Link::Check(check));
        }
    }

    /// Pauses messages while receivers are full whom that helps.
    fn stall(&mut self, full: Vec<Arc<Peer>>) {
        if full.is_empty() {
            return;
        }
        self.shared.metrics.stalls.add(1);
        let (shared, stall_max) = (
            Arc::clone(&self.shared),
            self.cluster.config.timing.stall_max,
        );
        self.stalled = Some(Box::pin(async move {
            stall(&shared, full, stall_max, 1).await;
        }));
    }

    async fn end(mut self: Box<Self>, ending: Ending) {
        let why = ending.to_string();
        let node = Arc::clone(&self.link().node);
        let remote = self.peer.about.remote.map(tracing::field::display);
        tracing::info!(%node, remote, %why, "link ended");
        let goodbye = match &ending {
            Ending::Own(violation) => Close {
                code: violation.code,
                text: violation.text.clone(),
            },
            Ending::Outbox(code @ Code::SlowConsumer) => {
                self.shared.metrics.slow_consumers.add(1);
                self.cluster.links_overflowed_total.add(1);
                Close {
                    code: *code,
                    text: "the node read too slowly".to_owned(),
                }
            }
            Ending::Other(_) | Ending::Outbox(_) => Close {
                code: Code::Normal,
                text: String::new(),
            },
        };
        // Nobody chooses it any more, and what waits for it is of no use to anybody.
        self.peer.outbox.close(goodbye.code);
        self.cluster.unlink(&self.shared, &self.peer, why);
        self.withdraw().await;
        for token in self.link().end_asking() {
            self.cluster.counts.missed_one(token);
        }
        self.link().ended.cancel();
        let farewell = farewell(&self.peer, &goodbye);
        if tokio::time::timeout(GOODBYE_MAX, farewell).await.is_err() {
            tracing::debug!(%node, "the goodbye was not taken");
        }
        while !self.peer.outbox.discard_some() {
            tokio::task::yield_now().await;
        }
    }

    /// Takes the other node's interest out of the router.
    async fn withdraw(&mut self) {
        loop {
            let gone = self.mirror.take_some(WITHDRAW_TURN);
            if gone.is_empty() {
                return;
            }
            for pattern in gone {
                let none = dialtone_protocol::frame::link::PatternInterest::none(pattern);
                self.apply(&none);
            }
            tokio::task::yield_now().await;
        }
    }

    /// The other node's interest in a pattern is this from now on.
    fn apply(&self, interest: &dialtone_protocol::frame::link::PatternInterest) {
        apply(&self.shared, &self.cluster, &self.way, interest);
    }
}

/// What is announced on a link: to members the node's own interest, to other clusters that of the
/// whole cluster, and nothing to where messages only go.
fn announced<'c>(cluster: &'c Cluster, peer: &Peer) -> Option<&'c Mutex<Announced>> {
    match peer.link.as_ref()?.role {
        Role::Member => Some(&cluster.announced),
        Role::GatewayFrom(_) => cluster.announced_to_gateways.as_ref(),
        Role::GatewayTo(_) => None,
    }
}

/// Keeps the router in step with another node's interest.
fn apply(
    shared: &Shared,
    cluster: &Cluster,
    way: &router::Link<Arc<Peer>>,
    interest: &dialtone_protocol::frame::link::PatternInterest,
) {
    shared.router.set_link(way, interest);
    if interest.plain || !interest.groups.is_empty() {
        shared.waiting.satisfy(&interest.pattern);
    }
    if !way.is_gateway {
        cluster.changed_elsewhere(shared, &interest.pattern);
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Other(why) => f.write_str(why),
            Self::Own(violation) => violation.fmt(f),
            Self::Outbox(Code::SlowConsumer) => f.write_str("the node reads too slowly"),
            Self::Outbox(_) => f.write_str("writing failed"),
        }
    }
}

async fn farewell(peer: &Peer, close: &Close) {
    let pushed = peer.outbox.push_last(&Frame::Close(close.clone()));
    if pushed.claimed {
        peer.outbox.flush();
    }
    poll_fn(|cx| peer.outbox.poll_finish(cx)).await;
    let Some(mut writer): Option<Writer> = peer.outbox.take_writer() else {
        return;
    };
    let closed = poll_fn(|cx| writer.poll_close(cx, close.code.number(), &close.text)).await;
    if let Err(error) = closed {
        tracing::debug!(%error, "the goodbye of a link failed");
    }
}

/// The time, as the runtime has it: tests may stop it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
