//! Routing what a peer publishes.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use dialtone_protocol::fragment::Accepted;
use dialtone_protocol::frame::message::PublishView;
use dialtone_protocol::frame::{Action, Denied, Fragment, Refused};
use dialtone_protocol::{Code, Frame, SubjectError, SubscriptionId, Violation, subject};

use super::Conn;
use super::cache::Verdict;
use super::effects::Effects;
use super::memo;
use super::onward::{Choice, Groups, Onward, Reach, Send};
use super::read::{Flow, Work};
use crate::auth::Permissions;
use crate::broker::Shared;
use crate::cluster::Asker;
use crate::outbox::{Delivery, SHARE_LEN_MIN};
use crate::peer::Peer;
use crate::registry::Inbox;
use crate::router::group::Dice;
use crate::router::{Route, Target};
use crate::sys;

/// What a subject resolves to.
enum Found {
    Route(Route<Arc<Peer>>),
    /// An inbox; nobody when it is gone.
    Inbox(Receiver),
    /// The broker answers itself.
    System,
    /// Not permitted, or not a subject.
    Refused(Box<Refused>),
}

/// The count of receivers at this node, and the other nodes that it was sent to.
type Outcome = (Result<u32, Refused>, Onward);

/// Who gets what is published to an inbox.
enum Receiver {
    Nobody,
    Here(Arc<Peer>),
    Elsewhere(Send),
}

/// The receivers of a fragmented message: all its fragments take one route.
pub(crate) struct Kept {
    pub(crate) targets: Vec<Target<Arc<Peer>>>,
    pub(crate) onward: Onward,
    pub(crate) id: u64,
    pub(crate) outcome: Result<u32, Refused>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept")
            .field("id", &self.id)
            .field("targets", &self.targets.len())
            .finish_non_exhaustive()
    }
}

impl Conn {
    /// Routes a message that came whole. It ends at `end` in `bytes`.
    #[inline]
    pub(super) fn on_publish(
        &mut self,
        publish: &PublishView<'_>,
        bytes: &[u8],
        end: usize,
        work: &mut Work,
    ) -> Result<Flow, Violation> {
        check_reply(publish)?;
        if !publish.unreliable && work.run.is_to(publish.subject, bytes) {
            work.run.push(section_range(publish, end));
            work.effects.unrouted += u64::from(!work.run.has_receivers());
            work.effects.messages_in += 1;
            work.effects.bytes_in += publish.section.len() as u64;
            if let Some(request) = publish.request {
                work.run.acknowledge(request);
            }
            return Ok(Flow::On);
        }
        work.deliver_run(bytes, &self.shared, &self.peer);
        let outcome = match self.route_whole(publish, end, work) {
            Ok(outcome) => outcome,
            Err(ask) => return Ok(ask),
        };
        work.effects.messages_in += 1;
        work.effects.bytes_in += publish.section.len() as u64;
        if let Some((outcome, onward)) = outcome {
            self.conclude(publish, outcome, &onward, None, &mut work.effects);
        }
        Ok(Flow::On)
    }

    /// Delivers a message that came whole, or begins a run with it or asks other nodes and has no
    /// outcome yet; `Err` when the provider must be asked first.
    #[inline]
    fn route_whole(
        &mut self,
        publish: &PublishView<'_>,
        end: usize,
        work: &mut Work,
    ) -> Result<Option<Outcome>, Flow> {
        let delivery = Delivery {
            unreliable: publish.unreliable,
            fragment: None,
            section: publish.section,
            shared: None,
        };
        let effects = &mut work.effects;
        let mut onward = Onward::new();
        let outcome = match self.look_up(publish.subject)? {
            Found::Route(route) if route.may_run() && !publish.unreliable => {
                effects.unrouted += u64::from(route.is_empty());
                let (subject, section) = (subject_range(publish, end), section_range(publish, end));
                work.run.begin(route, Reach::Everywhere, subject, section);
                if let Some(request) = publish.request {
                    work.run.acknowledge(request);
                }
                return Ok(None);
            }
            Found::Route(route) => {
                let choice = self.choice(publish.subject);
                let dice = &mut self.dice;
                Ok(deliver(
                    &route,
                    &choice,
                    delivery,
                    dice,
                    &mut onward,
                    effects,
                ))
            }
            Found::Inbox(Receiver::Nobody) => Ok(0),
            Found::Inbox(Receiver::Here(peer)) => {
                effects.deliver(&inbox_target(peer), delivery);
                Ok(1)
            }
            Found::Inbox(Receiver::Elsewhere(send)) => {
                onward.push(send);
                Ok(0)
            }
            Found::Refused(refused) => Err(*refused),
            Found::System => {
                sys::answer(&self.shared, &self.peer, publish, effects);
                Ok(1)
            }
        };
        match (&outcome, publish.request) {
            (Ok(count), Some(request)) if !onward.is_empty() => {
                let asker = Asker::Publisher(Arc::clone(&self.peer), request);
                effects.send_asking(&self.shared, asker, *count, &onward, delivery);
                Ok(None)
            }
            _ => {
                effects.send_all(&onward, delivery);
                Ok(Some((outcome, onward)))
            }
        }
    }

    fn choice<'a>(&self, subject: &'a [u8]) -> Choice<'a> {
        Choice {
            own: self.shared.node_hash,
            subject,
            reach: Reach::Everywhere,
            groups: Groups::All,
        }
    }

    /// What a subject resolves to; `Err` when the provider must be asked first.
    #[inline]
    fn look_up(&mut self, subject: &[u8]) -> Result<Found, Flow> {
        let receiver = match self.shared.find_inbox(subject) {
            Inbox::No => None,
            Inbox::Gone => Some(Receiver::Nobody),
            Inbox::Of(peer) => Some(Receiver::Here(peer)),
            Inbox::Elsewhere(peer) => Some(Receiver::Elsewhere(Send::to_inbox(peer))),
        };
        if let Some(receiver) = receiver {
            return Ok(Found::Inbox(receiver));
        }
        let hash = self.shared.router.hash(subject);
        if self.principal.permissions == Permissions::All
            && let Some(route) = memo::find(&self.shared.router, hash, subject)
        {
            return Ok(Found::Route(route));
        }
        match self.cache.get(hash, subject) {
            Some(Verdict::Route(route)) if self.shared.router.is_current(route, hash) => {
                Ok(Found::Route(route.clone()))
            }
            Some(Verdict::System) => Ok(Found::System),
            Some(Verdict::Refused(refused)) => Ok(Found::Refused(refused.clone())),
            Some(Verdict::Route(_) | Verdict::Unknown) | None => self.find_out(hash, subject),
        }
    }

    /// Finds out what a subject resolves to and keeps it; `Err` when the provider must be asked
    /// first.
    fn find_out(&mut self, hash: u64, bytes: &[u8]) -> Result<Found, Flow> {
        let checked = std::str::from_utf8(bytes).map_err(|_not_utf8| SubjectError::NotUtf8);
        let checked = checked.and_then(|text| subject::check_subject(text).map(|()| text));
        let refused = match checked {
            Err(error) => Refused::new(Code::InvalidSubject, error.to_string()),
            Ok(text) => match self.decisions.of(&self.principal, Action::Publish, text) {
                None => return Err(Flow::Ask(Action::Publish, text.to_owned())),
                Some(true) if sys::is_own(text) => {
                    self.published.note(text);
                    self.cache.insert(hash, bytes, Verdict::System);
                    return Ok(Found::System);
                }
                Some(true) => {
                    let route = self.shared.router.resolve(text, hash);
                    if self.principal.permissions == Permissions::All {
                        memo::keep(&self.shared.router, hash, bytes, &route);
                    } else {
                        self.published.note(text);
                        self.cache.offer(hash, bytes, &route);
                    }
                    return Ok(Found::Route(route));
                }
                Some(false) => Refused::new(
                    Code::Denied,
                    format!("permission denied: publishing to {text:?}"),
                ),
            },
        };
        self.tell_denied(bytes, &refused);
        let refused = Box::new(refused);
        self.cache
            .insert(hash, bytes, Verdict::Refused(refused.clone()));
        Ok(Found::Refused(refused))
    }

    /// Tells the publisher once, when the subject is first refused: publishes without an
    /// acknowledgement have no answer of their own.
    pub(super) fn tell_denied(&self, subject: &[u8], refused: &Refused) {
        self.shared.metrics.denied.add(1);
        self.say(&Frame::Denied(Denied {
            action: Action::Publish,
            subject: String::from_utf8_lossy(subject).chars().take(256).collect(),
            code: refused.code,
            text: refused.text.clone(),
        }));
    }

    /// Passes on a fragment of a large message.
    pub(super) fn on_fragment(
        &mut self,
        publish: &PublishView<'_>,
        effects: &mut Effects,
        now: Instant,
    ) -> Result<Flow, Violation> {
        let Some(fragment) = publish.fragment else {
            return Ok(Flow::On);
        };
        check_reply(publish)?;
        if std::str::from_utf8(publish.subject).is_err() {
            return Err(SubjectError::NotUtf8.into());
        }
        let first = if fragment.index == 0 {
            match self.choose_receivers(publish) {
                Ok(kept) => Some(kept),
                Err(ask) => return Ok(ask),
            }
        } else {
            None
        };
        let len = publish.payload_len;
        let begin = || first.unwrap_or_else(Kept::nobody);
        effects.messages_in += 1;
        effects.bytes_in += publish.section.len() as u64;
        let delivery = Delivery {
            unreliable: publish.unreliable,
            fragment: Some(fragment),
            section: publish.section,
            shared: None,
        };
        match self.fragments.accept(fragment, len, now, begin)? {
            Accepted::More(kept) => kept.pass_on(delivery, effects),
            Accepted::Last(kept) => {
                kept.pass_on(delivery, effects);
                let Kept {
                    onward,
                    id,
                    outcome,
                    ..
                } = kept;
                self.conclude(publish, outcome, &onward, Some(id), effects);
            }
        }
        Ok(Flow::On)
    }

    /// Decides who gets a fragmented message.
    fn choose_receivers(&mut self, publish: &PublishView<'_>) -> Result<Kept, Flow> {
        let mut kept = Kept::new(&self.shared);
        match self.look_up(publish.subject)? {
            Found::Route(route) => {
                let choice = self.choice(publish.subject);
                kept.outcome = Ok(kept.choose(&route, &choice, &mut self.dice));
            }
            Found::Inbox(Receiver::Nobody) => {}
            Found::Inbox(Receiver::Here(peer)) => {
                kept.targets.push(inbox_target(peer));
                kept.outcome = Ok(1);
            }
            Found::Inbox(Receiver::Elsewhere(send)) => kept.onward.push(send),
            Found::Refused(refused) => kept.outcome = Err(*refused),
            Found::System => {
                let text = "the broker takes no requests in fragments";
                kept.outcome = Err(Refused::new(Code::TooLarge, text));
            }
        }
        Ok(kept)
    }

    /// Says what became of a publish, to those who want to know.
    #[inline]
    fn conclude(
        &self,
        publish: &PublishView<'_>,
        outcome: Result<u32, Refused>,
        onward: &[Send],
        fragmented: Option<u64>,
        effects: &mut Effects,
    ) {
        if matches!(outcome, Ok(0)) && onward.is_empty() {
            effects.unrouted += 1;
        }
        let Some(request) = publish.request else {
            return;
        };
        match (outcome, fragmented) {
            (Ok(count), Some(id)) if !onward.is_empty() => {
                let asker = Asker::Publisher(Arc::clone(&self.peer), request);
                effects.ask_counts(&self.shared, asker, count, onward, id);
            }
            (outcome, _) => effects.acknowledge(&self.peer, request, outcome),
        }
    }
}

#[inline]
fn check_reply(publish: &PublishView<'_>) -> Result<(), Violation> {
    let Some(reply) = publish.reply else {
        return Ok(());
    };
    let wrong = |error| Violation::new(Code::InvalidSubject, format!("reply subject: {error}"));
    subject::check_subject(reply).map_err(wrong)
}

/// Where the section of a message lies in the bytes of the read. A read is far shorter than 4 GiB.
#[inline]
fn section_range(publish: &PublishView<'_>, end: usize) -> Range<u32> {
    range(end - publish.section.len(), end)
}

/// Where the subject of a message lies in the bytes of the read: behind its length, which takes
/// one byte for each seven bits.
#[inline]
fn subject_range(publish: &PublishView<'_>, end: usize) -> Range<u32> {
    let len = publish.subject.len();
    let len_field = 1 + usize::from(len >= 1 << 7) + usize::from(len >= 1 << 14);
    let start = end - publish.section.len() + len_field;
    range(start, start + len)
}

#[inline]
fn range(start: usize, end: usize) -> Range<u32> {
    let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    narrow(start)..narrow(end)
}

pub(crate) fn inbox_target(peer: Arc<Peer>) -> Target<Arc<Peer>> {
    Target {
        peer,
        subscription: SubscriptionId::INBOX,
        drop_oldest: 0,
    }
}

/// Puts a message into the outboxes of all its receivers at this node, and adds the other nodes to
/// `onward`; returns the count of those here.
#[inline]
pub(crate) fn deliver(
    route: &Route<Arc<Peer>>,
    choice: &Choice<'_>,
    delivery: Delivery<'_>,
    dice: &mut Dice,
    onward: &mut Onward,
    effects: &mut Effects,
) -> u32 {
    if delivery.section.len() >= SHARE_LEN_MIN {
        let shared = Bytes::copy_from_slice(delivery.section);
        let delivery = Delivery {
            shared: Some(&shared),
            ..delivery
        };
        return choice.each_receiver(route, dice, onward, |target| {
            effects.deliver(target, delivery);
        });
    }
    choice.each_receiver(route, dice, onward, |target| {
        effects.deliver(target, delivery);
    })
}

impl Kept {
    /// Of nobody yet, with a number that the node gives once.
    pub(crate) fn new(shared: &Shared) -> Self {
        Self {
            targets: Vec::new(),
            onward: Onward::new(),
            id: shared.next_fragment.fetch_add(1, Ordering::Relaxed),
            outcome: Ok(0),
        }
    }

    /// Of a message that nobody gets.
    pub(crate) fn nobody() -> Self {
        Self {
            targets: Vec::new(),
            onward: Onward::new(),
            id: 0,
            outcome: Ok(0),
        }
    }

    /// Chooses the receivers; returns the count of those at this node.
    pub(crate) fn choose(
        &mut self,
        route: &Route<Arc<Peer>>,
        choice: &Choice<'_>,
        dice: &mut Dice,
    ) -> u32 {
        let Self {
            targets, onward, ..
        } = self;
        choice.each_receiver(route, dice, onward, |target| {
            let skipped =
                target.drop_oldest > 0 && target.peer.outbox.skip_large(target.subscription);
            if !skipped {
                targets.push(target.clone());
            }
        })
    }

    /// Passes on a fragment.
    pub(crate) fn pass_on(&self, delivery: Delivery<'_>, effects: &mut Effects) {
        if self.targets.is_empty() && self.onward.is_empty() {
            return;
        }
        let shared = (delivery.section.len() >= SHARE_LEN_MIN)
            .then(|| Bytes::copy_from_slice(delivery.section));
        let delivery = Delivery {
            fragment: delivery.fragment.map(|fragment| Fragment {
                id: self.id,
                ..fragment
            }),
            shared: shared.as_ref(),
            ..delivery
        };
        for target in &self.targets {
            effects.deliver(target, delivery);
        }
        effects.send_all(&self.onward, delivery);
    }
}
