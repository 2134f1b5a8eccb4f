//! One Socket.IO client as a peer of the broker: what it says becomes frames, and frames become what it is told.
//!
//! ```text
//!   on_text, on_binary ──▶ events ──▶ frames ──▶ the broker
//!                                       │
//!   output ◀──────────── packets ◀── on_frame ◀── the broker
//! ```
//!
//! No socket and no clock: time is an argument. Events are processed strictly in their order. While the broker has not
//! said whether subscriptions have begun, or who the client is, nothing more is read from the client; what it sends
//! meanwhile waits in its socket and is lost by nobody.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dialtone_protocol::frame::handshake::MAGIC;
use dialtone_protocol::frame::{Close, Credentials, Hello, Welcome};
use dialtone_protocol::{Code, Frame, Limits, RequestId, VERSION, VERSION_MIN};
use dialtone_transport::Batch;
use hashbrown::HashMap;
use serde_json::json;
use thiserror::Error;

use crate::config::Config;
use crate::packet::{Packet, PacketError};
use crate::partial::{Bounds, Partial};
use crate::patterns::Patterns;
use crate::registry::Member;
use crate::user::User;

mod broker;
mod client;
mod heartbeat;
mod interest;
mod output;
mod packets;
mod publish;
mod subscriptions;

pub(crate) use output::Name;
pub use output::Output;

use broker::Unfinished;
use client::Attachments;
use heartbeat::Heartbeat;
use output::Names;
use subscriptions::{Subscribing, Subscriptions};

/// What a session is made with.
#[derive(Debug)]
pub struct Setup {
    /// Bounds and times.
    pub config: Arc<Config>,
    /// The node and its cluster, as clients are told.
    pub node: Arc<Node>,
    /// The connection as others see it.
    pub member: Arc<Member>,
    /// The patterns of all connections.
    pub patterns: Arc<Patterns>,
    /// Where the numbers of messages begin, so that names differ between connections.
    pub seed: u64,
}

/// The broker, as its clients are told.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Its name.
    pub id: String,
    /// The name of its cluster, if it belongs to one.
    pub cluster: Option<String>,
    /// Where its clients and those of the other nodes connect.
    pub addresses: crate::cluster::Addresses,
}

/// A client's standing.
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    node: Arc<Node>,
    member: Arc<Member>,
    state: State,
    user: User,
    limits: Limits,
    heartbeat: Heartbeat,
    info: Option<Told>,
    next_ack: u64,
    /// An event whose binary messages have not all come.
    pending: Option<Pending>,
    /// The text of the last such event, to be written into again.
    spare: String,
    partial: Partial,
    subscriptions: Subscriptions,
    subscribing: Option<Subscribing>,
    asked: HashMap<RequestId, Asked>,
    next_request: u32,
    next_fragment: u64,
    denied: publish::Denied,
    unfinished: HashMap<u64, Unfinished>,
    names: Names,
    /// To the broker.
    frames: Frames,
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The client has a while to ask for the namespace.
    AwaitsConnect {
        until: Instant,
    },
    /// The broker has been told of it and judges.
    AwaitsWelcome,
    Open,
    /// The client has been told why it is not welcome, and is put out then.
    Refused {
        until: Instant,
    },
    /// The broker goes away; the client is put out then, and comes back to another one.
    Leaves {
        until: Instant,
    },
    /// What is due is written, and then the connection ends.
    Over,
}

/// When the client was told who it is, as long as it has not acknowledged that.
#[derive(Debug)]
struct Told {
    ack: u64,
    first: Instant,
    again: Instant,
    delay: Duration,
}

/// The longest text of an event that is written into again, in bytes.
const SPARE_LEN_MAX: usize = 512;

/// The longest pause before the client is told again who it is.
const INFO_DELAY_MAX: Duration = Duration::from_secs(30);
/// The first such pause.
const INFO_DELAY_MIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Pending {
    text: String,
    needed: usize,
    attachments: Vec<Vec<u8>>,
}

/// A question to the broker.
#[derive(Debug)]
enum Asked {
    Published {
        ack: Option<u64>,
        subject: Box<str>,
    },
    Interest {
        ack: u64,
        subject: Box<str>,
        waits: bool,
    },
    Subscribed,
}

/// Frames that wait to be taken to the broker.
#[derive(Debug, Default)]
struct Frames {
    batch: Batch,
    /// Small frames one after the other.
    small: Vec<u8>,
}

impl Frames {
    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.batch
                .push(Bytes::from(std::mem::take(&mut self.small)));
        }
    }

    fn push(&mut self, frame: &Frame<'_>) {
        frame.encode(&mut self.small);
    }
}

/// The client broke the rules of its protocol; the connection ends.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Broken {
    /// A text message that is no packet.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// A text message where a binary one is due, or the other way round.
    #[error("binary and text messages are mixed up")]
    Order,
    /// An event before the namespace was asked for, or a second wish for it.
    #[error("a packet that is out of place: {0}")]
    OutOfPlace(&'static str),
    /// An event whose arguments cannot be read and for which no answer is wanted.
    #[error("an event that cannot be read: {0}")]
    Event(String),
    /// It did not answer.
    #[error("nothing was heard for too long")]
    Silent,
    /// It did not ask for the namespace.
    #[error("the namespace was not asked for in time")]
    NoConnect,
    /// The broker said something that makes no sense.
    #[error("the broker sent a frame that cannot be read: {0}")]
    Broker(String),
}

impl Session {
    /// Of a WebSocket that has just been opened. The first packet is ready to be written.
    pub fn new(setup: Setup, now: Instant) -> Self {
        let Setup {
            config,
            node,
            member,
            patterns,
            seed,
        } = setup;
        let mut output = Output::default();
        let open = json!({
            "sid": member.transport_id(),
            "upgrades": [],
            "pingInterval": millis(config.ping_interval),
            "pingTimeout": millis(config.ping_timeout),
            "maxPayload": config.max_payload,
        });
        output.text(&format!("0{open}"));
        let bounds = Bounds {
            messages_max: config.partial_max,
            len_max: config.partial_len_max,
            message_len_max: config.partial_len_max as u64,
            idle_max: config.partial_idle_max,
        };
        Self {
            state: State::AwaitsConnect {
                until: now + config.connect_timeout,
            },
            user: User::of_identity("anonymous"),
            limits: Limits::default(),
            heartbeat: Heartbeat::new(config.ping_interval, config.ping_timeout, now),
            info: None,
            next_ack: 0,
            pending: None,
            spare: String::new(),
            partial: Partial::new(bounds),
            subscriptions: Subscriptions::new(patterns),
            subscribing: None,
            asked: HashMap::new(),
            next_request: 1,
            next_fragment: 1,
            denied: publish::Denied::default(),
            unfinished: HashMap::new(),
            names: Names::new(seed),
            frames: Frames::default(),
            output,
            config,
            node,
            member,
        }
    }

    /// A text message came.
    ///
    /// # Errors
    /// When the client breaks the rules.
    pub fn on_text(&mut self, text: &str, now: Instant) -> Result<(), Broken> {
        if self.pending.is_some() {
            return Err(Broken::Order);
        }
        match Packet::parse(text)? {
            Packet::Ping(probe) => self.output.text(&format!("3{probe}")),
            Packet::Pong | Packet::Noop => {}
            Packet::Close | Packet::Disconnect => self.state = State::Over,
            Packet::Connect => self.on_connect()?,
            Packet::Ack(ack) => self.on_ack(ack),
            Packet::Event {
                attachments,
                ack,
                json,
            } => {
                if !matches!(self.state, State::Open | State::Leaves { .. }) {
                    return self.out_of_place();
                }
                if attachments == 0 {
                    return self.on_event(ack, json, Attachments::default(), now);
                }
                let mut kept = std::mem::take(&mut self.spare);
                kept.clear();
                kept.push_str(text);
                self.pending = Some(Pending {
                    text: kept,
                    needed: attachments,
                    attachments: Vec::new(),
                });
            }
        }
        Ok(())
    }

    /// A binary message came.
    ///
    /// # Errors
    /// When the client breaks the rules.
    pub fn on_binary(&mut self, bytes: Cow<'_, [u8]>, now: Instant) -> Result<(), Broken> {
        let pending = self.pending.as_mut().ok_or(Broken::Order)?;
        if pending.attachments.len() + 1 < pending.needed {
            pending.attachments.push(bytes.into_owned());
            return Ok(());
        }
        let Some(pending) = self.pending.take() else {
            return Ok(());
        };
        let Packet::Event { ack, json, .. } = Packet::parse(&pending.text)? else {
            return Err(Broken::Order);
        };
        let attachments = Attachments::new(pending.attachments, bytes);
        self.on_event(ack, json, attachments, now)?;
        if pending.text.capacity() <= SPARE_LEN_MAX {
            self.spare = pending.text;
        }
        Ok(())
    }

    fn out_of_place(&self) -> Result<(), Broken> {
        match self.state {
            // What a client says after that is said to nobody.
            State::Refused { .. } | State::Leaves { .. } | State::Over => Ok(()),
            State::AwaitsConnect { .. } | State::AwaitsWelcome | State::Open => {
                Err(Broken::OutOfPlace("an event before the namespace is open"))
            }
        }
    }

    fn on_connect(&mut self) -> Result<(), Broken> {
        let State::AwaitsConnect { .. } = self.state else {
            return Err(Broken::OutOfPlace("the namespace is open already"));
        };
        self.state = State::AwaitsWelcome;
        let connected = json!({ "sid": self.member.id() });
        self.output.text(&format!("40{connected}"));
        self.frames.push(&Frame::Hello(Hello {
            magic: MAGIC,
            version_min: VERSION_MIN,
            version_max: VERSION,
            client: "conat over socket.io".to_owned(),
            credentials: Credentials::None,
        }));
        Ok(())
    }

    fn on_welcome(&mut self, welcome: &Welcome, now: Instant) {
        self.user = User::of_identity(&welcome.identity);
        self.limits = welcome.limits.clone();
        self.partial
            .set_message_len_max(self.limits.message_len_max);
        let max = if self.user.is_hub() {
            self.config.hub_subscriptions_max
        } else {
            self.config.subscriptions_max
        };
        let granted = usize::try_from(self.limits.subscriptions_max).unwrap_or(usize::MAX);
        self.subscriptions.set_max(max.min(granted));
        self.state = State::Open;
        self.member.welcome(self.user.clone());
        self.tell_info(now);
    }

    /// Tells the client who it is, and again until it says that it knows.
    fn tell_info(&mut self, now: Instant) {
        let ack = self.next_ack;
        self.next_ack += 1;
        self.info = Some(Told {
            ack,
            first: now,
            again: now + self.config.info_timeout,
            delay: INFO_DELAY_MIN,
        });
        self.put_info(Some(ack), &self.user.clone());
    }

    fn put_info(&mut self, ack: Option<u64>, user: &User) {
        let mut info = serde_json::Map::new();
        info.insert("max_payload".to_owned(), self.config.max_payload.into());
        info.insert("id".to_owned(), self.node.id.clone().into());
        if let Some(cluster) = &self.node.cluster {
            info.insert("clusterName".to_owned(), cluster.clone().into());
        }
        info.insert("user".to_owned(), user.json().clone());
        self.output.event(ack, "info", &info.into());
    }

    fn on_ack(&mut self, ack: u64) {
        if self.info.as_ref().is_some_and(|told| told.ack >= ack) {
            self.info = None;
        }
    }

    /// The broker has ended the connection, or does not want it.
    fn on_close(&mut self, close: &Close, now: Instant) {
        if self.state == State::AwaitsWelcome && close.code != Code::Draining {
            let code = (close.code == Code::TooMany).then_some(close.code.number());
            let user = User::refused(&close.text, code);
            self.put_info(None, &user);
            self.state = State::Refused {
                until: now + self.config.refusal_delay,
            };
            return;
        }
        if matches!(close.code, Code::Kicked) {
            // A client that is put out like this does not come back by itself.
            self.output.text("41");
        }
        self.state = State::Over;
    }

    /// Somebody who may do so has put the client out.
    pub fn kick(&mut self) {
        if !matches!(self.state, State::Over) {
            self.output.text("41");
            self.state = State::Over;
        }
    }

    /// The broker is gone without a word.
    pub fn on_broker_gone(&mut self) {
        if !matches!(self.state, State::Refused { .. }) {
            self.state = State::Over;
        }
    }

    /// Something was read from the client, or it has taken something.
    pub fn heard(&mut self, now: Instant) {
        self.heartbeat.heard(now);
        self.member.touch();
    }

    /// Does what is due.
    ///
    /// # Errors
    /// When the client has been silent for too long.
    pub fn on_timeout(&mut self, now: Instant) -> Result<(), Broken> {
        match self.state {
            State::AwaitsConnect { until } if now >= until => return Err(Broken::NoConnect),
            State::Refused { until } if now >= until => {
                self.output.text("41");
                self.state = State::Over;
            }
            State::Leaves { until } if now >= until => self.state = State::Over,
            State::AwaitsConnect { .. }
            | State::AwaitsWelcome
            | State::Open
            | State::Refused { .. }
            | State::Leaves { .. }
            | State::Over => {}
        }
        if self.heartbeat.on_timeout(now)? {
            self.output.text("2");
        }
        self.partial.expire(now);
        self.expire_unfinished(now);
        self.tell_info_again(now);
        Ok(())
    }

    fn tell_info_again(&mut self, now: Instant) {
        let retry_max = self.config.info_retry_max;
        let Some(told) = self.info.as_mut().filter(|told| now >= told.again) else {
            return;
        };
        if now.saturating_duration_since(told.first) >= retry_max {
            self.info = None;
            return;
        }
        let ack = self.next_ack;
        self.next_ack += 1;
        told.ack = ack;
        told.again = now + told.delay;
        told.delay = (told.delay * 2).min(INFO_DELAY_MAX);
        self.put_info(Some(ack), &self.user.clone());
    }

    /// When to call [`on_timeout`](Self::on_timeout) at the latest.
    pub fn next_deadline(&self) -> Instant {
        let mut due = self.heartbeat.next_deadline();
        match self.state {
            State::AwaitsConnect { until } | State::Refused { until } | State::Leaves { until } => {
                due = due.min(until);
            }
            State::AwaitsWelcome | State::Open | State::Over => {}
        }
        self.info.as_ref().map_or(due, |told| due.min(told.again))
    }

    /// Whether the broker is to be told of the client from here on.
    pub fn wants_broker(&self) -> bool {
        self.state == State::AwaitsWelcome
    }

    /// Whether nothing but writing what is due remains to be done.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Whether the client may say something: what it said before is with the broker, and it reads its answers.
    pub fn may_read_client(&self) -> bool {
        let ready = match self.state {
            State::AwaitsWelcome => false,
            State::AwaitsConnect { .. }
            | State::Open
            | State::Refused { .. }
            | State::Leaves { .. }
            | State::Over => true,
        };
        ready
            && self.subscribing.is_none()
            && self.asked.len() < self.config.answers_max
            && self.frames.batch.is_empty()
            && self.output.len() < self.config.output_high
    }

    /// Whether there is room for what the broker says.
    pub fn may_read_broker(&self) -> bool {
        self.output.len() < self.config.output_high
    }

    /// What waits to be written to the client.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// What waits to be taken to the broker.
    pub fn frames(&mut self) -> &mut Batch {
        self.frames.seal();
        &mut self.frames.batch
    }

    fn request(&mut self, asked: Asked) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request = self.next_request.checked_add(1).unwrap_or(1);
        self.asked.insert(request, asked);
        request
    }

    fn answer_error(&mut self, ack: Option<u64>, text: &str, code: Option<u16>) {
        if let Some(ack) = ack {
            let error = error_json(text, code);
            self.output.answer(ack, &error);
        }
    }

    /// Tells the client that it may not; it believes that for a minute.
    fn tell_permission(&mut self, subject: &str, action: &str, message: &str) {
        let event = json!({ "message": message, "subject": subject, "type": action });
        self.output.event(None, "permission", &event);
    }

    fn count_sent(&self, len: usize) {
        let counters = self.member.counters();
        counters.sent_messages.fetch_add(1, Relaxed);
        counters.sent_bytes.fetch_add(len as u64, Relaxed);
    }
}

/// How an error looks in an answer.
fn error_json(text: &str, code: Option<u16>) -> serde_json::Value {
    let error = format!("Error: {text}");
    match code {
        Some(code) => json!({ "error": error, "code": code }),
        None => json!({ "error": error }),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use dialtone_protocol::codec::LEN_FIELD;
    use dialtone_protocol::{ConnectionId, SubscriptionId, frame};
    use dialtone_transport::websocket::Header;

    use super::*;
    use crate::registry::{Registry, Seat};

    /// A client that has been welcomed as a hub, the place that it takes, and when that was.
    fn welcomed() -> (Session, Seat, Instant) {
        let registry = Arc::new(Registry::default());
        let seat = registry.enter(None);
        let setup = Setup {
            config: Arc::new(Config::default()),
            node: Arc::new(Node {
                id: "n1".to_owned(),
                ..Node::default()
            }),
            member: Arc::clone(seat.member()),
            patterns: Arc::clone(registry.patterns()),
            seed: 0,
        };
        let now = Instant::now();
        let mut session = Session::new(setup, now);
        session.on_text("40", now).unwrap();
        assert!(!session.may_read_client() && session.wants_broker());
        let welcome = Frame::Welcome(Box::new(Welcome {
            version: VERSION,
            connection: ConnectionId(1),
            node: "n1".to_owned(),
            server: String::new(),
            identity: "hub-hub".to_owned(),
            inbox: "_INBOX.x".to_owned(),
            limits: Limits::default(),
            ping_interval_ms: 0,
            addresses: Vec::new(),
        }));
        told(&mut session, &welcome, now);
        let packets = texts(&mut session);
        assert!(packets[0].starts_with("0{") && packets[1].starts_with("40{"));
        assert_eq!(packets[2], info(0));
        (session, seat, now)
    }

    fn told(session: &mut Session, frame: &Frame<'_>, now: Instant) {
        session.on_frame(&frame.to_vec()[LEN_FIELD..], now).unwrap();
    }

    fn info(ack: u64) -> String {
        format!(r#"42{ack}["info",{{"max_payload":8000000,"id":"n1","user":{{"hub_id":"hub"}}}}]"#)
    }

    /// What waits for the client, which must be text.
    fn texts(session: &mut Session) -> Vec<String> {
        let bytes = session.output().written();
        let (mut texts, mut rest) = (Vec::new(), &bytes[..]);
        while let Some((header, size)) = Header::decode(rest).unwrap() {
            let end = size + usize::try_from(header.len).unwrap();
            texts.push(String::from_utf8(rest[size..end].to_vec()).unwrap());
            rest = &rest[end..];
        }
        texts
    }

    #[test]
    fn a_client_is_told_who_it_is_until_it_says_that_it_knows() {
        let (mut session, _seat, start) = welcomed();
        let mut due = start + Duration::from_millis(7_500);
        for (ack, pause) in [(1, 5), (2, 10), (3, 20), (4, 30), (5, 30), (6, 30)] {
            assert!(session.next_deadline() <= due);
            session.heard(due);
            session.on_timeout(due).unwrap();
            let said = texts(&mut session);
            assert!(said.contains(&info(ack)), "{ack}: {said:?}");
            due += Duration::from_secs(pause);
        }
        // Two minutes are over, and nobody knows whether it heard.
        session.heard(due);
        session.on_timeout(due).unwrap();
        session.on_text("3", due).unwrap();
        session.heard(due);
        session.on_timeout(due + Duration::from_secs(20)).unwrap();
        let said = texts(&mut session);
        assert!(said.iter().all(|text| text == "2"), "{said:?}");

        let (mut session, _seat, start) = welcomed();
        session.on_text("430[]", start).unwrap();
        session.on_timeout(start + Duration::from_secs(20)).unwrap();
        assert_eq!(texts(&mut session), [""; 0]);
    }

    #[test]
    fn a_client_that_is_put_out_is_told_to_stay_away_and_one_of_a_drain_is_not() {
        let (mut session, _seat, now) = welcomed();
        session.kick();
        assert!(session.is_over());
        assert_eq!(texts(&mut session), ["41"]);

        let (mut session, _seat, _) = welcomed();
        let drain = Frame::Drain(frame::Drain {
            grace_ms: 1_000,
            addresses: Vec::new(),
        });
        told(&mut session, &drain, now);
        assert!(!session.is_over() && session.may_read_client());
        session
            .on_timeout(now + Duration::from_millis(500))
            .unwrap();
        assert!(session.is_over());
        assert_eq!(texts(&mut session), [""; 0]);
    }

    #[test]
    fn events_that_are_out_of_place_end_the_connection() {
        let (mut session, _seat, now) = welcomed();
        let text = r#"451-["publish",["a","b",0,1,0,{"_placeholder":true,"num":0}]]"#;
        session.on_text(text, now).unwrap();
        assert_eq!(session.on_text("3", now), Err(Broken::Order));
        let (mut session, _seat, now) = welcomed();
        let binary = session.on_binary(Cow::Borrowed(b"x"), now);
        assert_eq!(binary, Err(Broken::Order));
        assert!(session.on_text("40", now).is_err());
        assert!(session.on_text("452-[]", now).is_ok() && session.on_text("4", now).is_err());
    }

    #[test]
    fn who_takes_nothing_is_told_nothing_more_and_not_heard() {
        let (mut session, _seat, _now) = welcomed();
        let high = Config::default().output_high;
        session.output().text(&"x".repeat(high));
        assert!(!session.may_read_broker() && !session.may_read_client());
        session.output().written();
        assert!(session.may_read_broker() && session.may_read_client());
    }

    #[test]
    fn questions_that_are_not_answered_are_bounded() {
        let (mut session, _seat, now) = welcomed();
        texts(&mut session);
        for ack in 0..Config::default().answers_max {
            assert!(session.may_read_client(), "{ack}");
            let text =
                format!(r#"451-{ack}["publish",["a","b",0,1,0,{{"_placeholder":true,"num":0}}]]"#);
            session.on_text(&text, now).unwrap();
            session.on_binary(Cow::Borrowed(b"x"), now).unwrap();
        }
        assert!(!session.may_read_client());
        let published = Frame::Published(frame::Published {
            request: RequestId(1),
            outcome: Ok(3),
        });
        told(&mut session, &published, now);
        assert!(session.may_read_client());
        assert_eq!(texts(&mut session), [r#"430[{"count":3}]"#]);
    }

    /// A client that subscribes to `a.*`.
    fn subscribed() -> (Session, Seat, Instant) {
        let (mut session, seat, now) = welcomed();
        let text = r#"420["subscribe",{"subject":"a.*","queue":"q"}]"#;
        session.on_text(text, now).unwrap();
        // What follows must not overtake the subscription.
        assert!(!session.may_read_client());
        let done = Frame::Subscribed(frame::Subscribed {
            request: RequestId(1),
            refused: Vec::new(),
        });
        told(&mut session, &done, now);
        assert!(session.may_read_client());
        assert_eq!(texts(&mut session), [r#"430[{"status":"added"}]"#]);
        (session, seat, now)
    }

    /// How many chunks a client is told of a fragment of two bytes, of six in all.
    fn chunks(session: &mut Session, id: u64, index: u32, now: Instant) -> usize {
        let deliver = Frame::Deliver(frame::Deliver {
            subscription: SubscriptionId(1),
            unreliable: false,
            fragment: Some(frame::Fragment {
                id,
                index,
                total_len: 6,
            }),
            message: frame::Message {
                subject: "a.b",
                reply: None,
                encoding: 0,
                headers: None,
                payload: b"ab",
            },
        });
        told(session, &deliver, now);
        let said = session.output().written();
        said.windows(5).filter(|said| **said == *b"451-[").count()
    }

    #[test]
    fn fragments_are_passed_on_in_their_turn_or_not_at_all() {
        let (mut session, _seat, now) = subscribed();
        let mut told = |id, indices: &[u32]| -> Vec<usize> {
            let mut counts = Vec::new();
            for &index in indices {
                counts.push(chunks(&mut session, id, index, now));
            }
            counts
        };
        assert_eq!(told(1, &[0, 1, 2]), [1, 1, 1]);
        assert_eq!(told(2, &[0, 2, 1]), [1, 0, 0]);
        assert_eq!(told(3, &[1, 0]), [0, 1]);
        assert_eq!(told(1, &[2]), [0]);
    }

    #[test]
    fn fragments_that_do_not_come_are_not_waited_for_without_end() {
        let (mut session, _seat, now) = subscribed();
        assert_eq!(chunks(&mut session, 1, 0, now), 1);
        let later = now + Duration::from_mins(2);
        session.heard(later);
        session.on_timeout(later).unwrap();
        assert_eq!(chunks(&mut session, 1, 1, later), 1);
        let much_later = later + Duration::from_mins(2) + Duration::from_millis(1);
        session.heard(much_later);
        session.on_timeout(much_later).unwrap();
        session.output().written();
        assert_eq!(chunks(&mut session, 1, 2, much_later), 0);
        // Nor do many of them take any room.
        for id in 10..10 + 1_024 {
            assert_eq!(chunks(&mut session, id, 0, much_later), 1);
        }
        assert_eq!(chunks(&mut session, 9, 0, much_later), 0);
        assert_eq!(chunks(&mut session, 10, 1, much_later), 1);
    }

    #[test]
    fn headers_go_with_the_last_chunk_and_chunks_are_numbered_without_gaps() {
        let (mut session, _seat, now) = subscribed();
        let payload = vec![b'x'; Config::default().chunk_len_max() + 1];
        let total_len = payload.len() as u64 + 1;
        let deliver = |fragment, payload| {
            Frame::Deliver(frame::Deliver {
                subscription: SubscriptionId(1),
                unreliable: false,
                fragment,
                message: frame::Message {
                    subject: "a.b",
                    reply: None,
                    encoding: 0,
                    headers: Some(br#"{"h":1}"#),
                    payload,
                },
            })
        };
        let part = |index| {
            Some(frame::Fragment {
                id: 1,
                index,
                total_len,
            })
        };
        told(&mut session, &deliver(None, &payload), now);
        let whole = chunk_ends(&mut session);
        assert_eq!(whole, [",0,0,0,{}]}]", r#",1,1,0,{},{"h":1}]}]"#]);
        told(&mut session, &deliver(part(0), &payload), now);
        told(&mut session, &deliver(part(1), b"x"), now);
        let in_fragments = chunk_ends(&mut session);
        assert_eq!(
            in_fragments,
            [",0,0,0,{}]}]", ",1,0,0,{}]}]", r#",2,1,0,{},{"h":1}]}]"#]
        );
    }

    /// What stands behind the name of the message in each chunk.
    fn chunk_ends(session: &mut Session) -> Vec<String> {
        let said = texts(session);
        let ends = said.iter().filter(|text| text.starts_with("451-["));
        let ends = ends.map(|text| {
            text.split_once("\"data\":[\"")
                .unwrap()
                .1
                .split_at(11)
                .1
                .to_owned()
        });
        ends.map(|end| end.replace(r#"{"_placeholder":true,"num":0}"#, "{}"))
            .collect()
    }
}
