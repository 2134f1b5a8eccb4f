//! Reading a link: messages of another node, for receivers of this one.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use dialtone_protocol::fragment::Accepted;
use dialtone_protocol::frame::Fragment;
use dialtone_protocol::frame::link::DESTINATION_SETS;
use dialtone_protocol::frame::message::DeliverView;
use dialtone_protocol::{Frame, SubscriptionId, Violation, codec, subject};
use dialtone_transport::Lane;

use super::{Ending, FRAGMENTED_COUNTS_MAX, Fragmented, LinkConn, Turn, now};
use crate::chance::RandomState;
use crate::cluster::counts::Asker;
use crate::connection::cache::Verdict;
use crate::connection::onward::{self, Choice, Groups, Onward, Send};
use crate::connection::publish::{Kept, deliver, inbox_target};
use crate::connection::read::{SCRATCH, Scratch, Work};
use crate::outbox::Delivery;
use crate::peer::Peer;
use crate::registry::Inbox;
use crate::router::Route;

/// What a subject resolves to.
enum Found {
    Route(Route<Arc<Peer>>),
    Inbox(Arc<Peer>),
    Elsewhere(Arc<Peer>),
    Nobody,
}

impl LinkConn {
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, lane: Lane) -> Poll<Turn> {
        SCRATCH.with_borrow_mut(|scratch| {
            let Scratch { buffer, work } = scratch;
            let rest = &self.rest[index(lane)];
            if rest.is_long() {
                return self.poll_read_own(cx, lane, work);
            }
            let received = ready!(rest.poll_shared(&mut self.reader, cx, lane, buffer));
            let (consumed, turn) = self.on_received(received, lane, buffer, work);
            self.rest[index(lane)].keep(buffer.get(consumed..).unwrap_or_default());
            Poll::Ready(turn)
        })
    }

    /// Reads behind what is left, where that is much.
    fn poll_read_own(&mut self, cx: &mut Context<'_>, lane: Lane, work: &mut Work) -> Poll<Turn> {
        let len_max = self.cluster.config.frame_len_max;
        let rest = &mut self.rest[index(lane)];
        let received = ready!(rest.poll_own(&mut self.reader, cx, lane, len_max, None));
        let mut rest = std::mem::take(rest);
        let (consumed, turn) = self.on_received(received, lane, rest.as_slice(), work);
        rest.consume(consumed);
        self.rest[index(lane)] = rest;
        Poll::Ready(turn)
    }

    /// Goes on with what was read before.
    pub(super) fn go_on(&mut self) -> Turn {
        let mut rest = std::mem::take(&mut self.rest[index(Lane::Interactive)]);
        let (consumed, turn) = SCRATCH
            .with_borrow_mut(|scratch| self.take_turn(rest.as_slice(), &mut scratch.work, now()));
        rest.consume(consumed);
        self.rest[index(Lane::Interactive)] = rest;
        turn
    }

    fn on_received(
        &mut self,
        received: Result<usize, dialtone_transport::Error>,
        lane: Lane,
        bytes: &[u8],
        work: &mut Work,
    ) -> (usize, Turn) {
        match received {
            Ok(0) => (
                0,
                Turn::End(Ending::Other("the other node hung up".to_owned())),
            ),
            Ok(len) => {
                let now = now();
                self.link().mutual.store(true, Relaxed);
                self.heard = now;
                self.read_len += len;
                if lane == Lane::Control {
                    let figures = &self.link().figures;
                    figures.control_bytes_in.fetch_add(len as u64, Relaxed);
                }
                self.take_turn(bytes, work, now)
            }
            Err(error) => (0, Turn::End(Ending::Other(error.to_string()))),
        }
    }

    /// Processes whole frames and carries out their effects.
    fn take_turn(&mut self, bytes: &[u8], work: &mut Work, now: Instant) -> (usize, Turn) {
        let mut consumed = 0;
        let mut turn = Turn::On;
        let frame_len_max = self.cluster.config.frame_len_max;
        while let Some(rest) = bytes.get(consumed..) {
            let done = match codec::split_frame(rest, frame_len_max) {
                Ok(None) => break,
                Err(error) => Err(Ending::Own(error.into())),
                Ok(Some((body, len))) => {
                    consumed += len;
                    self.on_body(body, bytes, consumed, work, now)
                }
            };
            if let Err(ending) = done {
                turn = Turn::End(ending);
                break;
            }
        }
        work.deliver_run(bytes, &self.shared, &self.peer);
        let full = work.effects.carry_out(&self.shared, &self.peer);
        self.stall(full);
        (consumed, turn)
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
    ) -> Result<(), Ending> {
        if DeliverView::is_deliver(body) {
            let view = DeliverView::decode(body).map_err(|error| Ending::Own(error.into()))?;
            work.effects.messages_in += 1;
            work.effects.bytes_in += view.section.len() as u64;
            match view.fragment {
                None => self.on_message(&view, bytes, end, work),
                Some(fragment) => {
                    work.deliver_run(bytes, &self.shared, &self.peer);
                    self.on_fragment(&view, fragment, work, now);
                }
            }
            return Ok(());
        }
        work.deliver_run(bytes, &self.shared, &self.peer);
        let frame = Frame::decode(body).map_err(|error| Ending::Own(Violation::from(error)))?;
        self.on_frame(frame, &mut work.effects, now)
    }

    /// Delivers a message that came whole, or begins a run with it.
    #[inline]
    fn on_message(&mut self, view: &DeliverView<'_>, bytes: &[u8], end: usize, work: &mut Work) {
        let asked = self.asked.take();
        let is_plain =
            view.subscription == SubscriptionId::INBOX && !view.unreliable && asked.is_none();
        let section = section_range(view, end);
        if is_plain && work.run.is_to(view.subject, bytes) {
            return work.run.push(section);
        }
        work.deliver_run(bytes, &self.shared, &self.peer);
        match self.look_up(view.subject) {
            Found::Route(route) if is_plain => {
                let subject = subject_range(view, end);
                work.run.begin(route, self.reach, subject, section);
            }
            found @ (Found::Route(_) | Found::Inbox(_) | Found::Elsewhere(_) | Found::Nobody) => {
                self.deliver_singly(found, view, asked, work);
            }
        }
    }

    /// Delivers a message by itself, and answers how many get it where that was asked.
    fn deliver_singly(
        &mut self,
        found: Found,
        view: &DeliverView<'_>,
        asked: Option<u64>,
        work: &mut Work,
    ) {
        let delivery = Delivery {
            unreliable: view.unreliable,
            fragment: None,
            section: view.section,
            shared: None,
        };
        let (effects, mut onward) = (&mut work.effects, Onward::new());
        let count = match found {
            Found::Route(route) => {
                let choice = choice(&self.shared, self.reach, &self.sets, view);
                deliver(
                    &route,
                    &choice,
                    delivery,
                    &mut self.dice,
                    &mut onward,
                    effects,
                )
            }
            Found::Inbox(peer) => {
                effects.deliver(&inbox_target(peer), delivery);
                1
            }
            Found::Elsewhere(peer) => {
                onward.push(Send::to_inbox(peer));
                0
            }
            Found::Nobody => 0,
        };
        match asked {
            Some(token) => {
                let asker = Asker::Node(Arc::clone(&self.peer), token);
                effects.send_asking(&self.shared, asker, count, &onward, delivery);
            }
            None => effects.send_all(&onward, delivery),
        }
    }

    fn look_up(&mut self, subject: &[u8]) -> Found {
        match self.shared.find_inbox(subject) {
            Inbox::No => {}
            Inbox::Of(peer) => return Found::Inbox(peer),
            // A message that a member has sent goes no further.
            Inbox::Elsewhere(peer) if self.reach == onward::Reach::Cluster => {
                let is_member = peer.link.as_ref().is_some_and(|link| link.role.is_member());
                return if is_member {
                    Found::Elsewhere(peer)
                } else {
                    Found::Nobody
                };
            }
            Inbox::Elsewhere(_) | Inbox::Gone => return Found::Nobody,
        }
        let router = &self.shared.router;
        let hash = router.hash(subject);
        if let Some(Verdict::Route(route)) = self.cache.get(hash, subject)
            && router.is_current(route, hash)
        {
            return Found::Route(route.clone());
        }
        let checked = std::str::from_utf8(subject)
            .ok()
            .filter(|text| subject::check_subject(text).is_ok());
        let Some(text) = checked else {
            self.link().figures.dropped_in.fetch_add(1, Relaxed);
            return Found::Nobody;
        };
        let route = router.resolve(text, hash);
        self.cache.offer(hash, subject, &route);
        Found::Route(route)
    }

    /// Passes on a fragment of a large message. One that finds no room is dropped with the rest of
    /// its message: it is some publisher's, and no reason to end the link.
    fn on_fragment(
        &mut self,
        view: &DeliverView<'_>,
        fragment: Fragment,
        work: &mut Work,
        now: Instant,
    ) {
        let first = (fragment.index == 0).then(|| self.choose_receivers(view));
        let begin = || first.unwrap_or_else(Kept::nobody);
        let accepted = self
            .fragments
            .accept(fragment, view.payload_len, now, begin);
        let delivery = Delivery {
            unreliable: view.unreliable,
            fragment: Some(fragment),
            section: view.section,
            shared: None,
        };
        match accepted {
            Ok(Accepted::More(kept)) => kept.pass_on(delivery, &mut work.effects),
            Ok(Accepted::Last(kept)) => {
                kept.pass_on(delivery, &mut work.effects);
                if self.fragmented.len() >= FRAGMENTED_COUNTS_MAX {
                    self.fragmented.pop_front();
                }
                self.fragmented.push_back(Fragmented {
                    id: fragment.id,
                    own_id: kept.id,
                    count: kept.outcome.unwrap_or(0),
                    onward: kept.onward,
                });
            }
            Err(error) => {
                tracing::debug!(%error, node = %self.link().node, "a fragment was dropped");
                self.link().figures.dropped_in.fetch_add(1, Relaxed);
            }
        }
    }

    /// Decides who gets a fragmented message.
    fn choose_receivers(&mut self, view: &DeliverView<'_>) -> Kept {
        let mut kept = Kept::new(&self.shared);
        match self.look_up(view.subject) {
            Found::Route(route) => {
                let choice = choice(&self.shared, self.reach, &self.sets, view);
                kept.outcome = Ok(kept.choose(&route, &choice, &mut self.dice));
            }
            Found::Inbox(peer) => {
                kept.targets.push(inbox_target(peer));
                kept.outcome = Ok(1);
            }
            Found::Elsewhere(peer) => kept.onward.push(Send::to_inbox(peer)),
            Found::Nobody => {}
        }
        kept
    }
}

/// Who gets a message of another node: plain subscribers, and one member of each group that it
/// names.
fn choice<'a>(
    shared: &crate::broker::Shared,
    reach: onward::Reach,
    sets: &'a hashbrown::HashMap<u32, Box<[SubscriptionId]>, RandomState>,
    view: &'a DeliverView<'_>,
) -> Choice<'a> {
    let number = &view.subscription;
    let groups: &[SubscriptionId] = match number.0 {
        0 => &[],
        DESTINATION_SETS.. => sets.get(&number.0).map(|set| &**set).unwrap_or_default(),
        _ => std::slice::from_ref(number),
    };
    Choice {
        own: shared.node_hash,
        subject: view.subject,
        reach,
        groups: Groups::Only(groups),
    }
}

/// Where the section of a message lies in the bytes of the read. A read is far shorter than 4 GiB.
#[inline]
fn section_range(view: &DeliverView<'_>, end: usize) -> Range<u32> {
    range(end - view.section.len(), end)
}

/// Where the subject lies: behind its length, which takes one byte for each seven bits.
#[inline]
fn subject_range(view: &DeliverView<'_>, end: usize) -> Range<u32> {
    let len = view.subject.len();
    let len_field = 1 + usize::from(len >= 1 << 7) + usize::from(len >= 1 << 14);
    let start = end - view.section.len() + len_field;
    range(start, start + len)
}

#[inline]
fn range(start: usize, end: usize) -> Range<u32> {
    let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    narrow(start)..narrow(end)
}

fn index(lane: Lane) -> usize {
    match lane {
        Lane::Interactive => 0,
        Lane::Bulk => 1,
        Lane::Control => 2,
    }
}
