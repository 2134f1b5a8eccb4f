//! Messages too large for one frame, cut as they are taken, one after the other so that they stay in order.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use dialtone_protocol::RequestId;
use dialtone_protocol::fragment::parts;
use dialtone_protocol::frame::{Fragment, Frame, Message, Publish};

use super::extend_frame;

/// A message that must be cut.
#[derive(Debug)]
pub(super) struct Large {
    pub(super) subject: String,
    pub(super) reply: Option<String>,
    pub(super) encoding: u8,
    pub(super) headers: Option<Bytes>,
    pub(super) unreliable: bool,
    pub(super) request: Option<RequestId>,
    pub(super) payload: Bytes,
    /// Means something on the current connection only.
    pub(super) bound: bool,
}

#[derive(Debug)]
enum Item {
    Message(Box<Large>),
    Ping(u64),
}

/// One frame.
#[derive(Debug)]
pub(super) enum Part {
    Fragment { head: Vec<u8>, payload: Bytes },
    Ping(u64),
}

/// The line of large messages.
pub(super) struct Bulk {
    items: VecDeque<Item>,
    /// The cuts of the first message, once it has begun.
    cuts: Option<Box<dyn Iterator<Item = (u32, Range<usize>)> + Send>>,
    id: u64,
    /// Bytes of payloads that were not taken yet.
    len: usize,
}

impl fmt::Debug for Bulk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulk")
            .field("items", &self.items.len())
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl Bulk {
    pub(super) fn new() -> Self {
        Self {
            items: VecDeque::new(),
            cuts: None,
            id: 0,
            len: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, large: Large) {
        self.len += large.payload.len();
        self.items.push_back(Item::Message(Box::new(large)));
    }

    pub(super) fn push_ping(&mut self, token: u64) {
        self.items.push_back(Item::Ping(token));
    }

    pub(super) fn next_is_ping(&self) -> bool {
        matches!(self.items.front(), Some(Item::Ping(_)))
    }

    /// The connection was lost: what has begun cannot be finished, and what is bound to it means nothing any more.
    pub(super) fn forget_bound(&mut self) {
        if self.cuts.take().is_some() {
            self.items.pop_front();
        }
        self.items
            .retain(|item| matches!(item, Item::Message(large) if !large.bound));
        let lens = self.items.iter().map(|item| match item {
            Item::Message(large) => large.payload.len(),
            Item::Ping(_) => 0,
        });
        self.len = lens.sum();
    }

    /// The next frame.
    pub(super) fn next(&mut self, fragment_len_max: u32) -> Option<Part> {
        let large = match self.items.front()? {
            Item::Ping(token) => {
                let token = *token;
                self.items.pop_front();
                return Some(Part::Ping(token));
            }
            Item::Message(large) => large,
        };
        let total = large.payload.len();
        if self.cuts.is_none() {
            self.id += 1;
        }
        let cuts = self
            .cuts
            .get_or_insert_with(|| Box::new(parts(total, fragment_len_max)));
        let (index, range) = cuts.next()?;
        let is_last = range.end >= total;
        let payload = large.payload.slice(range);
        let fragment = Fragment {
            id: self.id,
            index,
            total_len: total as u64,
        };
        let head = head(large, fragment, is_last, payload.len());
        self.len -= payload.len();
        if is_last {
            self.items.pop_front();
            self.cuts = None;
        }
        Some(Part::Fragment { head, payload })
    }
}

fn head(large: &Large, fragment: Fragment, is_last: bool, payload_len: usize) -> Vec<u8> {
    let headers = large.headers.as_deref().filter(|_| fragment.index == 0);
    let frame = Frame::Publish(Publish {
        request: large.request.filter(|_| is_last),
        unreliable: large.unreliable,
        fragment: Some(fragment),
        message: Message {
            subject: &large.subject,
            reply: large.reply.as_deref(),
            encoding: large.encoding,
            headers,
            payload: &[],
        },
    });
    let mut head = frame.to_vec();
    extend_frame(&mut head, 0, payload_len);
    head
}
