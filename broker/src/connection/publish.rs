//! Routing what a peer publishes.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dialtone_protocol::fragment::Accepted;
use dialtone_protocol::frame::message::PublishView;
use dialtone_protocol::frame::{Action, Denied, Fragment, Published, Refused};
use dialtone_protocol::{Code, Frame, RequestId, SubjectError, SubscriptionId, Violation, subject};

use super::Conn;
use super::cache::Verdict;
use super::effects::Effects;
use super::memo;
use super::read::{Flow, Work};
use crate::auth::Permissions;
use crate::outbox::{Delivery, SHARE_LEN_MIN};
use crate::peer::Peer;
use crate::registry::Inbox;
use crate::router::group::{self, Dice};
use crate::router::{Route, Target};
use crate::sys;

/// What a subject resolves to.
enum Found {
    Route(Route<Arc<Peer>>),
    /// An inbox of this node; `None` when nobody has it.
    Inbox(Option<Arc<Peer>>),
    /// The broker answers itself.
    System,
    /// Not permitted, or not a subject.
    Refused(Box<Refused>),
}

/// The receivers of a fragmented message: all its fragments take one route.
pub(super) struct Kept {
    targets: Vec<Target<Arc<Peer>>>,
    id: u64,
    outcome: Result<u32, Refused>,
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
        work.deliver_run(bytes, &self.peer);
        let outcome = match self.route_whole(publish, end, work) {
            Ok(outcome) => outcome,
            Err(ask) => return Ok(ask),
        };
        work.effects.messages_in += 1;
        work.effects.bytes_in += publish.section.len() as u64;
        if let Some(outcome) = outcome {
            self.conclude(publish, outcome, &mut work.effects);
        }
        Ok(Flow::On)
    }

    /// Delivers a message that came whole, or begins a run with it and has no outcome yet; `Err`
    /// when the provider must be asked first.
    #[inline]
    fn route_whole(
        &mut self,
        publish: &PublishView<'_>,
        end: usize,
        work: &mut Work,
    ) -> Result<Option<Result<u32, Refused>>, Flow> {
        let delivery = Delivery {
            unreliable: publish.unreliable,
            fragment: None,
            section: publish.section,
            shared: None,
        };
        let effects = &mut work.effects;
        let outcome = match self.look_up(publish.subject)? {
            Found::Route(route) if route.may_run() && !publish.unreliable => {
                effects.unrouted += u64::from(route.parts().is_empty());
                let (subject, section) = (subject_range(publish, end), section_range(publish, end));
                work.run.begin(route, subject, section);
                if let Some(request) = publish.request {
                    work.run.acknowledge(request);
                }
                return Ok(None);
            }
            Found::Route(route) => Ok(deliver(
                &route,
                publish.subject,
                delivery,
                &mut self.dice,
                effects,
            )),
            Found::Inbox(peer) => Ok(deliver_to_inbox(peer, delivery, effects)),
            Found::Refused(refused) => Err(*refused),
            Found::System => {
                sys::answer(&self.shared, &self.peer, publish, effects_sink(effects));
                Ok(1)
            }
        };
        Ok(Some(outcome))
    }

    /// What a subject resolves to; `Err` when the provider must be asked first.
    #[inline]
    fn look_up(&mut self, subject: &[u8]) -> Result<Found, Flow> {
        match self.shared.registry.find_inbox(&self.shared.node, subject) {
            Inbox::No => {}
            Inbox::Gone => return Ok(Found::Inbox(None)),
            Inbox::Of(peer) => return Ok(Found::Inbox(Some(peer))),
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
                Some(true) if text.starts_with(sys::PREFIX) => {
                    self.cache.insert(hash, bytes, Verdict::System);
                    return Ok(Found::System);
                }
                Some(true) => {
                    let route = self.shared.router.resolve(text, hash);
                    if self.principal.permissions == Permissions::All {
                        memo::keep(&self.shared.router, hash, bytes, &route);
                    } else {
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
    fn tell_denied(&self, subject: &[u8], refused: &Refused) {
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
        let begin = || {
            first.unwrap_or_else(|| Kept {
                targets: Vec::new(),
                id: 0,
                outcome: Ok(0),
            })
        };
        effects.messages_in += 1;
        effects.bytes_in += publish.section.len() as u64;
        match self.fragments.accept(fragment, len, now, begin)? {
            Accepted::More(kept) => pass_on(kept, publish, fragment, effects),
            Accepted::Last(kept) => {
                pass_on(&kept, publish, fragment, effects);
                self.conclude(publish, kept.outcome, effects);
            }
        }
        Ok(Flow::On)
    }

    /// Decides who gets a fragmented message.
    fn choose_receivers(&mut self, publish: &PublishView<'_>) -> Result<Kept, Flow> {
        let id = self
            .shared
            .next_fragment
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let refuse = |refused| {
            Ok(Kept {
                targets: Vec::new(),
                id,
                outcome: Err(refused),
            })
        };
        match self.look_up(publish.subject)? {
            Found::Route(route) => {
                let mut targets = Vec::new();
                let count = each_target(&route, publish.subject, &mut self.dice, |target| {
                    let skipped = target.drop_oldest > 0
                        && target.peer.outbox.skip_large(target.subscription);
                    if !skipped {
                        targets.push(target.clone());
                    }
                });
                Ok(Kept {
                    targets,
                    id,
                    outcome: Ok(count),
                })
            }
            Found::Inbox(peer) => {
                let targets: Vec<_> = peer.map(inbox_target).into_iter().collect();
                let outcome = Ok(u32::try_from(targets.len()).unwrap_or(u32::MAX));
                Ok(Kept {
                    targets,
                    id,
                    outcome,
                })
            }
            Found::Refused(refused) => refuse(*refused),
            Found::System => refuse(Refused::new(
                Code::TooLarge,
                "the broker takes no requests in fragments",
            )),
        }
    }

    /// Says what became of a publish, to those who want to know.
    #[inline]
    fn conclude(
        &self,
        publish: &PublishView<'_>,
        outcome: Result<u32, Refused>,
        effects: &mut Effects,
    ) {
        if matches!(outcome, Ok(0)) {
            effects.unrouted += 1;
        }
        if let Some(request) = publish.request {
            self.acknowledge(request, outcome, effects);
        }
    }

    fn acknowledge(
        &self,
        request: RequestId,
        outcome: Result<u32, Refused>,
        effects: &mut Effects,
    ) {
        effects.push_frame(
            &self.peer,
            &Frame::Published(Published { request, outcome }),
        );
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

fn inbox_target(peer: Arc<Peer>) -> Target<Arc<Peer>> {
    Target {
        peer,
        subscription: SubscriptionId::INBOX,
        drop_oldest: 0,
    }
}

fn deliver_to_inbox(peer: Option<Arc<Peer>>, delivery: Delivery<'_>, effects: &mut Effects) -> u32 {
    let Some(peer) = peer else { return 0 };
    effects.deliver(&inbox_target(peer), delivery);
    1
}

/// Puts a message into the outboxes of all its receivers; returns the count.
#[inline]
fn deliver(
    route: &Route<Arc<Peer>>,
    subject: &[u8],
    delivery: Delivery<'_>,
    dice: &mut Dice,
    effects: &mut Effects,
) -> u32 {
    if delivery.section.len() >= SHARE_LEN_MIN {
        let shared = Bytes::copy_from_slice(delivery.section);
        let delivery = Delivery {
            shared: Some(&shared),
            ..delivery
        };
        return each_target(route, subject, dice, |target| {
            effects.deliver(target, delivery);
        });
    }
    each_target(route, subject, dice, |target| {
        effects.deliver(target, delivery);
    })
}

/// Calls `found` for every receiver, choosing one of each queue group; returns the count.
#[inline]
fn each_target(
    route: &Route<Arc<Peer>>,
    subject: &[u8],
    dice: &mut Dice,
    mut found: impl FnMut(&Target<Arc<Peer>>),
) -> u32 {
    let mut count = 0;
    for part in route.parts() {
        part.targets().iter().for_each(&mut found);
        part.taps().iter().for_each(&mut found);
        count += part.targets().len();
        for group in part.groups() {
            if let Some(target) = group::choose(group, subject, dice) {
                found(target);
                count += 1;
            }
        }
    }
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn pass_on(kept: &Kept, publish: &PublishView<'_>, fragment: Fragment, effects: &mut Effects) {
    if kept.targets.is_empty() {
        return;
    }
    let shared = Bytes::copy_from_slice(publish.section);
    let delivery = Delivery {
        unreliable: publish.unreliable,
        fragment: Some(Fragment {
            id: kept.id,
            ..fragment
        }),
        section: publish.section,
        shared: (shared.len() >= SHARE_LEN_MIN).then_some(&shared),
    };
    kept.targets
        .iter()
        .for_each(|target| effects.deliver(target, delivery));
}

/// How answers of the broker itself get into outboxes.
fn effects_sink(effects: &mut Effects) -> impl FnMut(&Target<Arc<Peer>>, Delivery<'_>) + '_ {
    |target, delivery| effects.deliver(target, delivery)
}
