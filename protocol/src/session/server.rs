//! The broker's view of one peer: which frames may come when, and how many.

use std::time::{Duration, Instant};

use super::{Due, Keepalive, Timing, negotiate};
use crate::error::{Code, DecodeError, Violation};
use crate::frame::handshake::offered_versions;
use crate::frame::message::PublishView;
use crate::frame::{Cancel, Close, Fragment, Frame, Hello, Interest, List, Subscribe, Unsubscribe};
use crate::limits::{
    CREDENTIAL_LEN_MAX, HEAD_LEN_MAX, HEADERS_LEN_MAX, HELLO_LEN_MAX, Limits, SUBSCRIBE_BATCH_MAX,
    TEXT_LEN_MAX,
};
use crate::rate::Bucket;
use crate::subject::SubjectError;
use crate::{VERSION, VERSION_MIN};

/// What a frame asks the broker to do. Everything in it is within the limits.
#[derive(Debug)]
pub enum Step<'a> {
    /// Find out who this is, then call [`Session::open`]; nothing else is accepted before.
    Hello(u16, Hello),
    /// Route this. The subject is not checked yet.
    Publish(PublishView<'a>),
    /// Begin these subscriptions and answer.
    Subscribe(Subscribe),
    /// End these subscriptions and answer.
    Unsubscribe(Unsubscribe),
    /// Answer now or when somebody subscribes.
    Interest(Interest),
    /// Answer with the subscriptions of the connection.
    List(List),
    /// Forget a question.
    Cancel(Cancel),
    /// Answer with a pong of this token.
    Ping(u64),
    /// Nothing: the peer is there.
    Heard,
    /// The peer says goodbye.
    Close(Close),
}

/// One peer's standing with the broker.
#[derive(Debug)]
pub struct Session {
    state: State,
    limits: Limits,
    keepalive: Keepalive,
    messages: Bucket,
    bytes: Bucket,
    ahead_max: Duration,
}

/// Reads are not made shorter than this for the sake of a rate, in bytes.
const READ_LEN_MIN: usize = 4 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    AwaitsHello,
    AwaitsWelcome,
    Open,
    Closed,
}

impl Session {
    /// For a connection that has just been accepted.
    pub fn new(timing: Timing, now: Instant) -> Self {
        Self {
            state: State::AwaitsHello,
            limits: Limits::default(),
            keepalive: Keepalive::new(timing, now),
            messages: Bucket::new(0, now),
            bytes: Bucket::new(0, now),
            ahead_max: timing.ahead_max,
        }
    }

    /// The peer was accepted and is granted `limits`.
    pub fn open(&mut self, limits: Limits, now: Instant) {
        self.state = State::Open;
        self.messages = Bucket::new(limits.messages_per_second_max.into(), now);
        self.bytes = Bucket::new(limits.bytes_per_second_max, now);
        self.limits = limits;
        self.keepalive.open(now);
    }

    /// Whether the handshake is over.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// The longest frame that may come next, in bytes after its length field.
    pub fn frame_len_max(&self) -> u32 {
        match self.state {
            State::AwaitsHello | State::AwaitsWelcome => HELLO_LEN_MAX,
            State::Open | State::Closed => self.limits.frame_len_max,
        }
    }

    /// What the peer was granted.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// When to call [`on_timeout`](Self::on_timeout) at the latest.
    pub fn next_deadline(&self) -> Instant {
        self.keepalive.next_deadline()
    }

    /// What is due at `now`.
    pub fn on_timeout(&mut self, now: Instant) -> Due {
        self.keepalive.on_timeout(now)
    }

    /// Bytes arrived; to be called once for each read, before its frames.
    ///
    /// # Errors
    /// When the peer is too far ahead of the bytes a second that it was granted.
    pub fn on_bytes(&mut self, len: usize, now: Instant) -> Result<(), Violation> {
        self.keepalive.heard(now);
        let ahead = self.bytes.take(len as u64, now);
        self.check_rate(ahead, "bytes", self.limits.bytes_per_second_max)
    }

    #[inline]
    fn check_rate(&self, ahead: Duration, what: &str, max: u64) -> Result<(), Violation> {
        if ahead <= self.ahead_max {
            return Ok(());
        }
        let text = format!(
            "far more than {max} {what} a second: {} s ahead of that rate",
            ahead.as_secs()
        );
        Err(Violation::new(Code::TooMany, text))
    }

    /// Until when nothing should be read, because the peer is ahead of its rates.
    pub fn throttled_until(&self) -> Option<Instant> {
        self.messages.paid_at().max(self.bytes.paid_at())
    }

    /// The peer was not read from until now: that nothing was heard is not its fault.
    pub fn not_heard(&mut self, now: Instant) {
        self.keepalive.heard(now);
    }

    /// Most bytes that should be read at once, so that small rates are kept to by reading slowly;
    /// `None` is without a limit.
    pub fn read_len_max(&self) -> Option<usize> {
        match self.limits.bytes_per_second_max {
            0 => None,
            max => Some(usize::try_from(max).unwrap_or(usize::MAX).max(READ_LEN_MIN)),
        }
    }

    /// Judges the body of a frame.
    ///
    /// # Errors
    /// When the frame is malformed, out of place or beyond a limit; the connection then ends.
    #[inline]
    pub fn on_body<'a>(&mut self, body: &'a [u8], now: Instant) -> Result<Step<'a>, Violation> {
        if let Some(publish) = self.on_publish(body, now)? {
            return Ok(Step::Publish(publish));
        }
        let frame = Frame::decode(body).map_err(|error| self.on_undecodable(error, body))?;
        self.on_frame(frame)
    }

    /// A hello that only a newer version can read is refused for its version (§2.2).
    fn on_undecodable(&self, error: DecodeError, body: &[u8]) -> Violation {
        let versions = if self.state == State::AwaitsHello {
            offered_versions(body)
        } else {
            None
        };
        match versions.map(|theirs| negotiate((VERSION_MIN, VERSION), theirs)) {
            Some(Err(unsupported)) => unsupported,
            None | Some(Ok(_)) => error.into(),
        }
    }

    /// The last publish could not be decided yet and will be judged again: it is not counted twice.
    pub fn postponed(&mut self) {
        self.messages.give_back(1);
    }

    /// Judges the body of a frame if it is a publish in its place, and leaves others to
    /// [`on_body`](Self::on_body); nearly all frames of a busy peer are of this kind.
    ///
    /// # Errors
    /// As for [`on_body`](Self::on_body).
    #[inline]
    pub fn on_publish<'a>(
        &mut self,
        body: &'a [u8],
        now: Instant,
    ) -> Result<Option<PublishView<'a>>, Violation> {
        if self.state != State::Open || !PublishView::is_publish(body) {
            return Ok(None);
        }
        let publish = PublishView::decode(body)?;
        let ahead = self.messages.take(1, now);
        let max = self.limits.messages_per_second_max;
        self.check_rate(ahead, "messages", max.into())?;
        if publish.headers_len > HEADERS_LEN_MAX {
            let text = format!(
                "headers of {} bytes are longer than {HEADERS_LEN_MAX}",
                publish.headers_len
            );
            return Err(Violation::new(Code::TooLarge, text));
        }
        let in_one_frame = u64::from(self.limits.fragment_len_max).min(self.limits.message_len_max);
        if publish.payload_len as u64 > in_one_frame {
            let text = format!(
                "a payload of {} bytes in one frame is longer than {in_one_frame}",
                publish.payload_len
            );
            return Err(Violation::new(Code::TooLarge, text));
        }
        if let Some(fragment) = publish.fragment {
            self.check_fragment(fragment, publish.subject)?;
        }
        Ok(Some(publish))
    }

    fn check_fragment(&self, fragment: Fragment, subject: &[u8]) -> Result<(), Violation> {
        let Fragment {
            index, total_len, ..
        } = fragment;
        if total_len > self.limits.message_len_max {
            let max = self.limits.message_len_max;
            return Err(Violation::new(
                Code::TooLarge,
                format!("a message of {total_len} bytes is longer than {max}"),
            ));
        }
        // Only the subject of the first fragment is looked up, but the section of every one is
        // passed on, and must not make the frame of a receiver malformed.
        if index > 0 && std::str::from_utf8(subject).is_err() {
            return Err(SubjectError::NotUtf8.into());
        }
        Ok(())
    }

    fn on_frame<'a>(&mut self, frame: Frame<'a>) -> Result<Step<'a>, Violation> {
        match (self.state, frame) {
            (State::Closed, other) => Err(out_of_place(&other, "a close has come before")),
            (_, Frame::Close(close)) => {
                self.state = State::Closed;
                Ok(Step::Close(close))
            }
            (State::AwaitsHello, Frame::Hello(hello)) => self.on_hello(hello),
            (State::AwaitsHello, other @ Frame::Link(_)) => Err(out_of_place(
                &other,
                "clients connect here, and the nodes of a cluster elsewhere",
            )),
            (State::AwaitsHello, other) => {
                Err(out_of_place(&other, "the first frame must be a hello"))
            }
            (State::AwaitsWelcome, other) => {
                Err(out_of_place(&other, "the handshake has not ended"))
            }
            (State::Open, frame) => Self::on_open_frame(frame),
        }
    }

    fn on_hello<'a>(&mut self, hello: Hello) -> Result<Step<'a>, Violation> {
        let version = negotiate(
            (VERSION_MIN, VERSION),
            (hello.version_min, hello.version_max),
        )?;
        check_hello(&hello)?;
        self.state = State::AwaitsWelcome;
        Ok(Step::Hello(version, hello))
    }

    fn on_open_frame(frame: Frame<'_>) -> Result<Step<'_>, Violation> {
        match frame {
            Frame::Subscribe(subscribe) => {
                check_batch(subscribe.wanted.len())?;
                Ok(Step::Subscribe(subscribe))
            }
            Frame::Unsubscribe(unsubscribe) => {
                check_batch(unsubscribe.ids.len())?;
                Ok(Step::Unsubscribe(unsubscribe))
            }
            Frame::Interest(interest) => Ok(Step::Interest(interest)),
            Frame::List(list) => Ok(Step::List(list)),
            Frame::Cancel(cancel) => Ok(Step::Cancel(cancel)),
            Frame::Ping(ping) => Ok(Step::Ping(ping.token)),
            Frame::Pong(_) => Ok(Step::Heard),
            other @ (Frame::Hello(_)
            | Frame::Welcome(_)
            | Frame::Subscribed(_)
            | Frame::Unsubscribed(_)
            | Frame::Publish(_)
            | Frame::Published(_)
            | Frame::Deliver(_)
            | Frame::Interested(_)
            | Frame::Listed(_)
            | Frame::Denied(_)
            | Frame::Ended(_)
            | Frame::Dropped(_)
            | Frame::Drain(_)
            | Frame::Close(_)
            | Frame::Addresses(_)
            | Frame::Link(_)) => Err(out_of_place(&other, "a client does not send it here")),
        }
    }
}

/// The smallest [`Limits::frame_len_max`] at which everything else that these limits grant fits
/// into a frame: the longest fragment with the longest subjects and headers. In bytes.
pub fn frame_len_needed(limits: &Limits) -> u64 {
    let texts = 2 * crate::limits::SUBJECT_LEN_MAX as u64 + HEADERS_LEN_MAX as u64;
    u64::from(limits.fragment_len_max) + texts + u64::from(HEAD_LEN_MAX)
}

fn check_hello(hello: &Hello) -> Result<(), Violation> {
    use crate::frame::Credentials;
    let longest = match &hello.credentials {
        Credentials::None => 0,
        Credentials::Token(token) => token.len(),
        Credentials::Password { user, password } => user.len().max(password.len()),
    };
    if longest > CREDENTIAL_LEN_MAX {
        return Err(Violation::new(
            Code::TooLarge,
            format!("credentials are longer than {CREDENTIAL_LEN_MAX} bytes"),
        ));
    }
    if hello.client.len() > TEXT_LEN_MAX {
        return Err(Violation::new(
            Code::TooLarge,
            format!("the client's name is longer than {TEXT_LEN_MAX} bytes"),
        ));
    }
    Ok(())
}

fn check_batch(len: usize) -> Result<(), Violation> {
    if len <= SUBSCRIBE_BATCH_MAX {
        return Ok(());
    }
    let text = format!("a batch of {len} subscriptions is larger than {SUBSCRIBE_BATCH_MAX}");
    Err(Violation::new(Code::TooLarge, text))
}

fn out_of_place(frame: &Frame<'_>, why: &str) -> Violation {
    Violation::new(
        Code::BadFrame,
        format!("a {} frame is out of place: {why}", frame.name()),
    )
}
