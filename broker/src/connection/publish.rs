//! Routing what a peer publishes.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dialtone_protocol::fragment::Accepted;
use dialtone_protocol::frame::message::PublishView;
use dialtone_protocol::frame::{Action, Denied, Fragment, Published, Refused};
use dialtone_protocol::{Code, Frame, RequestId, SubjectError, SubscriptionId, Violation, inbox, subject};

use super::Conn;
use super::cache::Verdict;
use super::effects::Effects;
use super::read::Flow;
use crate::outbox::{Delivery, SHARE_LEN_MIN};
use crate::peer::Peer;
use crate::router::group::{self, Dice};
use crate::router::{Route, Target};
use crate::sys;

/// The receivers of a fragmented message: all its fragments take one route.
pub(super) struct Kept {
    targets: Vec<Target<Arc<Peer>>>,
    id: u64,
    outcome: Result<u32, Refused>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("id", &self.id).field("targets", &self.targets.len()).finish_non_exhaustive()
    }
}

impl Conn {
    #[inline]
    pub(super) fn on_publish(
        &mut self,
        publish: &PublishView<'_>,
        effects: &mut Effects,
        now: Instant,
    ) -> Result<Flow, Violation> {
        if let Some(reply) = publish.reply {
            subject::check_subject(reply).map_err(|error| {
                Violation::new(Code::InvalidSubject, format!("reply subject: {error}"))
            })?;
        }
        if let Some(fragment) = publish.fragment {
            return self.on_fragment(publish, fragment, effects, now);
        }
        let outcome = match self.route_whole(publish, effects) {
            Ok(outcome) => outcome,
            Err(ask) => return Ok(ask),
        };
        effects.messages_in += 1;
        effects.bytes_in += publish.section.len() as u64;
        self.conclude(publish, outcome, effects);
        Ok(Flow::On)
    }

    /// Delivers a message that came whole; `Err` when the provider must be asked first.
    #[inline]
    fn route_whole(&mut self, publish: &PublishView<'_>, effects: &mut Effects) -> Result<Result<u32, Refused>, Flow> {
        let delivery =
            Delivery { unreliable: publish.unreliable, fragment: None, section: publish.section, shared: None };
        if publish.subject.starts_with(inbox::PREFIX.as_bytes())
            && let Some(found) = self.find_inbox(publish.subject)
        {
            return Ok(Ok(deliver_to_inbox(found, delivery, effects)));
        }
        let hash = self.shared.router.hash(publish.subject);
        if !self.is_known(hash, publish.subject) {
            self.find_out(hash, publish.subject)?;
        }
        match self.cache.get(hash, publish.subject) {
            Some(Verdict::Route(route)) => Ok(Ok(deliver(route, publish.subject, delivery, &mut self.dice, effects))),
            Some(Verdict::Refused(refused)) => Ok(Err(Refused::clone(refused))),
            Some(Verdict::System) => {
                sys::answer(&self.shared, &self.peer, publish, effects_sink(effects));
                Ok(Ok(1))
            }
            Some(Verdict::Unknown) | None => Ok(Ok(0)),
        }
    }

    /// Whether the cache knows the subject and what it knows still holds.
    #[inline]
    fn is_known(&self, hash: u64, subject: &[u8]) -> bool {
        match self.cache.get(hash, subject) {
            Some(Verdict::Route(route)) => self.shared.router.is_current(route, hash),
            Some(Verdict::System | Verdict::Refused(_)) => true,
            Some(Verdict::Unknown) | None => false,
        }
    }

    /// Finds out what a subject resolves to; `Err` when the provider must be asked first.
    fn find_out(&mut self, hash: u64, bytes: &[u8]) -> Result<(), Flow> {
        let checked = std::str::from_utf8(bytes).map_err(|_| SubjectError::NotUtf8);
        let checked = checked.and_then(|text| subject::check_subject(text).map(|()| text));
        let verdict = match checked {
            Err(error) => Verdict::Refused(Box::new(Refused::new(Code::InvalidSubject, error.to_string()))),
            Ok(text) => match self.decisions.of(&self.principal, Action::Publish, text) {
                None => return Err(Flow::Ask(Action::Publish, text.to_owned())),
                Some(false) => {
                    let refused = Refused::new(Code::Denied, format!("permission denied: publishing to {text:?}"));
                    Verdict::Refused(Box::new(refused))
                }
                Some(true) if text.starts_with(sys::PREFIX) => Verdict::System,
                Some(true) => Verdict::Route(self.shared.router.resolve(text, hash)),
            },
        };
        if let Verdict::Refused(refused) = &verdict {
            self.tell_denied(bytes, refused);
        }
        self.cache.insert(hash, bytes, verdict);
        Ok(())
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

    /// The peer whose inbox the subject lies in; `Some(None)` when there is no such peer any more.
    #[inline]
    fn find_inbox(&self, subject: &[u8]) -> Option<Option<Arc<Peer>>> {
        let address = inbox::parse(subject)?;
        if address.node != self.shared.node.as_bytes() {
            return None;
        }
        // The rest of the subject must be one, since it is passed on to somebody else.
        let text = std::str::from_utf8(subject).ok()?;
        subject::check_subject(text).ok()?;
        let peer = self.shared.registry.get(address.connection);
        Some(peer.filter(|peer| peer.about.inbox_secret.as_bytes() == address.secret))
    }

    fn on_fragment(
        &mut self,
        publish: &PublishView<'_>,
        fragment: Fragment,
        effects: &mut Effects,
        now: Instant,
    ) -> Result<Flow, Violation> {
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
        let begin = || first.unwrap_or_else(|| Kept { targets: Vec::new(), id: 0, outcome: Ok(0) });
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
        let id = self.shared.next_fragment.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if publish.subject.starts_with(inbox::PREFIX.as_bytes())
            && let Some(found) = self.find_inbox(publish.subject)
        {
            let targets: Vec<_> = found.map(inbox_target).into_iter().collect();
            let outcome = Ok(u32::try_from(targets.len()).unwrap_or(u32::MAX));
            return Ok(Kept { targets, id, outcome });
        }
        let hash = self.shared.router.hash(publish.subject);
        if !self.is_known(hash, publish.subject) {
            self.find_out(hash, publish.subject)?;
        }
        let refuse = |refused| Ok(Kept { targets: Vec::new(), id, outcome: Err(refused) });
        match self.cache.get(hash, publish.subject) {
            Some(Verdict::Route(route)) => {
                let mut targets = Vec::new();
                let count = each_target(route, publish.subject, &mut self.dice, |target| targets.push(target.clone()));
                Ok(Kept { targets, id, outcome: Ok(count) })
            }
            Some(Verdict::Refused(refused)) => refuse(Refused::clone(refused)),
            Some(Verdict::System) => refuse(Refused::new(Code::TooLarge, "the broker takes no requests in fragments")),
            Some(Verdict::Unknown) | None => Ok(Kept { targets: Vec::new(), id, outcome: Ok(0) }),
        }
    }

    /// Says what became of a publish, to those who want to know.
    #[inline]
    fn conclude(&self, publish: &PublishView<'_>, outcome: Result<u32, Refused>, effects: &mut Effects) {
        if matches!(outcome, Ok(0)) {
            effects.unrouted += 1;
        }
        if let Some(request) = publish.request {
            self.acknowledge(request, outcome, effects);
        }
    }

    fn acknowledge(&self, request: RequestId, outcome: Result<u32, Refused>, effects: &mut Effects) {
        effects.push_frame(&self.peer, &Frame::Published(Published { request, outcome }));
    }
}

fn inbox_target(peer: Arc<Peer>) -> Target<Arc<Peer>> {
    Target { peer, subscription: SubscriptionId::INBOX, drop_oldest: 0 }
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
        let delivery = Delivery { shared: Some(&shared), ..delivery };
        return each_target(route, subject, dice, |target| effects.deliver(target, delivery));
    }
    each_target(route, subject, dice, |target| effects.deliver(target, delivery))
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
    for snapshot in &route.snapshots {
        snapshot.targets.iter().for_each(&mut found);
        snapshot.taps.iter().for_each(&mut found);
        count += snapshot.targets.len();
        for group in &snapshot.groups {
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
        fragment: Some(Fragment { id: kept.id, ..fragment }),
        section: publish.section,
        shared: (shared.len() >= SHARE_LEN_MIN).then_some(&shared),
    };
    kept.targets.iter().for_each(|target| effects.deliver(target, delivery));
}

/// How answers of the broker itself get into outboxes.
fn effects_sink(effects: &mut Effects) -> impl FnMut(&Target<Arc<Peer>>, Delivery<'_>) + '_ {
    |target, delivery| effects.deliver(target, delivery)
}
