//! The two frames that carry messages: publish and deliver (§5, §6).
//!
//! ```text
//! publish  6 │ request? │ unreliable │ fragment? │ section
//! deliver  8 │ subscription │ unreliable │ fragment? │ section
//! section    subject │ reply? │ encoding │ headers? │ payload to the frame's end
//! ```
//!
//! The section is the same in both, byte for byte: the broker passes it on as it came and writes
//! only what stands before it.

use serde::{Deserialize, Serialize};

use super::wire::{Cut, patch_len, put_bytes, put_varint};
use crate::error::DecodeError;
use crate::frame::Refused;
use crate::id::{RequestId, SubscriptionId};

pub(super) const KIND_PUBLISH: u8 = 6;
pub(super) const KIND_DELIVER: u8 = 8;

/// What a user publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Message<'a> {
    /// Its name; whoever needs it valid checks it.
    pub subject: &'a str,
    /// Where an answer is to go.
    pub reply: Option<&'a str>,
    /// How the payload is to be read: 0 `MessagePack`, 1 JSON; others are the users' own.
    pub encoding: u8,
    /// One JSON object, which the broker never reads. Only the first fragment carries it.
    pub headers: Option<&'a [u8]>,
    /// The rest of the frame; serde never sees it.
    #[serde(skip)]
    pub payload: &'a [u8],
}

/// Which part of a large message a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Fragment {
    /// Names the message among those in flight: chosen by the publisher in publish frames, and by
    /// the broker in deliver frames.
    pub id: u64,
    /// 0, 1, 2, … without gaps.
    pub index: u32,
    /// Length of the whole payload, in bytes; the fragment that reaches it is the last.
    pub total_len: u64,
}

/// A message from a client to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Publish<'a> {
    /// Asks for an acknowledgement under this number; of a fragmented message on its last fragment.
    pub request: Option<RequestId>,
    /// May be lost rather than wait: travels as a datagram where it can.
    pub unreliable: bool,
    /// Set when the message is cut.
    pub fragment: Option<Fragment>,
    /// The message.
    #[serde(borrow)]
    pub message: Message<'a>,
}

/// A message from the broker to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Deliver<'a> {
    /// The subscription that it is for.
    pub subscription: SubscriptionId,
    /// Was published as unreliable.
    pub unreliable: bool,
    /// Set when the message is cut.
    pub fragment: Option<Fragment>,
    /// The message.
    #[serde(borrow)]
    pub message: Message<'a>,
}

/// What became of a publish that asked for an acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Published {
    /// From the publish.
    pub request: RequestId,
    /// To how many (pattern, group) pairs and ungrouped subscriptions it went, taps excluded.
    pub outcome: Result<u32, Refused>,
}

/// A publish frame as the broker sees it: checked in its structure, not copied, and with the
/// section ready to be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishView<'a> {
    /// As in [`Publish`].
    pub request: Option<RequestId>,
    /// As in [`Publish`].
    pub unreliable: bool,
    /// As in [`Publish`].
    pub fragment: Option<Fragment>,
    /// The bytes of the subject; whether they are a valid subject is asked once per subject.
    pub subject: &'a [u8],
    /// Where an answer is to go.
    pub reply: Option<&'a str>,
    /// How the payload is to be read, as in [`Message`].
    pub encoding: u8,
    /// Length of the headers in bytes, 0 without.
    pub headers_len: usize,
    /// Length of the payload in bytes.
    pub payload_len: usize,
    /// From the subject to the end of the frame.
    pub section: &'a [u8],
}

impl<'a> PublishView<'a> {
    /// Whether `body` claims to be a publish frame.
    pub fn is_publish(body: &[u8]) -> bool {
        body.first() == Some(&KIND_PUBLISH)
    }

    /// Reads the body of a publish frame.
    ///
    /// # Errors
    /// When it is not one.
    #[inline]
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        Self::cut(body).ok_or(DecodeError::Malformed { kind: "publish" })
    }

    #[inline]
    fn cut(body: &'a [u8]) -> Option<Self> {
        let mut cut = Cut(body);
        if cut.byte()? != KIND_PUBLISH {
            return None;
        }
        let request = if cut.flag()? {
            Some(RequestId(cut.varint_u32()?))
        } else {
            None
        };
        let unreliable = cut.flag()?;
        let fragment = cut_fragment(&mut cut)?;
        let section = cut.0;
        let subject = cut.bytes()?;
        let reply = if cut.flag()? { Some(cut.text()?) } else { None };
        let encoding = cut.byte()?;
        let headers_len = if cut.flag()? { cut.bytes()?.len() } else { 0 };
        Some(Self {
            request,
            unreliable,
            fragment,
            subject,
            reply,
            encoding,
            headers_len,
            payload_len: cut.0.len(),
            section,
        })
    }
}

/// A deliver frame as another node of a cluster sees it: as [`PublishView`] is to a publish frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliverView<'a> {
    /// The destination (§12.4).
    pub subscription: SubscriptionId,
    /// As in [`Deliver`].
    pub unreliable: bool,
    /// As in [`Deliver`].
    pub fragment: Option<Fragment>,
    /// The bytes of the subject, not checked.
    pub subject: &'a [u8],
    /// Length of the payload in bytes.
    pub payload_len: usize,
    /// From the subject to the end of the frame.
    pub section: &'a [u8],
}

impl<'a> DeliverView<'a> {
    /// Whether `body` claims to be a deliver frame.
    #[inline]
    pub fn is_deliver(body: &[u8]) -> bool {
        body.first() == Some(&KIND_DELIVER)
    }

    /// Reads the body of a deliver frame.
    ///
    /// # Errors
    /// When it is not one.
    #[inline]
    pub fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        Self::cut(body).ok_or(DecodeError::Malformed { kind: "deliver" })
    }

    #[inline]
    fn cut(body: &'a [u8]) -> Option<Self> {
        let mut cut = Cut(body);
        if cut.byte()? != KIND_DELIVER {
            return None;
        }
        let subscription = SubscriptionId(cut.varint_u32()?);
        let unreliable = cut.flag()?;
        let fragment = cut_fragment(&mut cut)?;
        let section = cut.0;
        let subject = cut.bytes()?;
        if cut.flag()? {
            cut.text()?;
        }
        cut.byte()?;
        if cut.flag()? {
            cut.bytes()?;
        }
        Some(Self {
            subscription,
            unreliable,
            fragment,
            subject,
            payload_len: cut.0.len(),
            section,
        })
    }
}

impl<'a> Publish<'a> {
    pub(super) fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let cut = |body: &'a [u8]| {
            let mut cut = Cut(body);
            cut.byte()?;
            let request = if cut.flag()? {
                Some(RequestId(cut.varint_u32()?))
            } else {
                None
            };
            let unreliable = cut.flag()?;
            let fragment = cut_fragment(&mut cut)?;
            Some(Self {
                request,
                unreliable,
                fragment,
                message: cut_message(&mut cut)?,
            })
        };
        cut(body).ok_or(DecodeError::Malformed { kind: "publish" })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        out.push(KIND_PUBLISH);
        match self.request {
            Some(request) => {
                out.push(1);
                put_varint(out, request.0.into());
            }
            None => out.push(0),
        }
        out.push(self.unreliable.into());
        put_fragment(out, self.fragment);
        put_message(out, &self.message);
    }
}

impl<'a> Deliver<'a> {
    pub(super) fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let cut = |body: &'a [u8]| {
            let mut cut = Cut(body);
            cut.byte()?;
            let subscription = SubscriptionId(cut.varint_u32()?);
            let unreliable = cut.flag()?;
            let fragment = cut_fragment(&mut cut)?;
            Some(Self {
                subscription,
                unreliable,
                fragment,
                message: cut_message(&mut cut)?,
            })
        };
        cut(body).ok_or(DecodeError::Malformed { kind: "deliver" })
    }

    pub(super) fn encode_body(&self, out: &mut Vec<u8>) {
        put_deliver_head(out, self.subscription, self.unreliable, self.fragment);
        put_message(out, &self.message);
    }
}

/// Appends a whole deliver frame around a section that came in a publish frame.
#[inline]
pub fn put_deliver(
    out: &mut Vec<u8>,
    subscription: SubscriptionId,
    unreliable: bool,
    fragment: Option<Fragment>,
    section: &[u8],
) {
    let start = out.len();
    out.reserve(section.len() + 40);
    out.extend_from_slice(&[0; 4]);
    put_deliver_head(out, subscription, unreliable, fragment);
    out.extend_from_slice(section);
    patch_len(out, start);
}

/// Appends the beginning of a deliver frame whose section of `section_len` bytes is written
/// separately.
pub fn put_deliver_prefix(
    out: &mut Vec<u8>,
    subscription: SubscriptionId,
    unreliable: bool,
    fragment: Option<Fragment>,
    section_len: usize,
) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    put_deliver_head(out, subscription, unreliable, fragment);
    let len = u32::try_from(out.len() - start - 4 + section_len).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&len.to_le_bytes());
    }
}

#[inline]
fn put_deliver_head(
    out: &mut Vec<u8>,
    subscription: SubscriptionId,
    unreliable: bool,
    fragment: Option<Fragment>,
) {
    out.push(KIND_DELIVER);
    put_varint(out, subscription.0.into());
    out.push(unreliable.into());
    put_fragment(out, fragment);
}

/// Reads the section of a publish frame as a message.
///
/// # Errors
/// When it is not one.
pub fn decode_section(section: &[u8]) -> Result<Message<'_>, DecodeError> {
    cut_message(&mut Cut(section)).ok_or(DecodeError::Malformed { kind: "publish" })
}

#[inline]
#[expect(
    clippy::option_option,
    reason = "the outer one says whether there was anything to read"
)]
fn cut_fragment(cut: &mut Cut<'_>) -> Option<Option<Fragment>> {
    if !cut.flag()? {
        return Some(None);
    }
    Some(Some(Fragment {
        id: cut.varint()?,
        index: cut.varint_u32()?,
        total_len: cut.varint()?,
    }))
}

fn put_fragment(out: &mut Vec<u8>, fragment: Option<Fragment>) {
    match fragment {
        Some(Fragment {
            id,
            index,
            total_len,
        }) => {
            out.push(1);
            put_varint(out, id);
            put_varint(out, index.into());
            put_varint(out, total_len);
        }
        None => out.push(0),
    }
}

fn cut_message<'a>(cut: &mut Cut<'a>) -> Option<Message<'a>> {
    let subject = cut.text()?;
    let reply = if cut.flag()? { Some(cut.text()?) } else { None };
    let encoding = cut.byte()?;
    let headers = if cut.flag()? {
        Some(cut.bytes()?)
    } else {
        None
    };
    Some(Message {
        subject,
        reply,
        encoding,
        headers,
        payload: cut.0,
    })
}

fn put_message(out: &mut Vec<u8>, message: &Message<'_>) {
    put_bytes(out, message.subject.as_bytes());
    put_option(out, message.reply.map(str::as_bytes));
    out.push(message.encoding);
    put_option(out, message.headers);
    out.extend_from_slice(message.payload);
}

fn put_option(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            out.push(1);
            put_bytes(out, bytes);
        }
        None => out.push(0),
    }
}
