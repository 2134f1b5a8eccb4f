//! [`Records`]: reading a stream from one number to another, with several requests on their way.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, Stream as AsyncStream};

use super::call::Repeat;
use super::error::CallError;
use super::stream::Stream;
use super::wire::{ANSWER_ENTRIES_MAX, Page, Read, Request, StoredRecord};

/// Bytes of records in one answer.
const PAGE_BYTES: u32 = 2 << 20;

/// Most requests on their way.
const DEPTH_MAX: u64 = 32;

/// A window grows by no more than this from one to the next, so that one sparse stretch does not make all others huge.
const GROWTH_MAX: u64 = 8;

/// What is read of a stream, and how far ahead.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// The first number; 0 and 1 are the beginning.
    pub from: u64,
    /// The last number; what the stream has when reading begins, where it is missing.
    pub to: Option<u64>,
    /// Only records that were accepted at this time or later, in milliseconds since 1970.
    pub since: Option<u64>,
    /// Only records whose key begins like this.
    pub prefix: Option<String>,
    /// Ends after so many records.
    pub max_msgs: Option<u64>,
    /// Most bytes of records that are here or on their way; 16 MiB by default. One answer of 2 MiB is always asked for.
    pub read_ahead: u64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            from: 1,
            to: None,
            since: None,
            prefix: None,
            max_msgs: None,
            read_ahead: 16 << 20,
        }
    }
}

impl ReadOptions {
    /// Everything from a number on.
    pub fn from(seq: u64) -> Self {
        Self {
            from: seq,
            ..Self::default()
        }
    }
}

/// Part of what is read, on its way or here.
struct Part {
    from: u64,
    to: Option<u64>,
    state: Fetching,
}

enum Fetching {
    Running(BoxFuture<'static, Result<Page, CallError>>),
    Done(Result<Page, CallError>),
}

/// Records in the order of their numbers, as an asynchronous stream; the first error ends it.
///
/// The range is cut into windows of numbers, of which several are asked for at once, as many as the byte budget allows.
pub struct Records {
    stream: Stream,
    options: ReadOptions,
    parts: VecDeque<Part>,
    ready: std::vec::IntoIter<StoredRecord>,
    /// The next number that is not asked for yet.
    next: u64,
    /// The last number to read, once it is known.
    end: Option<u64>,
    /// How many numbers one answer covers, as far as the last ones tell.
    window: u64,
    left: u64,
    failed: bool,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records")
            .field("stream", &self.stream.name())
            .field("next", &self.next)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl Records {
    pub(super) fn new(stream: Stream, options: ReadOptions) -> Self {
        let mut records = Self {
            next: options.from.max(1),
            left: options.max_msgs.unwrap_or(u64::MAX),
            stream,
            options,
            parts: VecDeque::new(),
            ready: Vec::new().into_iter(),
            end: None,
            window: 0,
            failed: false,
        };
        // The first answer says where the stream ends and how much it holds.
        let (from, to) = (records.next, records.options.to);
        records.parts.push_back(records.part(from, to));
        records
    }

    /// The next record; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<StoredRecord, CallError>> {
        poll_fn(|cx| self.poll_record(cx)).await
    }

    fn part(&self, from: u64, to: Option<u64>) -> Part {
        let request = Request::Read(Read {
            stream: self.stream.name().to_owned(),
            from,
            to,
            since: self.options.since,
            prefix: self.options.prefix.clone(),
            max_bytes: Some(PAGE_BYTES),
            max_msgs: u32::try_from(self.left - self.ready.len() as u64)
                .ok()
                .filter(|left| *left < ANSWER_ENTRIES_MAX),
        });
        let stream = self.stream.clone();
        let manner = stream.manner(Repeat::Safe);
        let running = async move { stream.ask(&request, manner).await }.boxed();
        Part {
            from,
            to,
            state: Fetching::Running(running),
        }
    }

    fn poll_record(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StoredRecord, CallError>>> {
        loop {
            if self.failed || self.left == 0 {
                return Poll::Ready(None);
            }
            if let Some(record) = self.ready.next() {
                self.left -= 1;
                return Poll::Ready(Some(Ok(record)));
            }
            self.poll_parts(cx);
            let Some(front) = self.parts.front_mut() else {
                return Poll::Ready(None);
            };
            match &mut front.state {
                Fetching::Running(_) => return Poll::Pending,
                Fetching::Done(_) => {
                    if let Err(error) = self.take_front() {
                        self.failed = true;
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
        }
    }

    /// Lets every request make progress, also those whose turn is later.
    fn poll_parts(&mut self, cx: &mut Context<'_>) {
        for part in &mut self.parts {
            if let Fetching::Running(running) = &mut part.state
                && let Poll::Ready(result) = running.poll_unpin(cx)
            {
                part.state = Fetching::Done(result);
            }
        }
    }

    /// Takes the records of the first part, and asks for what follows.
    fn take_front(&mut self) -> Result<(), CallError> {
        let Some(Part {
            from,
            to,
            state: Fetching::Done(result),
        }) = self.parts.pop_front()
        else {
            return Ok(());
        };
        let page = result?;
        let is_first = self.end.is_none();
        let last = page.last_seq.min(self.options.to.unwrap_or(u64::MAX));
        let end = *self.end.get_or_insert(last);
        let to = to.unwrap_or(end).min(end);
        let rest = page.next.filter(|next| *next <= to);
        self.learn(from, rest.unwrap_or(to + 1), &page);
        self.ready = page.records.into_iter();
        if is_first {
            self.next = rest.unwrap_or(end + 1);
        } else if let Some(next) = rest {
            let part = self.part(next, Some(to));
            self.parts.push_front(part);
        }
        self.fill(end);
        Ok(())
    }

    /// How many numbers the next windows should have, from how many this answer covers.
    fn learn(&mut self, from: u64, next: u64, page: &Page) {
        let covered = next.saturating_sub(from).max(1);
        let bytes: u64 = page.records.iter().map(StoredRecord::size).sum();
        let wanted = u64::from(PAGE_BYTES) * 3 / 4;
        let guess = covered.saturating_mul(wanted) / bytes.max(1);
        let most = self.window.max(covered).saturating_mul(GROWTH_MAX);
        self.window = guess.clamp(1, most);
    }

    fn fill(&mut self, end: u64) {
        let depth = if self.options.max_msgs.is_some() {
            1
        } else {
            (self.options.read_ahead / u64::from(PAGE_BYTES)).clamp(1, DEPTH_MAX)
        };
        while (self.parts.len() as u64) < depth
            && self.next <= end
            && self.left > self.ready.len() as u64
        {
            let to = self.next.saturating_add(self.window - 1).min(end);
            let part = self.part(self.next, Some(to));
            self.parts.push_back(part);
            self.next = to + 1;
        }
    }
}

impl AsyncStream for Records {
    type Item = Result<StoredRecord, CallError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(self.get_mut().poll_record(cx));
        Poll::Ready(item)
    }
}
