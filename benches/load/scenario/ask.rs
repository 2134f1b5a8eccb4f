//! Requests to a service that keeps streams, many at once, whose answers are only looked at for refusals.

use std::time::{Duration, Instant};

use super::request::open_inbox;
use super::shared::IDLE_TURN;
use crate::error::LoadError;
use crate::link::ANSWER_MAX;
use crate::reactor::Reactor;
use crate::target::Target;
use crate::wire::{Format, streams};

/// How long one attempt to make the stream waits: the service may not be there yet.
const ATTEMPT: Duration = Duration::from_millis(200);
/// Requests under way at once.
const WINDOW: usize = 256;

/// A connection that asks.
pub(super) struct Asker {
    reactor: Reactor,
    inbox: String,
    format: Format,
}

impl Asker {
    pub(super) fn new(target: &Target) -> Result<Self, LoadError> {
        let mut reactor = Reactor::connect(target, 1)?;
        Ok(Self {
            inbox: open_inbox(&mut reactor, 0)?,
            format: reactor.conn(0).format(),
            reactor,
        })
    }

    pub(super) const fn format(&self) -> Format {
        self.format
    }

    /// Makes the streams 0 to `count`, not including that.
    pub(super) fn make_streams(&mut self, count: usize) -> Result<(), LoadError> {
        let format = self.format;
        // The service answers from here on.
        make_stream(&mut self.reactor, &self.inbox, 0)?;
        self.ask(count.saturating_sub(1), |index, reply, frames| {
            streams::create(format, frames, reply, index + 1);
        })
    }

    /// Waits until the service answers to a question about a stream.
    pub(super) fn await_stream(&mut self, stream: usize) -> Result<(), LoadError> {
        let format = self.format;
        until_answered(&mut self.reactor, &self.inbox, |reply, frames| {
            streams::info(format, frames, reply, stream);
        })
    }

    /// Makes so many requests and waits for their answers. `request` gets the number of each and where its answer goes.
    pub(super) fn ask(
        &mut self,
        count: usize,
        mut request: impl FnMut(usize, &str, &mut Vec<u8>),
    ) -> Result<(), LoadError> {
        let (mut asked, mut answered, mut refused) = (0, 0, None);
        let mut frames = Vec::new();
        let mut heard = Instant::now();
        while answered < count {
            while asked < count && asked - answered < WINDOW {
                request(asked, &format!("{}.a{asked}", self.inbox), &mut frames);
                asked += 1;
            }
            if !frames.is_empty() {
                self.reactor.conn(0).post(&frames)?;
                frames.clear();
            }
            let (format, before) = (self.format, answered);
            let turned = self.reactor.turn(IDLE_TURN, &mut |_, frame| {
                let number = format
                    .subject(frame)
                    .and_then(|subject| subject.rsplit_once('.'));
                // Others are late answers to attempts of before.
                answered += usize::from(number.is_some_and(|(_, last)| last.starts_with('a')));
                refused = streams::refusal(format, frame).or_else(|| refused.take());
            });
            turned.map_err(|(_, error)| error)?;
            if let Some(text) = refused.take() {
                return Err(LoadError::Peer(text));
            }
            if answered > before {
                heard = Instant::now();
            } else if heard.elapsed() > ANSWER_MAX {
                return Err(unanswered());
            }
        }
        Ok(())
    }

    pub(super) fn close(self) {
        self.reactor.close();
    }
}

/// Asks for a stream until somebody answers.
pub(super) fn make_stream(
    reactor: &mut Reactor,
    inbox: &str,
    stream: usize,
) -> Result<(), LoadError> {
    let format = reactor.conn(0).format();
    until_answered(reactor, inbox, |reply, frames| {
        streams::create(format, frames, reply, stream);
    })
}

/// Makes a request on the first connection until somebody answers.
fn until_answered(
    reactor: &mut Reactor,
    inbox: &str,
    request: impl FnOnce(&str, &mut Vec<u8>),
) -> Result<(), LoadError> {
    let format = reactor.conn(0).format();
    let end = Instant::now() + ANSWER_MAX;
    let (mut frames, mut answer) = (Vec::new(), None);
    request(&format!("{inbox}.0"), &mut frames);
    while answer.is_none() {
        if Instant::now() > end {
            return Err(unanswered());
        }
        reactor.conn(0).post(&frames)?;
        let attempt = Instant::now() + ATTEMPT;
        while answer.is_none() && Instant::now() < attempt {
            let turned = reactor.turn(IDLE_TURN, &mut |_, frame| {
                answer = Some(streams::refusal(format, frame));
            });
            turned.map_err(|(_, error)| error)?;
        }
    }
    answer
        .flatten()
        .map_or(Ok(()), |text| Err(LoadError::Peer(text)))
}

fn unanswered() -> LoadError {
    LoadError::Timeout {
        what: "a stream; does the server keep any?",
        secs: ANSWER_MAX.as_secs(),
    }
}
