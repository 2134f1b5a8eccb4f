//! Messages from a client to the broker.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use dialtone_protocol::codec::LEN_FIELD;
use dialtone_protocol::frame::{Fragment, Message, Publish as PublishFrame, Refused};
use dialtone_protocol::limits::{HEADERS_LEN_MAX, SUBJECT_LEN_MAX};
use dialtone_protocol::{Code, Frame, RequestId};

use super::client::Attachments;
use super::{Asked, Session};
use crate::event::Publish;
use crate::headers::split_reply;
use crate::partial::{Chunk, PartialError};

/// Payloads that are at least this long are passed on without being copied, in bytes.
const SHARE_LEN_MIN: usize = 4 << 10;

/// Most subjects that are remembered as not permitted.
const DENIED_MAX: usize = 256;

/// Subjects that the client may not publish to. The broker says so once to those who want no answer, but clients
/// forget it after a minute and are to be told again.
#[derive(Debug, Default)]
pub(super) struct Denied {
    subjects: VecDeque<Box<str>>,
    /// The client has just been told of this one.
    told: Option<Box<str>>,
}

impl Denied {
    fn contains(&self, subject: &str) -> bool {
        !self.subjects.is_empty() && self.subjects.iter().any(|denied| **denied == *subject)
    }

    fn insert(&mut self, subject: &str) {
        if self.contains(subject) {
            return;
        }
        if self.subjects.len() == DENIED_MAX {
            self.subjects.pop_front();
        }
        self.subjects.push_back(subject.into());
    }
}

/// A message that is whole, without its payload.
struct Whole<'a> {
    subject: &'a str,
    encoding: u8,
    headers: Option<Cow<'a, str>>,
    reply: Option<String>,
}

/// The payload of a message that is whole.
enum Payload<'a> {
    Single(Cow<'a, [u8]>),
    Pieces(Vec<Bytes>),
}

impl Payload<'_> {
    fn len(&self) -> u64 {
        match self {
            Self::Single(payload) => payload.len() as u64,
            Self::Pieces(pieces) => pieces.iter().map(|piece| piece.len() as u64).sum(),
        }
    }
}

impl Session {
    pub(super) fn on_publish(
        &mut self,
        publish: &Publish<'_>,
        ack: Option<u64>,
        mut attachments: Attachments<'_>,
        now: Instant,
    ) {
        if attachments.len() > 1 {
            let text = "headers must not have binary values";
            return self.answer_error(ack, text, Some(400));
        }
        let Some(payload) = attachments.take(publish.payload) else {
            return self.answer_error(ack, "the payload of the message did not come", Some(400));
        };
        if publish.subject.is_empty() || publish.subject.len() > SUBJECT_LEN_MAX {
            return self.answer_error(ack, "invalid subject", None);
        }
        self.count_chunk(publish, payload.len());
        if publish.done && publish.seq == 0 {
            return self.publish_whole(publish, ack, Payload::Single(payload));
        }
        let chunk = Chunk {
            subject: &publish.subject,
            id: &publish.id,
            seq: publish.seq,
            done: publish.done,
            payload: payload.into_owned().into(),
        };
        match self.partial.accept(chunk, now) {
            Ok(Some(pieces)) => self.publish_whole(publish, ack, Payload::Pieces(pieces)),
            // Clients take the largest count of all chunks; the last one has it.
            Ok(None) => self.answer_count(ack, 0),
            Err(error) => {
                let code = match error {
                    PartialError::OutOfTurn { .. } => 400,
                    PartialError::TooLarge { .. } => 413,
                    PartialError::NoRoom { .. } | PartialError::TooMany { .. } => 429,
                };
                self.answer_error(ack, &error.to_string(), Some(code));
            }
        }
    }

    fn count_chunk(&self, publish: &Publish<'_>, len: usize) {
        if publish.done {
            self.count_sent(len);
        } else {
            let counters = self.member.counters();
            counters
                .sent_bytes
                .fetch_add(len as u64, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn answer_count(&mut self, ack: Option<u64>, count: u32) {
        if let Some(ack) = ack {
            self.output.count(ack, count);
        }
    }

    fn publish_whole(&mut self, publish: &Publish<'_>, ack: Option<u64>, payload: Payload<'_>) {
        let (headers, reply) = match publish.headers.map(split_reply).transpose() {
            Ok(split) => split.unwrap_or_default(),
            Err(error) => return self.answer_error(ack, &error.to_string(), Some(400)),
        };
        if headers
            .as_ref()
            .is_some_and(|text| text.len() > HEADERS_LEN_MAX)
        {
            let text = format!("headers of more than {HEADERS_LEN_MAX} bytes");
            return self.answer_error(ack, &text, Some(413));
        }
        let total_len = payload.len();
        let max = self.limits.message_len_max;
        if total_len > max {
            let text = format!("a message of more than {max} bytes");
            return self.answer_error(ack, &text, Some(413));
        }
        let request = (ack.is_some() || self.denied.contains(&publish.subject)).then(|| {
            self.request(Asked::Published {
                ack,
                subject: (*publish.subject).into(),
            })
        });
        let whole = Whole {
            subject: &publish.subject,
            encoding: publish.encoding,
            headers,
            reply,
        };
        let fragment_len = (self.limits.fragment_len_max.max(1)) as usize;
        match payload {
            Payload::Single(payload) if total_len <= fragment_len as u64 => {
                self.push_publish(&whole, request, None, payload);
            }
            Payload::Single(payload) => {
                let pieces = vec![payload.into_owned().into()];
                self.push_fragments(&whole, request, pieces, total_len, fragment_len);
            }
            Payload::Pieces(pieces) => {
                self.push_fragments(&whole, request, pieces, total_len, fragment_len);
            }
        }
    }

    /// Cuts a message. All fragments go one after the other, since the next message comes later.
    fn push_fragments(
        &mut self,
        whole: &Whole<'_>,
        request: Option<RequestId>,
        pieces: Vec<Bytes>,
        total_len: u64,
        fragment_len: usize,
    ) {
        let id = self.next_fragment;
        self.next_fragment += 1;
        let mut sent = 0;
        let mut index = 0;
        for mut piece in pieces {
            while !piece.is_empty() {
                let payload = piece.split_to(piece.len().min(fragment_len));
                sent += payload.len() as u64;
                let fragment = Fragment {
                    id,
                    index,
                    total_len,
                };
                // Only the last fragment asks, and only the first has headers.
                let request = request.filter(|_| sent == total_len);
                self.push_fragment(whole, request, fragment, payload);
                index += 1;
            }
        }
    }

    fn push_publish(
        &mut self,
        whole: &Whole<'_>,
        request: Option<RequestId>,
        fragment: Option<Fragment>,
        payload: Cow<'_, [u8]>,
    ) {
        if payload.len() < SHARE_LEN_MIN {
            return self.push_head(whole, request, fragment, &payload);
        }
        self.push_apart(whole, request, fragment, payload.into_owned().into());
    }

    fn push_fragment(
        &mut self,
        whole: &Whole<'_>,
        request: Option<RequestId>,
        fragment: Fragment,
        payload: Bytes,
    ) {
        if payload.len() < SHARE_LEN_MIN {
            return self.push_head(whole, request, Some(fragment), &payload);
        }
        self.push_apart(whole, request, Some(fragment), payload);
    }

    /// Pushes a frame whose payload is not copied.
    fn push_apart(
        &mut self,
        whole: &Whole<'_>,
        request: Option<RequestId>,
        fragment: Option<Fragment>,
        payload: Bytes,
    ) {
        let start = self.frames.small.len();
        self.push_head(whole, request, fragment, &[]);
        lengthen(&mut self.frames.small, start, payload.len());
        self.frames.seal();
        self.frames.batch.push(payload);
    }

    fn push_head(
        &mut self,
        whole: &Whole<'_>,
        request: Option<RequestId>,
        fragment: Option<Fragment>,
        payload: &[u8],
    ) {
        let first = fragment.is_none_or(|fragment| fragment.index == 0);
        let frame = Frame::Publish(PublishFrame {
            request,
            unreliable: false,
            fragment,
            message: Message {
                subject: whole.subject,
                reply: whole.reply.as_deref(),
                encoding: whole.encoding,
                headers: whole
                    .headers
                    .as_deref()
                    .filter(|_| first)
                    .map(str::as_bytes),
                payload,
            },
        });
        frame.encode(&mut self.frames.small);
    }

    /// What became of a message for which there is a question.
    pub(super) fn on_published(
        &mut self,
        ack: Option<u64>,
        subject: &str,
        outcome: Result<u32, Refused>,
    ) {
        let refused = match outcome {
            Ok(count) => return self.answer_count(ack, count),
            Err(refused) => refused,
        };
        match refused.code {
            Code::Denied => {
                let told = self.denied.told.take();
                let text = self.denial(subject);
                if told.as_deref() != Some(subject) {
                    self.denied.insert(subject);
                    self.tell_permission(subject, "pub", &text);
                }
                self.answer_error(ack, &text, Some(403));
            }
            Code::InvalidSubject => self.answer_error(ack, "invalid subject", None),
            code @ (Code::Normal
            | Code::BadFrame
            | Code::Unauthenticated
            | Code::Timeout
            | Code::Conflict
            | Code::Draining
            | Code::TooLarge
            | Code::UnsupportedVersion
            | Code::TooMany
            | Code::SlowConsumer
            | Code::Kicked
            | Code::Internal
            | Code::NoSubscribers
            | Code::Other(_)) => self.answer_error(ack, &refused.text, Some(code.number())),
        }
    }

    /// The broker says for the first time that a subject is not permitted; the answer to the message itself follows,
    /// if one is wanted.
    pub(super) fn on_publish_denied(&mut self, subject: &str) {
        self.denied.insert(subject);
        let awaits = |asked: &Asked| matches!(asked, Asked::Published { subject: of, .. } if **of == *subject);
        let answer_follows = self.asked.values().any(awaits);
        self.denied.told = answer_follows.then(|| subject.into());
        let text = self.denial(subject);
        self.tell_permission(subject, "pub", &text);
    }

    fn denial(&self, subject: &str) -> String {
        format!(
            "permission denied publishing to '{subject}' from {}",
            self.user
        )
    }
}

/// Corrects the length of the frame that begins at `start`, whose payload is written elsewhere.
fn lengthen(frames: &mut [u8], start: usize, more: usize) {
    let Some(field) = frames
        .get_mut(start..)
        .and_then(|frame| frame.first_chunk_mut::<LEN_FIELD>())
    else {
        return;
    };
    let len = u32::from_le_bytes(*field);
    *field = len
        .saturating_add(u32::try_from(more).unwrap_or(u32::MAX))
        .to_le_bytes();
}
