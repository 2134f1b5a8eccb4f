//! Reading: bytes to frames to steps.

use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use dialtone_protocol::codec;
use dialtone_protocol::frame::{Action, Pong};
use dialtone_protocol::session::server::Step;
use dialtone_protocol::{Frame, Violation};
use dialtone_transport::Lane;

use super::effects::Effects;
use super::memo;
use super::rest::READ_LEN;
use super::run::Run;
use super::{Conn, Ending, Turn, now};
use crate::broker::Shared;
use crate::peer::Peer;

/// What a connection needs during a turn only, shared by all connections of a thread.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) buffer: Vec<u8>,
    pub(crate) work: Work,
}

/// What the frames of a turn have caused so far.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) effects: Effects,
    pub(crate) run: Run,
}

impl Work {
    /// Delivers the messages that were kept to be delivered together.
    #[inline]
    pub(crate) fn deliver_run(&mut self, bytes: &[u8], shared: &Shared, publisher: &Arc<Peer>) {
        self.run
            .deliver(bytes, shared, publisher, &mut self.effects);
    }
}

thread_local! {
    pub(crate) static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// How far the bytes of a read were understood.
pub(super) enum Flow {
    /// To the end, or to a frame that has not arrived whole.
    On,
    /// To a frame that needs the provider's answer.
    Ask(Action, String),
    /// The peer said goodbye.
    Bye,
    /// The peer broke the rules.
    Wrong(Violation),
}

impl Conn {
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, lane: Lane) -> Poll<Turn> {
        SCRATCH.with_borrow_mut(|scratch| {
            let reads_whole = self
                .session
                .read_len_max()
                .is_none_or(|max| max >= READ_LEN);
            if reads_whole && !self.rest[index(lane)].is_long() {
                self.poll_read_shared(cx, lane, scratch)
            } else {
                self.poll_read_own(cx, lane, &mut scratch.work)
            }
        })
    }

    /// Reads into the thread's buffer, behind what is left of the last read.
    fn poll_read_shared(
        &mut self,
        cx: &mut Context<'_>,
        lane: Lane,
        scratch: &mut Scratch,
    ) -> Poll<Turn> {
        let Scratch { buffer, work } = scratch;
        let rest = &self.rest[index(lane)];
        let received = ready!(rest.poll_shared(&mut self.reader, cx, lane, buffer));
        let (consumed, turn) = self.on_received(received, lane, buffer, work);
        self.rest[index(lane)].keep(buffer.get(consumed..).unwrap_or_default());
        Poll::Ready(turn)
    }

    /// Reads behind what is left, where that is much or little may be read at once.
    fn poll_read_own(&mut self, cx: &mut Context<'_>, lane: Lane, work: &mut Work) -> Poll<Turn> {
        let (len_max, at_once) = (self.session.frame_len_max(), self.session.read_len_max());
        let rest = &mut self.rest[index(lane)];
        let received = ready!(rest.poll_own(&mut self.reader, cx, lane, len_max, at_once));
        let mut rest = std::mem::take(rest);
        let (consumed, turn) = self.on_received(received, lane, rest.as_slice(), work);
        rest.consume(consumed);
        self.rest[index(lane)] = rest;
        Poll::Ready(turn)
    }

    fn on_received(
        &mut self,
        received: Result<usize, dialtone_transport::Error>,
        lane: Lane,
        bytes: &[u8],
        work: &mut Work,
    ) -> (usize, Turn) {
        let now = now();
        match received {
            Ok(0) => (0, Turn::End(Ending::Peer)),
            Ok(len) => match self.on_len(len, now) {
                Ok(()) => self.take_turn(lane, bytes, work, now),
                Err(violation) => (0, Turn::End(Ending::Broker(violation))),
            },
            Err(error) => {
                tracing::debug!(connection = %self.peer.id, %error, "read failed");
                (0, Turn::End(ending(&error)))
            }
        }
    }

    fn on_len(&mut self, len: usize, now: Instant) -> Result<(), Violation> {
        self.read_len += len;
        self.session.on_bytes(len, now)
    }

    /// Goes on with what was read before: after the provider has answered, and at the start.
    pub(super) fn go_on(&mut self, lane: Lane) -> Turn {
        let mut rest = std::mem::take(&mut self.rest[index(lane)]);
        let (consumed, turn) = SCRATCH.with_borrow_mut(|scratch| {
            self.take_turn(lane, rest.as_slice(), &mut scratch.work, now())
        });
        rest.consume(consumed);
        self.rest[index(lane)] = rest;
        turn
    }

    pub(super) fn on_datagram(&mut self, datagram: &[u8]) -> Turn {
        let now = now();
        if let Err(violation) = self.session.on_bytes(datagram.len(), now) {
            return Turn::End(Ending::Broker(violation));
        }
        let (_, turn) = SCRATCH.with_borrow_mut(|scratch| {
            self.take_turn(Lane::Interactive, datagram, &mut scratch.work, now)
        });
        // Where the provider must be asked first, this datagram is lost, as its sender expects of
        // some; the answer holds for those that follow.
        turn
    }

    /// Processes whole frames and carries out their effects.
    fn take_turn(
        &mut self,
        lane: Lane,
        bytes: &[u8],
        work: &mut Work,
        now: Instant,
    ) -> (usize, Turn) {
        let (consumed, flow) = self.process(bytes, work, now);
        work.deliver_run(bytes, &self.shared, &self.peer);
        let full: Vec<Arc<Peer>> = work.effects.carry_out(&self.shared, &self.peer);
        self.sends_bulk = std::mem::take(&mut work.effects.fragments);
        let turn = match flow {
            Flow::On => Turn::Read(full),
            Flow::Ask(action, subject) => Turn::Ask(lane, action, subject),
            Flow::Bye => Turn::End(Ending::Peer),
            Flow::Wrong(violation) => Turn::End(Ending::Broker(violation)),
        };
        (consumed, turn)
    }

    fn process(&mut self, bytes: &[u8], work: &mut Work, now: Instant) -> (usize, Flow) {
        let (mut consumed, mut warmed) = (0, 0);
        let frame_len_max = self.session.frame_len_max();
        while let Some(rest) = bytes.get(consumed..) {
            if consumed >= warmed {
                warmed = consumed + memo::warm(&self.shared.router, rest, frame_len_max);
            }
            let flow = match codec::split_frame(rest, frame_len_max) {
                Ok(None) => break,
                Err(error) => Err(error.into()),
                Ok(Some((body, len))) => self
                    .on_body(body, bytes, consumed + len, work, now)
                    .inspect(|flow| {
                        if !matches!(flow, Flow::Ask(..)) {
                            consumed += len;
                        }
                    }),
            };
            match flow {
                Ok(Flow::On) => {}
                Ok(other) => return (consumed, other),
                Err(violation) => return (consumed, Flow::Wrong(violation)),
            }
        }
        (consumed, Flow::On)
    }

    /// `end` is where the body ends in `bytes`.
    #[inline]
    fn on_body(
        &mut self,
        body: &[u8],
        bytes: &[u8],
        end: usize,
        work: &mut Work,
        now: Instant,
    ) -> Result<Flow, Violation> {
        if let Some(publish) = self.session.on_publish(body, now)? {
            if publish.fragment.is_some() {
                work.deliver_run(bytes, &self.shared, &self.peer);
                let flow = self.on_fragment(&publish, &mut work.effects, now);
                if let Ok(Flow::Ask(..)) = flow {
                    self.session.postponed();
                }
                return flow;
            }
            let flow = self.on_publish(&publish, bytes, end, work);
            if let Ok(Flow::Ask(..)) = flow {
                self.session.postponed();
            }
            return flow;
        }
        work.deliver_run(bytes, &self.shared, &self.peer);
        let step = self.session.on_body(body, now)?;
        Ok(self.on_step(step, &mut work.effects, now))
    }

    fn on_step(&mut self, step: Step<'_>, effects: &mut Effects, now: Instant) -> Flow {
        match step {
            Step::Subscribe(subscribe) => return self.on_subscribe(&subscribe, effects),
            Step::Interest(interest) => return self.on_interest(interest, effects, now),
            Step::Unsubscribe(unsubscribe) => self.on_unsubscribe(&unsubscribe, effects),
            Step::List(list) => self.on_list(&list, effects),
            Step::Cancel(cancel) => self.on_cancel(&cancel),
            Step::Ping(token) => effects.push_frame(&self.peer, &Frame::Pong(Pong { token })),
            Step::Close(_) => return Flow::Bye,
            // A pong needs no answer. Publishes have been taken out before, and the session lets a hello through only
            // before it is open, which it is here.
            Step::Heard | Step::Publish(_) | Step::Hello(..) => {}
        }
        Flow::On
    }
}

/// A peer that broke the transport's rules or closed with a code may still read what is said.
fn ending(error: &dialtone_transport::Error) -> Ending {
    use dialtone_transport::Error;
    if matches!(error, Error::Reset | Error::Io(_) | Error::TimedOut) {
        Ending::Gone
    } else {
        Ending::Peer
    }
}

fn index(lane: Lane) -> usize {
    match lane {
        // Clients have no control lane.
        Lane::Interactive | Lane::Control => 0,
        Lane::Bulk => 1,
    }
}
