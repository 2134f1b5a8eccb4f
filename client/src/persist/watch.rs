//! [`Watcher`]: what happens to a stream, without a gap.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, Stream as AsyncStream};

use super::call::Repeat;
use super::error::CallError;
use super::record::millis;
use super::stream::Stream;
use super::wire::{
    Change, Config, Cursor, Fault, FaultKind, Position, Removal, Request, StoredRecord,
    WAIT_MS_MAX, Watch, Watched,
};

/// How a stream is watched.
#[derive(Debug, Clone)]
pub struct WatchOptions {
    /// Only changes of keys that begin like this; changes of the configuration are told in any case.
    pub prefix: Option<String>,
    /// Most bytes of one answer; two of them may be here at once. 1 MiB by default.
    pub max_bytes: u32,
    /// How long the service lets a question wait before it answers that nothing happened; 30 s by default, at most 60 s.
    pub wait: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            prefix: None,
            max_bytes: 1 << 20,
            wait: Duration::from_secs(30),
        }
    }
}

/// Why a watch did not begin, or has ended. Lost connections and nodes are no reason.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// There is no such stream, or it was deleted.
    #[error("there is no stream {stream}")]
    NotFound {
        /// Its name.
        stream: String,
    },
    /// The service refuses.
    #[error(transparent)]
    Call(CallError),
}

impl WatchError {
    /// The same as the error of a request.
    pub(super) fn into_call(self) -> CallError {
        match self {
            Self::NotFound { stream } => CallError::Fault(Fault::new(
                FaultKind::NotFound,
                format!("there is no stream {stream}"),
            )),
            Self::Call(error) => error,
        }
    }

    fn of(stream: &Stream, error: CallError) -> Self {
        if error.kind() == Some(FaultKind::NotFound) {
            let stream = stream.name().to_owned();
            return Self::NotFound { stream };
        }
        Self::Call(error)
    }
}

/// Something that happened to a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A record was appended, or is part of what the stream holds.
    Record {
        /// The record.
        record: StoredRecord,
        /// Records of its key below this number are gone thereby; `None`: all that are older.
        kept_from: Option<u64>,
    },
    /// Records are gone: the numbers in its `ranges`, and for each of its `keys` records of that key below `kept_from`, or
    /// all of them where that is missing.
    Removed(Removal),
    /// A record can no longer be read, because the service's store is damaged.
    Damaged {
        /// Its number.
        seq: u64,
        /// What is wrong, and where.
        error: String,
    },
    /// The configuration is another.
    Config(Box<Config>),
    /// The changes since the last event are not known any more, or the stream was made again: what was built from earlier
    /// events is worth nothing. All that the stream holds follows, and then every change.
    Resync,
}

/// Asks for one answer after another. What one answer says is whole before the next one is asked for to be handed out.
pub(super) struct Pages {
    stream: Stream,
    options: WatchOptions,
    cursor: Cursor,
    /// The next question is not to wait.
    hurry: bool,
    asked: Option<BoxFuture<'static, Result<Watched, CallError>>>,
}

impl Pages {
    pub(super) fn new(stream: Stream, cursor: Cursor, options: WatchOptions) -> Self {
        Self {
            stream,
            options,
            cursor,
            hurry: false,
            asked: None,
        }
    }

    /// Has the next answer say what there is at the moment, even if that is nothing.
    pub(super) fn hurry(&mut self) {
        self.hurry = true;
        self.asked = None;
    }

    /// Begins anew with all that the stream holds.
    pub(super) fn restart(&mut self) {
        self.cursor = Cursor::Seq(1);
        self.asked = None;
    }

    /// The first answer, at once, with an end to the patience: it fixes the place and says whether there is a stream.
    pub(super) async fn first(&mut self) -> Result<Watched, WatchError> {
        let manner = self.stream.manner(Repeat::Safe);
        let request = self.request(0);
        let watched = self.stream.ask(&request, manner).await;
        let watched: Watched = watched.map_err(|error| WatchError::of(&self.stream, error))?;
        self.follow(&watched);
        Ok(watched)
    }

    /// The next answer, through every outage.
    pub(super) async fn next(&mut self) -> Result<Watched, WatchError> {
        poll_fn(|cx| self.poll_page(cx)).await
    }

    fn poll_page(&mut self, cx: &mut Context<'_>) -> Poll<Result<Watched, WatchError>> {
        if self.asked.is_none() {
            let wait = u32::try_from(self.options.wait.as_millis()).unwrap_or(WAIT_MS_MAX);
            let wait = if std::mem::take(&mut self.hurry) {
                0
            } else {
                wait.min(WAIT_MS_MAX)
            };
            let request = self.request(wait);
            let stream = self.stream.clone();
            let manner = stream.manner(Repeat::Safe).forever();
            let manner = manner.waiting(Duration::from_millis(wait.into()));
            self.asked = Some(async move { stream.ask(&request, manner).await }.boxed());
        }
        let Some(asked) = &mut self.asked else {
            return Poll::Pending;
        };
        let watched = ready!(asked.poll_unpin(cx));
        self.asked = None;
        let watched = watched.map_err(|error| WatchError::of(&self.stream, error))?;
        self.follow(&watched);
        Poll::Ready(Ok(watched))
    }

    fn follow(&mut self, watched: &Watched) {
        self.cursor = if watched.resync {
            Cursor::Seq(1)
        } else {
            Cursor::After(watched.position)
        };
    }

    fn request(&self, wait: u32) -> Request {
        Request::Watch(Watch {
            stream: self.stream.name().to_owned(),
            cursor: self.cursor,
            prefix: self.options.prefix.clone(),
            max_bytes: Some(self.options.max_bytes),
            wait,
        })
    }
}

/// What happens to a stream, as an asynchronous stream. It goes on through lost connections and changes of nodes, and
/// ends with an error when the stream is deleted or the service refuses.
///
/// Events that nobody takes wait at the service, not here: a slow reader loses nothing.
pub struct Watcher {
    pages: Pages,
    ready: VecDeque<Event>,
    /// Where the answer that is being handed out ends.
    reached: Position,
    /// Where everything that was handed out ends.
    taken: Position,
    more: bool,
    /// An answer that was asked for while the last one is handed out.
    ahead: Option<Result<Watched, WatchError>>,
    ended: bool,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher")
            .field("stream", &self.pages.stream.name())
            .field("position", &self.taken)
            .finish_non_exhaustive()
    }
}

impl Watcher {
    pub(super) async fn begin(
        stream: Stream,
        cursor: Cursor,
        options: WatchOptions,
    ) -> Result<Self, WatchError> {
        let mut pages = Pages::new(stream, cursor, options);
        let first = pages.first().await?;
        let taken = start(cursor, &first);
        let mut watcher = Self {
            pages,
            ready: VecDeque::new(),
            reached: first.position,
            taken,
            more: false,
            ahead: None,
            ended: false,
        };
        watcher.take(first);
        Ok(watcher)
    }

    /// The next event, or the error that ends the watch; then `None`.
    pub async fn next(&mut self) -> Option<Result<Event, WatchError>> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// Where another watch can go on without missing anything that [`next`](Self::next) has not given; it may repeat some
    /// events. Of use when what was built from the events is kept.
    pub fn position(&self) -> Position {
        self.taken
    }

    /// Whether everything was given that the service had when it answered last.
    pub fn is_current(&self) -> bool {
        self.ready.is_empty() && !self.more && self.reached.seq.is_none()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, WatchError>>> {
        loop {
            if self.more && self.ahead.is_none() && !self.ended {
                // What follows travels while this is worked on.
                if let Poll::Ready(page) = self.pages.poll_page(cx) {
                    self.ahead = Some(page);
                }
            }
            if let Some(event) = self.ready.pop_front() {
                if self.ready.is_empty() {
                    self.taken = self.reached;
                }
                return Poll::Ready(Some(Ok(event)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let page = match self.ahead.take() {
                Some(page) => page,
                None => ready!(self.pages.poll_page(cx)),
            };
            match page {
                Ok(page) => self.take(page),
                Err(error) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn take(&mut self, page: Watched) {
        self.more = page.more || page.position.seq.is_some() || page.resync;
        self.reached = page.position;
        if page.resync {
            // What the position stands for is told only now.
            self.reached.seq = Some(1);
            self.ready.push_back(Event::Resync);
        }
        let kept_from: HashMap<u64, u64> = page.kept_from.into_iter().collect();
        let events = page.changes.into_iter();
        self.ready
            .extend(events.map(|change| event(change, &kept_from)));
        if self.ready.is_empty() {
            self.taken = self.reached;
        }
    }
}

/// Where a watch begins, as a place that another one can begin at.
fn start(cursor: Cursor, first: &Watched) -> Position {
    let seq = match (cursor, first.changes.first()) {
        (Cursor::After(position), _) => return position,
        (Cursor::Seq(seq), _) => Some(seq),
        (Cursor::Time(_), Some(Change::Append(record))) => Some(record.seq),
        (Cursor::Now | Cursor::Time(_), _) => first.position.seq,
    };
    Position {
        seq,
        ..first.position
    }
}

/// A change as an event, with what its answer says of the keys of appended records.
fn event(change: Change, kept_from: &HashMap<u64, u64>) -> Event {
    match change {
        Change::Append(record) => Event::Record {
            kept_from: kept_from.get(&record.seq).copied(),
            record,
        },
        Change::Remove(removal) => Event::Removed(removal),
        Change::Damaged { seq, error } => Event::Damaged { seq, error },
        Change::Config { config, .. } => Event::Config(config),
    }
}

impl AsyncStream for Watcher {
    type Item = Result<Event, WatchError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_event(cx)
    }
}

/// A point in time for [`Cursor::Time`].
pub fn cursor_at(time: std::time::SystemTime) -> Cursor {
    let since = time
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Cursor::Time(millis(since))
}
