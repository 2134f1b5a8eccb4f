//! Who gets a message: receivers at this node, and other nodes, each of which gets it once and
//! passes it on to its own.

use std::sync::Arc;

use bytes::Bytes;
use dialtone_protocol::frame::Published;
use dialtone_protocol::frame::link::{Count, Destination, Link};
use dialtone_protocol::{Frame, RequestId, SubscriptionId};
use dialtone_transport::Lane;
use smallvec::SmallVec;

use super::effects::Effects;
use crate::broker::Shared;
use crate::cluster::Asker;
use crate::outbox::{Delivery, SHARE_LEN_MIN};
use crate::peer::Peer;
use crate::router::entry::Linked;
use crate::router::group::{self, Chosen, Dice};
use crate::router::{Route, Target};

/// Where a message may still go. Each step from node to node narrows it, so that none goes twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Reach {
    /// A client published it here: anywhere.
    #[default]
    Everywhere,
    /// Another cluster sent it: to this node and the others of its cluster.
    Cluster,
    /// A node of the cluster sent it: to this node's receivers.
    Here,
}

impl Reach {
    pub(crate) fn allows(self, link: &crate::router::Link<Arc<Peer>>) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Cluster => !link.is_gateway,
            Self::Here => false,
        }
    }
}

/// Which queue groups get a message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Groups<'a> {
    /// All that match.
    All,
    /// Those of these numbers: the node that sent the message chose them.
    Only(&'a [SubscriptionId]),
}

impl Groups<'_> {
    fn contains(self, number: SubscriptionId) -> bool {
        match self {
            Self::All => true,
            Self::Only(numbers) => numbers.contains(&number),
        }
    }
}

/// Another node that gets a message.
#[derive(Debug, Clone)]
pub(crate) struct Send {
    pub(crate) peer: Arc<Peer>,
    /// Its queue groups that get the message, beside its plain subscribers and taps.
    pub(crate) groups: SmallVec<[SubscriptionId; 2]>,
    /// Whether it has receivers that count.
    pub(crate) counts: bool,
}

/// The other nodes that get a message.
pub(crate) type Onward = SmallVec<[Send; 2]>;

/// What a choice of receivers depends on, beside the route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice<'a> {
    /// The stable hash of this node's name.
    pub(crate) own: u64,
    pub(crate) subject: &'a [u8],
    pub(crate) reach: Reach,
    pub(crate) groups: Groups<'a>,
}

impl Choice<'_> {
    /// Calls `found` for every receiver at this node, choosing one of each queue group, and adds
    /// the other nodes to `onward`; returns the count of those here.
    #[inline]
    pub(crate) fn each_receiver(
        &self,
        route: &Route<Arc<Peer>>,
        dice: &mut Dice,
        onward: &mut Onward,
        mut found: impl FnMut(&Target<Arc<Peer>>),
    ) -> u32 {
        onward.extend(linked(route, self.reach));
        let mut count = 0;
        for part in route.parts() {
            part.targets().iter().for_each(&mut found);
            part.taps().iter().for_each(&mut found);
            count += part.targets().len();
            for group in part.groups() {
                if !self.groups.contains(group.number) {
                    continue;
                }
                match self.choose(group, dice) {
                    Some(Chosen::Member(target)) => {
                        found(target);
                        count += 1;
                    }
                    Some(Chosen::Node(remote)) => {
                        add_group(onward, &remote.link.peer, remote.number);
                    }
                    None => {}
                }
            }
        }
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    #[inline]
    fn choose<'g>(
        &self,
        group: &'g crate::router::entry::Group<Arc<Peer>>,
        dice: &mut Dice,
    ) -> Option<Chosen<'g, Arc<Peer>>> {
        if self.reach == Reach::Here {
            // The node that sent the message chose this one.
            return group::choose_member(group, self.subject, dice).map(Chosen::Member);
        }
        let chosen = group::choose(group, self.own, self.subject, dice);
        chosen.filter(|chosen| match chosen {
            Chosen::Member(_) => true,
            Chosen::Node(remote) => self.reach.allows(&remote.link),
        })
    }
}

/// The nodes with plain subscribers or taps that a message may go to.
#[inline]
pub(crate) fn linked(
    route: &Route<Arc<Peer>>,
    reach: Reach,
) -> impl Iterator<Item = Send> + use<'_> {
    let allowed = move |linked: &&Linked<Arc<Peer>>| reach.allows(&linked.link);
    route.links().iter().filter(allowed).map(|linked| Send {
        peer: Arc::clone(&linked.link.peer),
        groups: SmallVec::new(),
        counts: linked.counts,
    })
}

fn add_group(onward: &mut Onward, peer: &Arc<Peer>, number: SubscriptionId) {
    match onward.iter_mut().find(|send| Arc::ptr_eq(&send.peer, peer)) {
        Some(send) => {
            send.groups.push(number);
            send.counts = true;
        }
        None => onward.push(Send {
            peer: Arc::clone(peer),
            groups: SmallVec::from_iter([number]),
            counts: true,
        }),
    }
}

impl Send {
    /// To the inboxes of another node.
    pub(crate) fn to_inbox(peer: Arc<Peer>) -> Self {
        Self {
            peer,
            groups: SmallVec::new(),
            counts: true,
        }
    }
}

impl Effects {
    /// Sends a message to other nodes.
    pub(crate) fn send_all(&mut self, onward: &[Send], delivery: Delivery<'_>) {
        self.send_with(onward, delivery, None);
    }

    /// Sends a whole message to other nodes, asks them how many of theirs get it, and tells `asker` the sum with `count`,
    /// the receivers of this node, when all have answered.
    pub(crate) fn send_asking(
        &mut self,
        shared: &Shared,
        asker: Asker,
        count: u32,
        onward: &[Send],
        delivery: Delivery<'_>,
    ) {
        let question = self.begin_asking(shared, asker, count, onward, None);
        let question = question.map(|question| question.to_vec());
        self.send_with(onward, delivery, question.as_deref());
    }

    fn send_with(&mut self, onward: &[Send], delivery: Delivery<'_>, question: Option<&[u8]>) {
        if onward.is_empty() {
            return;
        }
        let shared = (delivery.shared.is_none() && delivery.section.len() >= SHARE_LEN_MIN)
            .then(|| Bytes::copy_from_slice(delivery.section));
        let delivery = Delivery {
            shared: delivery.shared.or(shared.as_ref()),
            ..delivery
        };
        for send in onward {
            self.send(send, delivery, question.filter(|_| send.counts));
        }
    }

    fn send(&mut self, send: &Send, delivery: Delivery<'_>, question: Option<&[u8]>) {
        let is_first = delivery.fragment.is_none_or(|fragment| fragment.index == 0);
        let target = |subscription| Target {
            peer: Arc::clone(&send.peer),
            subscription,
            drop_oldest: 0,
        };
        match (&*send.groups, &send.peer.link) {
            ([], _) => self.put(&target(SubscriptionId::INBOX), delivery, question),
            ([number], _) => self.put(&target(*number), delivery, question),
            // Later fragments follow the first one, wherever it went.
            (_, _) if !is_first => self.put(&target(SubscriptionId::INBOX), delivery, question),
            (groups, Some(link)) => {
                let lane = if delivery.fragment.is_some() {
                    Lane::Bulk
                } else {
                    Lane::Interactive
                };
                // Held until the message is in, so that nobody declares another set under its
                // number in between.
                let mut sets = link.sets(lane).lock();
                let (number, is_new) = sets.number_of(groups);
                if is_new {
                    let groups = groups.to_vec();
                    let declared = Destination { number, groups };
                    let frame = Frame::Link(Link::Destination(declared));
                    self.push_frame_on(&send.peer, lane, &frame);
                }
                self.put(&target(number), delivery, question);
            }
            // Only links are sent to.
            (_, None) => {}
        }
    }

    fn put(&mut self, target: &Target<Arc<Peer>>, delivery: Delivery<'_>, question: Option<&[u8]>) {
        match question {
            None => self.deliver(target, delivery),
            Some(question) => self.deliver_behind(question, target, delivery),
        }
    }

    /// Begins to wait for the counts of other nodes, for a whole message or the fragmented one of this number; returns
    /// the question to be sent to those that count. `None` where there is nobody to ask: then `asker` was told.
    pub(crate) fn begin_asking(
        &mut self,
        shared: &Shared,
        asker: Asker,
        count: u32,
        onward: &[Send],
        fragmented: Option<u64>,
    ) -> Option<Frame<'static>> {
        let asked = || onward.iter().filter(|send| send.counts);
        let links = asked().count();
        let cluster = shared.cluster.as_ref();
        let Some(cluster) = cluster.filter(|cluster| links > 0 && cluster.may_ask()) else {
            self.tell(asker, count);
            return None;
        };
        let token = cluster.counts.wait(asker, count, links);
        for send in asked() {
            let link = send.peer.link.as_ref();
            if !link.is_some_and(|link| link.ask(token, cluster.count_deadline())) {
                cluster.counts.missed_one(token);
            }
        }
        Some(Frame::Link(Link::Count(Count { token, fragmented })))
    }

    /// Asks other nodes how many of theirs got the fragmented message of this number, whose last fragment was sent to
    /// them, and tells `asker` the sum with those of this node when all have answered.
    pub(crate) fn ask_counts(
        &mut self,
        shared: &Shared,
        asker: Asker,
        count: u32,
        onward: &[Send],
        fragmented: u64,
    ) {
        let question = self.begin_asking(shared, asker, count, onward, Some(fragmented));
        let Some(question) = question else { return };
        for send in onward.iter().filter(|send| send.counts) {
            self.push_frame_on(&send.peer, Lane::Bulk, &question);
        }
    }

    /// Tells the count at once.
    pub(crate) fn tell(&mut self, asker: Asker, count: u32) {
        let (peer, frame) = asker.answer(count);
        self.push_frame(&peer, &frame);
    }

    pub(crate) fn acknowledge(
        &mut self,
        peer: &Arc<Peer>,
        request: RequestId,
        outcome: Result<u32, dialtone_protocol::frame::Refused>,
    ) {
        self.push_frame(peer, &Frame::Published(Published { request, outcome }));
    }
}
