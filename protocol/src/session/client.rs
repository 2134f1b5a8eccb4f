//! The client's view of its broker: the handshake, what to restore after a reconnect, and large
//! messages put together again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Due, Keepalive, Timing};
use crate::error::{Code, Violation};
use crate::fragment::{Accepted, Bounds, FragmentError, Table};
use crate::frame::{
    Addresses, Close, Credentials, Deliver, Denied, Drain, Dropped, Ended, Fragment, Frame, Hello,
    Message, Refused, Subscribe, Wanted, Welcome, handshake,
};
use crate::id::{RequestId, SubscriptionId};
use crate::limits::{HEAD_LEN_MAX, HELLO_LEN_MAX, Limits, SUBSCRIBE_BATCH_MAX};
use crate::{VERSION, VERSION_MIN};

/// What a client session is made with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name and version of the software, for people.
    pub name: String,
    /// Who the client claims to be.
    pub credentials: Credentials,
    /// How long what may take.
    pub timing: Timing,
    /// Longest message that is put together from fragments, in bytes; a longer one is dropped.
    pub message_len_max: u64,
    /// Most bytes of unfinished messages that are kept; one that needs more is dropped.
    pub partial_len_max: u64,
    /// Most unfinished messages that are kept; one more is dropped.
    pub partial_max: usize,
    /// How long an unfinished message may wait for its next fragment.
    pub partial_idle_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            credentials: Credentials::None,
            timing: Timing::default(),
            message_len_max: 1 << 30,
            partial_len_max: 1 << 30,
            partial_max: 1_024,
            partial_idle_max: Duration::from_mins(2),
        }
    }
}

/// What a frame from the broker means.
#[derive(Debug)]
pub enum Event<'a> {
    /// The connection is open; restore the subscriptions.
    Welcome(Box<Welcome>),
    /// A message that came in one frame.
    Message(SubscriptionId, Message<'a>),
    /// A message that came in fragments.
    Assembled(SubscriptionId, Assembled),
    /// An answer to a question of this client.
    Answer(RequestId, Answer),
    /// A subscription was ended by the broker; it is no longer restored.
    Ended(Ended),
    /// Messages were dropped: by the broker, or here because unfinished messages took too much
    /// room or a part of one is missing.
    Dropped(Dropped),
    /// Something was not permitted.
    Denied(Denied),
    /// The broker asks to move.
    Drain(Drain),
    /// Where else the broker can be reached.
    Addresses(Addresses),
    /// A pong with this token must be sent.
    Ping(u64),
    /// Nothing: the broker is there, or a fragment was kept, or belongs to a message given up.
    Heard,
    /// The broker ends the connection.
    Close(Close),
}

/// An answer to a question of this client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The subscriptions that were refused; they are no longer restored.
    Subscribed(Vec<(SubscriptionId, Refused)>),
    /// The subscriptions have ended.
    Unsubscribed,
    /// How many deliveries were made.
    Published(Result<u32, Refused>),
    /// Whether somebody subscribes.
    Interested(Result<bool, Refused>),
    /// A part of the list, and whether more follows.
    Listed(Vec<Wanted>, bool),
}

/// A message that came in fragments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// Its name.
    pub subject: String,
    /// Where an answer is to go.
    pub reply: Option<String>,
    /// How the payload is to be read.
    pub encoding: u8,
    /// One JSON object.
    pub headers: Option<Vec<u8>>,
    /// The whole payload.
    pub payload: Vec<u8>,
}

/// A client's standing with its broker. It outlives connections: call [`Session::hello`] for each.
#[derive(Debug)]
pub struct Session {
    config: Config,
    state: State,
    keepalive: Keepalive,
    limits: Limits,
    subscriptions: BTreeMap<SubscriptionId, Wanted>,
    partial: Table<Assembled>,
    lost: u64,
    next_subscription: u32,
    next_request: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Offline,
    AwaitsWelcome,
    Open,
    Closed,
}

impl Session {
    /// For a client that is not connected yet.
    pub fn new(config: Config, now: Instant) -> Self {
        let bounds = Bounds {
            messages_max: config.partial_max,
            message_len_max: config.message_len_max,
            idle_max: config.partial_idle_max,
        };
        Self {
            keepalive: Keepalive::new(config.timing, now),
            state: State::Offline,
            limits: Limits::default(),
            subscriptions: BTreeMap::new(),
            partial: Table::new(bounds),
            lost: 0,
            next_subscription: 1,
            next_request: 1,
            config,
        }
    }

    /// A connection was made: the frame to send first.
    pub fn hello(&mut self, now: Instant) -> Frame<'static> {
        self.state = State::AwaitsWelcome;
        self.keepalive = Keepalive::new(self.config.timing, now);
        self.partial.clear();
        Frame::Hello(Hello {
            magic: handshake::MAGIC,
            version_min: VERSION_MIN,
            version_max: VERSION,
            client: self.config.name.clone(),
            credentials: self.config.credentials.clone(),
        })
    }

    /// The connection ended.
    pub fn disconnected(&mut self) {
        self.state = State::Offline;
        self.partial.clear();
    }

    /// Whether the handshake is over.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// What the broker granted last.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Changes the credentials of the next hello.
    pub fn set_credentials(&mut self, credentials: Credentials) {
        self.config.credentials = credentials;
    }

    /// A number for a question, not used by any recent one.
    pub fn next_request(&mut self) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request = self.next_request.checked_add(1).unwrap_or(1);
        request
    }

    /// Notes a subscription, to be restored after every reconnect, under a new number.
    pub fn add(&mut self, mut wanted: Wanted) -> Wanted {
        while self.next_subscription == 0
            || self
                .subscriptions
                .contains_key(&SubscriptionId(self.next_subscription))
        {
            self.next_subscription = self.next_subscription.wrapping_add(1);
        }
        wanted.id = SubscriptionId(self.next_subscription);
        self.next_subscription = self.next_subscription.wrapping_add(1);
        self.subscriptions.insert(wanted.id, wanted.clone());
        wanted
    }

    /// Forgets a subscription.
    pub fn remove(&mut self, id: SubscriptionId) -> Option<Wanted> {
        self.subscriptions.remove(&id)
    }

    /// What is subscribed, or will be again after a reconnect.
    pub fn subscriptions(&self) -> impl Iterator<Item = &Wanted> {
        self.subscriptions.values()
    }

    /// Frames that restore all subscriptions, to be sent after a welcome, each answered with
    /// [`Answer::Subscribed`]. Each is within the limits of the welcome.
    pub fn restore(&mut self) -> Vec<Subscribe> {
        let mut batches: Vec<Vec<Wanted>> = Vec::new();
        let mut room = 0_usize;
        for wanted in self.subscriptions.values() {
            let len = wanted.wire_len_max();
            match batches.last_mut() {
                Some(batch) if len <= room && batch.len() < SUBSCRIBE_BATCH_MAX => {
                    batch.push(wanted.clone());
                }
                Some(_) | None => {
                    room = self.limits.frame_len_max.saturating_sub(HEAD_LEN_MAX) as usize;
                    batches.push(vec![wanted.clone()]);
                }
            }
            room = room.saturating_sub(len);
        }
        let subscribe = |wanted| Subscribe {
            request: self.next_request(),
            wanted,
        };
        batches.into_iter().map(subscribe).collect()
    }

    /// The longest frame that may come next, in bytes after its length field.
    pub fn frame_len_max(&self) -> u32 {
        match self.state {
            State::Offline | State::AwaitsWelcome => HELLO_LEN_MAX,
            State::Open | State::Closed => self.limits.frame_len_max.saturating_add(HEAD_LEN_MAX),
        }
    }

    /// How many messages in fragments were given up so far: because they were too large, took too
    /// much room, missed a part, or did not go on in time.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// When to call [`on_timeout`](Self::on_timeout) at the latest.
    pub fn next_deadline(&self) -> Instant {
        let due = self.keepalive.next_deadline();
        self.partial
            .next_expiry()
            .map_or(due, |expiry| due.min(expiry))
    }

    /// What is due at `now`.
    pub fn on_timeout(&mut self, now: Instant) -> Due {
        self.lost += self.partial.expire(now) as u64;
        self.keepalive.on_timeout(now)
    }

    /// Bytes arrived; to be called once for each read.
    pub fn on_bytes(&mut self, now: Instant) {
        self.keepalive.heard(now);
    }

    /// Judges the body of a frame.
    ///
    /// # Errors
    /// When the broker breaks the rules; the connection then ends.
    pub fn on_body<'a>(&mut self, body: &'a [u8], now: Instant) -> Result<Event<'a>, Violation> {
        match (self.state, Frame::decode(body)?) {
            (State::Closed, other) => Err(out_of_place(&other, "a close has come before")),
            (_, Frame::Close(close)) => {
                self.state = State::Closed;
                Ok(Event::Close(close))
            }
            (State::AwaitsWelcome, Frame::Welcome(welcome)) => self.on_welcome(welcome, now),
            (State::Open, Frame::Deliver(deliver)) => self.on_deliver(deliver, now),
            (State::Open, frame) => self.on_answer(frame),
            (State::Offline | State::AwaitsWelcome, other) => {
                Err(out_of_place(&other, "the first frame must be a welcome"))
            }
        }
    }

    fn on_welcome<'a>(
        &mut self,
        welcome: Box<Welcome>,
        now: Instant,
    ) -> Result<Event<'a>, Violation> {
        if !(VERSION_MIN..=VERSION).contains(&welcome.version) {
            let text = format!(
                "the broker chose version {}, which was not offered",
                welcome.version
            );
            return Err(Violation::new(Code::UnsupportedVersion, text));
        }
        self.limits = welcome.limits.clone();
        self.state = State::Open;
        self.keepalive.open(now);
        Ok(Event::Welcome(welcome))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what is no answer is a notice"
    )]
    fn on_answer<'a>(&mut self, frame: Frame<'a>) -> Result<Event<'a>, Violation> {
        let (request, answer) = match frame {
            Frame::Subscribed(subscribed) => {
                for (id, _) in &subscribed.refused {
                    self.subscriptions.remove(id);
                }
                (subscribed.request, Answer::Subscribed(subscribed.refused))
            }
            Frame::Unsubscribed(unsubscribed) => (unsubscribed.request, Answer::Unsubscribed),
            Frame::Published(published) => {
                (published.request, Answer::Published(published.outcome))
            }
            Frame::Interested(interested) => {
                (interested.request, Answer::Interested(interested.answer))
            }
            Frame::Listed(listed) => (
                listed.request,
                Answer::Listed(listed.subscriptions, listed.more),
            ),
            other => return self.on_notice(other),
        };
        Ok(Event::Answer(request, answer))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "every other kind is out of place alike"
    )]
    fn on_notice<'a>(&mut self, frame: Frame<'a>) -> Result<Event<'a>, Violation> {
        match frame {
            Frame::Ended(ended) => {
                self.subscriptions.remove(&ended.subscription);
                Ok(Event::Ended(ended))
            }
            Frame::Dropped(dropped) => Ok(Event::Dropped(dropped)),
            Frame::Denied(denied) => Ok(Event::Denied(denied)),
            Frame::Drain(drain) => Ok(Event::Drain(drain)),
            Frame::Addresses(addresses) => Ok(Event::Addresses(addresses)),
            Frame::Ping(ping) => Ok(Event::Ping(ping.token)),
            Frame::Pong(_) => Ok(Event::Heard),
            other => Err(out_of_place(&other, "a broker does not send it here")),
        }
    }

    fn on_deliver<'a>(
        &mut self,
        deliver: Deliver<'a>,
        now: Instant,
    ) -> Result<Event<'a>, Violation> {
        let (subscription, message) = (deliver.subscription, deliver.message);
        match deliver.fragment {
            None => Ok(Event::Message(subscription, message)),
            // The rest of a message that was given up, or of which the broker dropped the beginning.
            Some(Fragment { id, index: 1.., .. }) if !self.partial.contains(id) => Ok(Event::Heard),
            Some(fragment) => self.on_fragment(subscription, fragment, &message, now),
        }
    }

    /// A message that finds no room here is dropped like one that finds none at the broker: it is
    /// its publisher that asks too much, and no reason to end the connection.
    fn on_fragment<'a>(
        &mut self,
        subscription: SubscriptionId,
        fragment: Fragment,
        message: &Message<'a>,
        now: Instant,
    ) -> Result<Event<'a>, Violation> {
        self.lost += self.partial.expire(now) as u64;
        let len = message.payload.len();
        if self.partial.held_len().saturating_add(len as u64) > self.config.partial_len_max {
            self.partial.forget(fragment.id);
            return Ok(self.lose(subscription));
        }
        match self.partial.accept(fragment, len, now, || {
            Assembled::begin(message, fragment.total_len)
        }) {
            Ok(Accepted::More(assembled)) => {
                assembled.payload.extend_from_slice(message.payload);
                Ok(Event::Heard)
            }
            Ok(Accepted::Last(mut assembled)) => {
                assembled.payload.extend_from_slice(message.payload);
                Ok(Event::Assembled(subscription, assembled))
            }
            Err(
                FragmentError::TooMany { .. }
                | FragmentError::OutOfTurn { .. }
                | FragmentError::TooLong { .. },
            ) => Ok(self.lose(subscription)),
            Err(error @ FragmentError::Empty { .. }) => Err(error.into()),
        }
    }

    fn lose(&mut self, subscription: SubscriptionId) -> Event<'static> {
        self.lost += 1;
        Event::Dropped(Dropped {
            subscription,
            count: 1,
        })
    }
}

/// Room that is set aside with the first fragment of a message, as a multiple of that fragment:
/// enough that growing costs little, and never much more than was sent.
const RESERVE_FACTOR: usize = 16;

impl Assembled {
    fn begin(message: &Message<'_>, total_len: u64) -> Self {
        let room = message.payload.len().saturating_mul(RESERVE_FACTOR);
        Self {
            subject: message.subject.to_owned(),
            reply: message.reply.map(str::to_owned),
            encoding: message.encoding,
            headers: message.headers.map(<[u8]>::to_vec),
            payload: Vec::with_capacity(usize::try_from(total_len).unwrap_or(room).min(room)),
        }
    }
}

fn out_of_place(frame: &Frame<'_>, why: &str) -> Violation {
    Violation::new(
        Code::BadFrame,
        format!("a {} frame is out of place: {why}", frame.name()),
    )
}
