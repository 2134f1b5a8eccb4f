//! One peer, from its first byte to its last.
//!
//! The task of a connection takes turns: it reads what is there, routes it, writes what that put
//! into other connections' outboxes, and waits. The files beside this one are the parts of a turn.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use dialtone_protocol::fragment::{Bounds, Table};
use dialtone_protocol::frame::{Action, Close, Ping};
use dialtone_protocol::session::Due;
use dialtone_protocol::session::server::Session;
use dialtone_protocol::{Code, Frame, RequestId, Violation};
use dialtone_transport::{Connection, Kind, Lane, Reader, Writer};
use hashbrown::HashMap;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;

use crate::auth::Principal;
use crate::broker::Shared;
use crate::chance::{self, RandomState};
use crate::peer::{Order, Peer};
use crate::router::Entry;
use crate::router::group::Dice;
use crate::shards::Seat;

pub(crate) mod cache;
pub(crate) mod effects;
mod handshake;
mod memo;
pub(crate) use handshake::server_name;
pub(crate) mod onward;
mod permission;
mod prefetch;
pub(crate) mod publish;
mod questions;
pub(crate) mod read;
pub(crate) mod rest;
mod run;
mod subscribe;

use cache::RouteCache;
use permission::{Decisions, Published};
use rest::Rest;

/// How long a peer is given to take what is due and the goodbye when its connection ends.
const GOODBYE_MAX: Duration = Duration::from_secs(5);

/// Bytes that are read and thrown away at once while a connection ends.
const LINGER_LEN: usize = 16 << 10;

/// So many times longer than others, who sends a large message waits for receivers that take nothing:
/// it would fill their outboxes within milliseconds, and a network may pause for a second.
const BULK_PATIENCE: u32 = 20;

/// After so many bytes a connection lets the others of its thread have their turn.
const YIELD_LEN: usize = 512 << 10;

/// How long a fragmented message may wait for its next fragment.
const FRAGMENT_IDLE_MAX: Duration = Duration::from_mins(2);

/// A connection as its own task sees it.
struct Conn {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    principal: Principal,
    session: Session,
    reader: Reader,
    /// Bytes of a frame that has not arrived whole, for each lane.
    rest: [Rest; 2],
    subscriptions: HashMap<u32, Arc<Entry<Arc<Peer>>>, RandomState>,
    cache: RouteCache,
    decisions: Decisions,
    published: Published,
    fragments: Table<publish::Kept>,
    /// Interest queries that wait, with their deadlines.
    waits: BTreeMap<RequestId, (Instant, Box<str>)>,
    /// Not later than the earliest of those deadlines.
    waits_deadline: Option<Instant>,
    /// Until when nothing is read, because the peer is ahead of its rates.
    throttled_until: Option<Instant>,
    dice: Dice,
    /// A refresh was ordered while the provider was being asked.
    refresh_due: bool,
    /// The last turn passed on parts of a large message.
    sends_bulk: bool,
    /// Bytes read since the others of the thread had their turn.
    read_len: usize,
}

/// What a turn ends with.
enum Turn {
    /// Something was read and routed; these outboxes are full.
    Read(Vec<Arc<Peer>>),
    /// The provider must be asked before the lane's bytes can be gone on with.
    Ask(Lane, Action, String),
    Order(Order),
    Deadline,
    End(Ending),
}

/// Why a connection ends.
enum Ending {
    /// The peer has said goodbye.
    Peer,
    /// The peer has gone without a word: there is nobody to say anything to.
    Gone,
    /// The broker ends it and says why.
    Broker(Violation),
    /// The outbox was closed: a failed write, or a slow consumer.
    Outbox(Code),
}

/// Serves a connection from its hello to its end.
pub(crate) async fn serve(
    connection: Connection,
    shared: Arc<Shared>,
    permit: Option<OwnedSemaphorePermit>,
    seat: Option<Seat>,
) {
    let Some(conn) = handshake::perform(connection, shared).await else {
        return;
    };
    drop(permit);
    // A task of its own, because the handshake's is several times as large and would be kept as
    // long as the connection lasts.
    let shared = Arc::clone(&conn.shared);
    shared.tasks.spawn(live(conn, seat));
}

/// The seat on the shard is held until the end.
async fn live(mut conn: Box<Conn>, seat: Option<Seat>) {
    let ending = conn.run().await;
    Box::pin(conn.end(ending)).await;
    drop(seat);
}

impl Conn {
    fn new(
        shared: Arc<Shared>,
        peer: Arc<Peer>,
        principal: Principal,
        session: Session,
        reader: Reader,
    ) -> Self {
        let bounds = Bounds {
            messages_max: session.limits().fragmented_max.into(),
            message_len_max: session.limits().message_len_max,
            idle_max: FRAGMENT_IDLE_MAX,
        };
        Self {
            dice: Dice::new(chance::number()),
            shared,
            peer,
            principal,
            session,
            reader,
            rest: <[Rest; 2]>::default(),
            subscriptions: HashMap::default(),
            cache: RouteCache::default(),
            decisions: Decisions::default(),
            published: Published::default(),
            fragments: Table::new(bounds),
            waits: BTreeMap::new(),
            waits_deadline: None,
            throttled_until: None,
            refresh_due: false,
            sends_bulk: false,
            read_len: 0,
        }
    }

    async fn run(&mut self) -> Ending {
        let mut sleep = pin!(tokio::time::sleep_until(
            self.session.next_deadline().into()
        ));
        // What came in one packet with the hello.
        let mut turn = self.go_on(Lane::Interactive);
        loop {
            match turn {
                Turn::Read(full) if full.is_empty() => {}
                // What is rare is boxed, so that an idle connection's task is small.
                Turn::Read(full) => Box::pin(self.stall(full)).await,
                Turn::Ask(lane, action, subject) => {
                    if let Err(ending) = Box::pin(self.ask(action, subject)).await {
                        return ending;
                    }
                    turn = self.go_on(lane);
                    continue;
                }
                Turn::Order(Order::Refresh) => {
                    if let Err(ending) = Box::pin(self.refresh()).await {
                        return ending;
                    }
                }
                Turn::Order(Order::Close(close)) => {
                    return Ending::Broker(Violation::new(close.code, close.text));
                }
                Turn::Deadline => {
                    if let Err(violation) = self.on_deadline() {
                        return Ending::Broker(violation);
                    }
                }
                Turn::End(ending) => return ending,
            }
            if self.read_len >= YIELD_LEN {
                self.read_len = 0;
                tokio::task::yield_now().await;
            }
            if self.refresh_due {
                self.peer.order(Order::Refresh);
            }
            self.throttle();
            self.arm(sleep.as_mut());
            turn = poll_fn(|cx| self.poll_turn(cx, sleep.as_mut())).await;
        }
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>, sleep: Pin<&mut Sleep>) -> Poll<Turn> {
        if let Poll::Ready(code) = self.peer.outbox.poll_owner(cx) {
            return Poll::Ready(Turn::End(Ending::Outbox(code)));
        }
        if let Some(order) = self.peer.take_order() {
            return Poll::Ready(Turn::Order(order));
        }
        if sleep.poll(cx).is_ready() {
            return Poll::Ready(Turn::Deadline);
        }
        if self.throttled_until.is_some() {
            return Poll::Pending;
        }
        if let Poll::Ready(turn) = self.poll_read(cx, Lane::Interactive) {
            return Poll::Ready(turn);
        }
        if self.peer.about.kind == Kind::Quic {
            if let Poll::Ready(turn) = self.poll_read(cx, Lane::Bulk) {
                return Poll::Ready(turn);
            }
            return self.poll_datagram(cx);
        }
        Poll::Pending
    }

    /// Sets the one timer to the earliest deadline. It is set only when it has fired or is too
    /// late, since the session's deadline moves on with everything that is heard.
    fn arm(&self, sleep: Pin<&mut Sleep>) {
        let mut deadline = self.session.next_deadline();
        for earlier in [self.waits_deadline, self.throttled_until]
            .into_iter()
            .flatten()
        {
            deadline = deadline.min(earlier);
        }
        let deadline = tokio::time::Instant::from_std(deadline);
        if sleep.is_elapsed() || deadline < sleep.deadline() {
            sleep.reset(deadline);
        }
    }

    /// Stops reading from a peer that is ahead of its rates, so that its transport slows it down.
    fn throttle(&mut self) {
        if self.throttled_until.is_none()
            && let Some(until) = self.session.throttled_until()
            && until > now()
        {
            self.shared.metrics.throttles.add(1);
            self.throttled_until = Some(until);
        }
    }

    fn on_deadline(&mut self) -> Result<(), Violation> {
        let now = now();
        self.fragments.expire(now);
        self.answer_overdue(now);
        if let Some(until) = self.throttled_until {
            self.session.not_heard(now);
            if until <= now {
                self.throttled_until = None;
            }
        }
        match self.session.on_timeout(now) {
            Due::Nothing => Ok(()),
            Due::Ping(token) => {
                self.say(&Frame::Ping(Ping { token }));
                Ok(())
            }
            Due::Gone(violation) => Err(violation),
        }
    }

    /// Sends a frame of the broker's own to this connection's peer, at once.
    fn say(&self, frame: &Frame<'_>) {
        if self.peer.outbox.push_frame(frame).claimed {
            self.peer.outbox.flush();
        }
    }

    /// Waits for the receivers that this connection has filled, as long as it can help them; its
    /// own outbox goes on being written.
    #[expect(
        clippy::needless_pass_by_ref_mut,
        reason = "a shared reference would have to be sent between threads, which a reader cannot"
    )]
    async fn stall(&mut self, full: Vec<Arc<Peer>>) {
        self.shared.metrics.stalls.add(1);
        let patience = if self.sends_bulk { BULK_PATIENCE } else { 1 };
        let stall_max = self.shared.config.outbox.stall_max;
        let mut waiting = pin!(stall(&self.shared, full, stall_max, patience));
        poll_fn(|cx| {
            if self.peer.outbox.poll_owner(cx).is_ready() {
                return Poll::Ready(());
            }
            waiting.as_mut().poll(cx)
        })
        .await;
    }

    async fn end(mut self: Box<Self>, ending: Ending) {
        let gone = matches!(ending, Ending::Gone);
        let goodbye = self.goodbye(ending);
        self.withdraw().await;
        if gone {
            self.peer.outbox.close(Code::Normal);
        }
        discard(&self.peer).await;
        if gone {
            return;
        }
        match &goodbye {
            Some(close) => {
                if self
                    .peer
                    .outbox
                    .push_last(&Frame::Close(close.clone()))
                    .claimed
                {
                    self.peer.outbox.flush();
                }
            }
            None => self.peer.outbox.stop(),
        }
        let lingers = goodbye.is_some() && self.peer.about.kind == Kind::WebSocket;
        let goodbye = goodbye.unwrap_or_else(|| Close {
            code: Code::Normal,
            text: String::new(),
        });
        let mut writer = None;
        let parting = async {
            let farewell = farewell(&self.peer, &goodbye, &mut writer);
            if lingers {
                tokio::join!(farewell, linger(&mut self.reader));
            } else {
                farewell.await;
            }
        };
        if tokio::time::timeout(GOODBYE_MAX, parting).await.is_err() {
            tracing::debug!(connection = %self.peer.id, "the goodbye was not taken");
            if let Some(mut writer) = writer.or_else(|| self.peer.outbox.take_writer()) {
                writer.abort(goodbye.code.number(), &goodbye.text);
            }
        }
        self.peer.outbox.close(Code::Normal);
        discard(&self.peer).await;
    }

    /// What the peer is told at the end; nothing where it has gone.
    fn goodbye(&self, ending: Ending) -> Option<Close> {
        match ending {
            Ending::Peer | Ending::Gone => None,
            Ending::Broker(violation) => {
                tracing::debug!(connection = %self.peer.id, %violation, "closing");
                if matches!(
                    violation.code,
                    Code::BadFrame | Code::TooLarge | Code::TooMany
                ) {
                    self.shared.metrics.violations.add(1);
                }
                Some(Close {
                    code: violation.code,
                    text: violation.text,
                })
            }
            Ending::Outbox(code) => {
                if code == Code::SlowConsumer {
                    tracing::warn!(
                        connection = %self.peer.id,
                        identity = %self.peer.about.identity,
                        client = %self.peer.about.client,
                        remote = self.peer.about.remote.map(tracing::field::display),
                        subscriptions = self.subscriptions.len(),
                        "closing a slow consumer"
                    );
                    self.shared.metrics.slow_consumers.add(1);
                }
                (code == Code::SlowConsumer).then(|| Close {
                    code,
                    text: "the client read too slowly".into(),
                })
            }
        }
    }

    /// Takes the connection out of every table.
    async fn withdraw(&mut self) {
        self.shared.registry.remove(self.peer.id);
        for (request, (_, subject)) in std::mem::take(&mut self.waits) {
            self.shared.waiting.remove(&subject, &self.peer, request);
        }
        let entries = std::mem::take(&mut self.subscriptions);
        for (index, (_, entry)) in entries.into_iter().enumerate() {
            self.shared
                .router
                .unsubscribe(&entry, |target| Arc::ptr_eq(&target.peer, &self.peer));
            self.shared.interest_changed(entry.name());
            if index % 1_000 == 999 {
                // A connection with very many subscriptions must not hold up its neighbours.
                tokio::task::yield_now().await;
            }
        }
        self.shared.registry.leave(&self.peer.about.identity);
    }
}

/// Writes what is due and closes. The writer is left in `writer`.
async fn farewell(peer: &Peer, close: &Close, writer: &mut Option<Writer>) {
    poll_fn(|cx| peer.outbox.poll_finish(cx)).await;
    let Some(writer) = peer.outbox.take_writer().map(|taken| writer.insert(taken)) else {
        return;
    };
    let closed = poll_fn(|cx| writer.poll_close(cx, close.code.number(), &close.text)).await;
    if let Err(error) = closed {
        tracing::debug!(connection = %peer.id, %error, "the goodbye failed");
    }
}

/// Reads on and throws it away, until the peer ends the connection too: closing a TCP socket with
/// unread input resets it, and the peer would lose what it has not read, the goodbye among it.
async fn linger(reader: &mut Reader) {
    let mut unwanted = Vec::with_capacity(LINGER_LEN);
    loop {
        unwanted.clear();
        match poll_fn(|cx| reader.poll_recv(cx, Lane::Interactive, &mut unwanted)).await {
            Ok(1..) => tokio::task::yield_now().await,
            // Why it ends makes no difference any more.
            Ok(0) | Err(_) => return,
        }
    }
}

/// Frees what was closed, with turns for others in between.
async fn discard(peer: &Peer) {
    while !peer.outbox.discard_some() {
        tokio::task::yield_now().await;
    }
}

/// Waits for full receivers, as long as that helps them and at most for `stall_max`. `patience` is
/// how many times `stall_progress` a receiver may take nothing before waiting is said not to help.
pub(crate) async fn stall(
    shared: &Shared,
    full: Vec<Arc<Peer>>,
    stall_max: Duration,
    patience: u32,
) {
    let config = &shared.config.outbox;
    let end = now() + stall_max;
    let progress_max = config.stall_progress * patience;
    for peer in full {
        while peer.outbox.is_full() {
            let stuck = peer.outbox.stuck_for();
            if stuck >= config.slow_max {
                peer.outbox.close(Code::SlowConsumer);
                break;
            }
            let left = end.saturating_duration_since(now());
            let patience = progress_max.saturating_sub(stuck).min(left);
            if patience.is_zero() {
                break;
            }
            // Whether it drained or not is looked at above.
            drop(tokio::time::timeout(patience, peer.outbox.drained()).await);
        }
    }
}

/// The time, as the runtime has it: tests may stop it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Conn {
    fn poll_datagram(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        match ready!(self.reader.poll_datagram(cx)) {
            Ok(datagram) => Poll::Ready(self.on_datagram(&datagram)),
            Err(error) => {
                tracing::debug!(connection = %self.peer.id, %error, "datagrams ended");
                Poll::Ready(Turn::End(Ending::Gone))
            }
        }
    }
}
