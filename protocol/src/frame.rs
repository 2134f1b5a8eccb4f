//! The kinds of frames, and how one is encoded and decoded.
//!
//! ```text
//!  0        4                                         4 + len
//!  ┌────────┬──────────────────────────┬───────────────┐
//!  │ len    │ head: kind and fields    │ payload       │
//!  │ u32 LE │ postcard                 │ raw, to the   │
//!  │        │                          │ frame's end   │
//!  └────────┴──────────────────────────┴───────────────┘
//! ```
//!
//! Only publish and deliver frames have a payload. The order of the variants and of the fields *is*
//! the wire (§3): new kinds are appended, nothing is ever moved. `tests/vectors/` holds it.

use serde::{Deserialize, Serialize};

use crate::error::DecodeError;

pub mod handshake;
pub use handshake::{Addresses, Credentials, Hello, Welcome};

pub mod subscription;
pub use subscription::{
    Dropped, Ended, Pick, Subscribe, Subscribed, Unsubscribe, Unsubscribed, Wanted,
};

pub mod message;
pub use message::{Deliver, Fragment, Message, Publish, Published};

pub mod question;
pub use question::{Cancel, Interest, Interested, List, Listed, Refused};

pub mod control;
pub use control::{Action, Close, Denied, Drain, Ping, Pong};

pub mod link;
pub use link::{Link, LinkHello};

mod wire;

/// One unit on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub enum Frame<'a> {
    /// 0, client to broker: the first frame.
    Hello(Hello),
    /// 1, broker to client: the answer to the hello.
    Welcome(Box<Welcome>),
    /// 2, client to broker: begin subscriptions.
    Subscribe(Subscribe),
    /// 3, broker to client: which of them began.
    Subscribed(Subscribed),
    /// 4, client to broker: end subscriptions.
    Unsubscribe(Unsubscribe),
    /// 5, broker to client: they have ended.
    Unsubscribed(Unsubscribed),
    /// 6, client to broker: a message, or a fragment of one.
    #[serde(borrow)]
    Publish(Publish<'a>),
    /// 7, broker to client: what became of a publish that asked for an acknowledgement.
    Published(Published),
    /// 8, broker to client: a message for a subscription, or a fragment of one.
    Deliver(Deliver<'a>),
    /// 9, client to broker: does anybody subscribe, and tell me when somebody does.
    Interest(Interest),
    /// 10, broker to client: the answer to an interest query.
    Interested(Interested),
    /// 11, client to broker: which subscriptions do I have.
    List(List),
    /// 12, broker to client: a part of the list.
    Listed(Listed),
    /// 13, both ways: are you there.
    Ping(Ping),
    /// 14, both ways: yes.
    Pong(Pong),
    /// 15, broker to client: something without an answer of its own was not permitted.
    Denied(Denied),
    /// 16, broker to client: a subscription was ended by the broker.
    Ended(Ended),
    /// 17, broker to client: messages of a drop-oldest subscription were dropped.
    Dropped(Dropped),
    /// 18, broker to client: go elsewhere soon.
    Drain(Drain),
    /// 19, both ways: the last frame.
    Close(Close),
    /// 20, broker to client: where else the broker can be reached, when that changes.
    Addresses(Addresses),
    /// 21, client to broker: an answer is awaited no longer.
    Cancel(Cancel),
    /// 22, between the nodes of a cluster, and nowhere else.
    Link(Link),
}

/// How many kinds of frames there are; the kinds are numbered from 0.
const KINDS: u8 = 23;

impl<'a> Frame<'a> {
    /// Decodes a frame from its body: everything after the length field.
    ///
    /// # Errors
    /// When the body is not one frame of a known kind, exactly.
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let kind = *body.first().ok_or(DecodeError::Empty)?;
        if kind >= KINDS {
            return Err(DecodeError::UnknownKind { kind });
        }
        match kind {
            message::KIND_PUBLISH => Publish::decode(body).map(Self::Publish),
            message::KIND_DELIVER => Deliver::decode(body).map(Self::Deliver),
            _ => Self::decode_control(body, kind),
        }
    }

    fn decode_control(body: &'a [u8], kind: u8) -> Result<Self, DecodeError> {
        if kind == handshake::KIND_HELLO && !handshake::has_magic(body) {
            return Err(DecodeError::NotDialtone);
        }
        let malformed = DecodeError::Malformed {
            kind: kind_name(kind),
        };
        let Ok((frame, rest)) = postcard::take_from_bytes::<Self>(body) else {
            return Err(malformed);
        };
        // Hellos and welcome may grow fields in later versions; what follows is for newer readers.
        let extensible = matches!(
            frame,
            Self::Hello(_) | Self::Welcome(_) | Self::Link(Link::Hello(_))
        );
        if !rest.is_empty() && !extensible {
            return Err(malformed);
        }
        Ok(frame)
    }

    /// Appends the frame, with its length field, to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        match self {
            Self::Publish(publish) => publish.encode_body(out),
            Self::Deliver(deliver) => deliver.encode_body(out),
            Self::Hello(_)
            | Self::Welcome(_)
            | Self::Subscribe(_)
            | Self::Subscribed(_)
            | Self::Unsubscribe(_)
            | Self::Unsubscribed(_)
            | Self::Published(_)
            | Self::Interest(_)
            | Self::Interested(_)
            | Self::List(_)
            | Self::Listed(_)
            | Self::Ping(_)
            | Self::Pong(_)
            | Self::Denied(_)
            | Self::Ended(_)
            | Self::Dropped(_)
            | Self::Drain(_)
            | Self::Close(_)
            | Self::Addresses(_)
            | Self::Cancel(_)
            | Self::Link(_) => encode_control(self, out),
        }
        wire::patch_len(out, start);
    }

    /// The frame with its length field, in a buffer of its own.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        self.encode(&mut out);
        out
    }

    /// The name of the kind, for logs and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Welcome(_) => "welcome",
            Self::Subscribe(_) => "subscribe",
            Self::Subscribed(_) => "subscribed",
            Self::Unsubscribe(_) => "unsubscribe",
            Self::Unsubscribed(_) => "unsubscribed",
            Self::Publish(_) => "publish",
            Self::Published(_) => "published",
            Self::Deliver(_) => "deliver",
            Self::Interest(_) => "interest",
            Self::Interested(_) => "interested",
            Self::List(_) => "list",
            Self::Listed(_) => "listed",
            Self::Ping(_) => "ping",
            Self::Pong(_) => "pong",
            Self::Denied(_) => "denied",
            Self::Ended(_) => "ended",
            Self::Dropped(_) => "dropped",
            Self::Drain(_) => "drain",
            Self::Close(_) => "close",
            Self::Addresses(_) => "addresses",
            Self::Cancel(_) => "cancel",
            Self::Link(_) => "link",
        }
    }
}

fn encode_control(frame: &Frame<'_>, out: &mut Vec<u8>) {
    // Writing to a vector cannot run out of room, and no field is of a type that postcard refuses.
    let body = postcard::to_extend(frame, Extender(out));
    debug_assert!(body.is_ok(), "a control frame is always encodable");
}

/// Lets postcard append to a borrowed vector.
struct Extender<'v>(&'v mut Vec<u8>);

impl Extend<u8> for Extender<'_> {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, iter: I) {
        self.0.extend(iter);
    }
}

fn kind_name(kind: u8) -> &'static str {
    const NAMES: [&str; KINDS as usize] = [
        "hello",
        "welcome",
        "subscribe",
        "subscribed",
        "unsubscribe",
        "unsubscribed",
        "publish",
        "published",
        "deliver",
        "interest",
        "interested",
        "list",
        "listed",
        "ping",
        "pong",
        "denied",
        "ended",
        "dropped",
        "drain",
        "close",
        "addresses",
        "cancel",
        "link",
    ];
    NAMES.get(usize::from(kind)).copied().unwrap_or("unknown")
}
