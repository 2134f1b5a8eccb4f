//! What waits to be written: small frames in one buffer, large messages beside it, and fragments in a line of their own.
//!
//! Publishers encode straight into the buffer under a short lock; the driver takes what has gathered as a whole. The
//! queue outlives connections: messages that nobody waits for stay in it while the client reconnects, everything that
//! belongs to a connection (questions, requests with its inbox) leaves it with the connection.

use std::collections::VecDeque;

use bytes::Bytes;
use dialtone_protocol::codec::split_frame;
use dialtone_protocol::frame::message::PublishView;
use dialtone_protocol::frame::{Frame, Message, Ping, Publish};
use dialtone_protocol::limits::HEADERS_LEN_MAX;
use dialtone_protocol::{Limits, RequestId, Subject};
use dialtone_transport::Batch;

use crate::error::{PublishError, Reason};
use crate::payload::{Payload, To};
use crate::subjects::Checked;

mod bulk;
use bulk::{Bulk, Large, Part};

/// The buffer of small frames is closed and a new one begun at this length, in bytes.
const TAIL_LEN_MAX: usize = 128 << 10;

/// An owned payload of at least this many bytes is not copied into the buffer.
const SHARE_LEN_MIN: usize = 16 << 10;

/// Most datagrams that wait; the oldest is dropped, since each may be lost anyway.
const DATAGRAMS_MAX: usize = 1_024;

/// What a frame may need beside its subject, headers and payload, in bytes.
const HEAD_LEN: usize = 64;

/// Whether there is a connection.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// None yet, or none at the moment.
    Offline,
    /// The handshake is over.
    Online,
    /// Nothing more is accepted.
    Closed(Reason),
}

/// A message on its way into the queue.
#[derive(Debug)]
pub(crate) struct Outbound<'a> {
    pub(crate) to: To<'a>,
    pub(crate) reply: Reply<'a>,
    pub(crate) encoding: u8,
    pub(crate) headers: Option<Bytes>,
    pub(crate) unreliable: bool,
    /// Asks for an acknowledgement.
    pub(crate) request: Option<RequestId>,
    pub(crate) payload: Payload<'a>,
}

/// Where the answer to a message goes.
#[derive(Debug, Clone)]
pub(crate) enum Reply<'a> {
    None,
    /// To a subject of the caller's.
    To(To<'a>),
    /// To this number of the connection's inbox.
    Inbox(u32),
}

impl Outbound<'_> {
    /// Whether the message means something on the current connection only.
    fn needs_connection(&self) -> bool {
        self.request.is_some() || matches!(self.reply, Reply::Inbox(_))
    }
}

/// Why a message does not enter the queue.
#[derive(Debug)]
pub(crate) enum Hindrance {
    /// There will be room.
    Full,
    /// There will be a connection.
    Offline,
    /// It never will.
    Error(PublishError),
}

impl From<PublishError> for Hindrance {
    fn from(error: PublishError) -> Self {
        Self::Error(error)
    }
}

/// A run of whole frames.
#[derive(Debug)]
enum Segment {
    Frames(Vec<u8>),
    /// A message whose payload is not copied.
    Large {
        head: Vec<u8>,
        payload: Bytes,
        /// Means something on the current connection only.
        bound: bool,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outgoing {
    phase: Phase,
    inbox: String,
    limits: Limits,
    datagram_len_max: Option<usize>,
    len_max: usize,
    /// Bytes that wait, in all lines.
    len: usize,
    segments: VecDeque<Segment>,
    tail: Vec<u8>,
    /// How long the buffer was when it was last taken, as a guess of how long it will be.
    tail_hint: usize,
    bulk: Bulk,
    datagrams: VecDeque<Bytes>,
    checked: Checked,
    reply: String,
    /// The driver will look without being woken.
    awake: bool,
    /// Somebody waits for room.
    starved: bool,
}

impl Outgoing {
    /// An empty queue of at most `len_max` bytes; a single message may be larger.
    pub(crate) fn new(len_max: usize) -> Self {
        Self {
            phase: Phase::Offline,
            inbox: String::new(),
            limits: Limits::default(),
            datagram_len_max: None,
            len_max,
            len: 0,
            segments: VecDeque::new(),
            tail: Vec::new(),
            tail_hint: 0,
            bulk: Bulk::new(),
            datagrams: VecDeque::new(),
            checked: Checked::new(),
            reply: String::new(),
            awake: false,
            starved: false,
        }
    }

    pub(crate) fn phase(&self) -> &Phase {
        &self.phase
    }

    pub(crate) fn inbox(&self) -> &str {
        &self.inbox
    }

    /// The subject of a number in the inbox; `None` without a connection.
    pub(crate) fn inbox_address(&self, number: u32) -> Option<String> {
        if !matches!(self.phase, Phase::Online) {
            return None;
        }
        let mut address = format!("{}.", self.inbox);
        push_base36(&mut address, number);
        Some(address)
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
            && self.tail.is_empty()
            && self.bulk.is_empty()
            && self.datagrams.is_empty()
    }

    /// Bytes that wait.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether the driver must be woken for what was just pushed.
    #[inline]
    pub(crate) fn must_wake(&mut self) -> bool {
        !std::mem::replace(&mut self.awake, true)
    }

    /// A connection was made.
    pub(crate) fn online(&mut self, inbox: &str, limits: &Limits, datagram_len_max: Option<usize>) {
        if !matches!(self.phase, Phase::Closed(_)) {
            self.phase = Phase::Online;
        }
        inbox.clone_into(&mut self.inbox);
        self.limits.clone_from(limits);
        self.datagram_len_max = datagram_len_max;
    }

    /// The connection was lost: drops what belongs to it.
    pub(crate) fn offline(&mut self) {
        if !matches!(self.phase, Phase::Closed(_)) {
            self.phase = Phase::Offline;
        }
        self.datagrams.clear();
        self.bulk.forget_bound();
        let inbox = std::mem::take(&mut self.inbox);
        let segments = std::mem::take(&mut self.segments);
        let tail = std::mem::take(&mut self.tail);
        for segment in segments.into_iter().chain([Segment::Frames(tail)]) {
            match segment {
                Segment::Frames(frames) => keep_unbound(&frames, &inbox, &mut self.tail),
                Segment::Large { bound: true, .. } => {}
                large @ Segment::Large { bound: false, .. } => {
                    self.close_tail();
                    self.segments.push_back(large);
                }
            }
            if self.tail.len() >= TAIL_LEN_MAX {
                self.close_tail();
            }
        }
        let segments: usize = self.segments.iter().map(Segment::len).sum();
        self.len = segments + self.tail.len() + self.bulk.len();
    }

    /// Nothing more is accepted; what waits is still written.
    pub(crate) fn close(&mut self, reason: Reason) {
        if !matches!(self.phase, Phase::Closed(_)) {
            self.phase = Phase::Closed(reason);
        }
    }

    /// Appends a message.
    #[inline]
    pub(crate) fn push(&mut self, message: &Outbound<'_>) -> Result<(), Hindrance> {
        match &self.phase {
            Phase::Offline if message.needs_connection() => return Err(Hindrance::Offline),
            Phase::Online | Phase::Offline => {}
            Phase::Closed(reason) => return Err(PublishError::Closed(reason.clone()).into()),
        }
        let payload_len = message.payload.as_slice().len();
        self.check(message, payload_len)?;
        if self.len > 0 && self.len + payload_len > self.len_max {
            self.starved = true;
            return Err(Hindrance::Full);
        }
        if payload_len > self.limits.fragment_len_max as usize {
            self.push_large(message);
        } else if payload_len >= SHARE_LEN_MIN
            && let Payload::Bytes(payload) = &message.payload
        {
            let payload = payload.clone();
            self.close_tail();
            let mut head = Vec::with_capacity(HEAD_LEN + message.to.as_str().len());
            self.encode(message, &[], &mut head);
            extend_frame(&mut head, 0, payload.len());
            self.len += head.len() + payload.len();
            self.segments.push_back(Segment::Large {
                head,
                payload,
                bound: message.needs_connection(),
            });
        } else {
            self.push_small(message);
        }
        Ok(())
    }

    #[inline]
    fn push_small(&mut self, message: &Outbound<'_>) {
        let mut tail = std::mem::take(&mut self.tail);
        if tail.capacity() == 0 {
            tail.reserve(self.tail_hint.clamp(512, TAIL_LEN_MAX));
        }
        let before = tail.len();
        self.encode(message, message.payload.as_slice(), &mut tail);
        let frame_len = tail.len() - before;
        let as_datagram = message.unreliable
            && matches!(self.phase, Phase::Online)
            && self.datagram_len_max.is_some_and(|max| frame_len <= max);
        if as_datagram {
            if self.datagrams.len() >= DATAGRAMS_MAX {
                self.datagrams.pop_front();
            }
            self.datagrams.push_back(Bytes::copy_from_slice(
                tail.get(before..).unwrap_or_default(),
            ));
            tail.truncate(before);
        } else {
            self.len += frame_len;
        }
        self.tail = tail;
        if self.tail.len() >= TAIL_LEN_MAX {
            self.close_tail();
        }
    }

    fn push_large(&mut self, message: &Outbound<'_>) {
        let reply = self.reply_text(&message.reply).map(str::to_owned);
        let large = Large {
            subject: message.to.as_str().to_owned(),
            reply,
            encoding: message.encoding,
            headers: message.headers.clone(),
            unreliable: message.unreliable,
            request: message.request,
            payload: message.payload.to_bytes(),
            bound: message.needs_connection(),
        };
        self.len += large.payload.len();
        self.bulk.push(large);
    }

    /// Writes the frame of a message with `payload`.
    #[inline]
    fn encode(&mut self, message: &Outbound<'_>, payload: &[u8], out: &mut Vec<u8>) {
        let frame = Frame::Publish(Publish {
            request: message.request,
            unreliable: message.unreliable,
            fragment: None,
            message: Message {
                subject: message.to.as_str(),
                reply: match &message.reply {
                    Reply::None => None,
                    other @ (Reply::To(_) | Reply::Inbox(_)) => self.reply_text(other),
                },
                encoding: message.encoding,
                headers: message.headers.as_deref(),
                payload,
            },
        });
        frame.encode(out);
    }

    fn reply_text<'a>(&'a mut self, reply: &'a Reply<'_>) -> Option<&'a str> {
        match reply {
            Reply::None => None,
            Reply::To(to) => Some(to.as_str()),
            Reply::Inbox(number) => {
                self.reply.clear();
                self.reply.push_str(&self.inbox);
                self.reply.push('.');
                push_base36(&mut self.reply, *number);
                Some(&self.reply)
            }
        }
    }

    fn check(&mut self, message: &Outbound<'_>, payload_len: usize) -> Result<(), PublishError> {
        if !message.to.is_checked() {
            let _checked: &Subject = self.checked.get(message.to.as_str())?;
        }
        if let Reply::To(to) = &message.reply
            && !to.is_checked()
        {
            let _checked: &Subject = self.checked.get(to.as_str())?;
        }
        let max = self.limits.message_len_max;
        if payload_len as u64 > max {
            return Err(PublishError::TooLarge {
                what: "payload",
                len: payload_len as u64,
                max,
            });
        }
        let headers_len = message.headers.as_ref().map_or(0, Bytes::len);
        if headers_len > HEADERS_LEN_MAX {
            let (len, max) = (headers_len as u64, HEADERS_LEN_MAX as u64);
            return Err(PublishError::TooLarge {
                what: "headers",
                len,
                max,
            });
        }
        Ok(())
    }

    /// Appends a frame of the client's own, beyond the bound: their number is bounded by those who wait for answers.
    pub(crate) fn push_control(&mut self, frame: &Frame<'_>) {
        let before = self.tail.len();
        frame.encode(&mut self.tail);
        self.len += self.tail.len() - before;
    }

    /// Appends a ping that leaves after everything that waits now.
    pub(crate) fn push_last_ping(&mut self, token: u64) {
        if self.bulk.is_empty() {
            self.push_control(&Frame::Ping(Ping { token }));
        } else {
            self.bulk.push_ping(token);
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.segments.push_back(Segment::Frames(tail));
        }
    }

    /// Moves what waits into the empty `batch`, up to about `budget` bytes, and behind it one fragment if `with_bulk`.
    ///
    /// Returns whether somebody waits for the room that this made. When nothing was left to take, the next push wakes
    /// the driver.
    pub(crate) fn fill(&mut self, batch: &mut Batch, budget: usize, with_bulk: bool) -> bool {
        let before = batch.len();
        while let Some(segment) = self.segments.front() {
            if !batch.is_empty() && batch.len() + segment.len() > budget {
                break;
            }
            match self.segments.pop_front() {
                Some(Segment::Frames(frames)) => batch.push(frames.into()),
                Some(Segment::Large { head, payload, .. }) => {
                    batch.push(head.into());
                    batch.push(payload);
                }
                None => break,
            }
        }
        let tail_fits = batch.is_empty() || batch.len() + self.tail.len() <= budget;
        if self.segments.is_empty() && !self.tail.is_empty() && tail_fits {
            self.tail_hint = self.tail.len();
            batch.push(std::mem::take(&mut self.tail).into());
        }
        self.len = self.len.saturating_sub(batch.len() - before);
        if with_bulk {
            self.take_part(batch);
        }
        self.awake = !batch.is_empty();
        self.has_new_room()
    }

    /// Moves one fragment into `batch`, for a transport with a lane for them. Returns as [`fill`](Self::fill) does.
    pub(crate) fn fill_bulk(&mut self, batch: &mut Batch) -> bool {
        self.take_part(batch);
        self.has_new_room()
    }

    fn take_part(&mut self, batch: &mut Batch) {
        match self.bulk.next(self.limits.fragment_len_max) {
            Some(Part::Fragment { head, payload }) => {
                self.len = self.len.saturating_sub(payload.len());
                batch.push(head.into());
                batch.push(payload);
            }
            Some(Part::Ping(token)) => batch.push(Frame::Ping(Ping { token }).to_vec().into()),
            None => {}
        }
    }

    /// Whether large messages wait.
    pub(crate) fn has_bulk(&self) -> bool {
        !self.bulk.is_empty()
    }

    /// A ping that stands first in the line of large messages; on a transport with a lane of its own for these it
    /// travels on the other lane.
    pub(crate) fn next_is_ping(&self) -> bool {
        self.bulk.next_is_ping()
    }

    /// Notes how long a datagram may be at the moment.
    pub(crate) fn set_datagram_len_max(&mut self, len_max: Option<usize>) {
        self.datagram_len_max = len_max;
    }

    /// The connection is about to be left: what belongs to a connection waits for the next one.
    pub(crate) fn pause(&mut self) {
        if matches!(self.phase, Phase::Online) {
            self.phase = Phase::Offline;
        }
    }

    /// The connection is not left yet, after all.
    pub(crate) fn go_on(&mut self) {
        if matches!(self.phase, Phase::Offline) {
            self.phase = Phase::Online;
        }
    }

    /// The next datagram.
    pub(crate) fn next_datagram(&mut self) -> Option<Bytes> {
        self.datagrams.pop_front()
    }

    fn has_new_room(&mut self) -> bool {
        let has_room = self.starved && self.len <= self.len_max / 2;
        if has_room {
            self.starved = false;
        }
        has_room
    }
}

impl Segment {
    fn len(&self) -> usize {
        match self {
            Self::Frames(frames) => frames.len(),
            Self::Large { head, payload, .. } => head.len() + payload.len(),
        }
    }
}

/// Says in the length field of the frame at `start` that `more` bytes of payload follow what was encoded.
fn extend_frame(out: &mut [u8], start: usize, more: usize) {
    let len = out.len() - start - 4 + more;
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
    }
}

/// Copies those frames that mean the same on any connection: messages without acknowledgement or inbox.
fn keep_unbound(mut frames: &[u8], inbox: &str, out: &mut Vec<u8>) {
    while let Ok(Some((body, len))) = split_frame(frames, u32::MAX) {
        let unbound = PublishView::decode(body).is_ok_and(|view| {
            let to_inbox = view
                .reply
                .is_some_and(|reply| !inbox.is_empty() && reply.starts_with(inbox));
            view.request.is_none() && !to_inbox
        });
        let (frame, rest) = frames.split_at_checked(len).unwrap_or((frames, &[]));
        if unbound {
            out.extend_from_slice(frame);
        }
        frames = rest;
    }
}

/// Digits of numbers inside an inbox.
const BASE36: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

fn push_base36(out: &mut String, mut number: u32) {
    let mut digits = [0_u8; 7];
    let mut at = digits.len();
    loop {
        at -= 1;
        let digit = BASE36.get((number % 36) as usize).copied().unwrap_or(b'0');
        if let Some(slot) = digits.get_mut(at) {
            *slot = digit;
        }
        number /= 36;
        if number == 0 {
            break;
        }
    }
    out.extend(digits.iter().skip(at).map(|&digit| char::from(digit)));
}

/// The number in the part of a subject after the inbox and its dot; what follows a further dot is not looked at.
pub(crate) fn parse_base36(text: &str) -> Option<u32> {
    let digits = text.split('.').next()?;
    if digits.is_empty() || digits.len() > 7 || digits.starts_with('+') {
        return None;
    }
    u32::from_str_radix(digits, 36).ok()
}

#[cfg(test)]
mod tests;
